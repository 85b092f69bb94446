//! What the webhook side counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::response::Refusal;
use crate::event::UnixMillis;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabel {
    source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RejectedLabel {
    source: String,
    reason: &'static str,
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
            received: Counter::default(),
            answer_seconds: Histogram::new(exponential_buckets(0.000_25, 2.0, 16)),
            in_flight_bytes: Gauge::default(),
            not_found: Counter::default(),
            accepted: Family::default(),
            duplicates: Family::default(),
            last_accepted: Family::default(),
            rejected: Family::default(),
        };
        registry.register(
            "webhook_received",
            "Deliveries received, whatever became of them",
            metrics.received.clone(),
        );
        registry.register_with_unit(
            "webhook_answer",
            "Time from the headers of a delivery to its answer",
            Unit::Seconds,
            metrics.answer_seconds.clone(),
        );
        registry.register_with_unit(
            "webhook_in_flight",
            "Bodies on their way into the log; --in-flight-limit bounds them",
            Unit::Bytes,
            metrics.in_flight_bytes.clone(),
        );
        registry.register(
            "webhook_accepted",
            "Deliveries answered 200 for the first time, by source",
            metrics.accepted.clone(),
        );
        registry.register(
            "webhook_duplicates",
            "Deliveries answered 200 that were in the log already, by source",
            metrics.duplicates.clone(),
        );
        registry.register(
            "webhook_last_accepted_timestamp_seconds",
            "When a source last delivered an event, in Unix time, or when the gateway started; alert on its age",
            metrics.last_accepted.clone(),
        );
        registry.register(
            "webhook_rejected",
            "Deliveries not answered 200, by source (empty where unknown) and reason",
            metrics.rejected.clone(),
        );
        registry.register(
            "http_not_found",
            "Requests for paths outside /webhooks/, which scanners send",
            metrics.not_found.clone(),
        );
        metrics.expect_reasons("");
        metrics
    }

    /// A source that never delivers since the start must not look like one that is not
    /// there: its age counts from the start. The first failure must be an increase.
    pub(super) fn expect_source(&self, source: &str) {
        let label = SourceLabel {
            source: source.to_owned(),
        };
        let now = UnixMillis::now().milliseconds().div_euclid(1000);
        self.accepted.get_or_create(&label).inc_by(0);
        self.duplicates.get_or_create(&label).inc_by(0);
        self.last_accepted.get_or_create(&label).set(now);
        self.expect_reasons(source);
    }

    /// The age of a source that is not configured any more would alert for ever.
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

    pub(super) fn count_accepted(&self, source: &str, duplicate: bool) {
        let label = SourceLabel {
            source: source.to_owned(),
        };
        if duplicate {
            self.duplicates.get_or_create(&label).inc();
            return;
        }
        let now = UnixMillis::now().milliseconds().div_euclid(1000);
        self.accepted.get_or_create(&label).inc();
        self.last_accepted.get_or_create(&label).set(now);
    }

    pub(super) fn count_refused(&self, source: Option<&str>, refusal: &Refusal) {
        let label = RejectedLabel {
            source: source.unwrap_or_default().to_owned(),
            reason: refusal.name(),
        };
        self.rejected.get_or_create(&label).inc();
    }
}
