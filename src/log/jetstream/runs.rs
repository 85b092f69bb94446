//! The runs of the newest positions, for cursors there.
//!
//! A stream that lost its end, or whose server got an older copy of its files, uses positions a
//! second time, for other records. A run is not one start of a gateway there, since several
//! gateways write to the stream. Each record is a run of its own, whose number is made of the
//! record: [`record::run`](super::record::run).

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::event::{Position, Run};

/// Maximum number of records to remember. Beyond, the oldest are forgotten: a cursor there that
/// no record comes with, as that of a heartbeat, is then one of [`Run::NONE`].
const RECORDS_MAX: usize = 4096;

/// The runs of the newest records that this gateway has stored or followed.
#[derive(Debug, Default)]
pub(super) struct Runs {
    newest: Mutex<BTreeMap<Position, Run>>,
}

impl Runs {
    /// Remembers records.
    pub(super) fn extend(&self, records: impl IntoIterator<Item = (Position, Run)>) {
        let mut newest = self.newest.lock();
        newest.extend(records);
        while newest.len() > RECORDS_MAX {
            newest.pop_first();
        }
    }

    /// The run of a position; [`Run::NONE`] if it is not remembered.
    pub(super) fn at(&self, position: Position) -> Run {
        let newest = self.newest.lock();
        newest.get(&position).copied().unwrap_or(Run::NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_positions_are_remembered() {
        let runs = Runs::default();
        let count = u32::try_from(RECORDS_MAX).expect("small");
        // A stream has holes.
        let position = |number: u32| Position::new(u64::from(number) * 2);
        runs.extend((1..=count).map(|number| (position(number), Run::new(number))));
        assert_eq!(runs.at(position(1)), Run::new(1));
        assert_eq!(runs.at(position(1).next()), Run::NONE);
        // Appenders are ahead of the follower.
        runs.extend([(position(count + 1), Run::new(7))]);
        runs.extend([(position(count), Run::new(count))]);
        assert_eq!(runs.at(position(1)), Run::NONE);
        assert_eq!(runs.at(position(2)), Run::new(2));
        assert_eq!(runs.at(position(count + 1)), Run::new(7));
        assert_eq!(runs.newest.lock().len(), RECORDS_MAX);
    }
}
