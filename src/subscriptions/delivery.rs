//! What a worker asks for, and what it is handed.

use std::time::Duration;

use super::machine::{Grant, Stall};
use super::status::Status;
use crate::event::Position;
use crate::log::Record;

/// What one worker asks for.
#[derive(Clone, Debug)]
pub struct ReceiveOptions {
    /// At most this many deliveries are out that it has not acknowledged.
    pub outstanding_max: usize,
    /// The stream ends after this many deliveries.
    pub events_max: Option<u64>,
    /// The longest silence.
    pub heartbeat_interval: Duration,
    /// The stream ends once all that was in the log when it began is acknowledged or dead.
    pub stop_when_handled: bool,
}

/// What a stream carries.
#[derive(Clone, Debug)]
pub enum WorkerFrame {
    /// The stream is open. Always the first frame.
    Started(Box<Status>),
    /// An event to handle.
    Delivery(Box<Delivery>),
    /// Nothing to hand out for the interval, or the state changed.
    Heartbeat(Condition),
}

/// An event to handle. The lease is durable.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The lease.
    pub grant: Grant,
    /// The event, whole: the owner's policy is applied when it is encoded.
    pub record: Record,
}

/// What a subscription is doing, as a heartbeat reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Whether it is paused.
    pub is_paused: bool,
    /// What is in the way, if something is.
    pub stall: Option<Stall>,
    /// Everything that matches up to here is acknowledged or dead.
    pub cursor: Position,
}

impl Condition {
    /// What a worker is sent a heartbeat for at once when it changes: whether the subscription is
    /// paused, and whether it is stalled.
    pub(super) const fn kind(self) -> (bool, bool) {
        (self.is_paused, self.stall.is_some())
    }
}
