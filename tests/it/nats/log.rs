//! What the law of the log says of JetStream in other words than of the embedded log.

use std::sync::Arc;
use std::time::Duration;

use clerkcast::event::{Position, UnixMillis};
use clerkcast::log::jetstream::{Config, JetStreamLog, OpenError};
use clerkcast::log::{Appended, DEDUPE_WINDOW, Entry, Log, Metrics, ReadError, Tally};
use futures_util::StreamExt as _;
use prometheus_client::registry::Registry;

use super::server::Server;
use crate::conformance::{Retention, Store, append, everything_after, ids, read, read_all, record};
use crate::harness::eventually;

pub(crate) struct JetStream {
    server: Server,
    retention: Retention,
}

impl JetStream {
    fn config(&self) -> Config {
        let Retention {
            keep_for,
            keep_bytes,
        } = self.retention;
        Config {
            servers: vec![self.server.url().parse().expect("a URL")],
            // JetStream does not remember ids for longer than it may keep records.
            duplicate_window: keep_for.unwrap_or(DEDUPE_WINDOW).min(DEDUPE_WINDOW),
            retain_for: keep_for,
            retain_bytes: keep_bytes,
            ..Config::default()
        }
    }

    async fn try_open(config: Config) -> Result<JetStreamLog, OpenError> {
        JetStreamLog::open(config, Metrics::register(&mut Registry::default())).await
    }

    /// The stream, as an operator sees it.
    async fn stream(&self) -> async_nats::jetstream::stream::Stream {
        let client = async_nats::connect(self.server.url()).await;
        let context = async_nats::jetstream::new(client.expect("connects"));
        context.get_stream("CLERKCAST").await.expect("it is there")
    }
}

impl Store for JetStream {
    fn new(retention: Retention) -> Self {
        Self {
            server: Server::start(),
            retention,
        }
    }

    async fn open(&self) -> Arc<dyn Log> {
        Arc::new(Self::try_open(self.config()).await.expect("opens"))
    }
}

/// A type whose subject shows its hash has no name there, and its records count all the same.
#[tokio::test]
async fn records_of_hashed_types_are_counted_as_long_names() {
    let store = JetStream::new(Retention::default());
    let log = store.open().await;
    // The last is short enough for a name, and its subject is not.
    let types = ["x".repeat(600), "x".repeat(601), "é".repeat(100)];
    for (number, event_type) in types.iter().enumerate() {
        append(&*log, record(&format!("msg_{number}"), event_type, None)).await;
    }
    append(&*log, record("msg_last", "user.created", None)).await;
    let expected = [(Tally::LONG, 3), ("user.created", 1)];
    let is_expected = |log: &Arc<dyn Log>| {
        let tallies = log.tallies();
        let counts = tallies.iter().map(|it| (it.event_type.as_str(), it.count));
        counts.eq(expected)
    };
    eventually("what came by is counted", || async { is_expected(&log) }).await;
    log.close().await;
    drop(log);
    let log = store.open().await;
    assert!(is_expected(&log), "by the stream: {:?}", log.tallies());
}

/// Ids are not remembered by what the records say of themselves, but by the server's clock,
/// and not beyond the duplicate window.
#[tokio::test]
async fn unique_ids_are_known_for_the_duplicate_window() {
    let window = Duration::from_secs(1);
    let store = JetStream::new(Retention {
        keep_for: Some(window),
        keep_bytes: None,
    });
    let log = store.open().await;
    let first = append(&*log, record("msg_1", "user.created", None)).await;
    let repeated = log.append(record("msg_1", "user.created", None)).await;
    assert_eq!(repeated.expect("answered"), Appended::Duplicate);
    loop {
        let again = log.append(record("msg_1", "user.created", None)).await;
        if let Appended::Committed(position) = again.expect("answered") {
            assert!(position > first);
            break;
        }
    }
}

/// Positions go on where they were after everything was removed, and a server that
/// starts anew knows them.
#[tokio::test]
async fn ordered_positions_are_not_reused_after_a_purge_and_a_restart() {
    let mut store = JetStream::new(Retention::default());
    let mut last = Position::START;
    for round in 0..3 {
        let log = store.open().await;
        assert!(log.bounds().last >= last);
        for number in 0..5 {
            let id = format!("msg_{round}_{number}");
            let position = append(&*log, record(&id, "user.created", None)).await;
            assert!(position > last, "{position} after {last}");
            last = position;
        }
        store.stream().await.purge().await.expect("purged");
        log.apply_retention().await.expect("looked at");
        assert_eq!(log.bounds().trimmed, last, "everything is gone");
        assert_eq!(log.bounds().last, last);
        log.close().await;
        store.server.kill();
        store.server.run();
    }
}

#[tokio::test]
async fn complete_a_read_across_removed_messages_fails_instead_of_skipping() {
    let store = JetStream::new(Retention::default());
    let log = store.open().await;
    let mut positions = Vec::new();
    for number in 0..6 {
        let event_type = ["user.created", "user.updated"][number % 2];
        let record = record(&format!("msg_{number}"), event_type, None);
        positions.push(append(&*log, record).await);
    }
    // Nobody has told this gateway of it.
    let before = store.stream().await.purge().sequence(4);
    before.await.expect("purged");
    for narrow in [
        clerkcast::event::IndexHint::All,
        clerkcast::event::IndexHint::Types(["user.updated"].into_iter().collect()),
    ] {
        let mut query = everything_after(Position::START);
        query.narrow = narrow.clone();
        let expired = read(&*log, query).await;
        assert!(
            matches!(expired, Err(ReadError::Expired { trimmed }) if trimmed == positions[2]),
            "{narrow:?}: {expired:?}"
        );
    }
    let rest = read_all(&*log, everything_after(positions[2])).await;
    assert_eq!(ids(&rest), ["msg_3", "msg_4", "msg_5"]);
}

/// Messages that an operator deleted leave holes, which are not the work of retention.
#[tokio::test]
async fn complete_holes_in_the_stream_are_skipped() {
    let store = JetStream::new(Retention::default());
    let log = store.open().await;
    for number in 0..6 {
        let record = record(&format!("msg_{number}"), "user.created", None);
        append(&*log, record).await;
    }
    let stream = store.stream().await;
    for hole in [3, 6] {
        stream.delete_message(hole).await.expect("deleted");
    }
    let mut query = everything_after(Position::START);
    for narrow in [
        clerkcast::event::IndexHint::All,
        clerkcast::event::IndexHint::Types(["user.created"].into_iter().collect()),
    ] {
        query.narrow = narrow;
        let left = read_all(&*log, query.clone()).await;
        assert_eq!(ids(&left), ["msg_0", "msg_1", "msg_3", "msg_4"]);
    }
}

/// Goes by when the stream stored a record, not by when the webhook arrived.
#[tokio::test]
async fn time_finds_the_first_record_received_since() {
    let store = JetStream::new(Retention::default());
    let log = store.open().await;
    // As of a log that was copied: long before the stream was made.
    let received = |number: i64| UnixMillis::new(1_700_000_000_000 + 1000 * number);
    for number in 0..20 {
        let record = record(&format!("msg_{number}"), "user.created", None);
        append(
            &*log,
            Entry {
                receive_time: received(number),
                ..record
            },
        )
        .await;
    }
    for (index, left) in (0..20).zip((1..=20).rev()) {
        let after = log.position_before(received(index)).await.expect("found");
        let found = read_all(&*log, everything_after(after)).await;
        assert_eq!(found.len(), left, "since the {index}th");
    }
    let tail = log.bounds().last;
    let never = log.position_before(UnixMillis::now()).await;
    assert_eq!(never.expect("found"), tail);
    let always = log.position_before(UnixMillis::new(0)).await;
    assert_eq!(always.expect("found"), Position::START);
}

/// What is in the stream and no record is passed over, by readers and followers.
#[tokio::test]
async fn foreign_messages_are_not_events() {
    let store = JetStream::new(Retention::default());
    let log = store.open().await;
    let mut batches = log.follow();
    append(&*log, record("msg_0", "user.created", None)).await;
    let client = async_nats::connect(store.server.url()).await;
    let context = async_nats::jetstream::new(client.expect("connects"));
    let foreign = context.publish("clerk.default.user.created", "hello".into());
    let acknowledged = foreign.await.expect("sent");
    acknowledged.await.expect("stored");
    append(&*log, record("msg_1", "user.created", None)).await;
    let all = read_all(&*log, everything_after(Position::START)).await;
    assert_eq!(ids(&all), ["msg_0", "msg_1"]);
    let mut end = Position::START;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let batch = batches.next().await.expect("it is open").expect("not late");
        assert_eq!(batch.after, end);
        for record in &batch.records {
            end = record.position;
            seen.push(record.entry.id.clone());
        }
    }
    assert_eq!(seen, ["msg_0", "msg_1"]);
}

/// Two gateways post the same ids at the same instant.
#[tokio::test]
async fn unique_duplicates_posted_to_two_gateways_enter_once() {
    let store = JetStream::new(Retention::default());
    let logs = [store.open().await, store.open().await];
    assert_eq!(logs[0].epoch(), logs[1].epoch());
    let appends = (0..400).map(|number| {
        let record = record(&format!("msg_{}", number / 2), "user.created", None);
        logs[number % 2].append(record)
    });
    let answers = futures_util::future::join_all(appends).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    for log in logs {
        let bounds = log.confirmed_bounds(Position::START).await.expect("asked");
        assert_eq!(bounds.last, Position::new(200));
        let all = read_all(&*log, everything_after(Position::START)).await;
        let mut all = ids(&all);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 200);
    }
}

#[tokio::test]
async fn a_stream_with_other_settings_is_explained_and_not_changed() {
    let store = JetStream::new(Retention::default());
    store.open().await.close().await;
    let other = Config {
        duplicate_window: DEDUPE_WINDOW * 2,
        retain_bytes: Some(1 << 30),
        ..store.config()
    };
    let error = JetStream::try_open(other)
        .await
        .expect_err("another stream");
    let message = error.to_string();
    for line in [
        "the stream CLERKCAST exists with other settings, which Clerkcast never changes",
        "max bytes: is unlimited, configured 1073741824 (nats stream edit CLERKCAST --max-bytes 1073741824, or --retain-bytes)",
        "duplicate window: is 28h, configured 56h (nats stream edit CLERKCAST --dupe-window 56h, or --nats-duplicate-window)",
    ] {
        assert!(message.contains(line), "{message}");
    }
    let stream = store.stream().await;
    let settings = &stream.cached_info().config;
    assert_eq!(settings.duplicate_window, DEDUPE_WINDOW);
    assert_eq!(settings.max_bytes, -1);
}
