//! The recent tail of the log in memory: bounded in bytes, shared by all subscribers.
//!
//! Pure: no clock, no waiting, no locks.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use super::frame::{Frames, View};
use crate::event::{Epoch, Position};
use crate::log::{Batch, Record};

/// A recent batch, encoded once for everybody with the same view, by the first of them
/// that wants one of its events.
#[derive(Debug)]
pub(super) struct Recent {
    batch: Arc<Batch>,
    epoch: Epoch,
    encoded: OnceLock<Box<Encoded>>,
    /// What it may come to occupy.
    bytes: usize,
}

/// The batch as one view has it, then as the next has it, in the order in which they came.
#[derive(Debug)]
struct Encoded {
    view: View,
    frames: Frames,
    next: OnceLock<Box<Self>>,
}

impl Recent {
    /// `views` are those that subscribers have now: each may come to keep its frames here.
    pub(super) fn new(epoch: Epoch, batch: Arc<Batch>, views: Views) -> Self {
        let records = batch.records.iter();
        let weights = records.map(|Record { content, .. }| {
            let [event, payload] = [content.event.len(), content.payload.len()];
            let views_in_all = views.with_payload + views.without_payload;
            event + payload + views_in_all * event + views.with_payload * payload + 512
        });
        Self {
            bytes: weights.sum(),
            batch,
            epoch,
            encoded: OnceLock::new(),
        }
    }

    /// The records after a position, with their index.
    pub(super) fn after(&self, position: Position) -> impl Iterator<Item = (usize, &Record)> {
        let records = &self.batch.records;
        let first = records.partition_point(|record| record.position <= position);
        records.iter().enumerate().skip(first)
    }

    /// The records' frames, by index.
    pub(super) fn frames(&self, view: &View) -> &Frames {
        let mut place = &self.encoded;
        loop {
            let encoded = place.get_or_init(|| Box::new(self.encode(view)));
            if encoded.view == *view {
                return &encoded.frames;
            }
            place = &encoded.next;
        }
    }

    fn encode(&self, view: &View) -> Encoded {
        let records = self.batch.records.iter();
        Encoded {
            view: view.clone(),
            frames: Frames::encode(self.epoch, records.map(Record::view), view),
            next: OnceLock::new(),
        }
    }

    fn last(&self) -> Position {
        let last = self.batch.records.last();
        last.map_or(self.batch.after, |record| record.position)
    }
}

/// How many different views subscribers have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Views {
    pub(super) without_payload: usize,
    pub(super) with_payload: usize,
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
        self.bytes += batch.bytes;
        self.batches.push_back(batch);
        while self.bytes > self.bytes_max && self.batches.len() > 1 {
            let Some(oldest) = self.batches.pop_front() else {
                break;
            };
            self.bytes -= oldest.bytes;
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

    use super::super::frame::Payload;
    use super::*;
    use crate::clerk::Redaction;
    use crate::event::{Attributes, Run, UnixMillis};
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
        Record {
            position,
            run: Run::NONE,
            content,
        }
    }

    #[test]
    fn a_batch_is_encoded_once_for_each_view() {
        let batch = Batch {
            records: vec![record(1, 10)],
            after: Position::START,
        };
        let recent = Recent::new(Epoch::new(1), Arc::new(batch), Views::default());
        let view = |payload, removed: &[&str]| {
            let removed: Vec<String> = removed.iter().map(|it| (*it).to_owned()).collect();
            let redaction = Redaction::new(&removed, &[]).expect("known fields");
            View { payload, redaction }
        };
        let views = [
            view(Payload::Omitted, &[]),
            view(Payload::Included, &[]),
            view(Payload::Omitted, &["contact"]),
        ];
        let first: Vec<*const Frames> = views
            .iter()
            .map(|it| &raw const *recent.frames(it))
            .collect();
        let equal = view(Payload::Omitted, &["contact"]);
        let again = [&views[0], &views[1], &equal].map(|it| &raw const *recent.frames(it));
        assert_eq!(first, again);
        assert!(first[0] != first[1] && first[1] != first[2] && first[0] != first[2]);
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
            let views = Views { without_payload: 1, with_payload: 1 };
            let view = View { payload: Payload::Omitted, redaction: Redaction::default() };
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
                let recent = Recent::new(Epoch::new(1), Arc::new(batch), views);
                ring.push(Arc::new(recent));
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
                        let size = recent.frames(&view).append_to(&mut runs, index);
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
