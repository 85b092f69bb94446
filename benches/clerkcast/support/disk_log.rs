//! The embedded log on a real disk, filled without HTTP.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use clerkcast::event::{Cursor, Position};
use clerkcast::log::sqlite::{self, SqliteLog};
use clerkcast::log::{Change, Entry, Log, Metrics, Revision, Swapped};
use futures_util::{StreamExt as _, stream};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

/// Appends under way at once.
const CONCURRENCY: usize = 2_000;
/// The gauge of events that no index has yet, where the log indexes them after the commit.
const UNINDEXED: &str = "log_unsealed_records";
/// Fewer than this many stay unindexed until more arrive.
const UNINDEXED_MAX: u64 = 8_192;
/// The log is idle once its files have not changed for this long.
pub(crate) const IDLE: Duration = Duration::from_millis(200);
const SETTLING_MAX: Duration = Duration::from_secs(600);

/// A log, with what its files and metrics show.
pub(crate) struct DiskLog {
    pub(crate) log: Arc<dyn Log>,
    data_dir: PathBuf,
    registry: Registry,
}

pub(crate) fn open(data_dir: &Path) -> DiskLog {
    let config = sqlite::Config {
        data_dir: data_dir.to_owned(),
        retain_for: None,
        retain_bytes: None,
        ..sqlite::Config::default()
    };
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    DiskLog {
        log: Arc::new(SqliteLog::open(config, metrics).expect("a log")),
        data_dir: data_dir.to_owned(),
        registry,
    }
}

impl DiskLog {
    /// Appends records, and waits until all are durable and the log is idle.
    pub(crate) async fn fill(&self, records: impl Iterator<Item = Entry>) {
        self.append(records).await;
        self.settle().await;
    }

    /// Appends records, and waits until all are durable.
    pub(crate) async fn append(&self, records: impl Iterator<Item = Entry>) {
        let appends = stream::iter(records.map(|record| self.log.append(record)));
        let mut appends = appends.buffer_unordered(CONCURRENCY);
        while let Some(appended) = appends.next().await {
            appended.expect("durable");
        }
    }

    /// Waits until the log has no event to index and does not rearrange its indexes: a
    /// measurement would share the processors and the disk with that.
    pub(crate) async fn settle(&self) {
        let idle = async {
            loop {
                let before = self.files();
                tokio::time::sleep(IDLE).await;
                if self.unindexed() < UNINDEXED_MAX && self.files() == before {
                    return;
                }
            }
        };
        let idle = tokio::time::timeout(SETTLING_MAX, idle).await;
        idle.expect("everything is indexed in time");
    }

    fn unindexed(&self) -> u64 {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes any text");
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(UNINDEXED)?.trim().parse().ok());
        value.unwrap_or(0)
    }

    /// The size of the file and of its WAL, and when each was last written.
    fn files(&self) -> Vec<(u64, SystemTime)> {
        let files = ["clerkcast.db", "clerkcast.db-wal"];
        let metadata = files.map(|name| std::fs::metadata(self.data_dir.join(name)));
        let metadata = metadata.into_iter().flatten();
        let seen = metadata.map(|file| (file.len(), file.modified().expect("a time")));
        seen.collect()
    }

    /// Cursors at this many places, spread evenly.
    pub(crate) fn cursors(&self, places: usize) -> Vec<String> {
        let tail = self.log.bounds().last.number();
        let cursors = (0..places as u64).map(|place| {
            let position = Position::new(tail * place / places as u64);
            let cursor = Cursor {
                epoch: self.log.epoch(),
                run: self.log.run_at(position),
                position,
            };
            cursor.to_string()
        });
        cursors.collect()
    }

    /// Closes the log. What its WAL holds is in the file then.
    pub(crate) async fn close(self) {
        self.log.close().await;
    }
}

/// Replaces the value of a cell that has no other writer. Returns its new revision.
pub(crate) async fn swap(
    log: &dyn Log,
    name: &str,
    expected: Option<Revision>,
    value: Bytes,
) -> Option<Revision> {
    let change = Change {
        name: name.to_owned(),
        expected,
        value: Some(value),
    };
    match log.swap(vec![change]).await.expect("answered") {
        Swapped::Stored(revisions) => revisions[0],
        Swapped::Conflict(name) => panic!("{name} has no other writer"),
    }
}

/// Appends so many times to a file beside the log, waiting for the disk each time.
pub(crate) fn fdatasyncs(directory: &Path, times: usize, bytes: usize) -> Duration {
    let mut file = File::create(directory.join("floor")).expect("a file");
    let filler = vec![b'x'; bytes];
    let started = Instant::now();
    for _ in 0..times {
        file.write_all(&filler).expect("written");
        file.sync_data().expect("synced");
    }
    started.elapsed()
}

/// Bytes of all files of a log.
pub(crate) fn bytes_on_disk(data_dir: &Path) -> u64 {
    let files = std::fs::read_dir(data_dir).expect("a directory");
    let sizes = files.map(|file| file.and_then(|file| file.metadata()).expect("a file").len());
    sizes.sum()
}
