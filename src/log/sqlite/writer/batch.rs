//! What one commit makes durable, and the waiters for it.

use super::swaps;
use crate::log::error::AppendError;
use crate::log::metrics::Metrics;
use crate::log::record::{Appended, Entry};
use crate::log::sqlite::command::{Answer, Swap};
use crate::log::sqlite::retention;

/// One commit takes at most this many records and swaps …
const BATCH_LEN_MAX: usize = 1024;
/// … and ends with the one that reaches this many bytes.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// A batch that is not committed yet.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) records: Vec<Entry>,
    pub(super) answers: Vec<Answer>,
    pub(super) swaps: Vec<Swap>,
    pub(super) bytes: usize,
}

impl Pending {
    pub(super) fn push(&mut self, record: Entry, answer: Answer) {
        self.bytes += record.bytes();
        self.records.push(record);
        self.answers.push(answer);
    }

    pub(super) fn push_swap(&mut self, swap: Swap) {
        self.bytes += swap.bytes();
        self.swaps.push(swap);
    }

    /// How many wait for its commit.
    pub(super) fn len(&self) -> usize {
        self.answers.len() + self.swaps.len()
    }

    pub(super) fn has_swaps(&self) -> bool {
        !self.swaps.is_empty()
    }

    /// What the records weigh that were no duplicates.
    pub(super) fn committed_bytes(&self, appended: &[Appended]) -> u64 {
        let appended = self.records.iter().zip(appended);
        let committed = appended.filter(|(_, appended)| matches!(appended, Appended::Committed(_)));
        let weights = committed.map(|(record, _)| retention::weight(record));
        weights.sum()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= BATCH_LEN_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    /// Refuses the swaps and keeps the records.
    pub(super) fn refuse_swaps(&mut self, error: &AppendError, metrics: &Metrics) {
        let swaps = std::mem::take(&mut self.swaps);
        self.bytes -= swaps.iter().map(Swap::bytes).sum::<usize>();
        swaps::refuse(swaps, error, metrics);
    }

    pub(super) fn refuse(mut self, error: &AppendError, metrics: &Metrics) {
        self.refuse_swaps(error, metrics);
        for answer in self.answers {
            let _gone = answer.send(Err(error.clone()));
        }
    }
}
