//! The task that acknowledges: one call at a time, with everything that waits for one.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::Status;

use super::Notice;
use super::delivery::{Failure, Message, Outcome, Settlement, Verdict};
use super::leases::Leases;
use crate::error::Error;
use crate::gateway::Gateway;
use crate::proto::v1;
use crate::proto::v1::{AcknowledgeRequest, AcknowledgeResponse};
use crate::retry::{Retry, Wait};
use crate::watcher::Watcher;

/// Half of what a call may have: this many failures with the longest reasons stay below the
/// 1 MiB that a gateway takes.
const IDS_MAX: usize = 500;
/// The gateway keeps as much of a reason.
const REASON_BYTES_MAX: usize = 1 << 10;
/// Shorter than half of the usual `ack_deadline`, so that an extension is repeated in time.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last outcomes are repeated while the gateway does not answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// The task.
#[derive(Debug)]
pub(super) struct Settling {
    gateway: Gateway,
    subscription: String,
    leases: Leases,
    outcomes: VecDeque<Outcome>,
    watcher: Watcher<Notice>,
    retry: Retry,
    /// When the last delivery was gone; no outcome can follow.
    closed_at: Option<Instant>,
}

impl Settling {
    pub(super) fn new(
        gateway: Gateway,
        subscription: String,
        leases: Leases,
        watcher: Watcher<Notice>,
    ) -> Self {
        let mut retry = Retry::new(gateway.is_tls());
        // What is acknowledged was received, so the address is right.
        retry.answered();
        Self {
            gateway,
            subscription,
            leases,
            outcomes: VecDeque::new(),
            watcher,
            retry,
            closed_at: None,
        }
    }

    /// Runs until no delivery is left and every outcome is answered.
    pub(super) async fn run(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<Message>,
        refuse: oneshot::Sender<Error>,
    ) -> Result<(), Error> {
        loop {
            self.gather(&mut inbox);
            if self.outcomes.is_empty() && self.closed_at.is_some() {
                return Ok(());
            }
            if self.outcomes.is_empty() && !self.leases.are_due(Instant::now()) {
                self.wait(&mut inbox).await;
                continue;
            }
            let Err(status) = self.call().await else {
                continue;
            };
            let wait = match self.retry.wait(status) {
                Ok(wait) => wait,
                Err(error) => {
                    let unanswered = self.unanswered(error.to_string());
                    let _receives_no_more = refuse.send(error);
                    return unanswered;
                }
            };
            let Wait { reason, retry_in } = wait;
            let closed_for = self.closed_at.map(|at| at.elapsed() + retry_in);
            if closed_for.is_some_and(|closed_for| closed_for >= ANSWER_PATIENCE) {
                return self.unanswered(reason);
            }
            self.watcher
                .report(&Notice::Unanswered { reason, retry_in });
            sleep(retry_in).await;
        }
    }

    fn unanswered(&self, reason: String) -> Result<(), Error> {
        match self.outcomes.len() {
            0 => Ok(()),
            outcomes => Err(Error::Unanswered { outcomes, reason }),
        }
    }

    /// Takes what has arrived.
    fn gather(&mut self, inbox: &mut mpsc::UnboundedReceiver<Message>) {
        loop {
            match inbox.try_recv() {
                Ok(message) => self.take(message),
                Err(mpsc::error::TryRecvError::Empty) => return,
                Err(mpsc::error::TryRecvError::Disconnected) => {
                    self.closed_at.get_or_insert_with(Instant::now);
                    return;
                }
            }
        }
    }

    /// Waits for a message, or until a lease has to be extended.
    async fn wait(&mut self, inbox: &mut mpsc::UnboundedReceiver<Message>) {
        let due = self.leases.next_due(Instant::now());
        let extend = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            message = inbox.recv() => match message {
                Some(message) => self.take(message),
                None => { self.closed_at.get_or_insert_with(Instant::now); }
            },
            () = extend => {}
        }
    }

    fn take(&mut self, message: Message) {
        let now = Instant::now();
        match message {
            Message::Held {
                ack_id,
                interval,
                is_lost,
            } => self.leases.hold(ack_id, interval, is_lost, now),
            Message::Begun { ack_id } => self.leases.begin(&ack_id, now),
            Message::Settled(outcome) => {
                self.leases.settle(&outcome.ack_id);
                self.outcomes.push_back(outcome);
            }
        }
    }

    /// One call with all that waits, in the order in which it arrived.
    async fn call(&mut self) -> Result<(), Status> {
        let count = self.outcomes.len().min(IDS_MAX);
        let mut request = AcknowledgeRequest {
            subscription: self.subscription.clone(),
            extend_ack_ids: self.leases.due(Instant::now(), IDS_MAX - count),
            ..AcknowledgeRequest::default()
        };
        for outcome in self.outcomes.iter().take(count) {
            add(&mut request, outcome);
        }
        let extended = request.extend_ack_ids.clone();
        let mut client = self.gateway.subscriptions();
        let call = timeout(CALL_TIMEOUT, client.acknowledge(request)).await;
        let response = call.map_err(|_| Status::unavailable("no answer in time"))??;
        self.retry.progressed();
        self.answered(count, &extended, response.into_inner());
        Ok(())
    }

    fn answered(&mut self, count: usize, extended: &[String], response: AcknowledgeResponse) {
        let lost: HashSet<String> = response.lost_ack_ids.into_iter().collect();
        let now = Instant::now();
        for ack_id in extended {
            match lost.contains(ack_id) {
                true => self.leases.lose(ack_id),
                false => self.leases.extended(ack_id, now),
            }
        }
        for outcome in self.outcomes.drain(..count) {
            let settlement = match lost.contains(&outcome.ack_id) {
                true => Settlement::Lost,
                false => Settlement::Recorded,
            };
            // What was given back too late is in other hands, as it should be.
            if settlement == Settlement::Lost && outcome.verdict != Verdict::Release {
                let event_id = outcome.event_id;
                self.watcher.report(&Notice::Lost { event_id });
            }
            let _nobody_waits = outcome.answer.send(settlement);
        }
    }
}

fn add(request: &mut AcknowledgeRequest, outcome: &Outcome) {
    let ack_id = outcome.ack_id.clone();
    match &outcome.verdict {
        Verdict::Acknowledge => request.ack_ids.push(ack_id),
        Verdict::Release => request.release_ack_ids.push(ack_id),
        Verdict::Fail(failure) => request.failures.push(as_sent(ack_id, failure)),
    }
}

fn as_sent(ack_id: String, failure: &Failure) -> v1::Failure {
    let delay = failure.retry_delay;
    let reason = &failure.reason;
    let kept = reason.get(..reason.floor_char_boundary(REASON_BYTES_MAX));
    v1::Failure {
        ack_id,
        reason: kept.unwrap_or_default().to_owned(),
        retry_delay: delay.and_then(|delay| delay.try_into().ok()),
        dead: failure.dead,
    }
}
