//! What is counted of subscriptions, each by its name: their number in the log is bounded.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::machine::Cause;
use super::name::Name;
use crate::telemetry::metrics::{family, histograms};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NameLabel {
    subscription: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    subscription: String,
    reason: &'static str,
}

/// Why an event is handed out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redelivery {
    /// A worker reported that it failed.
    Failed,
    /// It was not acknowledged by its deadline.
    Deadline,
    /// A worker gave it back.
    Released,
}

impl Redelivery {
    const ALL: [Self; 3] = [Self::Failed, Self::Deadline, Self::Released];

    /// The value of a metric's label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Deadline => "deadline",
            Self::Released => "released",
        }
    }
}

/// The metrics of subscriptions; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    gauges: Gauges,
    deliveries: Family<NameLabel, Counter>,
    acknowledged: Family<NameLabel, Counter>,
    redelivered: Family<ReasonLabel, Counter>,
    lost_acks: Family<NameLabel, Counter>,
    dead: Family<ReasonLabel, Counter>,
    expired_events: Family<NameLabel, Counter>,
    ack_seconds: Family<NameLabel, Histogram, AckBuckets>,
    /// The subscriptions that are shown.
    shown: Arc<Mutex<BTreeSet<Name>>>,
}

/// What a subscription's state says.
#[derive(Clone, Debug)]
struct Gauges {
    lag_events: Family<NameLabel, Gauge>,
    lag_seconds: Family<NameLabel, Gauge>,
    outstanding: Family<NameLabel, Gauge>,
    retrying: Family<NameLabel, Gauge>,
    blocked: Family<NameLabel, Gauge>,
    dead_letters: Family<NameLabel, Gauge>,
    stalled: Family<NameLabel, Gauge>,
    workers: Family<NameLabel, Gauge>,
    headroom_seconds: Family<NameLabel, Gauge>,
    headroom_bytes: Family<NameLabel, Gauge>,
}

/// The values of one subscription's gauges.
#[derive(Clone, Copy, Debug, Default)]
pub struct Observed {
    pub lag_events: i64,
    pub lag_seconds: i64,
    pub outstanding: i64,
    pub retrying: i64,
    pub blocked: i64,
    pub dead_letters: i64,
    pub is_stalled: bool,
    pub workers: i64,
    /// Absent where nothing that is not handled will be removed by its age.
    pub headroom_seconds: Option<i64>,
    /// Absent where the log has no limit by bytes.
    pub headroom_bytes: Option<i64>,
}

/// From delivery to acknowledgement: 1 ms to about an hour.
#[derive(Clone, Copy, Debug)]
struct AckBuckets;

impl MetricConstructor<Histogram> for AckBuckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(exponential_buckets(0.001, 2.0, 23))
    }
}

/// The metrics of one subscription, for what counts them often; clones share them.
#[derive(Clone, Debug)]
pub struct NameMetrics {
    deliveries: Counter,
    acknowledged: Counter,
    redelivered: [(&'static str, Counter); 3],
    lost_acks: Counter,
    dead: [(&'static str, Counter); 3],
    expired_events: Counter,
    ack_seconds: Histogram,
}

const CAUSES: [Cause; 3] = [Cause::Failed, Cause::Deadline, Cause::Rejected];

impl Metrics {
    /// Declares the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        Self {
            gauges: Gauges::register(registry),
            deliveries: family(
                registry,
                "subscription_deliveries",
                "Events handed to workers of a subscription",
            ),
            acknowledged: family(
                registry,
                "subscription_acknowledged",
                "Events that workers of a subscription acknowledged",
            ),
            redelivered: family(
                registry,
                "subscription_redelivered",
                "Events handed out again, by what became of the delivery before",
            ),
            lost_acks: family(
                registry,
                "subscription_lost_acks",
                "Outcomes that came too late and were not recorded",
            ),
            dead: family(
                registry,
                "subscription_dead",
                "Events that became dead letters, by what became of the last delivery",
            ),
            expired_events: family(
                registry,
                "subscription_expired_events",
                "Positions that retention removed before a subscription had handled them",
            ),
            ack_seconds: histograms(
                registry,
                ("subscription_ack", Unit::Seconds),
                "Time from a delivery to its acknowledgement",
                AckBuckets,
            ),
            shown: Arc::default(),
        }
    }

    /// The metrics of one subscription. Each reason counts from 0.
    #[must_use]
    pub fn of(&self, name: &Name) -> NameMetrics {
        self.shown.lock().insert(name.clone());
        let label = label(name);
        let with = |family: &Family<ReasonLabel, Counter>, reason| {
            let label = ReasonLabel {
                subscription: name.to_string(),
                reason,
            };
            (reason, family.get_or_create_owned(&label))
        };
        NameMetrics {
            deliveries: self.deliveries.get_or_create_owned(&label),
            acknowledged: self.acknowledged.get_or_create_owned(&label),
            redelivered: Redelivery::ALL.map(|reason| with(&self.redelivered, reason.name())),
            lost_acks: self.lost_acks.get_or_create_owned(&label),
            dead: CAUSES.map(|cause| with(&self.dead, cause.name())),
            expired_events: self.expired_events.get_or_create_owned(&label),
            ack_seconds: self.ack_seconds.get_or_create_owned(&label),
        }
    }

    /// The subscriptions that are shown now.
    #[must_use]
    pub fn shown(&self) -> BTreeSet<Name> {
        self.shown.lock().clone()
    }

    /// Shows these subscriptions. Those that were shown `before` they were looked up, and are not
    /// among them, are shown no longer.
    pub fn observe(&self, before: &BTreeSet<Name>, observed: &[(Name, Observed)]) {
        for (name, observed) in observed {
            let _counts_from_zero = self.of(name);
            self.gauges.set(&label(name), *observed);
        }
        let is_gone = |name: &&Name| !observed.iter().any(|(shown, _)| shown == *name);
        for name in before.iter().filter(is_gone) {
            self.shown.lock().remove(name);
            self.forget(name);
        }
    }

    /// Shows a subscription no longer.
    fn forget(&self, name: &Name) {
        let label = label(name);
        self.gauges.remove(&label);
        for family in [
            &self.deliveries,
            &self.acknowledged,
            &self.lost_acks,
            &self.expired_events,
        ] {
            family.remove(&label);
        }
        self.ack_seconds.remove(&label);
        let reasons = Redelivery::ALL.map(Redelivery::name);
        for (family, reasons) in [
            (&self.redelivered, reasons),
            (&self.dead, CAUSES.map(Cause::name)),
        ] {
            for reason in reasons {
                family.remove(&ReasonLabel {
                    subscription: name.to_string(),
                    reason,
                });
            }
        }
    }
}

impl Gauges {
    fn register(registry: &mut Registry) -> Self {
        Self {
            lag_events: family(
                registry,
                "subscription_lag_events",
                "Positions between what a subscription has handled and the end of the log; an upper bound",
            ),
            lag_seconds: family(
                registry,
                ("subscription_lag", Unit::Seconds),
                "Time between the newest event and the oldest that a subscription has not handled",
            ),
            outstanding: family(
                registry,
                "subscription_outstanding",
                "Events with workers, and before their deadlines",
            ),
            retrying: family(
                registry,
                "subscription_retrying",
                "Events that were handed out before and wait for their next delivery",
            ),
            blocked: family(
                registry,
                "subscription_blocked",
                "Events that wait for another with the same key, or for a worker with room",
            ),
            dead_letters: family(
                registry,
                "subscription_dead_letters",
                "Dead letters, with those that are being handed out again",
            ),
            stalled: family(
                registry,
                "subscription_stalled",
                "1 while something keeps new events from being handed out, else 0",
            ),
            workers: family(
                registry,
                "subscription_workers",
                "Workers connected to this gateway",
            ),
            headroom_seconds: family(
                registry,
                ("subscription_retention_headroom", Unit::Seconds),
                "Time until retention by age removes the oldest event that is not handled",
            ),
            headroom_bytes: family(
                registry,
                ("subscription_retention_headroom", Unit::Bytes),
                "Bytes that the log may take in before retention by bytes removes the oldest event that is not handled; an estimate",
            ),
        }
    }

    fn set(&self, label: &NameLabel, observed: Observed) {
        for (family, value) in [
            (&self.lag_events, observed.lag_events),
            (&self.lag_seconds, observed.lag_seconds),
            (&self.outstanding, observed.outstanding),
            (&self.retrying, observed.retrying),
            (&self.blocked, observed.blocked),
            (&self.dead_letters, observed.dead_letters),
            (&self.stalled, i64::from(observed.is_stalled)),
            (&self.workers, observed.workers),
        ] {
            family.get_or_create_owned(label).set(value);
        }
        for (family, headroom) in [
            (&self.headroom_seconds, observed.headroom_seconds),
            (&self.headroom_bytes, observed.headroom_bytes),
        ] {
            match headroom {
                Some(headroom) => {
                    family.get_or_create_owned(label).set(headroom);
                }
                None => {
                    family.remove(label);
                }
            }
        }
    }

    fn remove(&self, label: &NameLabel) {
        for family in [
            &self.lag_events,
            &self.lag_seconds,
            &self.outstanding,
            &self.retrying,
            &self.blocked,
            &self.dead_letters,
            &self.stalled,
            &self.workers,
            &self.headroom_seconds,
            &self.headroom_bytes,
        ] {
            family.remove(label);
        }
    }
}

impl NameMetrics {
    /// Counts events that were handed to workers.
    pub fn count_deliveries(&self, count: u64) {
        self.deliveries.inc_by(count);
    }

    /// Counts an event that was handed out again.
    pub fn count_redelivery(&self, reason: Redelivery) {
        count(&self.redelivered, reason.name());
    }

    /// Counts an acknowledgement, and the time since the delivery where that is known.
    pub fn count_acknowledged(&self, held_for: Option<Duration>) {
        self.acknowledged.inc();
        if let Some(held_for) = held_for {
            self.ack_seconds.observe(held_for.as_secs_f64());
        }
    }

    /// Counts outcomes that came too late.
    pub fn count_lost(&self, count: u64) {
        self.lost_acks.inc_by(count);
    }

    /// Counts an event that became a dead letter.
    pub fn count_dead(&self, cause: Cause) {
        count(&self.dead, cause.name());
    }

    /// Counts positions that retention removed before they were handled.
    pub fn count_expired(&self, count: u64) {
        self.expired_events.inc_by(count);
    }
}

fn count(counters: &[(&'static str, Counter)], reason: &str) {
    for (_, counter) in counters.iter().filter(|(name, _)| *name == reason) {
        counter.inc();
    }
}

fn label(name: &Name) -> NameLabel {
    NameLabel {
        subscription: name.to_string(),
    }
}
