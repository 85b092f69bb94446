//! The law of `clerkcast::log::Log`, as one suite for every implementation.
//!
//! A further implementation adds a [`Store`] and one line with [`laws!`]. It holds every law
//! of the one list, or names the reason why it cannot.

pub(crate) mod cells;
mod laws;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clerkcast::event::{Attributes, IndexHint, Position, UnixMillis};
use clerkcast::log::sqlite::{Config, SqliteLog};
use clerkcast::log::{Append, Appended, Entry, Log, Metrics, Page, Query, Read, ReadError, Record};
use prometheus_client::registry::Registry;
use tempfile::TempDir;

use crate::harness::eventually;
use crate::memory_log::{Memory, MemoryLog};
use crate::nats::JetStream;

/// Opens logs on one place, again and again.
pub(crate) trait Store {
    fn new(retention: Retention) -> Self;
    fn open(&self) -> impl Future<Output = Arc<dyn Log>>;
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Retention {
    pub(crate) keep_for: Option<Duration>,
    pub(crate) keep_bytes: Option<u64>,
}

pub(crate) struct Sqlite {
    directory: TempDir,
    retention: Retention,
}

impl Store for Sqlite {
    fn new(retention: Retention) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        Self {
            directory,
            retention,
        }
    }

    async fn open(&self) -> Arc<dyn Log> {
        let config = Config {
            data_dir: self.directory.path().to_owned(),
            retain_for: self.retention.keep_for,
            retain_bytes: self.retention.keep_bytes,
            ..Config::default()
        };
        let metrics = Metrics::register(&mut Registry::default());
        Arc::new(SqliteLog::open(config, metrics).expect("opens"))
    }
}

pub(crate) struct InMemory {
    memory: Memory,
    retention: Retention,
}

impl Store for InMemory {
    fn new(retention: Retention) -> Self {
        Self {
            memory: Memory::default(),
            retention,
        }
    }

    async fn open(&self) -> Arc<dyn Log> {
        let Retention {
            keep_for,
            keep_bytes,
        } = self.retention;
        Arc::new(MemoryLog::open(self.memory.clone(), keep_for, keep_bytes))
    }
}

/// Hands each law to a macro.
macro_rules! each_law {
    ($hold:ident) => {
        $hold!(durable_acknowledged_records_are_there_after_reopening);
        $hold!(unique_an_id_enters_once_per_source);
        $hold!(unique_duplicates_within_one_batch_are_reported);
        $hold!(unique_ids_outlive_their_records);
        $hold!(ordered_positions_increase_and_are_never_reused);
        $hold!(complete_pages_of_every_narrowing_agree_with_a_naive_filter);
        $hold!(complete_a_read_across_removed_records_fails_instead_of_skipping);
        $hold!(complete_a_reader_is_dropped_before_its_scan_answers);
        $hold!(published_batches_are_in_order_and_chained);
        $hold!(retention_by_size_removes_the_oldest);
        $hold!(time_finds_the_first_record_received_since);
        $hold!(find_returns_what_was_appended);
        $hold!(a_closed_log_refuses);
        $hold!(swapped_a_change_is_stored_only_from_the_current_revision);
        $hold!(swapped_changes_are_stored_in_order_and_all_or_none);
        $hold!(swapped_a_revision_never_comes_again_for_a_name);
        $hold!(swapped_of_racing_writers_exactly_one_wins_each_revision);
        $hold!(swapped_what_no_log_stores_is_refused_in_words);
        $hold!(swapped_a_swap_is_decided_though_its_caller_has_gone);
        $hold!(durable_cells_are_there_after_reopening);
        $hold!(retention_never_removes_a_cell);
        $hold!(listed_cells_are_those_of_a_prefix_in_order);
        $hold!(listed_pages_are_bounded_in_bytes);
        $hold!(watched_every_stored_change_is_published_in_order);
        $hold!(a_closed_log_refuses_swaps);
    };
}

/// Has a store hold every law, except those that it cannot, for a reason.
macro_rules! laws {
    ($module:ident: $store:ty $(, except [$(($except:ident, $reason:literal)),* $(,)?])?) => {
        mod $module {
            use super::*;

            macro_rules! hold {
                $($(($except) => {};)*)?
                ($law:ident) => {
                    #[tokio::test]
                    async fn $law() {
                        laws::$law::<$store>().await;
                    }
                };
            }
            each_law!(hold);

            #[test]
            fn each_exception_is_a_law_and_has_a_reason() {
                let exceptions: &[(&str, &str)] = &[$($((stringify!($except), $reason)),*)?];
                for (law, reason) in exceptions {
                    assert!(names().contains(law), "{law} is no law");
                    assert!(!reason.is_empty(), "{law} is left out without a reason");
                }
            }
        }
    };
}

fn names() -> Vec<&'static str> {
    let mut names = Vec::new();
    macro_rules! add {
        ($law:ident) => {
            names.push(stringify!($law));
        };
    }
    each_law!(add);
    names
}

laws!(sqlite: Sqlite);

// What holds instead of the exceptions is in `nats/log.rs` and `nats/cells`.
laws!(jetstream: JetStream, except [
    (unique_ids_outlive_their_records, "JetStream forgets ids after the duplicate window"),
    (ordered_positions_increase_and_are_never_reused, "JetStream removes by its own clock"),
    (
        complete_a_read_across_removed_records_fails_instead_of_skipping,
        "JetStream removes by its own clock"
    ),
    (time_finds_the_first_record_received_since, "a time is found as exactly as the gateways' clocks agree"),
    (swapped_changes_are_stored_in_order_and_all_or_none, "changes are published one after the other"),
    (watched_every_stored_change_is_published_in_order, "a change that another has replaced is passed over"),
]);

laws!(memory: InMemory, except [
    (durable_acknowledged_records_are_there_after_reopening, "memory ends with its process"),
]);

pub(crate) fn record(id: &str, event_type: &str, user: Option<&str>) -> Entry {
    Entry {
        id: id.to_owned(),
        attributes: Attributes {
            event_type: event_type.to_owned(),
            source: "default".to_owned(),
            user_id: user.map(str::to_owned),
            ..Attributes::default()
        },
        receive_time: UnixMillis::now(),
        event: Bytes::from_static(b"\x0a\x05event"),
        decoding: 7,
        payload: Bytes::from(format!("{{\"id\":\"{id}\"}}")),
    }
}

pub(crate) async fn append(log: &dyn Append, record: Entry) -> Position {
    match log.append(record).await.expect("durable") {
        Appended::Committed(position) => position,
        Appended::Duplicate => panic!("a duplicate"),
    }
}

pub(crate) fn everything_after(after: Position) -> Query {
    Query {
        after,
        narrow: IndexHint::All,
        matches: Arc::new(|_| true),
        records_max: 10,
        bytes_max: 1 << 20,
    }
}

pub(crate) async fn read(log: &dyn Read, query: Query) -> Result<Page, ReadError> {
    log.read(query).await
}

/// Reads page after page up to the last position.
pub(crate) async fn read_all(log: &dyn Read, mut query: Query) -> Vec<Record> {
    let last = log.bounds().last;
    let mut records = Vec::new();
    while query.after < last {
        let Page {
            records: page,
            through,
        } = log.read(query.clone()).await.expect("a page");
        assert!(through > query.after, "a page makes progress");
        for record in &page {
            assert!(record.position > query.after && record.position <= through);
        }
        records.extend(page);
        query.after = through;
    }
    records
}

pub(crate) fn ids(records: &[Record]) -> Vec<&str> {
    records
        .iter()
        .map(|record| record.entry.id.as_str())
        .collect()
}

/// Counts may trail what they count, by seconds.
async fn counted(log: &dyn Log, expected: u64) {
    eventually("the records are counted", || async {
        let counts = log.tallies();
        counts.iter().map(|tally| tally.count).sum::<u64>() == expected
    })
    .await;
}
