//! What a subscriber's stream delivers: events, and how the stream is doing.

use std::time::Duration;

use super::entry::Lag;
use super::frame::Frame;
use crate::access::Narrowed;
use crate::event::Cursor;

/// What comes next in a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Delivery {
    /// Events in log order, encoded; at least one. Events that follow each other in memory
    /// come as one [`Frame`].
    Events(Vec<Frame>),
    /// How the stream is doing, and the position that it has reached.
    Control(Cursor, Control),
}

/// How a stream is doing.
#[derive(Clone, Debug, PartialEq)]
pub enum Control {
    /// The stream is open. Always first.
    Started {
        /// The longest silence between two deliveries.
        heartbeat_interval: Duration,
        /// Where the history that is sent first ends.
        newest: Cursor,
        /// What the policy takes away of what was asked for.
        narrowed: Option<Narrowed>,
    },
    /// The history is sent; what follows is live.
    CaughtUp,
    /// The stream was slower than the events; what follows comes from the log again.
    FellBehind(Lag),
    /// Nothing matched for a while. The cursor confirms progress.
    Heartbeat,
    /// Retention removed events that the stream had not read.
    Gap {
        /// Where they begin, exclusive.
        from: Cursor,
        /// Where they end.
        to: Cursor,
    },
}
