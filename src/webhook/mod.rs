//! The producer's side: Clerk's webhooks over HTTP, public.
//!
//! ```text
//!   POST ─► limit ─► headers ─► verify ─► decode ─► append (dedupe, fsync) ─► 200
//!            413      400        400                  503 + Retry-After
//! ```
//!
//! A 2xx means durable. Nothing is parsed before it is verified, and a verified body is
//! never refused for its content. What this module does not know: who subscribes.

mod answer;
mod metrics;
mod secret;
mod verify;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use crate::clerk;
use crate::event::UnixMillis;
use crate::log::{Appended, Log, NewRecord};

pub use answer::{Accepted, Refusal};
pub use metrics::Metrics;
pub use secret::{InvalidSecret, SigningSecret};
pub use verify::{Rejection, SignatureHeaders, TIMESTAMP_TOLERANCE, Verified, Verifier};

/// The path of the default source; others follow after a slash.
pub const PATH: &str = "/webhooks/clerk";
/// The source of [`PATH`] itself.
pub const DEFAULT_SOURCE: &str = "default";

/// One Clerk instance whose webhooks are accepted.
#[derive(Debug)]
pub struct Source {
    /// Its name, in the URL and in `Event.source`.
    pub name: String,
    /// Its signing secrets.
    pub verifier: Verifier,
    /// The instance that its bodies must name, if they name one.
    pub instance_id: Option<String>,
}

/// How to receive.
#[derive(Debug)]
pub struct Config {
    /// The accepted sources.
    pub sources: Vec<Source>,
    /// The largest body.
    pub body_bytes_max: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// Bytes of bodies that may be on their way into the log at once.
    pub in_flight_bytes_max: usize,
}

/// Builds the HTTP service. It refuses new deliveries once `drain` is cancelled.
pub fn router(
    config: Config,
    log: Arc<dyn Log>,
    metrics: Metrics,
    drain: CancellationToken,
) -> Router {
    let sources = config.sources.into_iter();
    let receiver = Arc::new(Receiver {
        sources: sources
            .map(|source| (source.name.clone(), source))
            .collect(),
        body_bytes_max: config.body_bytes_max,
        body_timeout: config.body_timeout,
        in_flight_bytes: Semaphore::new(config.in_flight_bytes_max.min(Semaphore::MAX_PERMITS)),
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
    Router::new()
        .route(PATH, default())
        .route(&format!("{PATH}/"), default())
        .route(&format!("{PATH}/{{source}}"), named())
        .route(&format!("{PATH}/{{source}}/"), named())
        .fallback(wrong_path)
        .with_state(receiver)
}

#[derive(Debug)]
struct Receiver {
    sources: HashMap<String, Source>,
    body_bytes_max: usize,
    body_timeout: Duration,
    in_flight_bytes: Semaphore,
    log: Arc<dyn Log>,
    metrics: Metrics,
    drain: CancellationToken,
}

async fn receive_default(state: State<Arc<Receiver>>, headers: HeaderMap, body: Body) -> Response {
    receive(state, Path(DEFAULT_SOURCE.to_owned()), headers, body).await
}

async fn receive(
    State(receiver): State<Arc<Receiver>>,
    Path(source): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let started = Instant::now();
    receiver.metrics.received.inc();
    let result = receiver.accept(&source, &headers, body).await;
    receiver
        .metrics
        .answer_seconds
        .observe(started.elapsed().as_secs_f64());
    match result {
        Ok(accepted) => {
            receiver.metrics.count_accepted(&source, accepted.duplicate);
            tracing::debug!(
                id = %accepted.id,
                %source,
                duplicate = accepted.duplicate,
                "webhook accepted"
            );
            accepted.into_response()
        }
        Err(refusal) => {
            receiver.metrics.count_refused(&refusal);
            let known_source = receiver
                .sources
                .get(&source)
                .map_or("unknown", |known| &known.name);
            tracing::warn!(
                reason = refusal.name(),
                source = known_source,
                status = refusal.status().as_u16(),
                "webhook refused: {refusal}"
            );
            refusal.into_response()
        }
    }
}

impl Receiver {
    async fn accept(
        &self,
        source: &str,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Accepted, Refusal> {
        let source = self.source(source)?;
        if self.drain.is_cancelled() {
            return Err(Refusal::Draining);
        }
        let announced = self.announced_length(headers)?;
        let signature = SignatureHeaders::read(headers)?;
        let budget = self.take_budget(announced)?;
        let body = self.read(body).await?;
        let verified = source.verifier.verify(signature, body, UnixMillis::now())?;
        let accepted = self.store(source, verified).await;
        drop(budget);
        accepted
    }

    fn source(&self, name: &str) -> Result<&Source, Refusal> {
        self.sources.get(name).ok_or(Refusal::UnknownSource)
    }

    /// The body's length where it is announced, else the largest it may have.
    fn announced_length(&self, headers: &HeaderMap) -> Result<usize, Refusal> {
        let announced = headers.get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|value| value.to_str().ok()?.parse().ok());
        let length = announced.unwrap_or(self.body_bytes_max);
        if length > self.body_bytes_max {
            return Err(Refusal::BodyTooLarge(self.body_bytes_max));
        }
        Ok(length)
    }

    fn take_budget(&self, bytes: usize) -> Result<SemaphorePermit<'_>, Refusal> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.in_flight_bytes
            .try_acquire_many(bytes)
            .map_err(|_| Refusal::Busy)
    }

    async fn read(&self, body: Body) -> Result<Bytes, Refusal> {
        let reading = Limited::new(body, self.body_bytes_max).collect();
        match tokio::time::timeout(self.body_timeout, reading).await {
            Err(_) => Err(Refusal::BodyTooSlow(self.body_timeout)),
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                Err(Refusal::BodyTooLarge(self.body_bytes_max))
            }
            Ok(Err(_)) => Err(Refusal::BodyCutShort),
        }
    }

    async fn store(&self, source: &Source, verified: Verified<Bytes>) -> Result<Accepted, Refusal> {
        let delivery = clerk::Delivery {
            id: &verified.id,
            source: &source.name,
            send_time: verified.send_time,
        };
        let decoded = clerk::decode(delivery, verified.body());
        check_instance(source, decoded.attributes.instance_id.as_deref())?;
        let event_type = clerk::catalogue::label(&decoded.attributes.event_type);
        let record = NewRecord {
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
        Ok(Accepted {
            id: verified.id,
            duplicate,
        })
    }
}

/// Only a body that names another instance is refused: Svix's ping and older bodies
/// name none.
fn check_instance(source: &Source, found: Option<&str>) -> Result<(), Refusal> {
    match (&source.instance_id, found) {
        (Some(expected), Some(found)) if expected != found => Err(Refusal::OtherInstance),
        _ => Ok(()),
    }
}

async fn describe_default(state: State<Arc<Receiver>>) -> Response {
    describe(state, Path(DEFAULT_SOURCE.to_owned())).await
}

/// For the person who opens the URL in a browser to see whether it is the right one.
async fn describe(State(receiver): State<Arc<Receiver>>, Path(source): Path<String>) -> Response {
    match receiver.source(&source) {
        Ok(source) => format!(
            "Clerkcast receives Clerk webhooks here (source \"{}\"): enter this URL as an endpoint in the Clerk dashboard.\n",
            source.name
        )
        .into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

async fn wrong_method(State(receiver): State<Arc<Receiver>>) -> Response {
    receiver.metrics.count_refused(&Refusal::WrongMethod);
    Refusal::WrongMethod.into_response()
}

async fn wrong_path() -> Response {
    Refusal::WrongPath.into_response()
}
