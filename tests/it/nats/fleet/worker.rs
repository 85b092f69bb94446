//! A worker, which acknowledges at any gateway, fails some deliveries and forgets others.

use std::sync::Arc;
use std::time::Duration;

use clerkcast::proto::receive_response::Kind;
use clerkcast::proto::subscription_service_client::SubscriptionServiceClient;
use clerkcast::proto::{AcknowledgeRequest, Delivery, Failure, ReceiveRequest};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::ledger::{Id, Ledger};
use super::{ACK_DEADLINE, ANSWERED_WITHIN, NAME, RETRY_DELAY};

/// One delivery in this many fails, and another one is forgotten.
const FAILS_EVERY: usize = 16;
/// One event in this many is handled slowly: too slowly at first, then just in time.
const SLOW_EVERY: usize = 8;
/// How long a slow event takes when it is handled for the first time: longer than the deadline,
/// and until the next worker is at it.
const FIRST_TAKES: Duration = Duration::from_secs(3);
/// How long it takes from then on.
const NEXT_TAKES: Duration = Duration::from_millis(1_500);

type Error = Box<dyn std::error::Error + Send + Sync>;

pub(super) struct Worker {
    pub(super) number: usize,
    pub(super) addresses: Vec<String>,
    /// How many seconds each gateway's clock is ahead.
    pub(super) clocks: [i64; 3],
    pub(super) ledger: Arc<Mutex<Ledger>>,
}

impl Worker {
    /// Works at one gateway, and at the next when that one is gone.
    pub(super) async fn work(self) {
        let mut outcomes = JoinSet::new();
        let mut count = self.number;
        for at in self.number.. {
            let _ended = self
                .receive(at % self.addresses.len(), &mut outcomes, &mut count)
                .await;
            sleep(RETRY_DELAY).await;
        }
    }

    async fn receive(
        &self,
        at: usize,
        outcomes: &mut JoinSet<()>,
        count: &mut usize,
    ) -> Result<(), Error> {
        let mut client = connect(&self.addresses[at]).await?;
        let request = ReceiveRequest {
            subscription: NAME.to_owned(),
            max_outstanding: 4,
            worker_name: format!("worker-{}", self.number),
            ..ReceiveRequest::default()
        };
        let mut frames = client.receive(request).await?.into_inner();
        while let Some(frame) = frames.message().await? {
            if let Some(Kind::Delivery(delivery)) = frame.kind {
                *count += 1;
                let outcome = self.outcome(at, *count, delivery)?;
                outcomes.extend(outcome.map(Outcome::tell));
            }
        }
        Ok(())
    }

    /// What becomes of a delivery, unless it is forgotten.
    fn outcome(
        &self,
        at: usize,
        count: usize,
        delivery: Delivery,
    ) -> Result<Option<Outcome>, Error> {
        let deadline = delivery.deadline.ok_or("no deadline")?;
        let deadline_ms = deadline.seconds * 1000 + i64::from(deadline.nanos) / 1_000_000;
        let ahead_ms = 1000 * self.clocks[at] + i64::try_from(ACK_DEADLINE.as_millis())?;
        let id = parse(&delivery.event.ok_or("no event")?.id).ok_or("another id")?;
        let lease = self
            .ledger
            .lock()
            .note_lease(id, delivery.attempt, deadline_ms - ahead_ms);
        let mut request = AcknowledgeRequest {
            subscription: NAME.to_owned(),
            ..AcknowledgeRequest::default()
        };
        match count % FAILS_EVERY {
            0 => return Ok(None),
            1 => request.failures.push(Failure {
                ack_id: delivery.ack_id,
                reason: "as every now and then".to_owned(),
                retry_delay: RETRY_DELAY.try_into().ok(),
                dead: false,
            }),
            _ => request.ack_ids.push(delivery.ack_id),
        }
        let takes = match (id.1 % SLOW_EVERY, delivery.attempt) {
            (0, 1) => FIRST_TAKES,
            (0, _) => NEXT_TAKES,
            _ => Duration::ZERO,
        };
        Ok(Some(Outcome {
            takes,
            request,
            lease,
            first: count,
            addresses: self.addresses.clone(),
            ledger: Arc::clone(&self.ledger),
        }))
    }
}

/// What a worker tells of a delivery.
struct Outcome {
    /// How long the event is handled.
    takes: Duration,
    request: AcknowledgeRequest,
    lease: usize,
    /// The gateway that hears it first.
    first: usize,
    addresses: Vec<String>,
    ledger: Arc<Mutex<Ledger>>,
}

impl Outcome {
    /// Tells one gateway after the other, until one has answered.
    async fn tell(self) {
        sleep(self.takes).await;
        let is_acknowledgement = !self.request.ack_ids.is_empty();
        self.ledger.lock().note_end(self.lease, is_acknowledgement);
        for attempt in self.first.. {
            let address = &self.addresses[attempt % self.addresses.len()];
            let told = timeout(ANSWERED_WITHIN, self.tell_one(address)).await;
            if let Ok(Ok(is_lost)) = told {
                let mut ledger = self.ledger.lock();
                match is_acknowledgement {
                    true if is_lost => ledger.note_lost(self.lease),
                    true => ledger.note_acknowledged(self.lease),
                    // One that was repeated may have been recorded before.
                    false => {}
                }
                return;
            }
            sleep(RETRY_DELAY).await;
        }
    }

    /// Returns whether it came too late.
    async fn tell_one(&self, address: &str) -> Result<bool, Error> {
        let answer = connect(address)
            .await?
            .acknowledge(self.request.clone())
            .await?;
        Ok(!answer.into_inner().lost_ack_ids.is_empty())
    }
}

async fn connect(
    address: &str,
) -> Result<SubscriptionServiceClient<tonic::transport::Channel>, Error> {
    let connecting = SubscriptionServiceClient::connect(format!("http://{address}"));
    Ok(timeout(ANSWERED_WITHIN, connecting).await??)
}

fn parse(id: &str) -> Option<Id> {
    let (key, number) = id.strip_prefix("msg_")?.split_once('_')?;
    Some((key.parse().ok()?, number.parse().ok()?))
}
