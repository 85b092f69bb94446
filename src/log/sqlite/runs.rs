//! Which start of the writer wrote which positions.
//!
//! ```text
//!   position   1 … 40          41 … 90          91 …
//!   run        0 (none yet)    2905661274       1132043
//! ```
//!
//! A file that is put back from a backup continues with another run where the backup
//! ends. So a position of the lost history differs from its successor, for as long as a
//! client has a cursor of it. Pure but for loading.

use rusqlite::Connection;

use crate::event::{Position, Run};
use crate::log::record::Lineage;

/// The runs of the positions from the trimmed one on, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Runs {
    starts: Vec<Start>,
}

/// Where a run begins; it ends before the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Start {
    first: Position,
    run: Run,
}

impl Runs {
    /// The table of the file.
    pub(super) fn load(connection: &Connection, trimmed: Position) -> rusqlite::Result<Self> {
        let sql = "SELECT first_position, number FROM run ORDER BY first_position";
        let mut statement = connection.prepare(sql)?;
        let starts: Vec<(Position, Run)> = statement
            .query_map([], |row| {
                let first: i64 = row.get(0)?;
                Ok((Position::new(first.unsigned_abs()), Run::new(row.get(1)?)))
            })?
            .collect::<Result<_, _>>()?;
        Ok(Self::new(&starts, trimmed))
    }

    fn new(starts: &[(Position, Run)], trimmed: Position) -> Self {
        // What was there before the first run.
        let mut runs = Self {
            starts: vec![Start {
                first: Position::START,
                run: Run::NONE,
            }],
        };
        for (first, run) in starts {
            runs.begin(*first, *run);
        }
        runs.forget_before(trimmed);
        runs
    }

    /// Notes that `run` wrote `first`, after everything before it.
    pub(super) fn begin(&mut self, first: Position, run: Run) {
        self.starts.push(Start { first, run });
    }

    /// Forgets the runs that have no position from `trimmed` on.
    pub(super) fn forget_before(&mut self, trimmed: Position) {
        let begun = self.starts.partition_point(|start| start.first <= trimmed);
        self.starts.drain(..begun.saturating_sub(1));
    }

    /// Whether a run has this number.
    pub(super) fn knows(&self, run: Run) -> bool {
        self.starts.iter().any(|start| start.run == run)
    }

    /// The run of a position; [`Run::NONE`] where it is forgotten.
    pub(super) fn at(&self, position: Position) -> Run {
        let begun = self.starts.partition_point(|start| start.first <= position);
        let start = self.starts.get(begun.wrapping_sub(1));
        start.map_or(Run::NONE, |start| start.run)
    }

    /// Whether the position that a client has of `run` is the one that is here.
    pub(super) fn lineage(&self, position: Position, run: Run) -> Lineage {
        if self.at(position) == run {
            return Lineage::Same;
        }
        let starts = self.starts.iter();
        let next = starts
            .clone()
            .zip(starts.skip(1))
            .find(|(start, next)| start.run == run && next.first <= position)
            .map(|(_, next)| next);
        Lineage::Lost {
            // Both histories have the run up to where this one begins the next.
            common: next.map(|next| Position::new(next.first.number().saturating_sub(1))),
        }
    }

    /// Looks positions up in order.
    pub(super) fn walk(&self) -> Walk<'_> {
        Walk {
            rest: &self.starts,
            run: Run::NONE,
        }
    }
}

/// Runs of positions that only increase: each costs one comparison.
pub(super) struct Walk<'a> {
    rest: &'a [Start],
    run: Run,
}

impl Walk<'_> {
    pub(super) fn at(&mut self, position: Position) -> Run {
        while let [start, rest @ ..] = self.rest
            && start.first <= position
        {
            self.run = start.run;
            self.rest = rest;
        }
        self.run
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// Ends the process, however, and starts another.
        Start,
        Append(u64),
        /// Removes this part of what is left, in percent.
        Retain(u64),
        Backup,
        /// Puts back one of the backups, and starts.
        Restore(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => Just(Step::Start),
            6 => (1_u64..6).prop_map(Step::Append),
            2 => (0_u64..=100).prop_map(Step::Retain),
            2 => Just(Step::Backup),
            2 => any::<usize>().prop_map(Step::Restore),
        ];
        prop::collection::vec(step, 1..40)
    }

    /// What lies on the disk: the table, and the naive model of the same: every event that
    /// was ever written, in order.
    #[derive(Clone, Debug, Default)]
    struct File {
        starts: Vec<(Position, Run)>,
        trimmed: u64,
        history: Vec<u64>,
    }

    impl File {
        fn last(&self) -> u64 {
            self.history.len() as u64
        }
    }

    /// The process, and every cursor that it ever gave out, with what was seen.
    #[derive(Debug)]
    struct Gateway {
        file: File,
        runs: Runs,
        run: Run,
        is_recorded: bool,
        events: u64,
        starts: u32,
        cursors: Vec<(Position, Run, Vec<u64>)>,
    }

    impl Gateway {
        fn start(&mut self) {
            self.starts += 1;
            self.run = Run::new(self.starts);
            self.is_recorded = false;
            self.runs = Runs::new(&self.file.starts, Position::new(self.file.trimmed));
        }

        fn append(&mut self, count: u64) {
            if !self.is_recorded {
                let first = Position::new(self.file.last() + 1);
                self.file.starts.push((first, self.run));
                self.runs.begin(first, self.run);
                self.is_recorded = true;
            }
            for _ in 0..count {
                self.events += 1;
                self.file.history.push(self.events);
                self.give_cursor(self.file.last());
            }
        }

        fn retain(&mut self, percent: u64) {
            let left = self.file.last() - self.file.trimmed;
            self.file.trimmed += left * percent / 100;
            let trimmed = Position::new(self.file.trimmed);
            self.runs.forget_before(trimmed);
            let begun = self.file.starts.partition_point(|start| start.0 <= trimmed);
            self.file.starts.drain(..begun.saturating_sub(1));
        }

        fn give_cursor(&mut self, position: u64) {
            let count = usize::try_from(position).expect("few");
            let seen = self.file.history[..count].to_vec();
            let position = Position::new(position);
            self.cursors.push((position, self.runs.at(position), seen));
        }

        fn judge(&self) -> Result<(), TestCaseError> {
            let history = &self.file.history;
            for (position, run, seen) in &self.cursors {
                let number = position.number();
                // Judged before runs are.
                if number > self.file.last() || number < self.file.trimmed {
                    continue;
                }
                let in_common = seen.iter().zip(history).take_while(|(a, b)| a == b).count();
                let is_valid = in_common == seen.len();
                match self.runs.lineage(*position, *run) {
                    Lineage::Same => prop_assert!(is_valid, "a lost one is taken"),
                    Lineage::Lost { common } => {
                        prop_assert!(!is_valid, "a valid one is refused");
                        let common = common.map(Position::number);
                        prop_assert!(common.is_none_or(|count| count == in_common as u64));
                    }
                    Lineage::Replaced => prop_assert!(false, "each run knows its positions"),
                }
            }
            let mut walk = self.runs.walk();
            for number in self.file.trimmed..=self.file.last() {
                let position = Position::new(number);
                prop_assert_eq!(walk.at(position), self.runs.at(position));
            }
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn resumable_no_valid_cursor_is_taken_for_a_lost_one(steps in steps()) {
            let mut gateway = Gateway {
                file: File::default(),
                runs: Runs::new(&[], Position::START),
                run: Run::NONE,
                is_recorded: false,
                events: 0,
                starts: 0,
                cursors: Vec::new(),
            };
            gateway.start();
            let mut backups = Vec::new();
            for step in steps {
                match step {
                    Step::Start => gateway.start(),
                    Step::Append(count) => gateway.append(count),
                    Step::Retain(percent) => gateway.retain(percent),
                    Step::Backup => backups.push(gateway.file.clone()),
                    Step::Restore(_) if backups.is_empty() => {}
                    Step::Restore(index) => {
                        gateway.file = backups[index % backups.len()].clone();
                        gateway.start();
                    }
                }
                gateway.give_cursor(gateway.file.trimmed);
                gateway.give_cursor(gateway.file.last());
                gateway.judge()?;
            }
        }
    }

    #[test]
    fn the_common_position_of_a_lost_cursor_is_where_the_histories_part() {
        let [old, new] = [Run::new(7), Run::new(9)];
        let starts = [(Position::new(4), old), (Position::new(11), new)];
        let runs = Runs::new(&starts, Position::START);
        let common = |position, run| runs.lineage(Position::new(position), run);
        let lost = |common: Option<u64>| Lineage::Lost {
            common: common.map(Position::new),
        };
        assert_eq!(common(10, old), Lineage::Same);
        assert_eq!(common(11, old), lost(Some(10)));
        // As all cursors from before runs were.
        assert_eq!(common(3, Run::NONE), Lineage::Same);
        assert_eq!(common(12, Run::NONE), lost(Some(3)));
        assert_eq!(common(12, Run::new(8)), lost(None));
        assert_eq!(common(2, old), lost(None), "it has never begun there");
        let runs = Runs::new(&starts, Position::new(10));
        assert_eq!(runs.lineage(Position::new(12), Run::NONE), lost(None));
        assert_eq!(runs.lineage(Position::new(10), old), Lineage::Same);
        let runs = Runs::new(&starts, Position::new(11));
        assert_eq!(runs.lineage(Position::new(12), old), lost(None));
    }
}
