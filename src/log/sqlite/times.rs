//! The latest receive time of each block of positions, so that the first record that was
//! received since a time is found without walking the index on times: the clock may have
//! gone back, and then that record is not the one that the index has first.
//!
//! Gathered once, when first asked for, and kept in step from then on: of what is in segments,
//! from those. Pure.

use std::collections::VecDeque;

use crate::event::numbers::saturating;
use crate::event::{Position, UnixMillis};

/// Positions in a block: ten million records are 80 kB.
pub(super) const BLOCK_POSITIONS: u64 = 1_024;

/// Per block from the first on, the latest receive time of its records.
#[derive(Debug, Default)]
pub(super) struct LatestTimes {
    first_block: u64,
    latest: VecDeque<Option<UnixMillis>>,
}

impl LatestTimes {
    /// Notes a record, or the latest of a block.
    pub(super) fn note(&mut self, position: Position, received: UnixMillis) {
        let block = block_of(position);
        if self.latest.is_empty() {
            self.first_block = block;
        }
        while block < self.first_block {
            self.latest.push_front(None);
            self.first_block -= 1;
        }
        let index: usize = saturating(block - self.first_block);
        while self.latest.len() <= index {
            self.latest.push_back(None);
        }
        if let Some(latest) = self.latest.get_mut(index) {
            *latest = (*latest).max(Some(received));
        }
    }

    /// Forgets blocks that were removed as a whole.
    pub(super) fn forget_through(&mut self, trimmed: Position) {
        let first = block_of(trimmed.next());
        while self.first_block < first && self.latest.pop_front().is_some() {
            self.first_block += 1;
        }
    }

    /// The first block that has positions beyond `after` and may hold a record received at or
    /// after `time`: its first and last position.
    pub(super) fn candidate(
        &self,
        time: UnixMillis,
        after: Option<Position>,
    ) -> Option<(Position, Position)> {
        let from = after.map_or(0, |after| block_of(after.next()));
        let blocks = self.first_block..;
        let mut found = blocks
            .zip(&self.latest)
            .filter(|(block, latest)| *block >= from && **latest >= Some(time));
        let (block, _) = found.next()?;
        let last = (block + 1) * BLOCK_POSITIONS;
        Some((first_of_block(block), Position::new(last)))
    }
}

/// The first position is 1.
pub(super) fn block_of(position: Position) -> u64 {
    position.number().saturating_sub(1) / BLOCK_POSITIONS
}

pub(super) fn first_of_block(block: u64) -> Position {
    Position::new(block * BLOCK_POSITIONS + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As the log does it: block after block, until one holds such a record.
    fn search(
        times: &LatestTimes,
        rows: &[(u64, i64)],
        since: i64,
        mut after: Option<Position>,
    ) -> Option<u64> {
        loop {
            let (first, last) = times.candidate(UnixMillis::new(since), after)?;
            let block = first.number()..=last.number();
            let in_block = rows.iter().filter(|(position, _)| block.contains(position));
            let mut received = in_block.filter(|(_, time)| *time >= since);
            if let Some((position, _)) = received.next() {
                return Some(*position);
            }
            after = Some(last);
        }
    }

    proptest! {
        #[test]
        fn exact_seek_where_the_clock_went_back(
            steps in prop::collection::vec((1_u64..900, -50_i64..100), 1..60),
            trimmed in 0_u64..20_000,
            late in 0_usize..60,
            since in -500_i64..4_000,
        ) {
            let (mut position, mut time) = (0, 1_000);
            let rows: Vec<(u64, i64)> = steps.iter().map(|(holes, step)| {
                position += holes;
                time += step;
                (position, time)
            }).collect();
            let mut times = LatestTimes::default();
            // The newest are noted first, as while the rest is being gathered.
            let (old, new) = rows.split_at(late.min(rows.len()));
            for (position, time) in new.iter().chain(old) {
                times.note(Position::new(*position), UnixMillis::new(*time));
            }
            times.forget_through(Position::new(trimmed));
            let left: Vec<(u64, i64)> =
                rows.into_iter().filter(|(position, _)| *position > trimmed).collect();
            let naive = left.iter().find(|(_, time)| *time >= since).map(|(position, _)| *position);
            prop_assert_eq!(search(&times, &left, since, None), naive);
            // As where a segment ends in the middle of a block.
            let before = naive.map(|position| Position::new(position - 1));
            prop_assert_eq!(search(&times, &left, since, before), naive);
        }
    }
}
