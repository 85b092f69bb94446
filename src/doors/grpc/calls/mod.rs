//! The life of a call, whatever it asks for.
//!
//! ```text
//!   head ─► place on its connection ─► message ─► work permit ─► answer ─► read ─► gone
//!            │ 2 s at most, else TOO_MANY_CALLS   │              │ 30 s at most
//!            └──────────── its principal ends, its time is up ───┴─► ended, then reset
//! ```
//!
//! What one caller sends or leaves unread costs others nothing: the permit for *work* ends
//! when the answer is made, and what is *unread* counts on its connection and in the bytes
//! of the gateway. A call whose policy ends gives up what it holds at that moment, whether
//! its connection reads or not; the stream is reset if its end is not read.
//!
//! hyper runs each stream on an [`Executor`], which is where a call is watched: a body that
//! waits for room in HTTP/2's window is not asked for anything.

mod connection;
mod content;
mod executor;
mod ledger;
mod message;
mod timeout;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::Full;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::body::Body;

use super::metrics::{Metrics, Unsent};
use super::{Service, status};
use crate::access::Principal;
use crate::api::{Api, Problem};
use connection::{Open, WAIT_MAX};
use content::{Answer, CallBody, Content};
use ledger::Ledger;

pub(super) use connection::ConnectionCalls;
pub(super) use executor::Executor;

/// A filter may name thousands of ids.
pub(super) const REQUEST_BYTES_MAX: usize = 1 << 20;
/// For a request to arrive and be answered; not for the stream that answers it.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// For an answer to be read.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(30);
/// For the end of a stream to be read.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of answers that wait to be read; beyond, the one that has waited longest goes.
const UNREAD_BYTES_MAX: usize = 256 << 20;
/// Bytes of requests that arrive or are worked on; beyond, the one that has been there
/// longest goes.
const REQUESTS_BYTES_MAX: usize = 64 << 20;
/// Health watches and reflection streams of all connections.
const SIDE_STREAMS_MAX: usize = 1000;

/// Has a service answer a request.
pub(super) type ServiceFn =
    dyn Fn(Request<Body>) -> BoxFuture<'static, Response<Body>> + Send + Sync;

/// What a method answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One message.
    Unary,
    /// The stream of a subscriber.
    Subscriber,
    /// A stream that asks for little and never ends: a health watch, reflection.
    Side,
}

/// The gateway's calls; clones share them.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    ledger: Mutex<Ledger<Arc<CancellationToken>>>,
    requests: Mutex<Ledger<Arc<CancellationToken>>>,
    side_streams: Arc<Semaphore>,
    api: Api,
    metrics: Metrics,
    drain: CancellationToken,
    /// Calls that come to an end by themselves.
    running: TaskTracker,
}

impl Calls {
    pub(super) fn new(api: Api, metrics: Metrics, drain: CancellationToken) -> Self {
        Self {
            shared: Arc::new(Shared {
                ledger: Mutex::new(Ledger::new(UNREAD_BYTES_MAX)),
                requests: Mutex::new(Ledger::new(REQUESTS_BYTES_MAX)),
                side_streams: Arc::new(Semaphore::new(SIDE_STREAMS_MAX)),
                api,
                metrics,
                drain,
                running: TaskTracker::new(),
            }),
        }
    }

    /// Completes when every call has ended, or at most [`END_TIMEOUT`] after the drain began.
    /// Side streams never end, so they do not count.
    pub(super) async fn drained(&self) {
        self.shared.running.close();
        let _not_read = tokio::time::timeout(END_TIMEOUT, self.shared.running.wait()).await;
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger<Arc<CancellationToken>>> {
        self.shared.ledger.lock()
    }

    /// Counts a request, from when its length is known until it is dropped.
    fn hold_request(&self, bytes: usize, gives_way: &Arc<CancellationToken>) -> HeldRequest {
        let (number, giving_way) = self.requests().add(bytes, Arc::clone(gives_way));
        for other in giving_way {
            other.cancel();
        }
        HeldRequest {
            calls: self.clone(),
            number,
        }
    }

    fn requests(&self) -> MutexGuard<'_, Ledger<Arc<CancellationToken>>> {
        self.shared.requests.lock()
    }

    /// Opens a call, whose stream the executor of its connection runs next.
    pub(super) fn open(
        &self,
        connection: &ConnectionCalls,
        principal: Option<Principal>,
        kind: Kind,
    ) -> Arc<Call> {
        let call = Arc::new(Call {
            calls: self.clone(),
            open: connection.open(kind),
            connection: connection.clone(),
            revoked: principal
                .as_ref()
                .map_or_else(CancellationToken::new, Principal::revocation_token),
            principal,
            drain: self.shared.drain.child_token(),
            kind,
            content: Mutex::default(),
            taken: OnceLock::new(),
            answered: Notify::new(),
            gives_way: Arc::default(),
        });
        connection.hand_over(&call);
        call
    }
}

/// An open call.
#[derive(Debug)]
pub(super) struct Call {
    calls: Calls,
    open: Open,
    connection: ConnectionCalls,
    principal: Option<Principal>,
    /// Of its own, since those of the principal and of the drain are shared by all streams:
    /// each look at one takes its lock.
    revoked: CancellationToken,
    drain: CancellationToken,
    kind: Kind,
    content: Mutex<Content>,
    /// Cancelled when nothing holds the answer any more.
    taken: OnceLock<CancellationToken>,
    /// Notified when an answer lies in `content`.
    answered: Notify,
    /// Cancelled when an answer must give way to others.
    gives_way: Arc<CancellationToken>,
}

/// How the gateway ends a call.
#[derive(Debug)]
enum Ending {
    /// Its policy or the gateway ends, which its caller should learn.
    Over(Status),
    NotRead,
    GaveWay,
}

impl Call {
    /// Has `service` answer the request, within the bounds that every call has. What the
    /// request asks for is left in `asked`.
    pub(super) async fn answer(
        self: Arc<Self>,
        request: Request<Body>,
        asked: &OnceLock<Bytes>,
        service: &Service,
    ) -> Result<Response<Body>, Status> {
        let limit = timeout::of(request.headers());
        let deadline = Instant::now() + limit.map_or(CALL_TIMEOUT, |it| it.min(CALL_TIMEOUT));
        let answering = async {
            match self.kind {
                Kind::Side => self.open_side_stream(request, &*service.answer).await,
                Kind::Unary | Kind::Subscriber => self.work(request, asked, service).await,
            }
        };
        tokio::select! {
            biased;
            status = self.revocation() => Err(status),
            () = self.drained() => Err(self.draining()),
            answer = answering => answer,
            () = self.gives_way.cancelled() => Err(self.too_many(connection::CALLS_MAX)),
            () = sleep_until(deadline) => Err(match limit {
                Some(limit) if limit < CALL_TIMEOUT => status::render(Problem::deadline_exceeded()),
                _ => status::render(Problem::call_timed_out()),
            }),
        }
    }

    async fn work(
        self: &Arc<Self>,
        request: Request<Body>,
        asked: &OnceLock<Bytes>,
        service: &Service,
    ) -> Result<Response<Body>, Status> {
        let message_bytes_max = service.message_bytes_max;
        let service = &service.answer;
        let place = self.connection.place().await;
        let place = place.ok_or_else(|| self.too_many(connection::CALLS_MAX))?;
        let (head, mut body) = request.into_parts();
        let mut read = message::Reader::default();
        read.prefix(&mut body).await?;
        let bytes = read.message_bytes(message_bytes_max);
        let _held = self.calls.hold_request(bytes, &self.gives_way);
        let message = read.message(&mut body, bytes).await?;
        let permit = self.work_permit().await?;
        let message = asked.get_or_init(|| message).clone();
        let body = Body::new(Full::new(message));
        let response = service(Request::from_parts(head, body)).await;
        // What ended meanwhile is not answered, and nothing is written for it.
        if let Some(status) = self.revoked() {
            return Err(status);
        }
        if self.kind == Kind::Subscriber || response.body().is_end_stream() {
            return Ok(self.stream(response));
        }
        let (head, body) = response.into_parts();
        let (message, trailers) = content::collect(body).await?;
        drop(permit);
        let unread = self.count_unread(message.len(), place).await?;
        if let Some(status) = self.revoked() {
            return Err(status);
        }
        self.taken.get_or_init(|| unread.taken.clone());
        *self.content() = Content::Answer(Answer::new(message, trailers, unread));
        self.answered.notify_one();
        Ok(Response::from_parts(head, self.body()))
    }

    async fn open_side_stream(
        self: &Arc<Self>,
        request: Request<Body>,
        service: &ServiceFn,
    ) -> Result<Response<Body>, Status> {
        let shared = &self.calls.shared;
        let in_all = Arc::clone(&shared.side_streams).try_acquire_owned().ok();
        let of_connection = self.connection.side_stream();
        let limit = if of_connection.is_none() {
            connection::SIDE_STREAMS_MAX
        } else {
            SIDE_STREAMS_MAX
        };
        let (Some(in_all), Some(of_connection)) = (in_all, of_connection) else {
            let api = &shared.api;
            let problem = api.too_many_side_streams(self.principal.as_ref(), limit);
            return Err(status::render(problem));
        };
        let response = service(request).await;
        let held = (in_all, of_connection);
        let response = response.map(|body| {
            Body::new(http_body_util::BodyExt::map_frame(body, move |frame| {
                let _held_until_the_end = &held;
                frame
            }))
        });
        Ok(self.stream(response))
    }

    /// A response whose body is a stream, or that has none.
    fn stream(self: &Arc<Self>, response: Response<Body>) -> Response<Body> {
        if response.body().is_end_stream() {
            return response;
        }
        let (head, body) = response.into_parts();
        *self.content() = Content::Stream(body);
        Response::from_parts(head, self.body())
    }

    fn body(self: &Arc<Self>) -> Body {
        Body::new(CallBody {
            call: Arc::clone(self),
        })
    }

    async fn work_permit(&self) -> Result<Option<OwnedSemaphorePermit>, Status> {
        let Some(principal) = &self.principal else {
            return Ok(None);
        };
        let permit = tokio::time::timeout(WAIT_MAX, principal.work_permit()).await;
        let permit = permit.map_err(|_| self.too_many(crate::access::CALLS_MAX))?;
        Ok(Some(permit))
    }

    /// Counts an answer as unread. It gives way to others from here on.
    async fn count_unread(
        &self,
        bytes: usize,
        place: OwnedSemaphorePermit,
    ) -> Result<Unread, Status> {
        let calls = &self.calls;
        let (number, giving_way) = {
            let mut ledger = calls.ledger();
            let added = ledger.add(bytes, Arc::clone(&self.gives_way));
            calls.shared.metrics.set_unread(ledger.bytes());
            added
        };
        for other in giving_way {
            other.cancel();
        }
        let mut unread = Unread {
            calls: calls.clone(),
            number,
            held: vec![place],
            taken: CancellationToken::new(),
        };
        let room = self.connection.answer_room(bytes).await;
        unread
            .held
            .push(room.ok_or_else(|| self.too_many(connection::CALLS_MAX))?);
        Ok(unread)
    }

    fn too_many(&self, limit: usize) -> Status {
        let api = &self.calls.shared.api;
        status::render(api.too_many_calls(self.principal.as_ref(), limit))
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock()
    }

    /// Completes when HTTP/2 has let go of the answer, all of which it was handed.
    async fn taken(&self) {
        if let Some(taken) = self.taken.get() {
            taken.cancelled().await;
        }
    }

    /// Completes when its principal may not go on.
    async fn revocation(&self) -> Status {
        self.revoked.cancelled().await;
        match self.revoked() {
            Some(status) => status,
            None => std::future::pending().await,
        }
    }

    /// Completes when the gateway stops, if that ends the call: what can be answered is.
    async fn drained(&self) {
        match self.kind {
            Kind::Subscriber => self.drain.cancelled().await,
            Kind::Unary | Kind::Side => std::future::pending().await,
        }
    }

    /// Why its principal may not go on, if it may not.
    fn revoked(&self) -> Option<Status> {
        let principal = self.principal.as_ref()?;
        let api = &self.calls.shared.api;
        api.revoked(principal).map(status::render)
    }

    fn draining(&self) -> Status {
        let api = &self.calls.shared.api;
        status::render(api.draining(self.principal.as_ref()))
    }

    /// Completes when the gateway ends the call.
    async fn ended(&self) -> Ending {
        let not_read = async {
            self.answered.notified().await;
            sleep(UNREAD_TIMEOUT).await;
        };
        tokio::select! {
            biased;
            status = self.revocation() => Ending::Over(status),
            () = self.drained() => Ending::Over(self.draining()),
            () = self.gives_way.cancelled() => Ending::GaveWay,
            () = not_read => Ending::NotRead,
        }
    }

    /// Takes back what is not sent yet, and all that the call holds.
    fn end(&self, ending: &Ending) {
        let mut content = self.content();
        let unsent = match &*content {
            Content::Answer(_) | Content::Stream(_) => std::mem::take(&mut *content),
            // It is on its way, or there is nothing yet.
            Content::End(_) | Content::Nothing => Content::Nothing,
        };
        let is_answer = matches!(unsent, Content::Answer(_));
        if let Ending::Over(status) = ending
            && (is_answer || matches!(unsent, Content::Stream(_)))
        {
            *content = Content::End(content::trailers(status));
        }
        drop(content);
        let metrics = &self.calls.shared.metrics;
        match ending {
            Ending::Over(_) if is_answer => metrics.count_unsent(Unsent::policy),
            Ending::Over(_) => {}
            Ending::NotRead => metrics.count_unsent(Unsent::not_read),
            Ending::GaveWay => metrics.count_unsent(Unsent::gave_way),
        }
        self.open.end();
    }
}

/// A request that arrives or is worked on.
#[derive(Debug)]
struct HeldRequest {
    calls: Calls,
    number: u64,
}

impl Drop for HeldRequest {
    fn drop(&mut self) {
        self.calls.requests().remove(self.number);
    }
}

/// An answer that is not read yet, and what it holds until it is.
#[derive(Debug)]
pub(super) struct Unread {
    calls: Calls,
    number: u64,
    held: Vec<OwnedSemaphorePermit>,
    taken: CancellationToken,
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.taken.cancel();
        let mut ledger = self.calls.ledger();
        ledger.remove(self.number);
        self.calls.shared.metrics.set_unread(ledger.bytes());
    }
}
