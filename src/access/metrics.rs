//! What is counted of callers that are not known.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::directory::AuthError;
use crate::telemetry::metrics::family;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// The guard's metrics; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    unauthenticated: Family<ReasonLabel, Counter>,
}

impl Metrics {
    /// Declares the metrics. Each reason counts from 0.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            unauthenticated: family(
                registry,
                "grpc_calls_unauthenticated",
                "Calls refused because the caller is not known, by reason",
            ),
        };
        for error in AuthError::ALL {
            metrics.of(error).inc_by(0);
        }
        metrics
    }

    pub(super) fn count_unauthenticated(&self, error: AuthError) {
        self.of(error).inc();
    }

    fn of(&self, error: AuthError) -> impl std::ops::Deref<Target = Counter> {
        let reason = error.name();
        self.unauthenticated.get_or_create(&ReasonLabel { reason })
    }
}
