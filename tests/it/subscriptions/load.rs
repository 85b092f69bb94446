//! Posters and workers of one subscription, while an operator changes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use clerkcast::proto::receive_response::Kind;
use clerkcast::proto::{AcknowledgeRequest, Delivery, Failure};
use clerkcast::subscriptions::AckId;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::ledger::Ledger;
use super::{Caller, Worker, event_id, refusal, worker_of};
use crate::access::Token;
use crate::harness::{Gateway, Poster, body, eventually};

const POSTERS: usize = 4;
const WORKERS: usize = 4;
/// Users, and so keys.
const USERS: usize = 40;
/// Between two events of a poster, and before a worker connects again.
const PACE: Duration = Duration::from_millis(4);
/// Acknowledged before something changes, and again after it did.
const ENOUGH: usize = 60;
/// An event that each worker rejects, unless it is replayed.
pub(super) const POISON: &str = "msg_poison";

/// An event of a poster.
pub(super) struct Posted {
    pub(super) event_type: &'static str,
    /// Changes that were answered before it was posted.
    pub(super) after: usize,
}

/// A delivery.
pub(super) struct Seen {
    pub(super) id: String,
    pub(super) event_type: String,
    /// Changes that were answered before the worker's stream was opened.
    pub(super) opened_after: usize,
    /// Changes that had begun when it was delivered.
    pub(super) before: usize,
}

/// What posters and workers saw.
#[derive(Default)]
pub(super) struct Record {
    pub(super) posted: BTreeMap<String, Posted>,
    pub(super) seen: Vec<Seen>,
    /// Deliveries and acknowledgements between two seeks, and of each life of the name.
    lives: BTreeMap<u64, Ledger>,
    /// Why streams ended and calls were refused, and how often.
    pub(super) refusals: BTreeMap<String, usize>,
    /// Acknowledgements whose call ended with an error: stored or not, as with any call that a
    /// change of the policy ends.
    pub(super) unknown: BTreeSet<String>,
    /// Rejections of the poison that were recorded.
    pub(super) rejected: usize,
    /// Changes that were begun, and that were answered.
    begun: usize,
    answered: usize,
    /// Deliveries of this life, and of those before, are void.
    void_through: u64,
}

impl Record {
    /// Events acknowledged, in each life.
    pub(super) fn acknowledged(&self) -> usize {
        let ledgers = self.lives.values();
        ledgers.map(|ledger| ledger.acknowledged).sum()
    }

    /// What was seen since the last seek, or since the subscription was created anew.
    pub(super) fn last_life(&self) -> &Ledger {
        let (_, ledger) = self.lives.last_key_value().expect("something was seen");
        ledger
    }

    pub(super) fn lives(&self) -> usize {
        self.lives.len()
    }

    fn note_refused(&mut self, status: &Status) {
        let (_, reason, _) = refusal(status);
        *self.refusals.entry(reason).or_default() += 1;
    }

    fn note_delivered(&mut self, life: u64, opened_after: usize, delivery: &Delivery) {
        let event = delivery.event.as_ref().expect("an event");
        self.seen.push(Seen {
            id: event.id.clone(),
            event_type: event.r#type.clone(),
            opened_after,
            before: self.begun,
        });
        let ledger = self.ledger(life);
        if delivery.replayed && delivery.attempt == 1 {
            ledger.note_replayed(&event.id);
        }
        ledger.note_delivered(delivery);
    }

    fn ledger(&mut self, life: u64) -> &mut Ledger {
        self.lives.entry(life).or_default()
    }
}

pub(super) struct Load {
    record: Arc<Mutex<Record>>,
    is_posted: CancellationToken,
    is_over: CancellationToken,
    posters: JoinSet<()>,
    workers: JoinSet<()>,
}

impl Load {
    pub(super) async fn start(
        gateway: &Gateway,
        token: Option<&Token>,
        types: &'static [&'static str],
    ) -> Self {
        let mut load = Self {
            record: Arc::default(),
            is_posted: CancellationToken::new(),
            is_over: CancellationToken::new(),
            posters: JoinSet::new(),
            workers: JoinSet::new(),
        };
        for lane in 0..POSTERS {
            let (record, is_over) = (Arc::clone(&load.record), load.is_posted.clone());
            let poster = gateway.poster.clone();
            let posting = async move {
                for number in (lane..).step_by(POSTERS) {
                    if is_over.is_cancelled() {
                        return;
                    }
                    let event_type = types[number % types.len()];
                    post(&poster, &record, number, event_type).await;
                    sleep(PACE).await;
                }
            };
            load.posters.spawn(posting);
        }
        for _ in 0..WORKERS {
            let caller = match token {
                Some(token) => Caller::with(gateway, token).await,
                None => Caller::of(gateway).await,
            };
            let record = Arc::clone(&load.record);
            let worker = Working { caller, record };
            load.workers.spawn(worker.work(load.is_over.clone()));
        }
        load
    }

    /// Waits until more is acknowledged.
    pub(super) async fn goes_on(&self) {
        let acknowledged = || self.record.lock().acknowledged();
        let enough = acknowledged() + ENOUGH;
        eventually("more is acknowledged", || async {
            acknowledged() >= enough
        })
        .await;
    }

    pub(super) async fn poison_is_rejected(&self) {
        eventually("the poison is rejected", || async {
            self.record.lock().rejected > 0
        })
        .await;
    }

    /// Waits until workers are refused, again and again.
    pub(super) async fn is_kept_out(&self) {
        let refused = || {
            let record = self.record.lock();
            record.refusals.get("UNKNOWN_TOKEN").copied().unwrap_or(0)
        };
        let enough = refused() + ENOUGH;
        eventually("workers are refused", || async { refused() >= enough }).await;
    }

    /// Makes a change.
    pub(super) async fn during<T>(&self, change: impl Future<Output = T>) -> T {
        self.record.lock().begun += 1;
        let made = change.await;
        self.record.lock().answered += 1;
        made
    }

    /// Makes a change that voids what is handed out.
    pub(super) async fn voided_by<T>(&self, change: impl Future<Output = T>) -> T {
        let newest = self.record.lock().lives.keys().next_back().copied();
        let made = change.await;
        self.record.lock().void_through = newest.unwrap_or(0);
        made
    }

    /// Ends the posters, once the event of each is answered.
    pub(super) async fn stop_posting(&mut self) {
        self.is_posted.cancel();
        std::mem::take(&mut self.posters).join_all().await;
    }

    /// Ends the workers. Returns what was seen.
    pub(super) async fn end(self) -> Record {
        self.is_over.cancel();
        self.workers.join_all().await;
        std::mem::take(&mut *self.record.lock())
    }
}

async fn post(poster: &Poster, record: &Mutex<Record>, number: usize, event_type: &'static str) {
    let id = format!("msg_{number}");
    {
        let mut record = record.lock();
        let after = record.answered;
        let posted = Posted { event_type, after };
        record.posted.insert(id.clone(), posted);
    }
    let body = body(event_type, &format!("user_{}", number * 7 % USERS));
    let answer = poster.post(&id, body.into()).await.expect("answered");
    assert_eq!(answer.status, 200, "{}", answer.text);
}

struct Working {
    caller: Caller,
    record: Arc<Mutex<Record>>,
}

impl Working {
    /// Connects again and again.
    async fn work(mut self, is_over: CancellationToken) {
        while !is_over.is_cancelled() {
            let opened_after = self.record.lock().answered;
            match self.caller.receive(worker_of("crm")).await {
                Ok(worker) => {
                    self.follow(worker, opened_after, &is_over).await;
                }
                Err(status) => self.record.lock().note_refused(&status),
            }
            sleep(PACE).await;
        }
    }

    async fn follow(
        &mut self,
        mut worker: Worker,
        opened_after: usize,
        is_over: &CancellationToken,
    ) {
        loop {
            // What was delivered is handled to the end.
            let next = tokio::select! {
                () = is_over.cancelled() => return,
                next = worker.next() => next,
            };
            match next {
                Ok(Some(Kind::Delivery(delivery))) => self.handle(&delivery, opened_after).await,
                Ok(Some(Kind::Started(_) | Kind::Heartbeat(_))) => {}
                Ok(None) => panic!("it ended with OK"),
                Err(status) => return self.record.lock().note_refused(&status),
            }
        }
    }

    async fn handle(&mut self, delivery: &Delivery, opened_after: usize) {
        let name = "crm".parse().expect("a name");
        let life = AckId::read(&delivery.ack_id, &name)
            .expect("an id")
            .generation;
        let id = event_id(delivery);
        let is_rejected = id == POISON && !delivery.replayed;
        let void_through = {
            let mut record = self.record.lock();
            record.note_delivered(life, opened_after, delivery);
            record.ledger(life).note_acknowledging(id);
            record.void_through
        };
        let ack_id = delivery.ack_id.clone();
        let mut request = AcknowledgeRequest {
            subscription: "crm".to_owned(),
            ..AcknowledgeRequest::default()
        };
        if is_rejected {
            request.failures.push(Failure {
                ack_id,
                dead: true,
                ..Failure::default()
            });
        } else {
            request.ack_ids.push(ack_id);
        }
        let settled = self.caller.settle(request).await;
        let mut record = self.record.lock();
        match settled {
            Ok(lost) if lost.is_empty() => {
                assert!(life > void_through, "{id}: a void delivery is acknowledged");
                if is_rejected {
                    record.rejected += 1;
                } else {
                    record.ledger(life).note_acknowledged(id);
                }
            }
            Ok(lost) => assert_eq!(lost, std::slice::from_ref(&delivery.ack_id)),
            Err(status) => {
                record.note_refused(&status);
                record.unknown.insert(id.to_owned());
            }
        }
    }
}
