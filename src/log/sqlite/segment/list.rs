//! The segments of a log, in order.

use std::sync::Arc;

use super::directory::Segment;
use crate::event::{Position, UnixMillis};

/// Segments that do not overlap, in order. There may be holes between them.
#[derive(Clone, Debug, Default)]
pub(in crate::log::sqlite) struct Segments {
    list: Vec<Arc<Segment>>,
}

impl Segments {
    pub(in crate::log::sqlite) fn iter(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.list.iter()
    }

    pub(in crate::log::sqlite) fn len(&self) -> usize {
        self.list.len()
    }

    /// Adds a segment, unless it overlaps another. Says whether it did.
    pub(in crate::log::sqlite) fn insert(&mut self, segment: Arc<Segment>) -> bool {
        let index = self
            .list
            .partition_point(|other| other.last < segment.first);
        let overlaps = self
            .list
            .get(index)
            .is_some_and(|other| other.first <= segment.last);
        if !overlaps {
            self.list.insert(index, segment);
        }
        !overlaps
    }

    /// Removes those that begin at these positions.
    pub(in crate::log::sqlite) fn remove(&mut self, firsts: &[Position]) {
        self.list.retain(|segment| !firsts.contains(&segment.first));
    }

    /// Those that have positions after `after`, in order.
    pub(in crate::log::sqlite) fn after(&self, after: Position) -> &[Arc<Segment>] {
        let from = self.list.partition_point(|segment| segment.last <= after);
        self.list.get(from..).unwrap_or_default()
    }

    /// The last that ends before `position`.
    pub(in crate::log::sqlite) fn before(&self, position: Position) -> Option<&Arc<Segment>> {
        let until = self.list.partition_point(|segment| segment.last < position);
        self.list.get(until.checked_sub(1)?)
    }

    /// The positions after `trimmed`, up to `last`, that are in no segment: each from the
    /// position before its first to its last.
    pub(in crate::log::sqlite) fn holes(
        &self,
        trimmed: Position,
        last: Position,
    ) -> Vec<(Position, Position)> {
        let mut holes = Vec::new();
        let mut end = trimmed;
        for segment in self.after(trimmed) {
            let before = Position::new(segment.first.number().saturating_sub(1));
            if before > end {
                holes.push((end, before));
            }
            end = segment.last;
        }
        if last > end {
            holes.push((end, last));
        }
        holes
    }

    /// How many of the positions after `trimmed`, up to `last`, are in no segment.
    pub(in crate::log::sqlite) fn uncovered(&self, trimmed: Position, last: Position) -> u64 {
        let holes = self.holes(trimmed, last).into_iter();
        let lengths = holes.map(|(before, last)| last.number() - before.number());
        lengths.sum()
    }

    /// A position up to which no record was received at or after `time`; found by bisection.
    pub(in crate::log::sqlite) fn begins_before(&self, time: UnixMillis) -> Option<Position> {
        let later = self
            .list
            .partition_point(|segment| segment.latest_receive_time < time);
        let earlier = self.list.get(later.checked_sub(1)?)?;
        Some(earlier.last)
    }
}
