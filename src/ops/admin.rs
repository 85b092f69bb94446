//! `/healthz`, `/readyz`, `/metrics`.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::fanout::Fanout;
use crate::log::Writability;
use crate::subscriptions::Subscriptions;

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

/// Builds the admin HTTP service.
pub fn router(probes: Probes) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(readiness))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(probes))
}

/// Ready means: send webhooks here. A gateway whose log cannot be written is not ready.
async fn readiness(State(probes): State<Arc<Probes>>) -> Response {
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

async fn metrics(State(probes): State<Arc<Probes>>) -> Response {
    probes.fanout.observe();
    probes.subscriptions.observe().await;
    let mut text = String::new();
    if encode(&mut text, &probes.registry).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}
