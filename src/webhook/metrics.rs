//! What the webhook side counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::response::Refusal;
use crate::event::UnixMillis;
use crate::telemetry::metrics::{counter, family, gauge, histogram};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabel {
    source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RejectedLabel {
    source: String,
    reason: &'static str,
}

/// The metrics of one source's accepted deliveries, so that counting one looks up nothing.
#[derive(Debug)]
pub(super) struct SourceMetrics {
    accepted: Counter,
    duplicates: Counter,
    last_accepted: Gauge,
}

impl SourceMetrics {
    pub(super) fn count_accepted(&self, duplicate: bool) {
        if duplicate {
            self.duplicates.inc();
            return;
        }
        self.accepted.inc();
        self.note_accepted();
    }

    fn note_accepted(&self) {
        let now = UnixMillis::now().milliseconds().div_euclid(1000);
        self.last_accepted.set(now);
    }
}

/// The webhook side's metrics; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(super) received: Counter,
    pub(super) answer_seconds: Histogram,
    pub(super) in_flight_bytes: Gauge,
    pub(super) not_found: Counter,
    accepted: Family<SourceLabel, Counter>,
    duplicates: Family<SourceLabel, Counter>,
    last_accepted: Family<SourceLabel, Gauge>,
    rejected: Family<RejectedLabel, Counter>,
}

impl Metrics {
    /// Registers the webhook side's metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            received: counter(
                registry,
                "webhook_received",
                "Deliveries received, whatever became of them",
            ),
            answer_seconds: histogram(
                registry,
                ("webhook_answer", Unit::Seconds),
                "Time from the headers of a delivery to its answer",
                exponential_buckets(0.000_25, 2.0, 16),
            ),
            in_flight_bytes: gauge(
                registry,
                ("webhook_in_flight", Unit::Bytes),
                "Bodies on their way into the log; --in-flight-limit bounds them",
            ),
            accepted: family(
                registry,
                "webhook_accepted",
                "Deliveries answered 200 for the first time, by source",
            ),
            duplicates: family(
                registry,
                "webhook_duplicates",
                "Deliveries answered 200 that were in the log already, by source",
            ),
            last_accepted: family(
                registry,
                "webhook_last_accepted_timestamp_seconds",
                "When a source last delivered an event, in Unix time, or when the gateway started; alert on its age",
            ),
            rejected: family(
                registry,
                "webhook_rejected",
                "Deliveries not answered 200, by source (empty where unknown) and reason",
            ),
            not_found: counter(
                registry,
                "http_not_found",
                "Requests for paths outside /webhooks/, which scanners send",
            ),
        };
        metrics.expect_reasons("");
        metrics
    }

    /// A source that never delivers since the start must not look like one that is not
    /// there: its age counts from the start. The first failure must be an increase.
    pub(super) fn expect_source(&self, source: &str) -> SourceMetrics {
        let label = SourceLabel {
            source: source.to_owned(),
        };
        let metrics = SourceMetrics {
            accepted: self.accepted.get_or_create_owned(&label),
            duplicates: self.duplicates.get_or_create_owned(&label),
            last_accepted: self.last_accepted.get_or_create_owned(&label),
        };
        metrics.note_accepted();
        self.expect_reasons(source);
        metrics
    }

    /// The age of a source that is not configured any more would alert for ever. A delivery
    /// that is on its way no longer shows it.
    pub(super) fn forget_source(&self, source: &str) {
        self.last_accepted.remove(&SourceLabel {
            source: source.to_owned(),
        });
    }

    fn expect_reasons(&self, source: &str) {
        for reason in Refusal::NAMES {
            let source = source.to_owned();
            let label = RejectedLabel { source, reason };
            self.rejected.get_or_create(&label).inc_by(0);
        }
    }

    pub(super) fn count_refused(&self, source: Option<&str>, refusal: &Refusal) {
        let label = RejectedLabel {
            source: source.unwrap_or_default().to_owned(),
            reason: refusal.name(),
        };
        self.rejected.get_or_create(&label).inc();
    }
}
