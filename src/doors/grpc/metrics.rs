//! What the gRPC side counts beside what the fan-out does.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::event::numbers::saturating;
use crate::telemetry::metrics::{family, gauge};

/// Why an answer was made and not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "label values as they are shown")]
pub(super) enum Unsent {
    not_read,
    gave_way,
    policy,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UnsentLabel {
    reason: Unsent,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabel {
    principal: String,
    reason: String,
}

/// The gRPC side's metrics; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    refused: Family<RefusalLabel, Counter>,
    unread_bytes: Gauge,
    unsent: Family<UnsentLabel, Counter>,
}

impl Metrics {
    /// Declares the metrics. What has a known set of labels counts from 0.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            refused: family(
                registry,
                "grpc_calls_refused",
                "Calls answered with an error, by principal (empty where the caller is not known) and reason",
            ),
            unread_bytes: gauge(
                registry,
                ("grpc_unread_answer", Unit::Bytes),
                "Answers that callers have not read yet",
            ),
            unsent: family(
                registry,
                "grpc_answers_dropped",
                "Answers dropped before they were sent, by reason",
            ),
        };
        for reason in [Unsent::not_read, Unsent::gave_way, Unsent::policy] {
            let _zero = metrics.unsent.get_or_create(&UnsentLabel { reason });
        }
        metrics
    }

    pub(super) fn count_refused(&self, principal: &str, reason: &str) {
        let label = RefusalLabel {
            principal: principal.to_owned(),
            reason: reason.to_ascii_lowercase(),
        };
        self.refused.get_or_create(&label).inc();
    }

    pub(super) fn set_unread(&self, bytes: usize) {
        self.unread_bytes.set(saturating(bytes));
    }

    pub(super) fn count_unsent(&self, reason: Unsent) {
        self.unsent.get_or_create(&UnsentLabel { reason }).inc();
    }
}
