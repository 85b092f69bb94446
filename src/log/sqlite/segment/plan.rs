//! What is to be done next: which segment goes, is built, or is merged with its neighbors.

use std::sync::Arc;

use super::directory::Segment;
use super::list::Segments;
use crate::event::Position;

/// Neighbors that become one.
const FANOUT: usize = 8;
/// How often neighbors are merged: 512 records, 4,096, 32,768, 262,144.
const MERGES: u32 = 3;

/// How positions are divided: segments end where a multiple of a size ends, so that the same
/// neighbors are merged whatever was built or lost before.
#[derive(Clone, Copy, Debug)]
pub(in crate::log::sqlite) struct Tiling {
    /// Records of the smallest segment.
    pub(in crate::log::sqlite) records: u64,
}

/// The next thing to do.
#[derive(Clone, Debug)]
pub(in crate::log::sqlite) enum Work {
    /// Retention has removed all that these cover.
    Remove(Vec<Arc<Segment>>),
    /// These positions are complete and in no segment.
    Build { first: Position, last: Position },
    /// These become one.
    Merge(Vec<Arc<Segment>>),
}

impl Tiling {
    /// The next thing to do where the log's records are those after `trimmed`, up to `last`.
    /// The oldest positions come first, so that each segment knows the times before it.
    pub(in crate::log::sqlite) fn next_work(
        self,
        segments: &Segments,
        trimmed: Position,
        last: Position,
    ) -> Option<Work> {
        let gone = segments
            .iter()
            .take_while(|segment| segment.last <= trimmed);
        let gone: Vec<_> = gone.cloned().collect();
        if !gone.is_empty() {
            return Some(Work::Remove(gone));
        }
        self.next_build(segments, trimmed, last)
            .or_else(|| self.next_merge(segments))
    }

    fn next_build(self, segments: &Segments, trimmed: Position, last: Position) -> Option<Work> {
        let mut end = trimmed;
        for segment in segments.after(trimmed) {
            if segment.first > end.next() {
                let hole = Position::new(segment.first.number().saturating_sub(1));
                let tile = tile_of(end.next(), self.records);
                let rest = tile.1.min(hole);
                let work = self.build(segments, end, hole);
                return Some(work.unwrap_or_else(|| build(segments, tile.0, rest)));
            }
            end = segment.last;
        }
        self.build(segments, end, last)
    }

    /// The largest tile after `end` that is complete up to `last`, of two sizes: in an old log,
    /// or behind a flood, eight are built at once.
    fn build(self, segments: &Segments, end: Position, last: Position) -> Option<Work> {
        let large = self.records.saturating_mul(FANOUT as u64);
        [large, self.records].into_iter().find_map(|records| {
            let tile = tile_of(end.next(), records);
            let is_free = segments
                .before(tile.1)
                .is_none_or(|earlier| earlier.last < tile.0);
            let is_whole = is_free || records == self.records;
            (is_whole && tile.1 <= last).then(|| build(segments, tile.0, tile.1))
        })
    }

    fn next_merge(self, segments: &Segments) -> Option<Work> {
        let all: Vec<_> = segments.iter().collect();
        (0..MERGES).find_map(|merge| {
            let records = self.records.saturating_mul((FANOUT as u64).pow(merge));
            let mut groups = all.windows(FANOUT);
            let group = groups.find(|group| {
                let first = group.first().map_or(0, |segment| segment.first.number());
                let are_tiles = group.iter().zip(0..).all(|(segment, number)| {
                    segment.first.number() == first + number * records
                        && u64::from(segment.records()) == records
                });
                first % records.saturating_mul(FANOUT as u64) == 1 && are_tiles
            })?;
            Some(Work::Merge(group.iter().copied().map(Arc::clone).collect()))
        })
    }
}

/// The positions from `first` to `last`, but for what an earlier segment has of them.
fn build(segments: &Segments, first: Position, last: Position) -> Work {
    let earlier = segments
        .before(last)
        .map_or(Position::START, |segment| segment.last);
    Work::Build {
        first: first.max(earlier.next()),
        last,
    }
}

/// The first and last position of the tile of this size that `position` lies in.
fn tile_of(position: Position, records: u64) -> (Position, Position) {
    let position_before = position.number().saturating_sub(1);
    let tile_before = position_before - position_before % records;
    let last = tile_before.saturating_add(records);
    (
        Position::new(tile_before.saturating_add(1)),
        Position::new(last),
    )
}
