//! How to open the embedded log.

use std::path::PathBuf;
use std::time::Duration;

/// How to open the embedded log.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory of the log; created if it is missing.
    pub data_dir: PathBuf,
    /// Remove records that are older.
    pub retain_for: Option<Duration>,
    /// Remove the oldest records while the log takes up more bytes.
    pub retain_bytes: Option<u64>,
    /// Records of the smallest segment of the index. Tests lower it.
    pub segment_records: u64,
}

/// Judged one by one, they take less than a millisecond; their segment is some 25 kB.
const SEGMENT_RECORDS: u64 = 512;

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./clerkcast-data"),
            retain_for: Some(Duration::from_secs(30 * 24 * 60 * 60)),
            retain_bytes: Some(10 << 30),
            segment_records: SEGMENT_RECORDS,
        }
    }
}
