//! One call, from its head to the end of its answer.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame};
use http_body_util::Full;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::{Code, Status};

use super::connection::{self, Open, WAIT_MAX};
use super::content::{self, Answer, Content};
use super::kind::Kind;
use super::outcome::Outcome;
use super::shared::{Calls, SIDE_STREAMS_MAX, Unread};
use super::{message, timeout};
use crate::access::Principal;
use crate::api::{Problem, oversized};
use crate::doors::grpc::code::code_of;
use crate::doors::grpc::exposure::{ExposedService, ServiceFn};
use crate::doors::grpc::metrics::Unsent;
use crate::doors::grpc::status;
use crate::telemetry::traces::Trace;

/// For a request to arrive and be answered; not for the stream that answers it.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// For an answer to be read.
pub(super) const UNREAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The calls of one connection.
pub(crate) type ConnectionCalls = connection::ConnectionCalls<Call>;

/// An open call.
#[derive(Debug)]
pub(crate) struct Call {
    pub(super) calls: Calls,
    open: Open,
    pub(super) connection: ConnectionCalls,
    principal: Option<Principal>,
    /// Of its own, since those of the principal and of the drain are shared by all streams:
    /// each look at one takes its lock.
    revoked: CancellationToken,
    drain: CancellationToken,
    pub(super) kind: Kind,
    content: Mutex<Content>,
    /// Cancelled when nothing holds the answer any more.
    taken: OnceLock<CancellationToken>,
    /// Notified when an answer lies in `content`.
    answered: Notify,
    /// Cancelled when an answer must give way to others.
    gives_way: Arc<CancellationToken>,
    outcome: Outcome,
}

/// How the gateway ends a call.
#[derive(Debug)]
pub(super) enum Ending {
    /// Its policy or the gateway ends, which its caller should learn.
    Over(Status),
    NotRead,
    GaveWay,
}

impl Call {
    /// Opens a call of the method at `path`, whose stream the executor of its connection runs
    /// next.
    pub(crate) fn open(
        calls: &Calls,
        connection: &ConnectionCalls,
        principal: Option<Principal>,
        kind: Kind,
        path: &str,
        trace: Trace,
    ) -> Arc<Self> {
        let call = Arc::new(Self {
            calls: calls.clone(),
            open: connection.open(kind),
            connection: connection.clone(),
            revoked: principal
                .as_ref()
                .map_or_else(CancellationToken::new, Principal::revocation_token),
            principal,
            drain: calls.shared.drain.child_token(),
            kind,
            content: Mutex::default(),
            taken: OnceLock::new(),
            answered: Notify::new(),
            gives_way: Arc::default(),
            outcome: Outcome::new(calls.shared.metrics.calls(path), trace),
        });
        connection.hand_over(&call);
        call
    }

    /// Has `service` answer the request, within the bounds that every call has. What the
    /// request asks for is left in `asked`.
    pub(crate) async fn answer(
        self: Arc<Self>,
        request: Request<Body>,
        asked: &OnceLock<Bytes>,
        service: &ExposedService,
    ) -> Result<Response<Body>, Status> {
        let limit = timeout::of(request.headers());
        let deadline = Instant::now() + limit.map_or(CALL_TIMEOUT, |limit| limit.min(CALL_TIMEOUT));
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
        service: &ExposedService,
    ) -> Result<Response<Body>, Status> {
        let message_bytes_max = service.message_bytes_max;
        let service = &service.answer;
        let place = self
            .connection
            .place()
            .await
            .ok_or_else(|| self.too_many(connection::CALLS_MAX))?;
        let (head, mut body) = request.into_parts();
        let mut read = message::Reader::default();
        read.prefix(&mut body).await?;
        let bytes = read.message_bytes(message_bytes_max);
        let _held = self.calls.hold_request(bytes, &self.gives_way);
        let message = read.message(&mut body, bytes).await?;
        let permit = self.work_permit().await?;
        let message = asked.get_or_init(|| message).clone();
        if let Some(request) = message::whole(&message)
            && let Some(problem) = oversized::problem(head.uri.path(), request)
        {
            return Err(status::render(problem));
        }
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
        let permit = tokio::time::timeout(WAIT_MAX, principal.work_permit())
            .await
            .map_err(|_| self.too_many(crate::access::CALLS_MAX))?;
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
    pub(super) async fn taken(&self) {
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

    /// Notes the code that its answer ends with.
    pub(crate) fn note_end(&self, code: Code) {
        self.outcome.note(code);
    }

    /// Completes when the gateway ends the call.
    pub(super) async fn ended(&self) -> Ending {
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
    pub(super) fn end(&self, ending: &Ending) {
        if let Ending::Over(status) = ending {
            self.note_end(status.code());
        }
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

/// The body of a call's response.
#[derive(Debug)]
struct CallBody {
    call: Arc<Call>,
}

impl HttpBody for CallBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let call = &self.get_mut().call;
        let polled = call.poll_content(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    call.note_end(code_of(trailers));
                }
            }
            Poll::Ready(Some(Err(status))) => call.note_end(status.code()),
            Poll::Ready(None) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        matches!(*self.call.content(), Content::Nothing)
    }
}

impl Call {
    /// The next frame of the answer.
    fn poll_content(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut content = self.content();
        if let Content::Stream(body) = &mut *content {
            let polled = Pin::new(body).poll_frame(context);
            // The policy may have ended while the frames were taken: what they hold may
            // have been committed after that.
            let Some(status) = self.revoked() else {
                return polled;
            };
            if polled.is_pending() {
                // The task is woken by the end itself, and asks again.
                return polled;
            }
            *content = Content::End(content::trailers(&status));
        }
        if let (Content::Answer(_), Some(status)) = (&*content, self.revoked()) {
            *content = Content::End(content::trailers(&status));
        }
        let frame = match std::mem::take(&mut *content) {
            Content::Answer(mut answer) => {
                let frame = answer.next();
                if !answer.is_sent() {
                    *content = Content::Answer(answer);
                }
                frame
            }
            Content::End(trailers) => Some(Frame::trailers(trailers)),
            Content::Stream(_) | Content::Nothing => None,
        };
        Poll::Ready(frame.map(Ok))
    }
}
