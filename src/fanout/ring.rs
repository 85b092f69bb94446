//! The recent tail of the log in memory: bounded in bytes, shared by all subscribers.
//!
//! Pure: no clock, no waiting, no locks.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use super::frame::{Frame, Payload};
use crate::event::{Cursor, Position};
use crate::log::Record;

/// A recent event, encoded once for everybody.
#[derive(Debug)]
pub(super) struct Recent {
    pub(super) record: Arc<Record>,
    cursor: Cursor,
    without_payload: Frame,
    with_payload: OnceLock<Frame>,
}

impl Recent {
    pub(super) fn new(cursor: Cursor, record: Arc<Record>, without_payload: Frame) -> Self {
        Self {
            without_payload,
            with_payload: OnceLock::new(),
            cursor,
            record,
        }
    }

    /// The frame for this event; the first that wants the payload encodes it for all.
    pub(super) fn frame(&self, payload: Payload) -> &Frame {
        match payload {
            Payload::Omitted => &self.without_payload,
            Payload::Included => self
                .with_payload
                .get_or_init(|| Frame::event(self.cursor, &self.record.content, payload)),
        }
    }

    /// What it may come to occupy: the record, and both frames.
    fn bytes(&self) -> usize {
        let content = &self.record.content;
        3 * content.event.len() + 2 * content.payload.len() + 512
    }
}

/// The events in `(base, head]`.
#[derive(Debug)]
pub(super) struct Ring {
    events: VecDeque<Arc<Recent>>,
    base: Position,
    head: Position,
    bytes: usize,
    bytes_max: usize,
}

/// How far the ring could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// The position lies before the ring: read the log.
    Behind,
    /// Everything up to here has been looked at. Where this is the position that was
    /// asked for, it is the head.
    Through(Position),
}

impl Ring {
    pub(super) fn new(tail: Position, bytes_max: usize) -> Self {
        Self {
            events: VecDeque::new(),
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

    /// Adds the next event, and forgets the oldest ones beyond the bound.
    pub(super) fn push(&mut self, event: Arc<Recent>) {
        self.head = event.record.position;
        self.bytes += event.bytes();
        self.events.push_back(event);
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.events.pop_front() else {
                break;
            };
            self.bytes -= oldest.bytes();
            self.base = oldest.record.position;
        }
    }

    /// Hands the matching events after `after` to `take`, until it has enough.
    pub(super) fn after(
        &self,
        after: Position,
        matches: impl Fn(&Recent) -> bool,
        mut take: impl FnMut(&Recent) -> ControlFlow<()>,
    ) -> Lookup {
        if !self.covers(after) {
            return Lookup::Behind;
        }
        let first = self
            .events
            .partition_point(|event| event.record.position <= after);
        for event in self.events.range(first..).filter(|event| matches(event)) {
            if take(event).is_break() {
                return Lookup::Through(event.record.position);
            }
        }
        Lookup::Through(after.max(self.head))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::event::{Attributes, Epoch, UnixMillis};
    use crate::log::NewRecord;

    fn recent(position: u64, event_type: &str, size: usize) -> Arc<Recent> {
        let position = Position::new(position);
        let content = NewRecord {
            id: format!("msg_{position}"),
            attributes: Attributes {
                event_type: event_type.to_owned(),
                ..Attributes::default()
            },
            receive_time: UnixMillis::new(0),
            event: Bytes::from(vec![0; size]),
            decoding: crate::clerk::decoding(),
            payload: Bytes::new(),
        };
        let cursor = Cursor {
            epoch: Epoch::new(1),
            position,
        };
        let frame = Frame::event(cursor, &content, Payload::Omitted);
        let record = Arc::new(Record { position, content });
        Arc::new(Recent::new(cursor, record, frame))
    }

    proptest! {
        /// Against a naive model: whatever was pushed, evicted and asked, a lookup
        /// returns exactly the matching events of the interval it claims to cover.
        #[test]
        fn a_lookup_misses_nothing_and_invents_nothing(
            pushed in prop::collection::vec((1_u64..4, 0_usize..2, 0_usize..4000), 0..60),
            after in 0_u64..200,
            wanted in 0_usize..2,
            page in 1_usize..20,
        ) {
            let types = ["a", "b"];
            let mut ring = Ring::new(Position::START, 40_000);
            let mut model = Vec::new();
            let mut position = 0;
            for (step, kind, size) in pushed {
                position += step;
                ring.push(recent(position, types[kind], size));
                model.push((position, types[kind]));
            }
            let after = after.min(position);
            let matches = |event: &Recent| event.record.content.attributes.event_type == types[wanted];
            let mut found = Vec::new();
            let lookup = ring.after(Position::new(after), matches, |event| {
                found.push(event.record.position.number());
                if found.len() == page { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            match lookup {
                Lookup::Behind => prop_assert!(after < ring.base.number()),
                Lookup::Through(through) => {
                    prop_assert!(after >= ring.base.number());
                    prop_assert!(through.number() >= after);
                    prop_assert!(after == position || through.number() > after);
                    prop_assert!(found.len() <= page);
                    let expected: Vec<u64> = model.iter()
                        .filter(|(p, kind)| *p > after && *p <= through.number() && *kind == types[wanted])
                        .map(|(p, _)| *p)
                        .collect();
                    prop_assert_eq!(found, expected);
                }
            }
            prop_assert!(ring.bytes <= ring.bytes_max);
        }
    }
}
