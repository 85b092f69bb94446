//! What one commit makes durable, and the waiters for it.

use crate::log::error::AppendError;
use crate::log::record::{Appended, Entry};
use crate::log::sqlite::command::Answer;
use crate::log::sqlite::retention;

/// One commit takes at most this many records …
const BATCH_RECORDS_MAX: usize = 1024;
/// … and ends with the record that reaches this many bytes.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// A batch that is not committed yet.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) records: Vec<Entry>,
    pub(super) answers: Vec<Answer>,
    pub(super) bytes: usize,
}

impl Pending {
    pub(super) fn push(&mut self, record: Entry, answer: Answer) {
        self.bytes += record.bytes();
        self.records.push(record);
        self.answers.push(answer);
    }

    /// What the records weigh that were no duplicates.
    pub(super) fn committed_bytes(&self, appended: &[Appended]) -> u64 {
        let appended = self.records.iter().zip(appended);
        let committed = appended.filter(|(_, appended)| matches!(appended, Appended::Committed(_)));
        let weights = committed.map(|(record, _)| retention::weight(record));
        weights.sum()
    }

    pub(super) fn is_full(&self) -> bool {
        self.records.len() >= BATCH_RECORDS_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    pub(super) fn refuse(self, error: &AppendError) {
        for answer in self.answers {
            let _gone = answer.send(Err(error.clone()));
        }
    }
}
