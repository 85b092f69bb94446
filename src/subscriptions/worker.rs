//! One `Receive` stream: what a worker is handed, pulled by its connection.

use std::time::Duration;

use super::machine::{Grant, Stall};
use super::status::Status;
use super::step_error::StepError;
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

/// An open `Receive` stream. Its leases outlive it, except for deliveries that were never taken
/// from it: these are released when it is dropped.
#[derive(Debug)]
pub struct Worker {
    _private: (),
}

impl Worker {
    /// What comes next; nothing once the stream has ended as asked. Cancel-safe. A call of it
    /// means that the connection has room.
    ///
    /// # Errors
    /// When the subscription is deleted, stops or has to be moved.
    #[expect(clippy::unused_async, reason = "still to come")]
    pub async fn next(&mut self) -> Option<Result<WorkerFrame, StepError>> {
        None
    }
}
