//! The parts of a gateway that a reload replaces, and the metrics of reloads.

use std::sync::Arc;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::certificates::Certificates;
use crate::access::Access;
use crate::doors::grpc;
use crate::event::UnixMillis;
use crate::fanout::Fanout;
use crate::log::Keep;
use crate::telemetry::metrics::gauge;
use crate::webhook;

/// The parts that can be replaced while the gateway runs; clones share them.
#[derive(Clone, Debug)]
pub struct Controls {
    pub(super) access: Access,
    pub(super) certificates: Certificates,
    pub(super) sources: webhook::Sources,
    pub(super) fanout: Fanout,
    pub(super) log: Arc<dyn Keep>,
    pub(super) grpc_metrics: grpc::Metrics,
    pub(super) metrics: Metrics,
}

/// The metrics of reloads; clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Metrics {
    successful: Gauge,
    succeeded_at: Gauge,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            successful: gauge(
                registry,
                "config_last_reload_successful",
                "1 if the last reload succeeded or there was none, else 0",
            ),
            succeeded_at: gauge(
                registry,
                "config_last_reload_success_timestamp_seconds",
                "Unix time of the last successful reload; before the first, of the start",
            ),
        };
        metrics.note(true);
        metrics
    }

    pub(super) fn note(&self, successful: bool) {
        self.successful.set(i64::from(successful));
        if successful {
            let now = UnixMillis::now().milliseconds().div_euclid(1000);
            self.succeeded_at.set(now);
        }
    }
}
