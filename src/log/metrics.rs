//! What the log counts.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::cells::Swapped;
use super::error::AppendError;
use crate::event::UnixMillis;
use crate::event::numbers::saturating;
use crate::telemetry::metrics::{OptionalGauge, counter, family, gauge, histogram, optional_gauge};

const STORED: &str = "stored";
const CONFLICT: &str = "conflict";
const FAILED: &str = "failed";
const SWAP_OUTCOMES: [&str; 3] = [STORED, CONFLICT, FAILED];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// The log's metrics; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(super) committed: Counter,
    pub(super) commit_seconds: Histogram,
    pub(super) batch_records: Histogram,
    pub(super) failed_commits: Counter,
    pub(super) retired: Counter,
    #[cfg_attr(
        not(feature = "nats"),
        expect(dead_code, reason = "only a stream on NATS has any")
    )]
    pub(super) foreign_messages: Counter,
    pub(super) records: Gauge,
    pub(super) tail_position: Gauge,
    pub(super) writable: Gauge,
    pub(super) wal_bytes: OptionalGauge,
    pub(super) file_bytes: OptionalGauge,
    pub(super) used_bytes: Gauge,
    pub(super) data_dir_free_bytes: OptionalGauge,
    pub(super) data_dir_size_bytes: OptionalGauge,
    oldest: OptionalGauge,
    newest: OptionalGauge,
    retain_seconds: Gauge,
    retain_bytes: Gauge,
    pub(super) segments: Gauge,
    pub(super) unsealed_records: Gauge,
    pub(super) segment_build_seconds: Histogram,
    cell_swaps: Family<OutcomeLabel, Counter>,
    cell_swap_seconds: Histogram,
}

impl Metrics {
    /// Registers the log's metrics. Each outcome counts from 0.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::declare(registry);
        for outcome in SWAP_OUTCOMES {
            let label = OutcomeLabel { outcome };
            metrics.cell_swaps.get_or_create(&label).inc_by(0);
        }
        metrics
    }

    fn declare(registry: &mut Registry) -> Self {
        Self {
            committed: counter(registry, "log_committed_events", "Events made durable"),
            commit_seconds: histogram(
                registry,
                "log_commit_duration_seconds",
                "Time of one commit, the fsync included",
                exponential_buckets(0.000_1, 2.0, 16),
            ),
            batch_records: histogram(
                registry,
                "log_batch_events",
                "Deliveries answered by one commit, duplicates included",
                exponential_buckets(1.0, 2.0, 11),
            ),
            failed_commits: counter(
                registry,
                "log_failed_commits",
                "Commits that did not become durable; their webhooks were answered 503",
            ),
            retired: counter(
                registry,
                "log_retired_events",
                "Events that retention removed",
            ),
            foreign_messages: counter(
                registry,
                "log_foreign_messages",
                "Messages of the NATS stream that no gateway wrote, passed over",
            ),
            records: gauge(registry, "log_events", "Events in the log"),
            tail_position: gauge(
                registry,
                "log_tail_position",
                "Position of the newest event",
            ),
            writable: gauge(
                registry,
                "log_writable",
                "1 while the log takes writes, else 0",
            ),
            wal_bytes: optional_gauge(
                registry,
                "log_wal_bytes",
                "Bytes of the embedded log's WAL on disk, beside its file",
            ),
            file_bytes: optional_gauge(
                registry,
                "log_file_bytes",
                "Bytes of the embedded log's file on disk, free pages included",
            ),
            used_bytes: gauge(
                registry,
                "log_used_bytes",
                "Bytes that the log's events take up, which retention compares with its limit",
            ),
            data_dir_free_bytes: optional_gauge(
                registry,
                "data_dir_free_bytes",
                "Bytes that the gateway may still write to the file system of its data directory",
            ),
            data_dir_size_bytes: optional_gauge(
                registry,
                "data_dir_size_bytes",
                "Size of that file system",
            ),
            oldest: optional_gauge(
                registry,
                "log_oldest_timestamp_seconds",
                "When the oldest event was received, in Unix time; absent while the log is empty",
            ),
            newest: optional_gauge(
                registry,
                "log_newest_timestamp_seconds",
                "When the newest event was received, in Unix time; absent while the log is empty",
            ),
            retain_seconds: gauge(
                registry,
                "log_retain_seconds",
                "Age at which retention removes events; 0 without a limit",
            ),
            retain_bytes: gauge(
                registry,
                "log_retain_bytes",
                "Bytes of events beyond which retention removes the oldest; 0 without a limit",
            ),
            segments: gauge(
                registry,
                "log_segments",
                "Segments of the embedded log's index",
            ),
            unsealed_records: gauge(
                registry,
                "log_unsealed_records",
                "Events that are in no segment of the embedded log's index yet",
            ),
            segment_build_seconds: histogram(
                registry,
                "log_segment_build_seconds",
                "Time to build a segment of the embedded log's index and to make it durable",
                exponential_buckets(0.001, 2.0, 14),
            ),
            cell_swaps: family(
                registry,
                "cell_swaps",
                "Swaps of cells, which hold what subscriptions remember, by outcome",
            ),
            cell_swap_seconds: histogram(
                registry,
                "cell_swap_seconds",
                "Time of one swap of cells, from the request to the answer",
                exponential_buckets(0.000_1, 2.0, 16),
            ),
        }
    }

    /// Notes what retention leaves.
    pub(super) fn note_retention(&self, retain_for: Option<Duration>, retain_bytes: Option<u64>) {
        let seconds = retain_for.unwrap_or_default().as_secs();
        self.retain_seconds.set(saturating(seconds));
        let bytes = retain_bytes.unwrap_or_default();
        self.retain_bytes.set(saturating(bytes));
    }

    /// Notes when the oldest and the newest event were received; none where there is no event.
    pub(super) fn note_ends(&self, ends: Option<(UnixMillis, UnixMillis)>) {
        let seconds = |time: UnixMillis| time.milliseconds().div_euclid(1000);
        self.oldest.set(ends.map(|(oldest, _)| seconds(oldest)));
        self.newest.set(ends.map(|(_, newest)| seconds(newest)));
    }

    /// Notes the answer to a swap of cells, and how long it took.
    pub(super) fn note_swap(&self, swapped: &Result<Swapped, AppendError>, took: Duration) {
        let outcome = match swapped {
            Ok(Swapped::Stored(_)) => STORED,
            Ok(Swapped::Conflict(_)) => CONFLICT,
            Err(_) => FAILED,
        };
        self.cell_swaps
            .get_or_create(&OutcomeLabel { outcome })
            .inc();
        self.cell_swap_seconds.observe(took.as_secs_f64());
    }
}
