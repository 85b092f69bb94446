//! What a subscription has taken and not yet handed over.

use super::frame::{Frame, Frames};
use super::history;
use crate::event::UnixMillis;

/// Frames taken ahead of the connection, to be handed over together.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// Frames that follow each other in one chunk are one.
    pub(super) runs: Vec<Frame>,
    pub(super) events: u64,
    pub(super) event_bytes: usize,
    /// Of its first and last event.
    pub(super) received: Option<(UnixMillis, UnixMillis)>,
    /// Whether the events are live, so that their age says something.
    pub(super) is_live: bool,
}

impl Ready {
    pub(super) fn push_history(&mut self, page: &history::Page) {
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
