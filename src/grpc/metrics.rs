//! What the gRPC side counts beside what the fan-out does.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::access::Unknown;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "label values as they are shown")]
enum Reason {
    no_credentials,
    unknown_token,
    unknown_certificate,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: Reason,
}

/// The gRPC side's metrics; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    refused: Family<ReasonLabel, Counter>,
}

impl Metrics {
    /// Declares the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let refused = Family::<ReasonLabel, Counter>::default();
        registry.register(
            "grpc_calls_unauthenticated",
            "Calls refused because the caller is not known, by reason",
            refused.clone(),
        );
        for reason in [
            Reason::no_credentials,
            Reason::unknown_token,
            Reason::unknown_certificate,
        ] {
            refused.get_or_create(&ReasonLabel { reason }).inc_by(0);
        }
        Self { refused }
    }

    pub(super) fn count_refused(&self, unknown: Unknown) {
        let reason = match unknown {
            Unknown::NoCredentials => Reason::no_credentials,
            Unknown::Token => Reason::unknown_token,
            Unknown::Certificate => Reason::unknown_certificate,
        };
        self.refused.get_or_create(&ReasonLabel { reason }).inc();
    }
}
