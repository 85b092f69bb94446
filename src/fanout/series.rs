//! The series of each subscriber, as of the last look.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::registry::PairView;
use crate::event::numbers::saturating;

/// What is shown of subscribers; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct SubscriberSeries {
    shown: Arc<Mutex<Arc<[PairView]>>>,
}

/// One metric, with a series for each subscriber.
struct Series {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    kind: MetricType,
    value: fn(&PairView) -> u64,
}

fn all() -> [Series; 5] {
    let gauge = |name, help, value| Series {
        name,
        help,
        unit: None,
        kind: MetricType::Gauge,
        value,
    };
    [
        gauge(
            "subscriber_lag_events",
            "Positions between a subscriber and the end of the log, also while it is away; of streams that share a name, the one furthest behind.",
            |view| view.lag.events,
        ),
        Series {
            unit: Some(Unit::Seconds),
            ..gauge(
                "subscriber_lag",
                "Time between the newest event and the one that a subscriber has reached, also while it is away; if it had reached the newest, then since it left.",
                |view| view.lag.time.as_secs(),
            )
        },
        gauge(
            "subscriber_connected",
            "Open streams of a subscriber; 0 while it is away, for 24 h after its last stream.",
            |view| saturating(view.streams),
        ),
        gauge(
            "subscriber_last_seen_timestamp_seconds",
            "When a subscriber was last connected, in Unix time.",
            |view| view.last_seen.milliseconds().unsigned_abs() / 1000,
        ),
        Series {
            kind: MetricType::Counter,
            ..gauge(
                "subscriber_delivered_events",
                "Events handed to a subscriber's connections.",
                |view| view.delivered,
            )
        },
    ]
}

impl SubscriberSeries {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let series = Self::default();
        registry.register_collector(Box::new(series.clone()));
        series
    }

    pub(super) fn show(&self, views: Vec<PairView>) {
        *self.shown.lock() = views.into();
    }
}

impl Collector for SubscriberSeries {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let shown = Arc::clone(&self.shown.lock());
        if shown.is_empty() {
            return Ok(());
        }
        for series in all() {
            let Series {
                name,
                help,
                unit,
                kind,
                value,
            } = series;
            let mut metric = encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
            for view in &*shown {
                let labels = [
                    ("subscriber", view.name.as_str()),
                    ("principal", view.principal.as_str()),
                ];
                let labelled = metric.encode_family(&labels)?;
                let value = value(view);
                match kind {
                    MetricType::Counter => ConstCounter::new(value).encode(labelled)?,
                    _ => ConstGauge::new(saturating::<i64>(value)).encode(labelled)?,
                }
            }
        }
        Ok(())
    }
}
