//! The metrics of the public ports.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::telemetry::metrics::family;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortLabel {
    port: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabel {
    port: &'static str,
    reason: &'static str,
}

/// The metrics of all ports; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    open: Family<PortLabel, Gauge>,
    refused: Family<RefusalLabel, Counter>,
    certificate_expiry: Family<PortLabel, Gauge>,
}

impl Metrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            open: family(registry, "connections", "Open connections, by port"),
            refused: family(
                registry,
                "connections_refused",
                "Connections closed before they were served, by port and reason: limit, silent, tls",
            ),
            certificate_expiry: family(
                registry,
                "tls_certificate_expiry_timestamp_seconds",
                "When the certificate of a port expires, in Unix time; alert well before",
            ),
        };
        for port in ["http", "grpc"] {
            for reason in ["limit", "silent", "tls"] {
                let label = RefusalLabel { port, reason };
                metrics.refused.get_or_create(&label).inc_by(0);
            }
        }
        metrics
    }

    pub(super) fn open(&self, port: &'static str) -> Gauge {
        self.open.get_or_create(&PortLabel { port }).clone()
    }

    pub(super) fn count_refused(&self, port: &'static str, reason: &'static str) {
        self.refused
            .get_or_create(&RefusalLabel { port, reason })
            .inc();
    }

    pub(super) fn set_certificate_expiry(&self, port: &'static str, seconds: i64) {
        self.certificate_expiry
            .get_or_create(&PortLabel { port })
            .set(seconds);
    }
}

/// Counts one open connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot(Gauge);

impl Slot {
    pub(super) fn take(open: &Gauge) -> Self {
        open.inc();
        Self(open.clone())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.dec();
    }
}
