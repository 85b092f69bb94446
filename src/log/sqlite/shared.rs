//! What the writer thread shares with the rest: what is published, and what reads need.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard, RwLock};

use super::cells::StoredCells;
use super::config::Config;
use super::files::MOVED;
use super::index::{Bell, Index};
use super::retired::RetiredIds;
use super::runs::Runs;
use super::schema;
use super::times::LatestTimes;
use crate::event::{Epoch, SteadyClock};
use crate::log::error::AppendError;
use crate::log::metrics::Metrics;
use crate::log::published::Published;
use crate::log::record::{Bounds, Writability};

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Mutex<Config>,
    pub(super) clock: SteadyClock,
    pub(super) epoch: Epoch,
    pub(super) published: Published,
    pub(super) runs: RwLock<Arc<Runs>>,
    /// Held by each read while it lasts, and by the writer to keep readers out.
    pub(super) reading: Arc<RwLock<()>>,
    pub(super) retired_ids: RetiredIds,
    pub(super) cells: StoredCells,
    /// What finds a position by time, once it has been asked.
    pub(super) times: Mutex<Option<LatestTimes>>,
    pub(super) index: RwLock<Arc<Index>>,
    /// Wakes the indexer.
    pub(super) bell: Bell,
    pub(super) metrics: Metrics,
}

impl Shared {
    pub(super) fn config(&self) -> MutexGuard<'_, Config> {
        self.config.lock()
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.published.bounds()
    }

    /// Why nothing is written now.
    pub(super) fn refusal(&self) -> Option<AppendError> {
        self.published.refusal().map(AppendError::Refusing)
    }

    /// Once an fsync has failed or the files are gone, nothing is written any more.
    pub(super) fn failure(&self) -> Option<AppendError> {
        self.published.failure().map(AppendError::Refusing)
    }

    /// Gives the log up, since `file` is not the one that is open.
    pub(super) fn fail_moved(&self, file: &str) -> AppendError {
        let failed = Writability::Failed(MOVED.to_owned());
        if self.published.set_writability(failed) {
            tracing::warn!(file, "the log's file was moved or replaced");
        }
        AppendError::Refusing(MOVED.to_owned())
    }

    /// Notes a failed write, and returns what to answer.
    pub(super) fn note_failure(&self, error: &rusqlite::Error) -> AppendError {
        let reason = schema::explain(error);
        self.published
            .set_writability(if schema::is_failed_fsync(error) {
                Writability::Failed(format!(
                    "fsync failed: {reason}; what is on disk is no longer known"
                ))
            } else if schema::is_position_taken(error) {
                Writability::Failed(format!(
                    "another process writes to this log, which one gateway alone may use: {reason}"
                ))
            } else {
                Writability::Refusing(reason.clone())
            });
        AppendError::Refusing(reason)
    }

    /// Which run wrote which positions, of all positions up to a last one that was seen before
    /// and from a trimmed position on that is seen later.
    pub(super) fn runs(&self) -> Arc<Runs> {
        Arc::clone(&self.runs.read())
    }

    /// For the writer.
    pub(super) fn change_runs(&self, change: impl FnOnce(&mut Runs)) {
        let mut runs = self.runs.write();
        change(Arc::make_mut(&mut runs));
    }

    /// What finds records, of positions up to a last one that was seen before.
    pub(super) fn index(&self) -> Arc<Index> {
        Arc::clone(&self.index.read())
    }

    /// For the indexer, once the file has the change.
    pub(super) fn change_index(&self, change: impl FnOnce(&mut Index)) {
        let mut index = self.index.write();
        change(Arc::make_mut(&mut index));
        self.show_index(&index);
    }

    /// Shows the limits of retention that are in force.
    pub(super) fn note_retention(&self) {
        // Held until they are shown, so that no older ones are shown after them.
        let config = self.config();
        self.metrics
            .note_retention(config.retain_for, config.retain_bytes);
    }

    /// Notes what the index has and what it has not.
    pub(super) fn note_index(&self) {
        // Held until it is shown, so that none that is older is shown after it.
        self.show_index(&self.index.read());
    }

    fn show_index(&self, index: &Index) {
        let bounds = self.bounds();
        let uncovered = index.segments.uncovered(bounds.trimmed, bounds.last);
        let segments = index.segments.len() as u64;
        self.metrics.segments.set(segments.cast_signed());
        self.metrics.unsealed_records.set(uncovered.cast_signed());
    }

    /// From now on, the writer notes the times of what it commits. Notes those that segments
    /// have, and returns these: records that are in none of them are for the caller to read.
    pub(super) fn begin_times(&self) -> Arc<Index> {
        let mut times = self.times.lock();
        let times = times.get_or_insert_default();
        let index = self.index();
        for segment in index.segments.iter() {
            for (first, latest) in segment.block_times() {
                times.note(first, latest);
            }
        }
        index
    }

    /// None until a time has been asked for.
    pub(super) fn times<T>(&self, look: impl FnOnce(&mut LatestTimes) -> T) -> Option<T> {
        self.times.lock().as_mut().map(look)
    }
}
