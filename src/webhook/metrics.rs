//! What the webhook side counts.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::response::{Outcome, Refusal};
use crate::event::UnixMillis;
use crate::telemetry::metrics::{counter, family, gauge, histograms};

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
struct OutcomeLabel {
    outcome: &'static str,
}

/// From 250 µs to 8 s.
#[derive(Clone, Copy, Debug)]
struct AnswerBuckets;

impl MetricConstructor<Histogram> for AnswerBuckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(exponential_buckets(0.000_25, 2.0, 16))
    }
}

/// Around what Svix's attempts wait: seconds, minutes, and up to the 28 h of its schedule.
#[derive(Clone, Copy, Debug)]
struct AgeBuckets;

impl MetricConstructor<Histogram> for AgeBuckets {
    fn new_metric(&self) -> Histogram {
        const MINUTE: f64 = 60.0;
        const HOUR: f64 = 60.0 * MINUTE;
        let seconds = [0.5, 1.0, 2.0, 5.0, 10.0, 30.0];
        let longer = [1.0, 5.0, 30.0].map(|minutes| minutes * MINUTE);
        let longest = [2.0, 8.0, 28.0].map(|hours| hours * HOUR);
        Histogram::new(seconds.into_iter().chain(longer).chain(longest))
    }
}

/// The time to an answer, by what the answer is.
#[derive(Clone, Debug)]
struct AnswerSeconds {
    accepted: Histogram,
    duplicate: Histogram,
    rejected: Histogram,
    unavailable: Histogram,
}

impl AnswerSeconds {
    fn register(registry: &mut Registry) -> Self {
        let by_outcome = histograms(
            registry,
            ("webhook_answer", Unit::Seconds),
            "Time from the headers of a delivery to its answer, by outcome: accepted, duplicate, rejected, unavailable (503)",
            AnswerBuckets,
        );
        let of = |outcome: Outcome| {
            let outcome = outcome.name();
            by_outcome.get_or_create_owned(&OutcomeLabel { outcome })
        };
        Self {
            accepted: of(Outcome::Accepted),
            duplicate: of(Outcome::Duplicate),
            rejected: of(Outcome::Rejected),
            unavailable: of(Outcome::Unavailable),
        }
    }

    fn of(&self, outcome: Outcome) -> &Histogram {
        match outcome {
            Outcome::Accepted => &self.accepted,
            Outcome::Duplicate => &self.duplicate,
            Outcome::Rejected => &self.rejected,
            Outcome::Unavailable => &self.unavailable,
        }
    }
}

/// The metrics of one source's accepted deliveries, so that counting one looks up nothing.
#[derive(Debug)]
pub(super) struct SourceMetrics {
    accepted: Counter,
    duplicates: Counter,
    last_accepted: Gauge,
    event_age: Histogram,
}

impl SourceMetrics {
    /// A delivery was accepted for the first time, this long after Clerk says that the event
    /// occurred.
    pub(super) fn count_accepted(&self, event_age: Option<Duration>) {
        self.accepted.inc();
        self.note_accepted();
        if let Some(age) = event_age {
            self.event_age.observe(age.as_secs_f64());
        }
    }

    pub(super) fn count_duplicate(&self) {
        self.duplicates.inc();
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
    answer_seconds: AnswerSeconds,
    pub(super) in_flight_bytes: Gauge,
    pub(super) not_found: Counter,
    accepted: Family<SourceLabel, Counter>,
    duplicates: Family<SourceLabel, Counter>,
    last_accepted: Family<SourceLabel, Gauge>,
    event_age: Family<SourceLabel, Histogram, AgeBuckets>,
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
            answer_seconds: AnswerSeconds::register(registry),
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
            event_age: histograms(
                registry,
                ("webhook_event_age", Unit::Seconds),
                "Time from when an event occurred, as Clerk says, to its first accepted delivery, by source",
                AgeBuckets,
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
            event_age: self.event_age.get_or_create_owned(&label),
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

    /// Notes how long an answer took.
    pub(super) fn note_answer(&self, outcome: Outcome, took: Duration) {
        self.answer_seconds.of(outcome).observe(took.as_secs_f64());
    }

    pub(super) fn count_refused(&self, source: Option<&str>, refusal: &Refusal) {
        let label = RejectedLabel {
            source: source.unwrap_or_default().to_owned(),
            reason: refusal.name(),
        };
        self.rejected.get_or_create(&label).inc();
    }
}
