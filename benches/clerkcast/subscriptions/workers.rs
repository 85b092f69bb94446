//! Subscriptions of this run, and their workers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::http::uri::PathAndQuery;
use bytes::Bytes;
use clerkcast::proto::create_subscription_request::Start;
use clerkcast::proto::method::subscription_service::{
    ACKNOWLEDGE, CREATE_SUBSCRIPTION, DELETE_SUBSCRIPTION, RECEIVE,
};
use clerkcast::proto::{
    AcknowledgeRequest, AcknowledgeResponse, CreateSubscriptionRequest, CreateSubscriptionResponse,
    DeleteSubscriptionRequest, DeleteSubscriptionResponse, OrderBy, ReceiveRequest, StartPosition,
    Subscription,
};
use prost::Message;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Streaming};

use super::Crew;
use super::progress::Progress;
use crate::support::bare::RawCodec;
use crate::support::count;
use crate::support::process::Server;

/// Ids in one `Acknowledge`.
const ACK_IDS_MAX: usize = 64;

/// Is shown every delivery.
pub(super) type Observe = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// A subscription that was made for one round.
#[derive(Debug)]
pub(super) struct Created {
    caller: Caller,
    name: String,
}

/// Workers that are connected.
#[derive(Debug)]
pub(super) struct Workers {
    progress: Arc<Progress>,
    tasks: JoinSet<()>,
}

/// Acknowledgements a second by which a new subscription works off the first `events` events of
/// the log, with the workers at these gateways in turn.
pub(super) async fn drain(
    gateways: &[&Server],
    order_by: OrderBy,
    crew: Crew,
    events: usize,
) -> f64 {
    let subscription = Created::new(gateways[0], order_by, StartPosition::Earliest).await;
    let started = Instant::now();
    let workers = subscription.work(gateways, crew, ignore()).await;
    workers.reach(events).await;
    let elapsed = started.elapsed();
    workers.close().await;
    subscription.delete().await;
    count(events) / elapsed.as_secs_f64()
}

pub(super) fn ignore() -> Observe {
    Arc::new(|_| {})
}

impl Created {
    pub(super) async fn new(gateway: &Server, order_by: OrderBy, start: StartPosition) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let caller = Caller::connect(gateway.grpc).await;
        let name = format!("bench-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let request = CreateSubscriptionRequest {
            subscription: Some(Subscription {
                name: name.clone(),
                order_by: order_by.into(),
                ..Subscription::default()
            }),
            start: Some(Start::StartPosition(start.into())),
        };
        let _created: CreateSubscriptionResponse = caller.call(CREATE_SUBSCRIPTION, &request).await;
        Self { caller, name }
    }

    /// Connects workers, each on its own connection, to these gateways in turn.
    pub(super) async fn work(&self, gateways: &[&Server], crew: Crew, observe: Observe) -> Workers {
        let progress = Arc::new(Progress::default());
        let mut tasks = JoinSet::new();
        for gateway in gateways.iter().cycle().take(crew.workers) {
            let caller = Caller::connect(gateway.grpc).await;
            let frames = caller.receive(&self.name, crew.outstanding).await;
            let (received, to_acknowledge) = mpsc::channel(crew.outstanding);
            tasks.spawn(receive(frames, received, Arc::clone(&observe)));
            let to_acknowledge = Arc::new(Mutex::new(to_acknowledge));
            for _ in 0..crew.calls {
                let (caller, name) = (caller.clone(), self.name.clone());
                let to_acknowledge = Arc::clone(&to_acknowledge);
                let progress = Arc::clone(&progress);
                tasks.spawn(acknowledge(caller, name, to_acknowledge, progress));
            }
        }
        Workers { progress, tasks }
    }

    pub(super) async fn delete(self) {
        let Self { caller, name } = self;
        let request = DeleteSubscriptionRequest { name };
        let _deleted: DeleteSubscriptionResponse = caller.call(DELETE_SUBSCRIPTION, &request).await;
    }
}

impl Workers {
    pub(super) fn acknowledged(&self) -> usize {
        self.progress.acknowledged()
    }

    /// Waits until they have acknowledged this many events together.
    pub(super) async fn reach(&self, events: usize) {
        self.progress.reach(events).await;
    }

    pub(super) async fn close(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Of a frame, what a worker looks at.
#[derive(Clone, PartialEq, Message)]
struct Frame {
    #[prost(message, optional, tag = "1")]
    delivery: Option<DeliveryHead>,
}

#[derive(Clone, PartialEq, Message)]
struct DeliveryHead {
    #[prost(string, tag = "1")]
    ack_id: String,
}

async fn receive(mut frames: Streaming<Bytes>, received: mpsc::Sender<String>, observe: Observe) {
    while let Some(frame) = frames.message().await.expect("no error") {
        let head = Frame::decode(frame.clone()).expect("a frame");
        let Some(DeliveryHead { ack_id }) = head.delivery else {
            continue;
        };
        observe(&frame);
        received.send(ack_id).await.expect("acknowledges");
    }
}

async fn acknowledge(
    caller: Caller,
    subscription: String,
    received: Arc<Mutex<mpsc::Receiver<String>>>,
    progress: Arc<Progress>,
) {
    let mut ack_ids = Vec::new();
    loop {
        let mut next = received.lock().await;
        if next.recv_many(&mut ack_ids, ACK_IDS_MAX).await == 0 {
            return;
        }
        drop(next);
        let events = ack_ids.len();
        let request = AcknowledgeRequest {
            subscription: subscription.clone(),
            ack_ids: std::mem::take(&mut ack_ids),
            ..AcknowledgeRequest::default()
        };
        let answer: AcknowledgeResponse = caller.call(ACKNOWLEDGE, &request).await;
        assert!(answer.lost_ack_ids.is_empty(), "acknowledged in time");
        progress.add(events);
    }
}

/// A connection to a gateway.
#[derive(Clone, Debug)]
struct Caller {
    channel: Channel,
}

impl Caller {
    async fn connect(address: SocketAddr) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URI");
        let channel = endpoint.connect().await.expect("connected");
        Self { channel }
    }

    async fn call<A: Message, B: Message + Default>(&self, path: &'static str, request: &A) -> B {
        let mut grpc = self.ready().await;
        let request = Request::new(request.encode_to_vec().into());
        let path = PathAndQuery::from_static(path);
        let answer = grpc.unary(request, path, RawCodec).await;
        B::decode(answer.expect("answered").into_inner()).expect("a message")
    }

    async fn receive(&self, subscription: &str, outstanding: usize) -> Streaming<Bytes> {
        let request = ReceiveRequest {
            subscription: subscription.to_owned(),
            max_outstanding: i32::try_from(outstanding).expect("at most 1,000"),
            ..ReceiveRequest::default()
        };
        let mut grpc = self.ready().await;
        let request = Request::new(request.encode_to_vec().into());
        let path = PathAndQuery::from_static(RECEIVE);
        let opened = grpc.server_streaming(request, path, RawCodec).await;
        opened.expect("opened").into_inner()
    }

    async fn ready(&self) -> Grpc<Channel> {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.expect("ready");
        grpc
    }
}
