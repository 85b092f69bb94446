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
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./clerkcast-data"),
            retain_for: Some(Duration::from_secs(30 * 24 * 60 * 60)),
            retain_bytes: Some(10 << 30),
        }
    }
}
