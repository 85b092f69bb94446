//! What the writer looks at whether or not there is a batch: whether the files are still those
//! that are open, whether a reader outside keeps the WAL, and whether writes work again.

use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::fs::StatVfs;

use crate::event::numbers::saturating;
use crate::log::error::AppendError;
use crate::log::record::Writability;
use crate::log::sqlite::checkpoint::Checkpoints;
use crate::log::sqlite::describe::describe;
use crate::log::sqlite::files::Files;
use crate::log::sqlite::schema::BUSY_TIMEOUT;
use crate::log::sqlite::shared::Shared;

/// How often the writer looks at its files and at the WAL, whether or not there is a batch.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How often a log that refuses writes tries whether it can write again.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// How long such a try waits for another process's lock. The queue waits behind it.
pub(super) const PROBE_BUSY_TIMEOUT: Duration = Duration::from_millis(100);
const PROBE_BYTES_MIN: usize = 256 << 10;
const PROBE_BYTES_MAX: usize = 8 << 20;

/// The state of the files, and when to look at it again.
pub(super) struct Health {
    files: Files,
    next_look: Instant,
    /// What the last refused batch would have taken.
    refused_bytes: usize,
}

impl Health {
    pub(super) fn new(files: Files) -> Self {
        Self {
            files,
            next_look: Instant::now(),
            refused_bytes: 0,
        }
    }

    /// How long until the next look.
    pub(super) fn next_look(&self, now: Instant) -> Duration {
        self.next_look.saturating_duration_since(now)
    }

    /// Notes that a batch of this size was refused.
    pub(super) fn note_refused(&mut self, bytes: usize) {
        self.refused_bytes = bytes;
    }

    /// Has the log looked at soon, since a write failed.
    pub(super) fn hasten(&mut self) {
        self.next_look = Instant::now() + PROBE_INTERVAL;
    }

    /// Looks, when it is time, at what changes without a batch: the files, other processes'
    /// readers, and whether a log that refuses writes can be written again.
    pub(super) fn look(
        &mut self,
        connection: &Connection,
        shared: &Shared,
        checkpoints: &mut Checkpoints,
    ) {
        if Instant::now() < self.next_look || self.check_files(shared).is_err() {
            return;
        }
        if shared.refusal().is_some() {
            self.probe(connection, shared);
        } else {
            checkpoints.note_second(connection, shared);
        }
        if let Err(error) = note_contents(connection, shared) {
            tracing::debug!(%error, "cannot see what the log holds");
        }
        note_disk(shared);
        let interval = match shared.refusal() {
            Some(_) => PROBE_INTERVAL,
            None => LOOK_INTERVAL,
        };
        self.next_look = Instant::now() + interval;
    }

    /// Gives the log up where its files are not those that are open.
    pub(super) fn check_files(&self, shared: &Shared) -> Result<(), AppendError> {
        if let Some(error) = shared.failure() {
            return Err(error);
        }
        let sizes = self.files.check().map_err(|file| shared.fail_moved(file))?;
        let metrics = &shared.metrics;
        metrics.file_bytes.set(Some(saturating(sizes.database)));
        metrics.wal_bytes.set(Some(saturating(sizes.wal)));
        Ok(())
    }

    /// Whether the files are not those that are open, whatever else is wrong.
    pub(super) fn are_files_moved(&self) -> bool {
        self.files.check().is_err()
    }

    /// Does the disk take again as much as it refused? A disk that is nearly full takes a
    /// page, and a log that thought itself writable for that would flap.
    fn probe(&self, connection: &Connection, shared: &Shared) {
        match self.try_probe(connection) {
            Ok(()) => {
                shared.published.set_writability(Writability::Writable);
            }
            Err(error) => {
                tracing::debug!(%error, "the log still cannot be written");
                shared.note_failure(&error);
            }
        }
    }

    fn try_probe(&self, connection: &Connection) -> rusqlite::Result<()> {
        let bytes = (4 * self.refused_bytes).clamp(PROBE_BYTES_MIN, PROBE_BYTES_MAX);
        let fill = "INSERT OR REPLACE INTO probe VALUES (1, zeroblob(?1))";
        connection.busy_timeout(PROBE_BUSY_TIMEOUT)?;
        connection.execute(fill, [bytes.cast_signed()])?;
        connection.execute("DELETE FROM probe", [])?;
        connection.busy_timeout(BUSY_TIMEOUT)
    }
}

fn note_contents(connection: &Connection, shared: &Shared) -> rusqlite::Result<()> {
    let described = describe(connection, shared)?;
    let metrics = &shared.metrics;
    metrics.used_bytes.set(saturating(described.counted_bytes));
    let (oldest, newest) = (described.oldest_receive_time, described.newest_receive_time);
    metrics.note_ends(oldest.zip(newest));
    Ok(())
}

fn note_disk(shared: &Shared) {
    let data_dir = shared.config().data_dir.clone();
    let disk = rustix::fs::statvfs(&data_dir).ok();
    let bytes = |blocks: fn(&StatVfs) -> u64| {
        let disk = disk.as_ref()?;
        Some(saturating(blocks(disk).saturating_mul(disk.f_frsize)))
    };
    let metrics = &shared.metrics;
    metrics.data_dir_free_bytes.set(bytes(|disk| disk.f_bavail));
    metrics.data_dir_size_bytes.set(bytes(|disk| disk.f_blocks));
}
