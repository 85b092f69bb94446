//! Messages of the stream that no gateway wrote. Readers skip them, and each is counted once.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use crate::event::Position;

/// Maximum number of messages to remember, so that each is counted once however often it is
/// read. Beyond, the first are forgotten, and would be counted again.
const MESSAGES_MAX: usize = 1024;

/// The messages that were skipped.
#[derive(Debug, Default)]
pub(super) struct ForeignMessages {
    positions: Mutex<BTreeSet<Position>>,
}

impl ForeignMessages {
    /// Notes a message. Returns whether it is new.
    pub(super) fn note(&self, position: Position) -> bool {
        let mut positions = self.positions.lock();
        let is_new = positions.insert(position);
        if positions.len() > MESSAGES_MAX {
            positions.pop_first();
        }
        is_new
    }
}
