//! A `SubscriptionService` on a real socket that does what a test says: it sends the frames that
//! the test gives it, and answers `Acknowledge` as the test has it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use clerkcast::proto;
use clerkcast::proto::method::subscription_service;
use clerkcast::proto::receive_response::Kind;
use clerkcast::proto::{
    AcknowledgeRequest, AcknowledgeResponse, Delivery, Event, ReceiveHeartbeat, ReceiveRequest,
    ReceiveResponse, ReceiveStarted, Subscription, SubscriptionState,
};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::body::Body;
use tonic::codegen::http;
use tonic::server::{Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::harness::eventually;

/// The running service.
pub(super) struct Fake {
    pub(super) address: String,
    state: Arc<State>,
}

type Frames = mpsc::UnboundedSender<Result<ReceiveResponse, Status>>;

struct State {
    ack_deadline: Duration,
    /// The requests of the streams that were opened, and where their frames go.
    streams: Mutex<Vec<(ReceiveRequest, Frames)>>,
    /// The calls that have arrived.
    calls: Mutex<Vec<AcknowledgeRequest>>,
    /// What the next calls are refused with.
    refusals: Mutex<VecDeque<Status>>,
    /// What is answered as lost.
    lost: Mutex<Vec<String>>,
    /// Calls are answered while this is open.
    is_closed: watch::Sender<bool>,
}

impl Fake {
    pub(super) async fn start() -> Self {
        Self::with_ack_deadline(Duration::from_secs(30)).await
    }

    /// With the shortest deadline, so that leases are extended every half second.
    pub(super) async fn with_short_leases() -> Self {
        Self::with_ack_deadline(Duration::from_secs(1)).await
    }

    async fn with_ack_deadline(ack_deadline: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let state = Arc::new(State {
            ack_deadline,
            streams: Mutex::default(),
            calls: Mutex::default(),
            refusals: Mutex::default(),
            lost: Mutex::default(),
            is_closed: watch::Sender::new(false),
        });
        let service = Service(Arc::clone(&state));
        let incoming = TcpListenerStream::new(listener);
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming),
        );
        Self { address, state }
    }

    /// How many streams were opened.
    pub(super) fn streams(&self) -> usize {
        self.state.streams.lock().len()
    }

    /// The requests of the streams that were opened.
    pub(super) fn requests(&self) -> Vec<ReceiveRequest> {
        let streams = self.state.streams.lock();
        streams.iter().map(|(request, _)| request.clone()).collect()
    }

    /// Waits until this many streams were opened.
    pub(super) async fn opened(&self, count: usize) {
        eventually("a stream is opened", async || self.streams() >= count).await;
    }

    /// Sends an event on the newest stream; its ack id is `ack-ID`.
    pub(super) fn deliver(&self, id: &str) {
        self.send(Ok(Kind::Delivery(Delivery {
            ack_id: format!("ack-{id}"),
            event: Some(Event {
                id: id.to_owned(),
                r#type: "user.created".to_owned(),
                ..Event::default()
            }),
            attempt: 1,
            deadline: Some((SystemTime::now() + self.state.ack_deadline).into()),
            replayed: false,
        })));
    }

    pub(super) fn heartbeat(&self, state: SubscriptionState) {
        self.send(Ok(Kind::Heartbeat(ReceiveHeartbeat {
            state: state.into(),
            lag: None,
        })));
    }

    /// Ends the newest stream.
    pub(super) fn end(&self, status: Status) {
        self.send(Err(status));
    }

    /// Ends the newest stream with OK.
    pub(super) fn finish(&self) {
        let (closed, _) = mpsc::unbounded_channel();
        self.state.streams.lock().last_mut().expect("a stream").1 = closed;
    }

    fn send(&self, frame: Result<Kind, Status>) {
        let frame = frame.map(|kind| ReceiveResponse { kind: Some(kind) });
        let streams = self.state.streams.lock();
        let _gone = streams.last().expect("a stream").1.send(frame);
    }

    /// Refuses the next call.
    pub(super) fn refuse(&self, status: Status) {
        self.state.refusals.lock().push_back(status);
    }

    /// Answers from here on that this delivery is lost.
    pub(super) fn lose(&self, id: &str) {
        self.state.lost.lock().push(format!("ack-{id}"));
    }

    /// Answers no call until they are answered again.
    pub(super) fn hold_calls(&self) {
        self.state.is_closed.send_replace(true);
    }

    pub(super) fn answer_calls(&self) {
        self.state.is_closed.send_replace(false);
    }

    /// The calls that have arrived, answered or not.
    pub(super) fn calls(&self) -> Vec<AcknowledgeRequest> {
        self.state.calls.lock().clone()
    }

    /// How many ids `of` finds in all calls.
    pub(super) fn count(&self, of: impl Fn(&AcknowledgeRequest) -> usize) -> usize {
        self.calls().iter().map(of).sum()
    }

    /// Waits until calls have acknowledged these events, and nothing else, in any order.
    pub(super) async fn acknowledged(&self, ids: &[&str]) {
        self.listed("acknowledged", ids, |call| call.ack_ids.clone())
            .await;
    }

    pub(super) async fn released(&self, ids: &[&str]) {
        self.listed("released", ids, |call| call.release_ack_ids.clone())
            .await;
    }

    /// Waits until calls report these events as failed, and returns the reasons.
    pub(super) async fn failed(&self, ids: &[&str]) -> Vec<proto::Failure> {
        let ids_of = |call: &AcknowledgeRequest| {
            let failures = call.failures.iter();
            failures.map(|failure| failure.ack_id.clone()).collect()
        };
        self.listed("failed", ids, ids_of).await;
        let calls = self.calls();
        calls.into_iter().flat_map(|call| call.failures).collect()
    }

    async fn listed(
        &self,
        what: &str,
        ids: &[&str],
        of: impl Fn(&AcknowledgeRequest) -> Vec<String>,
    ) {
        let mut expected: Vec<String> = ids.iter().map(|id| format!("ack-{id}")).collect();
        expected.sort();
        eventually(&format!("{what}: {ids:?}"), async || {
            let mut found: Vec<String> = self.calls().iter().flat_map(&of).collect();
            found.sort();
            found == expected
        })
        .await;
    }
}

#[derive(Clone)]
struct Service(Arc<State>);

impl NamedService for Service {
    const NAME: &'static str = proto::service::SUBSCRIPTION_SERVICE;
}

impl tower_service::Service<http::Request<Body>> for Service {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            Ok(match request.uri().path() {
                subscription_service::RECEIVE => {
                    let mut grpc = Grpc::new(ProstCodec::default());
                    grpc.server_streaming(service, request).await
                }
                subscription_service::ACKNOWLEDGE => {
                    let mut grpc = Grpc::new(ProstCodec::default());
                    grpc.unary(service, request).await
                }
                _ => Status::unimplemented("the test needs no such call").into_http(),
            })
        })
    }
}

impl ServerStreamingService<ReceiveRequest> for Service {
    type Response = ReceiveResponse;
    type ResponseStream = UnboundedReceiverStream<Result<ReceiveResponse, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<ReceiveRequest>) -> Self::Future {
        let (frames, sent) = mpsc::unbounded_channel();
        let started = ReceiveStarted {
            subscription: Some(Subscription {
                name: request.get_ref().subscription.clone(),
                state: SubscriptionState::Active.into(),
                ack_deadline: self.0.ack_deadline.try_into().ok(),
                ..Subscription::default()
            }),
            narrowed: None,
        };
        let kind = Some(Kind::Started(started));
        frames.send(Ok(ReceiveResponse { kind })).expect("open");
        self.0.streams.lock().push((request.into_inner(), frames));
        Box::pin(async move { Ok(Response::new(UnboundedReceiverStream::new(sent))) })
    }
}

impl UnaryService<AcknowledgeRequest> for Service {
    type Response = AcknowledgeResponse;
    type Future = BoxFuture<'static, Result<Response<AcknowledgeResponse>, Status>>;

    fn call(&mut self, request: Request<AcknowledgeRequest>) -> Self::Future {
        let state = Arc::clone(&self.0);
        Box::pin(async move {
            let request = request.into_inner();
            state.calls.lock().push(request.clone());
            let mut is_closed = state.is_closed.subscribe();
            let _open = is_closed.wait_for(|is_closed| !is_closed).await;
            if let Some(status) = state.refusals.lock().pop_front() {
                return Err(status);
            }
            let failures = request.failures.into_iter().map(|failure| failure.ack_id);
            let ids = request.ack_ids.into_iter().chain(failures);
            let ids = ids.chain(request.extend_ack_ids);
            let ids = ids.chain(request.release_ack_ids);
            let lost = state.lost.lock();
            Ok(Response::new(AcknowledgeResponse {
                lost_ack_ids: ids.filter(|id| lost.contains(id)).collect(),
            }))
        })
    }
}
