//! What the webhook side counts.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::response::Refusal;
use crate::clerk::{Drift, DriftKind};
use crate::event::UnixMillis;

/// Distinct fields counted by name. Their names are the senders' words; what is beyond
/// is counted as `other`.
const DRIFT_FIELDS_MAX: usize = 500;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabel {
    source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RejectedLabel {
    source: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DriftLabel {
    event_type: &'static str,
    field: String,
    kind: DriftName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "label values as they are shown")]
enum DriftName {
    unknown_field,
    unexpected_value,
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
    drift: Family<DriftLabel, Counter>,
    drift_fields: Arc<Mutex<HashSet<String>>>,
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
            drift: Family::default(),
            drift_fields: Arc::default(),
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
        registry.register(
            "event_drift",
            "Fields of accepted events that the proto files do not know or could not hold, by type and field; they remain in payload_json",
            metrics.drift.clone(),
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

    pub(super) fn count_drift(&self, event_type: &'static str, drift: &[Drift]) {
        for one in drift {
            let kind = match one.kind {
                DriftKind::UnknownField => DriftName::unknown_field,
                DriftKind::UnexpectedValue => DriftName::unexpected_value,
            };
            let field = self.bounded(&one.path);
            let label = DriftLabel {
                event_type,
                field,
                kind,
            };
            self.drift.get_or_create(&label).inc();
        }
    }

    fn bounded(&self, path: &str) -> String {
        let mut fields = self.drift_fields.lock();
        // Inside metadata, a key may be anything, such as an address.
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.[]".contains(&byte);
        let is_shown = path.len() <= 200 && path.bytes().all(is_plain);
        if fields.len() < DRIFT_FIELDS_MAX && is_shown {
            fields.insert(path.to_owned());
        }
        if fields.contains(path) {
            path.to_owned()
        } else {
            "other".to_owned()
        }
    }
}
