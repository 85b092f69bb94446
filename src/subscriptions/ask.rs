//! What calls ask of the task of a subscription.

use tokio::sync::oneshot;

use super::ack_id::AckId;
use super::delivery::ReceiveOptions;
use super::machine::{Candidate, Outcome};
use super::seats::Seat;
use super::status::Status;
use super::step_error::StepError;
use crate::event::{Epoch, Position};
use crate::log::Revision;

/// Where the answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StepError>>;

/// What a worker reports of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The delivery.
    pub ack_id: AckId,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it failed, for the dead letter; at most 1 KiB is kept.
    pub reason: String,
}

/// What is asked.
#[derive(Debug)]
pub(super) enum Ask {
    Settle(Vec<Report>, Reply<Vec<AckId>>),
    Move(Move, Reply<u64>),
    Join(Join, Reply<(Seat, Status)>),
}

/// What changes a subscription otherwise. The answer is how many dead letters are concerned.
#[derive(Clone, Debug)]
pub(super) enum Move {
    Seek { to: Position, epoch: Epoch },
    Replay(Vec<Candidate>),
    Drop(Vec<DroppedLetter>),
}

/// A dead letter to drop.
#[derive(Clone, Copy, Debug)]
pub(super) struct DroppedLetter {
    pub(super) position: Position,
    /// Of its body.
    pub(super) bytes: u64,
    /// Of its cell, when it was read.
    pub(super) revision: Revision,
}

/// A stream to open.
#[derive(Debug)]
pub(super) struct Join {
    pub(super) options: ReceiveOptions,
    /// It ends once everything up to here is handled.
    pub(super) until: Option<Position>,
}
