//! The ids of the newest records that this gateway has stored or followed, so that a recent
//! event is found without a search through the stream.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};

use parking_lot::{Mutex, MutexGuard};

use crate::event::Position;

/// Maximum number of records to remember, in about 4 MB. Beyond, the oldest are forgotten.
const RECORDS_MAX: usize = 100_000;

/// The positions at which an id may be. Ids are kept as hashes, so the record at the position
/// decides.
#[derive(Debug)]
pub(super) struct RecentIds {
    hasher: RandomState,
    records_max: usize,
    remembered: Mutex<Remembered>,
}

/// The hash of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct IdHash(u64);

#[derive(Debug, Default)]
struct Remembered {
    by_id: BTreeSet<(IdHash, Position)>,
    in_order: VecDeque<(IdHash, Position)>,
}

impl Default for RecentIds {
    fn default() -> Self {
        Self::with_capacity(RECORDS_MAX)
    }
}

impl RecentIds {
    fn with_capacity(records_max: usize) -> Self {
        Self {
            hasher: RandomState::new(),
            records_max,
            remembered: Mutex::default(),
        }
    }

    pub(super) fn hash(&self, id: &str) -> IdHash {
        IdHash(self.hasher.hash_one(id))
    }

    /// Remembers records. A record that is remembered already is not counted again.
    pub(super) fn insert(&self, records: impl IntoIterator<Item = (IdHash, Position)>) {
        let mut remembered = self.remembered();
        for record in records {
            if remembered.by_id.insert(record) {
                remembered.in_order.push_back(record);
            }
            if remembered.in_order.len() > self.records_max
                && let Some(oldest) = remembered.in_order.pop_front()
            {
                remembered.by_id.remove(&oldest);
            }
        }
    }

    /// Where a record with this id may be, the oldest first.
    pub(super) fn positions(&self, id: &str) -> Vec<Position> {
        let hash = self.hash(id);
        let ends = (hash, Position::START)..=(hash, Position::new(u64::MAX));
        let remembered = self.remembered();
        let found = remembered.by_id.range(ends);
        found.map(|(_, position)| *position).collect()
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_records_are_remembered() {
        let recent = RecentIds::with_capacity(3);
        let insert = |id: &str, position| {
            let record = (recent.hash(id), Position::new(position));
            recent.insert([record, record]);
        };
        insert("msg_1", 1);
        insert("msg_2", 2);
        insert("msg_1", 3);
        let positions = |id: &str| -> Vec<u64> {
            let positions = recent.positions(id).into_iter();
            positions.map(Position::number).collect()
        };
        assert_eq!(positions("msg_1"), [1, 3]);
        assert_eq!(positions("msg_2"), [2]);
        insert("msg_4", 4);
        assert_eq!(positions("msg_1"), [3]);
        insert("msg_5", 5);
        assert_eq!(positions("msg_2"), [0; 0]);
        let remembered = recent.remembered();
        assert_eq!((remembered.by_id.len(), remembered.in_order.len()), (3, 3));
    }
}
