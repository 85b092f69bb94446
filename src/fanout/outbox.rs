//! What a subscriber has taken and not yet handed over.

use super::frame::{Frame, Frames};
use super::page_cache::Page;
use crate::event::UnixMillis;

/// Frames taken ahead of the connection, to be handed over together.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Frames that follow each other in one chunk are one.
    pub(super) runs: Vec<Frame>,
    pub(super) events: u64,
    pub(super) event_bytes: usize,
    /// Of its first and last event.
    pub(super) received: Option<(UnixMillis, UnixMillis)>,
}

impl Outbox {
    pub(super) fn push_history(&mut self, page: &Page) {
        self.events += page.events;
        self.event_bytes += page.event_bytes;
        self.received = self.received.or(page.received);
        self.runs.extend_from_slice(&page.runs);
    }

    pub(super) fn push_event(&mut self, frames: &Frames, index: usize, received: UnixMillis) {
        self.event_bytes += frames.append_to(&mut self.runs, index);
        self.events += 1;
        let first = self.received.map_or(received, |(first, _)| first);
        self.received = Some((first, received));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use prost::Message as _;

    use super::super::frame::{Encoding, Payload, View};
    use super::*;
    use crate::access::Redaction;
    use crate::clerk;
    use crate::event::{Attributes, Epoch, Position, Run};
    use crate::log::RecordRef;
    use crate::proto;

    /// Of each batch, one small event: what a page of such keeps from being freed is not
    /// the batches' chunks.
    #[test]
    fn memory_of_a_picky_reader_is_bounded() {
        const PAGE_EVENTS: usize = 1024;
        const BOUND: usize = 1 << 20;
        let view = View {
            payload: Payload::Omitted,
            redaction: Redaction::default(),
            encoding: Encoding::Proto,
        };
        let attributes = Attributes::default();
        for (events, event_bytes) in [(100, 100), (30, 240), (8, 240), (3, 3_000)] {
            let event = proto::Event {
                id: "x".repeat(event_bytes),
                ..proto::Event::default()
            }
            .encode_to_vec();
            let record = RecordRef {
                position: Position::new(1),
                run: Run::NONE,
                id: "msg_1",
                attributes: attributes.as_ref(),
                receive_time: UnixMillis::new(1),
                event: &event,
                decoding: clerk::decoding(),
                payload: &[],
            };
            let mut outbox = Outbox::default();
            while outbox.runs.len() < PAGE_EVENTS && outbox.event_bytes < 256 << 10 {
                let batch = std::iter::repeat_n(record, events);
                let frames = Frames::encode(Epoch::new(1), batch, &view);
                outbox.push_event(&frames, events / 2, record.receive_time);
            }
            let chunks: HashMap<_, usize> = outbox.runs.iter().map(Frame::chunk).collect();
            let kept: usize = chunks.values().sum();
            assert!(
                kept <= BOUND,
                "{events} events of {event_bytes} bytes: {kept}"
            );
        }
    }
}
