//! The producer's side: Clerk's webhooks over HTTP, public.
//!
//! ```text
//!   POST ─► network ─► limit ─► headers ─► verify ─► decode ─► append (dedupe, fsync) ─► 200
//!             403       413      400        400                  503 + Retry-After
//! ```
//!
//! A 2xx means durable. Nothing is parsed before it is verified, and a verified body is
//! never refused for its content. What this module does not know: who subscribes.

mod diagnose;
mod metrics;
mod networks;
mod rejection;
mod response;
mod secret;
mod server;
mod sources;
mod verify;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, Request, State};
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::clerk;
use crate::event::UnixMillis;
use crate::log::{Append, Appended, Entry};
use crate::net::Peer;
use crate::telemetry::LogLimit;

use sources::AcceptedSource;

pub use diagnose::{Diagnosis, HintKind, diagnose, pretty};
pub use metrics::Metrics;
pub use networks::{AllowList, InvalidNetwork, Networks};
pub use rejection::{BodyFault, Rejection};
pub use response::{Receipt, Refusal};
pub use secret::{InvalidSecret, SigningSecret};
pub use server::{limits, serve};
pub use sources::{Source, Sources};
pub use verify::{SignatureHeaders, Verified, Verifier};

/// The path of the default source; others follow after a slash.
pub const PATH: &str = "/webhooks/clerk";
/// The source of [`PATH`] itself.
pub const DEFAULT_SOURCE: &str = "default";

/// How long a delivery waits for others to make room. Refusing at once would cost much of
/// what accepting does, and have all come again; Svix waits for 15 s.
const ROOM_TIMEOUT: Duration = Duration::from_secs(5);
/// For the rest of a refused body to arrive.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// The path that a source's webhooks are posted to.
#[must_use]
pub fn path(source: &str) -> String {
    if source == DEFAULT_SOURCE {
        PATH.to_owned()
    } else {
        format!("{PATH}/{source}")
    }
}

/// How to receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The sources to begin with.
    pub sources: Vec<Source>,
    /// The largest body.
    pub body_bytes_max: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// Bytes of bodies that may be on their way into the log at once.
    pub in_flight_bytes_max: usize,
    /// Which networks are listened to; all where there is no list.
    pub allow_list: Option<AllowList>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            body_bytes_max: 512 << 10,
            body_timeout: Duration::from_secs(10),
            in_flight_bytes_max: 64 << 20,
            allow_list: None,
        }
    }
}

/// Builds the HTTP service for `sources`. It refuses new deliveries once `drain` is cancelled.
pub fn router(
    config: Config,
    sources: Sources,
    log: Arc<dyn Append>,
    metrics: Metrics,
    drain: CancellationToken,
) -> Router {
    let receiver = Arc::new(Receiver {
        sources,
        body_bytes_max: config.body_bytes_max,
        body_timeout: config.body_timeout,
        in_flight_bytes: Semaphore::new(config.in_flight_bytes_max.min(Semaphore::MAX_PERMITS)),
        refusals_logged: LogLimit::default(),
        log,
        metrics,
        drain,
    });
    let default = || {
        get(describe_default)
            .post(receive_default)
            .fallback(wrong_method)
    };
    let named = || get(describe).post(receive).fallback(wrong_method);
    let router = Router::new()
        .route(PATH, default())
        .route(&format!("{PATH}/"), default())
        .route(&format!("{PATH}/{{source}}"), named())
        .route(&format!("{PATH}/{{source}}/"), named())
        .fallback(wrong_path);
    let router = match config.allow_list {
        None => router,
        Some(allow_list) => {
            let gate = (Arc::new(allow_list), Arc::clone(&receiver));
            router.layer(middleware::from_fn_with_state(gate, admit))
        }
    };
    router.with_state(receiver)
}

/// Looks at nothing of a request from elsewhere but where it is from.
async fn admit(
    State((allow_list, receiver)): State<(Arc<AllowList>, Arc<Receiver>)>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    if allow_list.allows(peer.address, request.headers()) {
        return next.run(request).await;
    }
    if is_below_webhooks(request.uri().path()) {
        receiver.refuse(&Refusal::SourceNotAllowed, None)
    } else {
        receiver.metrics.not_found.inc();
        Refusal::SourceNotAllowed.into_response()
    }
}

#[derive(Debug)]
struct Receiver {
    sources: Sources,
    body_bytes_max: usize,
    body_timeout: Duration,
    in_flight_bytes: Semaphore,
    refusals_logged: LogLimit,
    log: Arc<dyn Append>,
    metrics: Metrics,
    drain: CancellationToken,
}

async fn receive_default(
    state: State<Arc<Receiver>>,
    peer: Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let source = Ok(Path(DEFAULT_SOURCE.to_owned()));
    receive(state, source, peer, headers, body).await
}

async fn receive(
    State(receiver): State<Arc<Receiver>>,
    source: Result<Path<String>, PathRejection>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    mut body: Body,
) -> Response {
    // A name that is not even text is no configured one.
    let Path(source) = source.unwrap_or_else(|_| Path(String::new()));
    let started = Instant::now();
    receiver.metrics.received.inc();
    let result = receiver.accept(&source, &peer, &headers, &mut body).await;
    receiver
        .metrics
        .answer_seconds
        .observe(started.elapsed().as_secs_f64());
    match result {
        Ok(receipt) => {
            receiver.metrics.count_accepted(&source, receipt.duplicate);
            tracing::debug!(
                id = %receipt.id,
                %source,
                duplicate = receipt.duplicate,
                "webhook accepted"
            );
            receipt.into_response()
        }
        Err(refusal) => {
            receiver.discard(body, &refusal).await;
            let is_known = receiver.sources.check(&source).is_ok();
            receiver.refuse(&refusal, is_known.then_some(source.as_str()))
        }
    }
}

impl Receiver {
    async fn accept(
        &self,
        source: &str,
        peer: &Peer,
        headers: &HeaderMap,
        body: &mut Body,
    ) -> Result<Receipt, Refusal> {
        self.sources.check(source)?;
        if self.drain.is_cancelled() {
            return Err(Refusal::Draining);
        }
        self.check_announced_length(headers)?;
        // A body whose headers are refused need not arrive.
        SignatureHeaders::read(headers)?;
        let (body, in_flight) = self.read(body).await?;
        // Only now: the source may have been replaced while the body was on its way.
        let (source, verified) = self.sources.with(source, |source| {
            let verifier = &source.verifier;
            let verified = verifier.verify(headers, body.clone());
            let verified = verified.map_err(|rejection| rejection.explained(headers, &body))?;
            Ok((Arc::clone(source), verified))
        })?;
        peer.trust.grant();
        let stored = self.store(&source, verified).await;
        drop(in_flight);
        stored
    }

    fn refuse(&self, refusal: &Refusal, source: Option<&str>) -> Response {
        self.metrics.count_refused(source, refusal);
        if let Some(unlogged) = self.refusals_logged.admit() {
            tracing::warn!(
                reason = refusal.name(),
                source = source.unwrap_or("unknown"),
                status = refusal.status().as_u16(),
                unlogged = (unlogged > 0).then_some(unlogged),
                "webhook refused: {refusal}"
            );
        }
        refusal.clone().into_response()
    }

    /// A body that announces too much is refused before it is sent.
    fn check_announced_length(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let announced = headers.get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        match announced {
            Some(length) if length > self.body_bytes_max => {
                Err(Refusal::BodyTooLarge(self.body_bytes_max))
            }
            _ => Ok(()),
        }
    }

    /// Charges what has arrived, not what is announced: an announcement costs the sender
    /// nothing. Only who holds nothing yet waits for room, so that none wait for each other;
    /// nearly all bodies arrive in one piece.
    async fn read(&self, body: &mut Body) -> Result<(Bytes, InFlight<'_>), Refusal> {
        let mut body = Limited::new(body, self.body_bytes_max);
        let mut bytes = BytesMut::new();
        let mut in_flight = InFlight::new(self.metrics.in_flight_bytes.clone());
        let mut deadline = Instant::now() + self.body_timeout;
        while let Some(chunk) = self.next_chunk(&mut body, deadline).await? {
            let charge = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
            let permit = if bytes.is_empty() {
                let waiting_since = Instant::now();
                let permit = self.in_flight_bytes.acquire_many(charge);
                let permit = timeout(ROOM_TIMEOUT, permit).await;
                deadline += waiting_since.elapsed();
                permit.ok().and_then(Result::ok)
            } else {
                self.in_flight_bytes.try_acquire_many(charge).ok()
            };
            in_flight.add(permit.ok_or(Refusal::Busy)?);
            bytes.extend_from_slice(&chunk);
        }
        Ok((bytes.freeze(), in_flight))
    }

    async fn next_chunk(
        &self,
        body: &mut Limited<&mut Body>,
        deadline: Instant,
    ) -> Result<Option<Bytes>, Refusal> {
        loop {
            let frame = timeout_at(deadline.into(), body.frame()).await;
            let frame = frame.map_err(|_| Refusal::BodyTooSlow(self.body_timeout))?;
            let Some(frame) = frame else {
                return Ok(None);
            };
            let frame = frame.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    Refusal::BodyTooLarge(self.body_bytes_max)
                } else {
                    Refusal::BodyCutShort
                }
            })?;
            // What is not data are trailers.
            if let Ok(chunk) = frame.into_data() {
                return Ok(Some(chunk));
            }
        }
    }

    /// Takes what is left of a refused body from the connection, keeping nothing: closing it
    /// with bytes unread would reset it, and the sender might never see the answer.
    async fn discard(&self, body: Body, refusal: &Refusal) {
        if matches!(refusal, Refusal::BodyTooSlow(_) | Refusal::BodyCutShort) {
            return;
        }
        let mut body = Limited::new(body, self.body_bytes_max);
        let discarding = async { while let Some(Ok(_)) = body.frame().await {} };
        let _given_up = timeout(DISCARD_TIMEOUT, discarding).await;
    }

    async fn store(&self, source: &AcceptedSource, verified: Verified) -> Result<Receipt, Refusal> {
        let envelope = clerk::Envelope {
            id: &verified.id,
            source: &source.name,
            send_time: verified.send_time,
        };
        let decoded = clerk::decode(envelope, verified.body());
        check_instance(source, decoded.attributes.instance_id.as_deref())?;
        let event_type = clerk::catalog::label(&decoded.attributes.event_type);
        let record = Entry {
            id: verified.id.clone(),
            attributes: decoded.attributes,
            receive_time: UnixMillis::now(),
            event: decoded.event,
            decoding: clerk::decoding(),
            payload: verified.body().clone(),
        };
        let duplicate = self.log.append(record).await? == Appended::Duplicate;
        if !duplicate {
            self.metrics.count_drift(event_type, &decoded.drift);
        }
        Ok(Receipt {
            id: verified.id,
            duplicate,
        })
    }
}

/// The part of the budget that one body holds until it is answered.
struct InFlight<'a> {
    permits: Option<SemaphorePermit<'a>>,
    gauge: Gauge,
}

impl<'a> InFlight<'a> {
    fn new(gauge: Gauge) -> Self {
        Self {
            permits: None,
            gauge,
        }
    }

    fn add(&mut self, permit: SemaphorePermit<'a>) {
        self.gauge.inc_by(permits_as_bytes(&permit));
        match &mut self.permits {
            Some(permits) => permits.merge(permit),
            None => self.permits = Some(permit),
        }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let held = self.permits.as_ref().map_or(0, permits_as_bytes);
        self.gauge.dec_by(held);
    }
}

fn permits_as_bytes(permits: &SemaphorePermit<'_>) -> i64 {
    i64::try_from(permits.num_permits()).unwrap_or(i64::MAX)
}

/// Only a body that names another instance is refused: Svix's ping and older bodies
/// name none.
fn check_instance(source: &AcceptedSource, found: Option<&str>) -> Result<(), Refusal> {
    match (&source.instance_id, found) {
        (Some(expected), Some(found)) if expected != found => Err(Refusal::OtherInstance),
        _ => Ok(()),
    }
}

async fn describe_default(state: State<Arc<Receiver>>) -> Response {
    describe(state, Ok(Path(DEFAULT_SOURCE.to_owned()))).await
}

/// For the person who opens the URL in a browser to see whether it is the right one.
async fn describe(
    State(receiver): State<Arc<Receiver>>,
    source: Result<Path<String>, PathRejection>,
) -> Response {
    let Path(source) = source.unwrap_or_else(|_| Path(String::new()));
    match receiver.sources.check(&source) {
        Ok(()) => format!(
            "Clerkcast receives Clerk webhooks here (source \"{source}\"): enter this URL as an endpoint in the Clerk dashboard.\n"
        )
        .into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

async fn wrong_method(State(receiver): State<Arc<Receiver>>, uri: Uri) -> Response {
    let source = source_of(uri.path());
    let is_known = receiver.sources.check(source).is_ok();
    let source = is_known.then_some(source);
    receiver
        .metrics
        .count_refused(source, &Refusal::WrongMethod);
    Refusal::WrongMethod.into_response()
}

async fn wrong_path(State(receiver): State<Arc<Receiver>>, uri: Uri) -> Response {
    if is_below_webhooks(uri.path()) {
        receiver.metrics.count_refused(None, &Refusal::WrongPath);
    } else {
        receiver.metrics.not_found.inc();
    }
    Refusal::WrongPath.into_response()
}

/// Requests for other paths come from scanners, and show nothing of deliveries.
fn is_below_webhooks(path: &str) -> bool {
    path.starts_with("/webhooks/")
}

/// The source that a path names.
fn source_of(path: &str) -> &str {
    let rest = path.strip_prefix(PATH).unwrap_or_default();
    match rest.trim_matches('/') {
        "" => DEFAULT_SOURCE,
        name => name,
    }
}
