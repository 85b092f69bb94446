//! What the writer looks at whether or not there is a batch: whether the files are still those
//! that are open, whether a reader outside keeps the WAL, and whether writes work again.

use std::time::{Duration, Instant};

use super::Writer;
use crate::log::sqlite::reader;
use crate::log::sqlite::schema::BUSY_TIMEOUT;
use crate::log::{AppendError, Writability};

/// How often the writer looks at its files and at the WAL, whether or not there is a batch.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How often a log that refuses writes tries whether it can write again.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// How long such a try waits for another process's lock. The queue waits behind it.
pub(super) const PROBE_BUSY_TIMEOUT: Duration = Duration::from_millis(100);
const PROBE_BYTES_MIN: usize = 256 << 10;
const PROBE_BYTES_MAX: usize = 8 << 20;

impl Writer {
    /// Looks, when it is time, at what changes without a batch: the files, other processes'
    /// readers, and whether a log that refuses writes can be written again.
    pub(super) fn look(&mut self) {
        if Instant::now() < self.next_look || self.check_files().is_err() {
            return;
        }
        if self.refuses().is_some() {
            self.probe();
        } else {
            self.checkpoints.note_second(&self.connection, &self.shared);
        }
        self.note_used_bytes();
        let interval = match self.refuses() {
            Some(_) => PROBE_INTERVAL,
            None => LOOK_INTERVAL,
        };
        self.next_look = Instant::now() + interval;
    }

    /// Gives the log up where its files are not those that are open.
    pub(super) fn check_files(&self) -> Result<(), AppendError> {
        if let Some(error) = self.failed() {
            return Err(error);
        }
        let sizes = self.files.check();
        let sizes = sizes.map_err(|file| self.shared.fail_moved(file))?;
        let gauge = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let metrics = &self.shared.metrics;
        metrics.file_bytes.set(gauge(sizes.database));
        metrics.wal_bytes.set(gauge(sizes.wal));
        Ok(())
    }

    fn note_used_bytes(&self) {
        match reader::used_bytes(&self.connection) {
            Ok(used) => {
                let used = i64::try_from(used).unwrap_or(i64::MAX);
                self.shared.metrics.used_bytes.set(used);
            }
            Err(error) => tracing::debug!(%error, "cannot see how much of the log is in use"),
        }
    }

    /// Does the disk take again as much as it refused? A disk that is nearly full takes a
    /// page, and a log that thought itself writable for that would flap.
    fn probe(&self) {
        match self.try_probe() {
            Ok(()) => self.shared.set_writability(Writability::Writable),
            Err(error) => {
                tracing::debug!(%error, "the log still cannot be written");
                self.shared.note_failure(&error);
            }
        }
    }

    fn try_probe(&self) -> rusqlite::Result<()> {
        let bytes = (4 * self.refused_bytes).clamp(PROBE_BYTES_MIN, PROBE_BYTES_MAX);
        let fill = "INSERT OR REPLACE INTO probe VALUES (1, zeroblob(?1))";
        self.connection.busy_timeout(PROBE_BUSY_TIMEOUT)?;
        self.connection.execute(fill, [bytes.cast_signed()])?;
        self.connection.execute("DELETE FROM probe", [])?;
        self.connection.busy_timeout(BUSY_TIMEOUT)
    }

    /// Why nothing is written now.
    pub(super) fn refuses(&self) -> Option<AppendError> {
        match &*self.shared.writability.borrow() {
            Writability::Writable => None,
            Writability::Refusing(reason) | Writability::Failed(reason) => {
                Some(AppendError::Refusing(reason.clone()))
            }
        }
    }

    /// Once an fsync has failed or the files are gone, nothing is written any more.
    pub(super) fn failed(&self) -> Option<AppendError> {
        match &*self.shared.writability.borrow() {
            Writability::Failed(reason) => Some(AppendError::Refusing(reason.clone())),
            _ => None,
        }
    }
}
