//! Swaps of cells, which are decided within the transaction of a batch and answered once that
//! is durable. They have no commit of their own where events come.

use rusqlite::Connection;

use crate::log::cells::Swapped;
use crate::log::error::AppendError;
use crate::log::metrics::Metrics;
use crate::log::sqlite::cells::{self, Decision};
use crate::log::sqlite::command::Swap;
use crate::log::sqlite::schema;
use crate::log::sqlite::shared::Shared;

/// Decides swaps in their order: each sees what those before it have changed.
pub(super) fn decide(transaction: &Connection, swaps: &[Swap]) -> rusqlite::Result<Vec<Decision>> {
    let decisions = swaps
        .iter()
        .map(|swap| cells::swap(transaction, &swap.changes));
    decisions.collect()
}

/// Whether a batch that failed like this may succeed without its swaps: not where the log is
/// given up, nor where another process holds it, for which the writer has waited.
pub(super) fn may_be_at_fault(error: &rusqlite::Error) -> bool {
    let is_locked = error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy);
    !is_locked && !schema::is_failed_fsync(error) && !schema::is_position_taken(error)
}

/// After durability: publishes what was changed. Returns what is left, which is to answer.
pub(super) fn publish(swaps: Vec<Swap>, decisions: Vec<Decision>, shared: &Shared) -> Answers {
    let decided = swaps.into_iter().zip(decisions);
    let answers = decided.map(|(swap, decision)| {
        shared.cells.note_growth(decision.growth);
        if let Swapped::Stored(revisions) = &decision.swapped {
            shared.cells.publish(&swap.changes, revisions);
        }
        (swap, Ok(decision.swapped))
    });
    Answers(answers.collect())
}

pub(super) fn refuse(swaps: Vec<Swap>, error: &AppendError, metrics: &Metrics) {
    let refused = swaps.into_iter().map(|swap| (swap, Err(error.clone())));
    Answers(refused.collect()).send(metrics);
}

/// Answers to the callers of swaps.
pub(super) struct Answers(Vec<(Swap, Result<Swapped, AppendError>)>);

impl Answers {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn send(self, metrics: &Metrics) {
        for (swap, swapped) in self.0 {
            metrics.note_swap(&swapped, swap.asked.elapsed());
            let _gone = swap.answer.send(swapped);
        }
    }
}
