//! What the fan-out counts.

use std::ops::Deref;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::entry::State;
use super::registry::Observed;
use super::series::SubscriberSeries;
use crate::event::numbers::saturating;
use crate::telemetry::metrics::{counter, family, gauge, histogram};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
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
    series: SubscriberSeries,
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
            series: SubscriberSeries::register(registry),
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

    pub(super) fn observe(&self, observed: Observed, filter_bytes: usize) {
        self.filter_bytes.set(saturating(filter_bytes));
        for (state, count) in [
            (State::CatchingUp, observed.catching_up),
            (State::Live, observed.live),
        ] {
            let state = state.name();
            let gauge = self.subscribers.get_or_create(&StateLabel { state });
            gauge.set(saturating(count));
        }
        self.series.show(observed.pairs);
    }
}
