//! One event in the hands of a worker.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use prost_types::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::proto::v1;
use crate::proto::v1::Event;

/// The reason of a failure whose handler gave none.
const DROPPED: &str = "the handler ended without an outcome";

/// An event to handle. Give it an outcome: [`Delivery::acknowledge`], [`Delivery::fail`] or
/// [`Delivery::release`]. One that is dropped without, as when its handler panics, has failed.
#[derive(Debug)]
pub struct Delivery {
    /// The event.
    pub event: Event,
    /// Which delivery of it this is; 1 is the first.
    pub attempt: i32,
    /// Until when no other worker is handed this event or another with its key, by the
    /// gateway's clock. It moves on as the lease is extended.
    pub deadline: Option<Timestamp>,
    /// The event was a dead letter: events with its key that came later may have been handled.
    pub replayed: bool,
    ack_id: String,
    /// Whether it was handed to the caller. Otherwise it is given back.
    is_begun: bool,
    /// None once it has an outcome.
    outbox: Option<mpsc::UnboundedSender<Message>>,
    lease: Lease,
}

/// How long a worker may keep an event.
#[derive(Debug)]
pub(super) struct Lease {
    /// Extended after each of these.
    pub(super) interval: Duration,
    /// When an event that nothing has begun with is given back.
    pub(super) until: Instant,
    /// The gateway has reported that another worker has the event.
    pub(super) is_lost: Arc<AtomicBool>,
}

/// What reaches the task that acknowledges.
#[derive(Debug)]
pub(super) enum Message {
    /// A lease to extend.
    Held {
        ack_id: String,
        interval: Duration,
        is_lost: Arc<AtomicBool>,
    },
    /// The caller has begun with the event.
    Begun { ack_id: String },
    /// The event has an outcome.
    Settled(Outcome),
}

/// What became of one delivery.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) ack_id: String,
    pub(super) event_id: String,
    pub(super) verdict: Verdict,
    pub(super) answer: oneshot::Sender<Settlement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Acknowledge,
    Fail(Failure),
    Release,
}

/// Why an event was not handled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// Shown with the dead letter; the gateway keeps 1 KiB of it.
    pub reason: String,
    /// When to try again, at most 24 h from now; none means as the subscription has it.
    pub retry_delay: Option<Duration>,
    /// Do not try again: the event is a dead letter now.
    pub dead: bool,
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self {
            reason,
            ..Self::default()
        }
    }
}

impl From<&str> for Failure {
    fn from(reason: &str) -> Self {
        Self::from(reason.to_owned())
    }
}

/// What the gateway answered for an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// The outcome is durable.
    Recorded,
    /// The outcome came too late, and the event was handed out again.
    Lost,
    /// There was no answer before the worker ended.
    Unanswered,
}

/// The gateway's answer for an outcome. It may be dropped: the outcome is sent all the same.
#[derive(Debug)]
pub struct Answer(oneshot::Receiver<Settlement>);

impl Future for Answer {
    type Output = Settlement;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Settlement> {
        let settlement = ready!(Pin::new(&mut self.0).poll(context));
        Poll::Ready(settlement.unwrap_or(Settlement::Unanswered))
    }
}

impl Delivery {
    /// Takes over a frame's delivery, and has its lease extended.
    pub(super) fn new(
        frame: v1::Delivery,
        lease: Lease,
        outbox: mpsc::UnboundedSender<Message>,
    ) -> Self {
        let _ended = outbox.send(Message::Held {
            ack_id: frame.ack_id.clone(),
            interval: lease.interval,
            is_lost: Arc::clone(&lease.is_lost),
        });
        Self {
            event: frame.event.unwrap_or_default(),
            attempt: frame.attempt,
            deadline: frame.deadline,
            replayed: frame.replayed,
            ack_id: frame.ack_id,
            is_begun: false,
            outbox: Some(outbox),
            lease,
        }
    }

    /// What identifies this delivery to the gateway.
    #[must_use]
    pub fn ack_id(&self) -> &str {
        &self.ack_id
    }

    /// Whether the gateway has reported that another worker has the event now, so that the
    /// outcome of this one will not count.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lease.is_lost.load(Ordering::Relaxed)
    }

    /// The event is handled.
    pub fn acknowledge(self) -> Answer {
        self.settle(Verdict::Acknowledge)
    }

    /// The event is not handled: it is handed out again after a delay, and becomes a dead letter
    /// once it has failed too often.
    pub fn fail(self, failure: impl Into<Failure>) -> Answer {
        self.settle(Verdict::Fail(failure.into()))
    }

    /// Gives the event back untouched. This does not count as a delivery.
    pub fn release(self) -> Answer {
        self.settle(Verdict::Release)
    }

    /// Notes that the caller begins with it now. False if it has waited for too long.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        if self.is_lost() || now >= self.lease.until {
            return false;
        }
        self.is_begun = true;
        if let Some(outbox) = &self.outbox {
            let ack_id = self.ack_id.clone();
            let _ended = outbox.send(Message::Begun { ack_id });
        }
        true
    }

    fn settle(mut self, verdict: Verdict) -> Answer {
        self.send(verdict)
    }

    fn send(&mut self, verdict: Verdict) -> Answer {
        let (answer, receiver) = oneshot::channel();
        if let Some(outbox) = self.outbox.take() {
            let _ended = outbox.send(Message::Settled(Outcome {
                ack_id: std::mem::take(&mut self.ack_id),
                event_id: self.event.id.clone(),
                verdict,
                answer,
            }));
        }
        Answer(receiver)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if self.outbox.is_some() {
            let verdict = match self.is_begun {
                true => Verdict::Fail(DROPPED.into()),
                false => Verdict::Release,
            };
            let _nobody_waits = self.send(verdict);
        }
    }
}
