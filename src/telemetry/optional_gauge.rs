//! A gauge that may have no value.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Stands for no value.
const ABSENT: i64 = i64::MIN;

/// A number that rises and falls, and is not shown while there is none; clones share it.
#[derive(Clone, Debug)]
pub struct OptionalGauge {
    value: Arc<AtomicI64>,
}

/// Without a value.
impl Default for OptionalGauge {
    fn default() -> Self {
        Self {
            value: Arc::new(AtomicI64::new(ABSENT)),
        }
    }
}

impl OptionalGauge {
    /// Sets the value, or removes it.
    pub fn set(&self, value: Option<i64>) {
        self.value.store(value.unwrap_or(ABSENT), Ordering::Relaxed);
    }

    /// The value.
    #[must_use]
    pub fn get(&self) -> Option<i64> {
        Some(self.value.load(Ordering::Relaxed)).filter(|value| *value != ABSENT)
    }
}

impl TypedMetric for OptionalGauge {
    const TYPE: MetricType = MetricType::Gauge;
}

impl EncodeMetric for OptionalGauge {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        match self.get() {
            Some(value) => ConstGauge::new(value).encode(encoder),
            // It was removed a moment ago.
            None => Ok(()),
        }
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }

    fn is_empty(&self) -> bool {
        self.get().is_none()
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn a_gauge_without_a_value_is_not_shown() {
        let mut registry = Registry::default();
        let gauge = OptionalGauge::default();
        registry.register("size", "Size", gauge.clone());
        let shown = || {
            let mut text = String::new();
            encode(&mut text, &registry).expect("a string");
            text
        };
        assert_eq!(shown(), "# EOF\n");
        gauge.set(Some(0));
        assert!(shown().contains("\nsize 0\n"), "{}", shown());
        gauge.set(None);
        assert_eq!(shown(), "# EOF\n");
    }
}
