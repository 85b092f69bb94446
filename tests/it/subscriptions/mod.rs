//! Subscriptions that the gateway keeps: the calls, with the real binary over gRPC.

mod acknowledging;
mod changing;
mod commands;
mod crashing;
mod expired;
mod faults;
mod histories;
mod ledger;
mod letters;
mod load;
mod managing;
mod manual;
mod operating;
mod outage;
mod owners;
mod poison;
mod refusals;
mod several;
mod tools;
mod unwell;

use std::collections::HashMap;

use clerkcast::proto;
use clerkcast::proto::create_subscription_request::Start;
use clerkcast::proto::receive_response::Kind;
use clerkcast::proto::seek_subscription_request::To;
use clerkcast::proto::subscription_service_client::SubscriptionServiceClient;
use clerkcast::proto::{
    AcknowledgeRequest, CreateSubscriptionRequest, Delivery, ReceiveRequest, ReceiveResponse,
    StartPosition, Subscription,
};
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::access::Token;
use crate::harness::{Gateway, PATIENCE, eventually};

/// A caller of `SubscriptionService`, on a connection of its own.
pub(crate) struct Caller {
    pub(crate) client: SubscriptionServiceClient<Channel>,
    token: Option<String>,
}

impl Caller {
    /// A caller without credentials.
    pub(crate) async fn of(gateway: &Gateway) -> Self {
        let client = SubscriptionServiceClient::connect(format!("http://{}", gateway.grpc)).await;
        Self {
            client: client.expect("gRPC connects"),
            token: None,
        }
    }

    /// A caller that shows a token.
    pub(crate) async fn with(gateway: &Gateway, token: &Token) -> Self {
        Self {
            token: Some(token.secret.clone()),
            ..Self::of(gateway).await
        }
    }

    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            let value = format!("Bearer {token}").parse().expect("ASCII");
            request.metadata_mut().insert("authorization", value);
        }
        request
    }

    /// Creates a subscription that begins with the oldest event in the log.
    pub(crate) async fn create(
        &mut self,
        subscription: Subscription,
    ) -> Result<Subscription, Status> {
        self.create_at(subscription, Some(earliest())).await
    }

    pub(crate) async fn create_at(
        &mut self,
        subscription: Subscription,
        start: Option<Start>,
    ) -> Result<Subscription, Status> {
        let request = self.request(CreateSubscriptionRequest {
            subscription: Some(subscription),
            start,
        });
        let created = self.client.create_subscription(request).await?;
        Ok(created.into_inner().subscription.expect("always there"))
    }

    pub(crate) async fn seek(&mut self, name: &str, to: To) -> Result<Subscription, Status> {
        let request = self.request(proto::SeekSubscriptionRequest {
            name: name.to_owned(),
            to: Some(to),
        });
        let sought = self.client.seek_subscription(request).await?;
        Ok(sought.into_inner().subscription.expect("always there"))
    }

    pub(crate) async fn seek_to_earliest(&mut self, name: &str) -> Result<Subscription, Status> {
        let earliest = To::StartPosition(StartPosition::Earliest.into());
        self.seek(name, earliest).await
    }

    pub(crate) async fn delete(&mut self, name: &str) -> Result<(), Status> {
        let request = self.request(proto::DeleteSubscriptionRequest {
            name: name.to_owned(),
        });
        self.client.delete_subscription(request).await.map(|_| ())
    }

    pub(crate) async fn list(&mut self, names: &[&str]) -> Result<Vec<Subscription>, Status> {
        let request = self.request(proto::ListSubscriptionsRequest {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        });
        let listed = self.client.list_subscriptions(request).await?;
        Ok(listed.into_inner().subscriptions)
    }

    /// One subscription as it is now.
    pub(crate) async fn look(&mut self, name: &str) -> Subscription {
        let listed = self.list(&[name]).await.expect("listed");
        listed.into_iter().next().expect("one of that name")
    }

    pub(crate) async fn receive(&mut self, request: ReceiveRequest) -> Result<Worker, Status> {
        let request = self.request(request);
        let frames = self.client.receive(request).await?.into_inner();
        Ok(Worker { frames })
    }

    /// A worker that is handed its first frame, which says that the stream is open.
    pub(crate) async fn worker(&mut self, name: &str) -> Worker {
        let worker = self.receive(worker_of(name)).await;
        let mut worker = worker.expect("the stream opens");
        let first = worker.next().await.expect("no error").expect("a frame");
        assert!(matches!(first, Kind::Started(_)), "{first:?}");
        worker
    }

    /// Reports outcomes. Returns the lost ids.
    pub(crate) async fn settle(
        &mut self,
        request: AcknowledgeRequest,
    ) -> Result<Vec<String>, Status> {
        let request = self.request(request);
        let settled = self.client.acknowledge(request).await?;
        Ok(settled.into_inner().lost_ack_ids)
    }

    /// Acknowledges deliveries. Returns the lost ids.
    pub(crate) async fn acknowledge(
        &mut self,
        name: &str,
        ack_ids: &[&str],
    ) -> Result<Vec<String>, Status> {
        self.settle(AcknowledgeRequest {
            subscription: name.to_owned(),
            ack_ids: ack_ids.iter().map(|id| (*id).to_owned()).collect(),
            ..AcknowledgeRequest::default()
        })
        .await
    }

    /// Fails a delivery for good.
    pub(crate) async fn reject(&mut self, name: &str, delivery: &Delivery, reason: &str) {
        let lost = self
            .settle(AcknowledgeRequest {
                subscription: name.to_owned(),
                failures: vec![proto::Failure {
                    ack_id: delivery.ack_id.clone(),
                    reason: reason.to_owned(),
                    dead: true,
                    ..proto::Failure::default()
                }],
                ..AcknowledgeRequest::default()
            })
            .await;
        assert_eq!(lost.expect("stored"), [""; 0]);
    }

    /// A page of dead letters, and the token of the next.
    pub(crate) async fn letters(
        &mut self,
        request: proto::ListDeadLettersRequest,
    ) -> Result<(Vec<proto::DeadLetter>, String), Status> {
        let request = self.request(request);
        let listed = self.client.list_dead_letters(request).await?.into_inner();
        Ok((listed.dead_letters, listed.next_page_token))
    }

    pub(crate) async fn resolve(
        &mut self,
        request: proto::ResolveDeadLettersRequest,
    ) -> Result<i64, Status> {
        let request = self.request(request);
        let resolved = self.client.resolve_dead_letters(request).await?;
        Ok(resolved.into_inner().count)
    }
}

/// An open `Receive` stream.
pub(crate) struct Worker {
    frames: Streaming<ReceiveResponse>,
}

impl Worker {
    pub(crate) async fn next(&mut self) -> Result<Option<Kind>, Status> {
        let next = tokio::time::timeout(PATIENCE, self.frames.message()).await;
        let frame = next.expect("a frame in time")?;
        Ok(frame.map(|frame| frame.kind.expect("every frame has a kind")))
    }

    /// The next delivery; heartbeats are passed over.
    pub(crate) async fn delivery(&mut self) -> Delivery {
        loop {
            let next = self.next().await.expect("no error").expect("no end yet");
            if let Kind::Delivery(delivery) = next {
                return delivery;
            }
        }
    }

    /// Why the stream ends.
    pub(crate) async fn ended(&mut self) -> Status {
        loop {
            match self.next().await {
                Err(status) => return status,
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ended with OK"),
            }
        }
    }
}

pub(crate) fn named(name: &str) -> Subscription {
    Subscription {
        name: name.to_owned(),
        ..Subscription::default()
    }
}

pub(crate) fn worker_of(name: &str) -> ReceiveRequest {
    ReceiveRequest {
        subscription: name.to_owned(),
        ..ReceiveRequest::default()
    }
}

pub(crate) fn earliest() -> Start {
    Start::StartPosition(StartPosition::Earliest.into())
}

pub(crate) fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// The id of a delivery's event.
pub(crate) fn event_id(delivery: &Delivery) -> &str {
    let event = delivery.event.as_ref();
    &event.expect("a delivery has an event").id
}

/// The code, the reason and the metadata of a refusal.
pub(crate) fn refusal(status: &Status) -> (Code, String, HashMap<String, String>) {
    let details = status.get_error_details();
    let info = details.error_info();
    let info = info.unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "clerkcast");
    (status.code(), info.reason.clone(), info.metadata.clone())
}

/// Waits until the subscription looks as it should.
pub(crate) async fn until(
    caller: &mut Caller,
    name: &str,
    what: &str,
    holds: impl Fn(&Subscription) -> bool,
) -> Subscription {
    let caller = tokio::sync::Mutex::new(caller);
    let seen = tokio::sync::Mutex::new(Subscription::default());
    eventually(what, || async {
        let found = caller.lock().await.look(name).await;
        let is_so = holds(&found);
        *seen.lock().await = found;
        is_so
    })
    .await;
    seen.into_inner()
}
