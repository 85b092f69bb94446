//! What the log counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The log's metrics; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(super) committed: Counter,
    pub(super) commit_seconds: Histogram,
    pub(super) batch_records: Histogram,
    pub(super) failed_commits: Counter,
    pub(super) retired: Counter,
    pub(super) foreign_messages: Counter,
    pub(super) records: Gauge,
    pub(super) tail_position: Gauge,
    pub(super) writable: Gauge,
    pub(super) wal_bytes: Gauge,
    pub(super) file_bytes: Gauge,
    pub(super) used_bytes: Gauge,
}

impl Metrics {
    /// Registers the log's metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            committed: Counter::default(),
            commit_seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 16)),
            batch_records: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            failed_commits: Counter::default(),
            retired: Counter::default(),
            foreign_messages: Counter::default(),
            records: Gauge::default(),
            tail_position: Gauge::default(),
            writable: Gauge::default(),
            wal_bytes: Gauge::default(),
            file_bytes: Gauge::default(),
            used_bytes: Gauge::default(),
        };
        registry.register(
            "log_committed_events",
            "Events made durable",
            metrics.committed.clone(),
        );
        registry.register(
            "log_commit_duration_seconds",
            "Time of one commit, the fsync included",
            metrics.commit_seconds.clone(),
        );
        registry.register(
            "log_batch_events",
            "Deliveries answered by one commit, duplicates included",
            metrics.batch_records.clone(),
        );
        registry.register(
            "log_failed_commits",
            "Commits that did not become durable; their webhooks were answered 503",
            metrics.failed_commits.clone(),
        );
        registry.register(
            "log_retired_events",
            "Events that retention removed",
            metrics.retired.clone(),
        );
        registry.register(
            "log_foreign_messages",
            "Messages of the NATS stream that no gateway wrote, passed over",
            metrics.foreign_messages.clone(),
        );
        registry.register("log_events", "Events in the log", metrics.records.clone());
        registry.register(
            "log_tail_position",
            "Position of the newest event",
            metrics.tail_position.clone(),
        );
        registry.register(
            "log_writable",
            "1 while the log takes writes, else 0",
            metrics.writable.clone(),
        );
        metrics.register_sizes(registry);
        metrics
    }

    fn register_sizes(&self, registry: &mut Registry) {
        registry.register(
            "log_wal_bytes",
            "Bytes of the embedded log's WAL on disk, beside its file",
            self.wal_bytes.clone(),
        );
        registry.register(
            "log_file_bytes",
            "Bytes of the embedded log's file on disk, free pages included",
            self.file_bytes.clone(),
        );
        registry.register(
            "log_used_bytes",
            "Bytes that the log's events take up, which retention compares with its limit",
            self.used_bytes.clone(),
        );
    }
}
