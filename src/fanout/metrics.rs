//! What the fan-out counts.

use std::ops::Deref;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::registry::{State, SubscriberView};
use crate::event::numbers::saturating;
use crate::telemetry::metrics::{counter, family, gauge, histogram};

/// Names of subscribers shown in metrics; they are the subscribers' own words.
const NAMES_MAX: usize = 200;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SubscriberLabel {
    subscriber: String,
}

/// Why a subscriber's stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    ClientLeft,
    CaughtUp,
    MaxEvents,
    CursorExpired,
    Draining,
    LogUnreadable,
    AccessEnded,
}

impl Ending {
    const ALL: [Self; 7] = [
        Self::ClientLeft,
        Self::CaughtUp,
        Self::MaxEvents,
        Self::CursorExpired,
        Self::Draining,
        Self::LogUnreadable,
        Self::AccessEnded,
    ];

    /// As it stands in metrics and in log lines.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ClientLeft => "client_left",
            Self::CaughtUp => "caught_up",
            Self::MaxEvents => "max_events",
            Self::CursorExpired => "cursor_expired",
            Self::Draining => "draining",
            Self::LogUnreadable => "log_unreadable",
            Self::AccessEnded => "access_ended",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndingLabel {
    reason: &'static str,
}

/// The fan-out's metrics; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    subscribers: Family<StateLabel, Gauge>,
    lag_events: Family<SubscriberLabel, Gauge>,
    lag_seconds: Family<SubscriberLabel, Gauge>,
    ended: Family<EndingLabel, Counter>,
    filter_bytes: Gauge,
    pub(super) delivered: Counter,
    pub(super) delivered_bytes: Counter,
    pub(super) event_age: Histogram,
    pub(super) fell_behind: Counter,
}

impl Metrics {
    /// Registers the fan-out's metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            subscribers: family(
                registry,
                "subscribers",
                "Open subscriptions, by what they are doing",
            ),
            lag_events: family(
                registry,
                "subscriber_lag_events",
                "Positions between a subscriber and the end of the log; of subscribers that share a name, the one furthest behind",
            ),
            lag_seconds: family(
                registry,
                ("subscriber_lag", Unit::Seconds),
                "Time between the newest event and the one that a subscriber has reached",
            ),
            ended: family(
                registry,
                "subscriptions_ended",
                "Subscriptions that ended, by reason",
            ),
            filter_bytes: gauge(
                registry,
                ("filter", Unit::Bytes),
                "Memory that the filters of open subscriptions occupy; equal ones count once",
            ),
            delivered: counter(
                registry,
                "delivered_events",
                "Events handed to subscribers' connections",
            ),
            delivered_bytes: counter(
                registry,
                ("delivered", Unit::Bytes),
                "Event frames handed to subscribers' connections",
            ),
            event_age: histogram(
                registry,
                ("delivery_event_age", Unit::Seconds),
                "Time from receiving an event to handing it to a live subscriber's connection; of events handed over together, the first",
                exponential_buckets(0.000_5, 2.0, 20),
            ),
            fell_behind: counter(
                registry,
                "subscribers_fell_behind",
                "Times that a subscriber left the window of recent events and went back to the log",
            ),
        };
        for reason in Ending::ALL {
            metrics.ended_for(reason).inc_by(0);
        }
        metrics
    }

    pub(super) fn count_end(&self, reason: Ending) {
        self.ended_for(reason).inc();
    }

    fn ended_for(&self, reason: Ending) -> impl Deref<Target = Counter> {
        let reason = reason.name();
        self.ended.get_or_create(&EndingLabel { reason })
    }

    pub(super) fn observe(&self, subscribers: &[SubscriberView], filter_bytes: usize) {
        self.filter_bytes.set(saturating(filter_bytes));
        for state in [State::CatchingUp, State::Live] {
            let count = subscribers
                .iter()
                .filter(|view| view.state == state)
                .count();
            let gauge = self.subscribers.get_or_create(&StateLabel {
                state: state.name(),
            });
            gauge.set(saturating(count));
        }
        self.lag_events.clear();
        self.lag_seconds.clear();
        for view in subscribers.iter().take(NAMES_MAX) {
            let label = SubscriberLabel {
                subscriber: view.name.clone(),
            };
            let (events, seconds) = (view.lag.events, view.lag.time.as_secs());
            raise(&self.lag_events.get_or_create(&label), saturating(events));
            raise(&self.lag_seconds.get_or_create(&label), saturating(seconds));
        }
    }
}

fn raise(gauge: &Gauge, value: i64) {
    if value > gauge.get() {
        gauge.set(value);
    }
}
