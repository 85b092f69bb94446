//! Metrics, each declared where its room makes it: the name and the help stand there once.
//!
//! `/metrics` shows them in the order of their declarations.

use std::hash::Hash;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};

pub use super::optional_gauge::OptionalGauge;

/// The name of a metric. The unit that it is declared with, if any, is appended to it.
#[derive(Clone, Debug)]
pub struct Name {
    base: &'static str,
    unit: Option<Unit>,
}

impl From<&'static str> for Name {
    fn from(base: &'static str) -> Self {
        Self { base, unit: None }
    }
}

/// `("delivered", Unit::Bytes)` is shown as `delivered_bytes`.
impl From<(&'static str, Unit)> for Name {
    fn from((base, unit): (&'static str, Unit)) -> Self {
        let unit = Some(unit);
        Self { base, unit }
    }
}

/// Declares a count of what happened.
pub fn counter(registry: &mut Registry, name: impl Into<Name>, help: &str) -> Counter {
    declare(registry, name, help, Counter::default())
}

/// Declares a number that rises and falls.
pub fn gauge(registry: &mut Registry, name: impl Into<Name>, help: &str) -> Gauge {
    declare(registry, name, help, Gauge::default())
}

/// Declares a number that may be absent.
pub fn optional_gauge(registry: &mut Registry, name: impl Into<Name>, help: &str) -> OptionalGauge {
    declare(registry, name, help, OptionalGauge::default())
}

/// Declares a distribution over `buckets`, each given by its upper bound.
pub fn histogram(
    registry: &mut Registry,
    name: impl Into<Name>,
    help: &str,
    buckets: impl IntoIterator<Item = f64>,
) -> Histogram {
    declare(registry, name, help, Histogram::new(buckets))
}

/// Declares one counter or gauge for each set of labels. It is not shown while it has none.
pub fn family<L, M>(registry: &mut Registry, name: impl Into<Name>, help: &str) -> Family<L, M>
where
    L: Clone + Eq + Hash,
    M: Default,
    Family<L, M>: Metric,
{
    declare(registry, name, help, Family::default())
}

/// Declares one distribution for each set of labels, over the buckets of `constructor`.
pub fn histograms<L, C>(
    registry: &mut Registry,
    name: impl Into<Name>,
    help: &str,
    constructor: C,
) -> Family<L, Histogram, C>
where
    L: Clone + Eq + Hash,
    C: Clone,
    Family<L, Histogram, C>: Metric,
{
    declare(
        registry,
        name,
        help,
        Family::new_with_constructor(constructor),
    )
}

/// Declares a metric that there is already.
pub(super) fn declare<M: Metric + Clone>(
    registry: &mut Registry,
    name: impl Into<Name>,
    help: &str,
    metric: M,
) -> M {
    let Name { base, unit } = name.into();
    match unit {
        Some(unit) => registry.register_with_unit(base, help, unit, metric.clone()),
        None => registry.register(base, help, metric.clone()),
    }
    metric
}
