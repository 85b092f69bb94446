//! What retention removes, what it leaves alone, and what it says of it.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use clerkcast::event::{Position, UnixMillis};
use clerkcast::log::sqlite::{Config, SqliteLog};
use clerkcast::log::{Append, Entry, Keep, Log, Metrics, Read, Tally};
use clerkcast::proto::{GetLogInfoRequest, ListEventTypesRequest, SubscribeRequest};
use futures_util::future::join_all;
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tonic::Code;

use crate::conformance::{Retention, Sqlite, Store, everything_after, ids, read_all, record};
use crate::harness::{Gateway, Options, body, eventually, from_earliest, now_seconds, types};
use crate::nats::JetStream;

const MIB: u64 = 1 << 20;

fn open(data_dir: &Path, retain_bytes: u64) -> SqliteLog {
    let config = Config {
        data_dir: data_dir.to_owned(),
        retain_for: None,
        retain_bytes: Some(retain_bytes),
        ..Config::default()
    };
    SqliteLog::open(config, Metrics::register(&mut Registry::default())).expect("opens")
}

async fn append_all(log: &SqliteLog, records: impl Iterator<Item = Entry>) {
    let records: Vec<Entry> = records.collect();
    for some in records.chunks(4_000) {
        let appends = some.iter().map(|record| log.append(record.clone()));
        for answer in join_all(appends).await {
            answer.expect("durable");
        }
    }
}

fn large(id: &str, bytes: usize) -> Entry {
    Entry {
        payload: Bytes::from(format!("\"{}\"", "x".repeat(bytes))),
        ..record(id, "user.created", None)
    }
}

/// Bytes in use, as another process sees them, without those of remembered ids.
fn used_bytes(database: &rusqlite::Connection) -> u64 {
    let sql = "SELECT (page_count - freelist_count) * page_size - (
                   SELECT sum(pgsize) FROM dbstat
                   WHERE name IN ('retired_id', 'retired_id_receive_time'))
               FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
    let used: i64 = database
        .query_row(sql, [], |row| row.get(0))
        .expect("measured");
    used.unsigned_abs()
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_by_size_keeps_up_with_a_burst() {
    let limit = 16 * MIB;
    for (bytes, count) in [(20_000, 4_000), (400, 60_000)] {
        let directory = TempDir::new().expect("a temporary directory");
        let log = open(directory.path(), limit);
        let database = rusqlite::Connection::open(directory.path().join("clerkcast.db"));
        let database = database.expect("opens");
        let mut greatest = 0;
        for round in 0..20 {
            let records = (0..count / 20).map(|number| large(&format!("{round}_{number}"), bytes));
            append_all(&log, records).await;
            greatest = greatest.max(used_bytes(&database));
        }
        assert!(
            greatest <= limit / 4 * 5 + 4 * MIB,
            "{greatest} bytes with events of {bytes}"
        );
        assert!(greatest >= limit, "the burst is larger than the limit");
        log.apply_retention().await.expect("applied");
        let left = read_all(&log, everything_after(log.bounds().trimmed)).await;
        let left_bytes: usize = left.iter().map(|it| it.entry.bytes()).sum();
        assert!(
            left_bytes as u64 >= limit / 4,
            "only what had to go is gone"
        );
    }
}

/// Another writer has filled the table, as versions without bounds did.
fn fill_names(data_dir: &Path) {
    let database = rusqlite::Connection::open(data_dir.join("clerkcast.db")).expect("opens");
    let fill =
        "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 100)
                INSERT INTO tally SELECT 'staging', n || hex(zeroblob(100000)), 0 FROM number;";
    database.execute_batch(fill).expect("filled");
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_never_removes_what_would_not_help() {
    let limit = 8 * MIB;
    // Names that a version without bounds has left behind.
    let directory = TempDir::new().expect("a temporary directory");
    let log = open(directory.path(), limit);
    append_all(
        &log,
        (0..20).map(|number| large(&format!("msg_{number}"), 1_000)),
    )
    .await;
    log.close().await;
    drop(log);
    fill_names(directory.path());
    let log = open(directory.path(), limit);
    log.apply_retention().await.expect("applied");
    assert_eq!(log.describe().await.expect("described").record_count, 20);
    let names: Vec<String> = log.tallies().into_iter().map(|it| it.event_type).collect();
    assert_eq!(names, ["user.created"], "the log is mended");
    let described = log.describe().await.expect("described");
    assert!(described.size_bytes < MIB, "{described:?}");

    // Names that are sent now go with their events.
    let long = (0..60).map(|number| {
        let event_type = format!("{number}{}", "x".repeat(100_000));
        let mut long = record(&format!("long_{number}"), &event_type, None);
        long.attributes.source = "staging".to_owned();
        long
    });
    append_all(&log, long).await;
    append_all(
        &log,
        (20..40).map(|number| large(&format!("msg_{number}"), 1_000)),
    )
    .await;
    for _ in 0..3 {
        log.apply_retention().await.expect("applied");
    }
    let left = read_all(&log, everything_after(log.bounds().trimmed)).await;
    let newest: Vec<String> = (20..40).map(|number| format!("msg_{number}")).collect();
    let left = ids(&left);
    let newest: Vec<&str> = newest.iter().map(String::as_str).collect();
    assert!(left.ends_with(&newest), "{left:?}");

    // Ids that must be remembered, which are longer than what they are of.
    let directory = TempDir::new().expect("a temporary directory");
    let log = open(directory.path(), limit);
    let long = "-".repeat(240);
    let many = (0..30_000).map(|number| record(&format!("{number:08}{long}"), "x", None));
    append_all(&log, many).await;
    log.apply_retention().await.expect("applied");
    let left = log.describe().await.expect("described").record_count;
    assert!(left > 5_000, "{left} events left");

    // A log that is empty is larger than this.
    let directory = TempDir::new().expect("a temporary directory");
    let log = open(directory.path(), 40_000);
    append_all(
        &log,
        (0..5).map(|number| large(&format!("msg_{number}"), 1_000)),
    )
    .await;
    log.apply_retention().await.expect("applied");
    assert_eq!(log.bounds().trimmed, Position::START);
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_says_what_it_removed() {
    let gateway = Gateway::start_with(Options::args(&["--retain-for", "1h"]));
    for number in 0..10 {
        let id = format!("msg_{number}");
        gateway.accept(&id, body("user.created", "user_1")).await;
    }
    let stopped = gateway.stopped();
    let database = rusqlite::Connection::open(stopped.database()).expect("opens");
    let oldest = (now_seconds() - 60) * 1000;
    let age = "UPDATE record SET receive_time_ms =
               CASE WHEN position <= 7 THEN ?1 - 7200000 ELSE ?1 END";
    database.execute(age, [oldest]).expect("aged");
    drop(database);

    let gateway = stopped.restarted();
    let lines = || -> Vec<serde_json::Value> {
        let text = gateway.log_text();
        let lines = text
            .lines()
            .filter(|line| line.contains("retention removed"));
        let lines = lines.map(|line| serde_json::from_str(line).expect("JSON"));
        lines.collect()
    };
    eventually("it says so", || async { !lines().is_empty() }).await;
    assert_eq!(gateway.metric("clerkcast_log_events").await, 3.0);
    let [line] = &lines()[..] else {
        panic!("one line: {:?}", lines());
    };
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["events"], 7);
    assert!(line["bytes"].as_u64().expect("a number") > 7 * 100);
    let expected = prost_types::Timestamp::from(UnixMillis::new(oldest)).to_string();
    assert_eq!(line["oldest"], expected);
}

/// Counts may trail what they count, by seconds.
async fn counts_within_bounds(log: &dyn Log, records: u64) {
    eventually("the records are counted within the bounds", || async {
        let tallies = log.tallies();
        let others = tallies.iter().find(|it| it.event_type == Tally::OTHER);
        tallies.iter().map(|it| it.count).sum::<u64>() == records
            && tallies.len() == 1_002
            && others.is_some_and(|it| it.count == 50)
    })
    .await;
}

async fn names_are_bounded_on<S: Store>() {
    let store = S::new(Retention::default());
    let log = store.open().await;
    let long = "x".repeat(300);
    let types = (0..1_050).map(|number| format!("invented.{number}"));
    let types = types.chain([long]).enumerate();
    let appends = types.map(|(number, event_type)| {
        log.append(record(&format!("msg_{number}"), &event_type, None))
    });
    for answer in join_all(appends).await {
        answer.expect("durable");
    }
    counts_within_bounds(&*log, 1_051).await;
    log.close().await;
    drop(log);
    counts_within_bounds(&*store.open().await, 1_051).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn type_names_are_bounded_on_every_log() {
    names_are_bounded_on::<Sqlite>().await;
    names_are_bounded_on::<JetStream>().await;
}

async fn post_together(gateway: &Gateway, types: impl Iterator<Item = String>) {
    let posts = types.map(|event_type| {
        let poster = gateway.poster.clone();
        async move {
            let id = format!("msg_{event_type:.40}");
            poster.post(&id, body(&event_type, "user_1").into()).await
        }
    });
    for answer in join_all(posts).await {
        assert_eq!(answer.expect("answered").status, 200);
    }
}

async fn listed(gateway: &Gateway) -> BTreeMap<String, i64> {
    let mut client = gateway.client().await;
    let listed = client.list_event_types(ListEventTypesRequest {}).await;
    let types = listed.expect("listed").into_inner().event_types;
    types.into_iter().map(|it| (it.name, it.count)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn type_names_are_bounded_in_memory_and_answers() {
    let gateway = Gateway::start_with(Options::args(&["--retain-for", "1h"]));
    let declared = listed(&gateway).await.len();
    gateway
        .accept("msg_declared", body("user.created", "user_1"))
        .await;
    post_together(
        &gateway,
        (0..1_200).map(|number| format!("invented.{number}")),
    )
    .await;
    post_together(
        &gateway,
        (0..3).map(|number| format!("{number}{}", "x".repeat(300))),
    )
    .await;
    // Declared types keep their names, whenever they come.
    gateway
        .accept("msg_late", body("user.deleted", "user_1"))
        .await;

    // While some are counted together, an unknown type may be one of them.
    let trusted = SubscribeRequest {
        filter: types(&["invented.of_tomorrow"]),
        ..from_earliest()
    };
    assert_eq!(gateway.history(trusted.clone()).await.len(), 0);

    let mut gateway = gateway;
    for _ in 0..2 {
        let names = listed(&gateway).await;
        assert_eq!(names.len(), declared + 1_000 + 2);
        assert_eq!(names[Tally::OTHER], 200);
        assert_eq!(names[Tally::LONG], 3);
        assert_eq!(names["user.created"], 1);
        assert_eq!(names["user.deleted"], 1);
        let mut client = gateway.client().await;
        let info = client.get_log_info(GetLogInfoRequest {}).await;
        assert_eq!(info.expect("described").into_inner().event_count, 1_205);
        // The same after a start, of which most is counted again.
        gateway = gateway.restarted();
    }

    let stopped = gateway.stopped();
    let database = rusqlite::Connection::open(stopped.database()).expect("opens");
    let age = "UPDATE record SET receive_time_ms = receive_time_ms - 7200000";
    database.execute(age, []).expect("aged");
    drop(database);
    let gateway = stopped.restarted();
    eventually("everything is removed", || async {
        gateway.metric("clerkcast_log_events").await == 0.0
    })
    .await;
    let names = listed(&gateway).await;
    assert_eq!(names.len(), declared + 100, "some of those without events");
    let refused = gateway.client().await.subscribe(trusted).await;
    assert_eq!(refused.expect_err("unknown").code(), Code::InvalidArgument);
}
