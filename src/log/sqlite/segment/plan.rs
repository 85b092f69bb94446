//! What is to be done next: which segment goes, is built, or is merged with its neighbors.

use std::sync::Arc;

use super::directory::Segment;
use super::list::Segments;
use crate::event::Position;

/// Neighbors that become one.
const FANOUT: usize = 8;
/// How often neighbors are merged: 4,096 records, 32,768, 262,144.
const MERGES: u32 = 2;

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
                let tile = self.tile_of(end.next());
                let hole = Position::new(segment.first.number().saturating_sub(1));
                return Some(self.build(segments, tile, tile.1.min(hole)));
            }
            end = segment.last;
        }
        let tile = self.tile_of(end.next());
        (tile.1 <= last).then(|| self.build(segments, tile, tile.1))
    }

    /// A tile, but for what an earlier segment has of it.
    fn build(self, segments: &Segments, tile: (Position, Position), last: Position) -> Work {
        let earlier = segments
            .before(last)
            .map_or(Position::START, |segment| segment.last);
        Work::Build {
            first: tile.0.max(earlier.next()),
            last,
        }
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
                first % (records * FANOUT as u64) == 1 && are_tiles
            })?;
            Some(Work::Merge(group.iter().copied().map(Arc::clone).collect()))
        })
    }

    /// The first and last position of the tile that `position` lies in.
    fn tile_of(self, position: Position) -> (Position, Position) {
        let before = position.number().saturating_sub(1);
        let before = before - before % self.records;
        let last = before.saturating_add(self.records);
        (Position::new(before.saturating_add(1)), Position::new(last))
    }
}
