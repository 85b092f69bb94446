//! `/healthz`, `/readyz`, `/metrics`.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::fanout::Fanout;
use crate::log::Writability;
use crate::subscriptions::Subscriptions;
use crate::telemetry;

/// The state that the probes report.
pub struct Probes {
    /// Every module's metrics.
    pub registry: Registry,
    /// The fan-out, which updates its gauges for each scrape.
    pub fanout: Fanout,
    /// The subscriptions, which do so too.
    pub subscriptions: Subscriptions,
    /// Whether the log takes writes.
    pub writability: watch::Receiver<Writability>,
    /// Cancelled when the gateway stops.
    pub drain: CancellationToken,
}

impl fmt::Debug for Probes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Probes").finish_non_exhaustive()
    }
}

/// What the admin HTTP service answers from.
#[derive(Debug)]
struct Admin {
    probes: Probes,
    /// The metrics of the process, whose names have no prefix.
    process: Registry,
}

/// Builds the admin HTTP service.
pub fn router(probes: Probes) -> Router {
    let mut process = Registry::default();
    telemetry::register_process(&mut process);
    Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(readiness))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(Admin { probes, process }))
}

/// Ready means: send webhooks here. A gateway whose log cannot be written is not ready.
async fn readiness(State(admin): State<Arc<Admin>>) -> Response {
    let probes = &admin.probes;
    let reason = if probes.drain.is_cancelled() {
        Some("shutting down".to_owned())
    } else {
        match &*probes.writability.borrow() {
            Writability::Writable => None,
            Writability::Refusing(reason) | Writability::Failed(reason) => {
                Some(format!("the log refuses writes: {reason}"))
            }
        }
    };
    match reason {
        None => "ready\n".into_response(),
        Some(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {reason}\n"),
        )
            .into_response(),
    }
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    admin.probes.fanout.observe();
    admin.probes.subscriptions.observe().await;
    let Ok(text) = admin.exposition() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

impl Admin {
    fn exposition(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.process)?;
        encode_registry(&mut text, &self.probes.registry)?;
        encode_eof(&mut text)?;
        Ok(text)
    }
}
