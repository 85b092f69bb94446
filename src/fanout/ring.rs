//! The last events of the log in memory: bounded in bytes, shared by all subscribers.
//!
//! Pure: no clock, no waiting, no locks.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, MutexGuard};

use super::frame::{Frames, View};
use crate::event::{Epoch, Position};
use crate::log::{Batch, Record};

/// What a record occupies beside its bytes.
const RECORD_BYTES: usize = 512;

/// A recent batch, encoded once for all subscribers with the same view, by the first of them
/// that wants one of its events.
#[derive(Debug)]
pub(super) struct RingBatch {
    batch: Arc<Batch>,
    epoch: Epoch,
    encoded: OnceLock<Box<ViewFrames>>,
    weight: Mutex<Weight>,
    scales: Arc<Scales>,
}

/// The batch as one view has it, then as the next has it, in the order in which they came.
#[derive(Debug)]
struct ViewFrames {
    view: View,
    frames: Frames,
    next: OnceLock<Box<Self>>,
}

/// What a batch occupies: itself, and each view's frames from when they are made.
#[derive(Debug)]
struct Weight {
    bytes: usize,
    is_in_ring: bool,
}

/// What all batches in a ring occupy together.
#[derive(Debug, Default)]
struct Scales {
    bytes: AtomicUsize,
    bytes_max: usize,
}

impl Scales {
    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.bytes() > self.bytes_max
    }
}

impl RingBatch {
    fn new(epoch: Epoch, batch: Arc<Batch>, scales: Arc<Scales>) -> Self {
        let records = batch.records.iter();
        let bytes = records
            .map(|record| record.entry.bytes() + RECORD_BYTES)
            .sum();
        scales.bytes.fetch_add(bytes, Ordering::Relaxed);
        Self {
            batch,
            epoch,
            encoded: OnceLock::new(),
            weight: Mutex::new(Weight {
                bytes,
                is_in_ring: true,
            }),
            scales,
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

    fn encode(&self, view: &View) -> ViewFrames {
        let records = self.batch.records.iter();
        let frames = Frames::encode(self.epoch, records.map(Record::view), view);
        let mut weight = self.weight();
        weight.bytes += frames.memory_bytes();
        if weight.is_in_ring {
            let scales = &self.scales.bytes;
            scales.fetch_add(frames.memory_bytes(), Ordering::Relaxed);
        }
        drop(weight);
        ViewFrames {
            view: view.clone(),
            frames,
            next: OnceLock::new(),
        }
    }

    /// Whether the ring holds more than it may, since frames were made: [`Ring::shed`].
    pub(super) fn overfills_ring(&self) -> bool {
        self.scales.is_over()
    }

    fn leave(&self) {
        let mut weight = self.weight();
        weight.is_in_ring = false;
        let scales = &self.scales.bytes;
        scales.fetch_sub(weight.bytes, Ordering::Relaxed);
    }

    fn weight(&self) -> MutexGuard<'_, Weight> {
        self.weight.lock()
    }

    fn last(&self) -> Position {
        let last = self.batch.records.last();
        last.map_or(self.batch.after, |record| record.position)
    }
}

/// The events in `(base, last]`.
#[derive(Debug)]
pub(super) struct Ring {
    batches: VecDeque<Arc<RingBatch>>,
    base: Position,
    last: Position,
    scales: Arc<Scales>,
}

/// What the ring has after a position.
#[derive(Debug)]
pub(super) enum Lookup {
    /// The position lies before the ring: read the log.
    Behind,
    /// A batch that holds the next event.
    Next(Arc<RingBatch>),
    /// Nothing: the position is the last one.
    End,
}

impl Ring {
    pub(super) fn new(position: Position, bytes_max: usize) -> Self {
        Self {
            batches: VecDeque::new(),
            base: position,
            last: position,
            scales: Arc::new(Scales {
                bytes: AtomicUsize::new(0),
                bytes_max,
            }),
        }
    }

    pub(super) fn last(&self) -> Position {
        self.last
    }

    /// Whether everything after `position` that the ring has seen is still in it.
    pub(super) fn covers(&self, position: Position) -> bool {
        position >= self.base
    }

    /// Forgets everything up to `position`, because what lies between was missed.
    pub(super) fn restart_after(&mut self, position: Position) {
        *self = Self::new(position, self.scales.bytes_max);
    }

    /// Adds the next batch.
    pub(super) fn push(&mut self, epoch: Epoch, batch: Arc<Batch>) {
        let recent = RingBatch::new(epoch, batch, Arc::clone(&self.scales));
        self.last = recent.last();
        self.batches.push_back(Arc::new(recent));
        self.shed();
    }

    /// Forgets the oldest batches beyond the bound. The newest stays, however large it is.
    pub(super) fn shed(&mut self) {
        while self.scales.is_over() && self.batches.len() > 1 {
            let Some(oldest) = self.batches.pop_front() else {
                break;
            };
            oldest.leave();
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
            None => Lookup::End,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::super::frame::{Encoding, Payload};
    use super::*;
    use crate::access::Redaction;
    use crate::event::{Attributes, Run, UnixMillis};
    use crate::log::Entry;
    use crate::proto;

    fn record(position: u64, size: usize) -> Record {
        let event = proto::Event {
            id: "x".repeat(size),
            ..proto::Event::default()
        };
        let entry = Entry {
            id: format!("msg_{position}"),
            attributes: Attributes::default(),
            receive_time: UnixMillis::new(0),
            event: event.encode_to_vec().into(),
            decoding: crate::clerk::decoding(),
            payload: Bytes::new(),
        };
        let position = Position::new(position);
        Record {
            position,
            run: Run::NONE,
            entry,
        }
    }

    #[test]
    fn a_batch_is_encoded_once_for_each_view() {
        let batch = Batch {
            records: vec![record(1, 10)],
            after: Position::START,
        };
        let recent = RingBatch::new(Epoch::new(1), Arc::new(batch), Arc::default());
        let view = |payload, removed: &[&str]| {
            let removed: Vec<String> = removed.iter().map(|name| (*name).to_owned()).collect();
            let redaction = Redaction::new(&removed, &[]).expect("known fields");
            View {
                payload,
                redaction,
                encoding: Encoding::Proto,
            }
        };
        let views = [
            view(Payload::Omitted, &[]),
            view(Payload::Included, &[]),
            view(Payload::Omitted, &["contact"]),
        ];
        let first: Vec<*const Frames> = views
            .iter()
            .map(|view| &raw const *recent.frames(view))
            .collect();
        let equal = view(Payload::Omitted, &["contact"]);
        let again = [&views[0], &views[1], &equal].map(|view| &raw const *recent.frames(view));
        assert_eq!(first, again);
        assert!(first[0] != first[1] && first[1] != first[2] && first[0] != first[2]);
    }

    proptest! {
        /// Against a naive model: whatever was pushed and evicted, reading on from a
        /// position yields exactly the events after it, or reports that they are gone.
        #[test]
        fn reading_the_ring_returns_exactly_the_later_records(
            pushed in prop::collection::vec(
                prop::collection::vec((1_u64..4, 0_usize..4000), 1..5), 0..30),
            after in 0_u64..200,
        ) {
            let view = View { payload: Payload::Omitted, redaction: Redaction::default(), encoding: Encoding::Proto };
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
                ring.push(Epoch::new(1), Arc::new(batch));
            }
            let after = after.min(position);
            let mut reached = Position::new(after);
            let mut found = Vec::new();
            let is_behind = loop {
                match ring.after(reached) {
                    Lookup::Behind => break true,
                    Lookup::End => break false,
                    Lookup::Next(recent) => for (index, record) in recent.after(reached) {
                        let mut runs = Vec::new();
                        let size = recent.frames(&view).append_to(&mut runs, index);
                        prop_assert!(size > record.entry.event.len());
                        found.push(record.position.number());
                    },
                }
                reached = Position::new(*found.last().expect("a batch has events"));
            };
            if is_behind {
                prop_assert!(found.is_empty() && after < ring.base.number());
            } else {
                let expected: Vec<u64> = model.iter().copied().filter(|position| *position > after).collect();
                prop_assert_eq!(found, expected);
            }
            ring.shed();
            prop_assert!(ring.scales.bytes() <= 40_000 || ring.batches.len() == 1);
        }

        /// Views come when they like, and have batches encoded that are long in the ring,
        /// or have left it.
        #[test]
        fn the_ring_weighs_every_view(
            steps in prop::collection::vec((0_usize..4, 0_usize..30), 1..60),
        ) {
            let removed = [&[][..], &["contact"], &["metadata"], &["names"]];
            let views = removed.map(|names| {
                let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
                let redaction = Redaction::new(&names, &[]).expect("known sets");
                View { payload: Payload::Included, redaction, encoding: Encoding::Proto }
            });
            let bytes_max = 20_000;
            let mut ring = Ring::new(Position::START, bytes_max);
            let mut seen: Vec<Arc<RingBatch>> = Vec::new();
            for (position, (view, place)) in steps.into_iter().enumerate() {
                let batch = Batch {
                    after: Position::new(position as u64),
                    records: vec![record(position as u64 + 1, 1_000)],
                };
                ring.push(Epoch::new(1), Arc::new(batch));
                seen.extend(ring.batches.back().cloned());
                let read = &seen[place % seen.len()];
                let frames = read.frames(&views[view]);
                prop_assert!(frames.memory_bytes() > 1_000);
                let in_ring = ring.batches.iter().map(|batch| batch.weight().bytes);
                prop_assert_eq!(ring.scales.bytes(), in_ring.sum::<usize>());
                if read.overfills_ring() {
                    ring.shed();
                }
                prop_assert!(ring.scales.bytes() <= bytes_max);
            }
        }
    }
}
