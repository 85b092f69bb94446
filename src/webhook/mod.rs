//! The producers' port: receives Clerk's webhooks over HTTP, verifies them, and hands them to
//! [`crate::intake`]. The port is public.
//!
//! ```text
//!   POST ─► network ─► limit ─► headers ─► body ─► verify ─► intake (decode, append) ─► 200
//!             403       413      400       408      400       503 + Retry-After
//! ```
//!
//! A 2xx means durable. Nothing is parsed before it is verified, and a verified body is
//! never refused for its content. What this module does not know: who subscribes.

mod body;
mod diagnose;
mod metrics;
mod networks;
mod paths;
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
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio_util::sync::CancellationToken;

use crate::intake::{Appended, Intake};
use crate::net::Peer;
use crate::telemetry::LogLimit;
use crate::telemetry::traces::{Attribute, Trace, Traces};

use body::BodyReader;
use paths::{is_below_webhooks, source_of};

pub use diagnose::{Diagnosis, HintKind, diagnose, pretty};
pub use metrics::Metrics;
pub use networks::{AllowList, InvalidNetwork, Networks};
pub use paths::{DEFAULT_SOURCE, PATH, path};
pub use rejection::{BodyFault, Rejection};
use response::Outcome;
pub use response::{Receipt, Refusal};
pub use secret::{InvalidSecret, SigningSecret};
pub use server::{limits, serve};
pub use sources::{Source, Sources};
pub use verify::{SignatureHeaders, Verified, Verifier};

/// The name of a delivery's trace.
const TRACE: &str = "POST /webhooks/clerk/{source}";

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
    intake: Intake,
    metrics: Metrics,
    traces: Traces,
    drain: CancellationToken,
) -> Router {
    let receiver = Arc::new(Receiver {
        sources,
        bodies: BodyReader::new(
            config.body_bytes_max,
            config.body_timeout,
            config.in_flight_bytes_max,
            metrics.in_flight_bytes.clone(),
        ),
        refusals_logged: LogLimit::default(),
        intake,
        metrics,
        traces,
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
    bodies: BodyReader,
    refusals_logged: LogLimit,
    intake: Intake,
    metrics: Metrics,
    traces: Traces,
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
    // A name that is not UTF-8 is not a configured one.
    let Path(source) = source.unwrap_or_else(|_| Path(String::new()));
    let started = Instant::now();
    receiver.metrics.received.inc();
    let mut trace = receiver.traces.begin(TRACE);
    let accepting = receiver.accept(&source, &peer, &headers, &mut body, &mut trace);
    let result = accepting.await;
    let outcome = Outcome::of(&result);
    receiver.metrics.note_answer(outcome, started.elapsed());
    let status = result
        .as_ref()
        .map_or_else(Refusal::status, |_| StatusCode::OK);
    trace.set(Attribute::Outcome(outcome.name()));
    trace.set(Attribute::HttpStatus(status.as_u16()));
    trace.end();
    match result {
        Ok(receipt) => {
            tracing::debug!(
                id = %receipt.id,
                %source,
                duplicate = receipt.duplicate,
                "webhook accepted"
            );
            receipt.into_response()
        }
        Err(refusal) => {
            receiver.bodies.discard(body, &refusal).await;
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
        trace: &mut Trace,
    ) -> Result<Receipt, Refusal> {
        self.sources.check(source)?;
        trace.set(Attribute::Source(source));
        if self.drain.is_cancelled() {
            return Err(Refusal::Draining);
        }
        self.bodies.check_announced_length(headers)?;
        // A body whose headers are refused need not arrive.
        SignatureHeaders::read(headers)?;
        let (body, _in_flight) = self.bodies.read(body).await?;
        trace.step("verify");
        // Only now: the source may have been replaced while the body was on its way.
        let (verified, metrics) = self.sources.with(source, |accepted| {
            let judged = accepted.verifier.verify(headers, body.clone());
            let verified = judged.map_err(|rejection| rejection.explained(headers, &body))?;
            Ok((verified, Arc::clone(&accepted.metrics)))
        })?;
        peer.trust.grant();
        trace.trust(headers);
        trace.set(Attribute::MessageId(&verified.id));
        let id = verified.id.clone();
        let submission = verified.into_submission(source);
        let receive_time = submission.receive_time;
        let accepted = self.intake.accept(submission, trace).await?;
        let duplicate = accepted.appended == Appended::Duplicate;
        if duplicate {
            metrics.count_duplicate();
        } else {
            let age = accepted.occur_time.map(|time| receive_time.since(time));
            metrics.count_accepted(age);
        }
        Ok(Receipt { id, duplicate })
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
    let known_source = is_known.then_some(source);
    receiver
        .metrics
        .count_refused(known_source, &Refusal::WrongMethod);
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
