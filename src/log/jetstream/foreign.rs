//! Messages of the stream that no gateway wrote. They are passed over, and counted once.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use crate::event::Position;

/// Messages that are remembered, so that each is counted once however often it is read; the
/// first go, and would be counted again.
const MESSAGES_MAX: usize = 1024;

/// The messages that were passed over.
#[derive(Debug, Default)]
pub(super) struct ForeignMessages {
    positions: Mutex<BTreeSet<Position>>,
}

impl ForeignMessages {
    /// Notes one. Returns whether it is a new one.
    pub(super) fn note(&self, position: Position) -> bool {
        let mut positions = self.positions.lock();
        let is_new = positions.insert(position);
        if positions.len() > MESSAGES_MAX {
            positions.pop_first();
        }
        is_new
    }
}
