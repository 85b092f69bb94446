//! The recent tail of the log in memory: bounded in bytes, shared by all subscribers.
//!
//! Pure: no clock, no waiting, no locks.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use super::frame::{Frames, Payload};
use crate::event::{Epoch, Position};
use crate::log::{Batch, Record};

/// A recent batch, encoded once for everybody, by the first that wants one of its events.
#[derive(Debug)]
pub(super) struct Recent {
    batch: Arc<Batch>,
    epoch: Epoch,
    without_payload: OnceLock<Frames>,
    with_payload: OnceLock<Frames>,
}

impl Recent {
    pub(super) fn new(epoch: Epoch, batch: Arc<Batch>) -> Self {
        Self {
            batch,
            epoch,
            without_payload: OnceLock::new(),
            with_payload: OnceLock::new(),
        }
    }

    /// The records after a position, with their index.
    pub(super) fn after(&self, position: Position) -> impl Iterator<Item = (usize, &Record)> {
        let records = &self.batch.records;
        let first = records.partition_point(|record| record.position <= position);
        records.iter().enumerate().skip(first)
    }

    /// The records' frames, by index.
    pub(super) fn frames(&self, payload: Payload) -> &Frames {
        let encoded = match payload {
            Payload::Omitted => &self.without_payload,
            Payload::Included => &self.with_payload,
        };
        let records = &self.batch.records;
        encoded
            .get_or_init(|| Frames::encode(self.epoch, records.iter().map(Record::view), payload))
    }

    fn last(&self) -> Position {
        let last = self.batch.records.last();
        last.map_or(self.batch.after, |record| record.position)
    }

    /// What it may come to occupy: the records, and both frames of each.
    fn bytes(&self) -> usize {
        let weights = self.batch.records.iter().map(|Record { content, .. }| {
            3 * content.event.len() + 2 * content.payload.len() + 512
        });
        weights.sum()
    }
}

/// The events in `(base, head]`.
#[derive(Debug)]
pub(super) struct Ring {
    batches: VecDeque<Arc<Recent>>,
    base: Position,
    head: Position,
    bytes: usize,
    bytes_max: usize,
}

/// What the ring has after a position.
#[derive(Debug)]
pub(super) enum Lookup {
    /// The position lies before the ring: read the log.
    Behind,
    /// A batch that holds the next event.
    Next(Arc<Recent>),
    /// Nothing, it is the head.
    Head,
}

impl Ring {
    pub(super) fn new(tail: Position, bytes_max: usize) -> Self {
        Self {
            batches: VecDeque::new(),
            base: tail,
            head: tail,
            bytes: 0,
            bytes_max,
        }
    }

    pub(super) fn head(&self) -> Position {
        self.head
    }

    /// Whether everything after `position` that the ring has seen is still in it.
    pub(super) fn covers(&self, position: Position) -> bool {
        position >= self.base
    }

    /// Forgets everything up to `tail`, because what lies between was missed.
    pub(super) fn restart_after(&mut self, tail: Position) {
        *self = Self::new(tail, self.bytes_max);
    }

    /// Adds the next batch, and forgets the oldest ones beyond the bound. The newest
    /// stays, however large it is.
    pub(super) fn push(&mut self, batch: Arc<Recent>) {
        self.head = batch.last();
        self.bytes += batch.bytes();
        self.batches.push_back(batch);
        while self.bytes > self.bytes_max && self.batches.len() > 1 {
            let Some(oldest) = self.batches.pop_front() else {
                break;
            };
            self.bytes -= oldest.bytes();
            self.base = oldest.last();
        }
    }

    /// Where the events after `position` are to be found.
    pub(super) fn after(&self, position: Position) -> Lookup {
        if !self.covers(position) {
            return Lookup::Behind;
        }
        let next = self
            .batches
            .partition_point(|batch| batch.last() <= position);
        match self.batches.get(next) {
            Some(batch) => Lookup::Next(Arc::clone(batch)),
            None => Lookup::Head,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::event::{Attributes, UnixMillis};
    use crate::log::NewRecord;

    fn record(position: u64, size: usize) -> Record {
        let content = NewRecord {
            id: format!("msg_{position}"),
            attributes: Attributes::default(),
            receive_time: UnixMillis::new(0),
            event: Bytes::from(vec![0; size]),
            decoding: crate::clerk::decoding(),
            payload: Bytes::new(),
        };
        let position = Position::new(position);
        Record { position, content }
    }

    proptest! {
        /// Against a naive model: whatever was pushed and evicted, reading on from a
        /// position yields exactly what came after it, or says that it is gone.
        #[test]
        fn reading_on_misses_nothing_and_invents_nothing(
            pushed in prop::collection::vec(
                prop::collection::vec((1_u64..4, 0_usize..4000), 1..5), 0..30),
            after in 0_u64..200,
        ) {
            let mut ring = Ring::new(Position::START, 40_000);
            let mut model = Vec::new();
            let mut position = 0;
            for events in pushed {
                let batch_after = Position::new(position);
                let records = events.into_iter().map(|(step, size)| {
                    position += step;
                    model.push(position);
                    record(position, size)
                });
                let batch = Batch { records: records.collect(), after: batch_after };
                ring.push(Arc::new(Recent::new(Epoch::new(1), Arc::new(batch))));
            }
            let after = after.min(position);
            let mut reached = Position::new(after);
            let mut found = Vec::new();
            let is_behind = loop {
                match ring.after(reached) {
                    Lookup::Behind => break true,
                    Lookup::Head => break false,
                    Lookup::Next(recent) => for (index, record) in recent.after(reached) {
                        let mut runs = Vec::new();
                        let size = recent.frames(Payload::Omitted).append_to(&mut runs, index);
                        prop_assert!(size > record.content.event.len());
                        found.push(record.position.number());
                    },
                }
                reached = Position::new(*found.last().expect("a batch has events"));
            };
            if is_behind {
                prop_assert!(found.is_empty() && after < ring.base.number());
            } else {
                let expected: Vec<u64> = model.iter().copied().filter(|it| *it > after).collect();
                prop_assert_eq!(found, expected);
            }
            prop_assert!(ring.bytes <= 40_000 || ring.batches.len() == 1);
        }
    }
}
