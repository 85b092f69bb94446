//! The laws, each for any store.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clerkcast::event::{Attributes, IndexHint, Position, UnixMillis, Values};
use clerkcast::log::{
    AppendError, Appended, DEDUPE_WINDOW, Entry, Payloads, Query, ReadError, Reader, Record,
    RecordRef, Scan,
};
use futures_util::StreamExt as _;

pub(super) use super::cells::*;
use super::{Retention, Store, append, counted, everything_after, ids, read, read_all, record};

pub(super) async fn durable_acknowledged_records_are_there_after_reopening<S: Store>() {
    let store = S::new(Retention::default());
    let log = store.open().await;
    let epoch = log.epoch();
    for number in 0..20 {
        append(
            &*log,
            record(&format!("msg_{number}"), "user.created", None),
        )
        .await;
    }
    counted(&*log, 20).await;
    let (bounds, tallies) = (log.bounds(), log.tallies());
    log.close().await;
    drop(log);
    let log = store.open().await;
    assert_eq!(log.epoch(), epoch);
    assert_eq!(log.bounds(), bounds);
    assert_eq!(log.tallies(), tallies);
    assert_eq!(
        read_all(&*log, everything_after(Position::START))
            .await
            .len(),
        20
    );
}

pub(super) async fn unique_an_id_enters_once_per_source<S: Store>() {
    let store = S::new(Retention::default());
    let log = store.open().await;
    append(&*log, record("msg_1", "user.created", None)).await;
    let again = log.append(record("msg_1", "user.updated", None)).await;
    assert_eq!(again.expect("answered"), Appended::Duplicate);
    let mut elsewhere = record("msg_1", "user.created", None);
    elsewhere.attributes.source = "eu".to_owned();
    append(&*log, elsewhere).await;
    assert_eq!(
        read_all(&*log, everything_after(Position::START))
            .await
            .len(),
        2
    );
}

pub(super) async fn unique_duplicates_within_one_batch_are_reported<S: Store>() {
    let store = S::new(Retention::default());
    let log = store.open().await;
    let appends = (0..64).map(|_| log.append(record("msg_1", "user.created", None)));
    let answers = futures_util::future::join_all(appends).await;
    let committed = answers
        .iter()
        .filter(|answer| matches!(answer, Ok(Appended::Committed(_))));
    assert_eq!(committed.count(), 1);
    assert!(answers.iter().all(Result::is_ok));
}

pub(super) async fn unique_ids_outlive_their_records<S: Store>() {
    let hour = Duration::from_secs(3600);
    let store = S::new(Retention {
        keep_for: Some(hour),
        ..Retention::default()
    });
    let log = store.open().await;
    let aged = |id: &str, age: Duration| Entry {
        receive_time: UnixMillis::now().before(age),
        ..record(id, "user.created", None)
    };
    append(&*log, aged("msg_ancient", DEDUPE_WINDOW + hour)).await;
    append(&*log, aged("msg_old", hour * 2)).await;
    append(&*log, aged("msg_new", Duration::ZERO)).await;
    log.apply_retention().await.expect("applied");
    let left = read_all(&*log, everything_after(log.bounds().trimmed)).await;
    assert_eq!(ids(&left), ["msg_new"]);
    log.close().await;
    drop(log);
    let log = store.open().await;
    let repeated = log.append(record("msg_old", "user.created", None)).await;
    assert_eq!(repeated.expect("answered"), Appended::Duplicate);
    append(&*log, record("msg_ancient", "user.created", None)).await;
}

pub(super) async fn ordered_positions_increase_and_are_never_reused<S: Store>() {
    let retention = Retention {
        keep_for: Some(Duration::from_secs(60)),
        ..Retention::default()
    };
    let store = S::new(retention);
    let mut last = Position::START;
    for round in 0..4 {
        let log = store.open().await;
        assert!(log.bounds().last >= last);
        for number in 0..5 {
            let mut old = record(&format!("msg_{round}_{number}"), "user.created", None);
            old.receive_time = UnixMillis::now().before(Duration::from_secs(3600));
            let position = append(&*log, old).await;
            assert!(position > last, "{position} after {last}");
            last = position;
        }
        log.apply_retention().await.expect("applied");
        assert_eq!(log.bounds().trimmed, last, "everything is gone");
        assert_eq!(log.bounds().last, last);
        log.close().await;
    }
}

pub(super) async fn complete_pages_of_every_narrowing_agree_with_a_naive_filter<S: Store>() {
    let store = S::new(Retention::default());
    let log = store.open().await;
    let types = [
        "user.created",
        "user.updated",
        "session.created",
        "sms.created",
    ];
    let appends = (0..400).map(|number| {
        // The last type is rare, so that its index is worth its while.
        let kind = if number % 50 == 0 { 3 } else { number % 3 };
        let user = format!("user_{}", number % 7);
        let user = (number % 4 != 0).then_some(user.as_str());
        log.append(record(&format!("msg_{number}"), types[kind], user))
    });
    for answer in futures_util::future::join_all(appends).await {
        answer.expect("durable");
    }
    let all = read_all(&*log, everything_after(Position::START)).await;
    assert_eq!(all.len(), 400);
    let wanted = |values: &[&str]| values.iter().collect::<Values>();
    for narrow in [
        IndexHint::Types(wanted(&["sms.created"])),
        IndexHint::Types(wanted(&["sms.created", "sms.created"])),
        IndexHint::Types(wanted(&["user.created", "session.created"])),
        IndexHint::Users(wanted(&["user_3"])),
        IndexHint::Users(wanted(&["user_1", "user_5", "user_nobody"])),
        IndexHint::Users(wanted(&["user_nobody"])),
        IndexHint::Organizations(wanted(&["org_1"])),
        IndexHint::Sessions(wanted(&["sess_1"])),
        IndexHint::Users((0..100).map(|number| format!("user_{number}")).collect()),
    ] {
        let by = narrow.clone();
        let matches = move |attributes: Attributes<&str>| {
            let (wanted, found) = match &by {
                IndexHint::All => return true,
                IndexHint::Types(types) => (types, Some(attributes.event_type)),
                IndexHint::Users(ids) => (ids, attributes.user_id),
                IndexHint::Organizations(ids) => (ids, attributes.organization_id),
                IndexHint::Sessions(ids) => (ids, attributes.session_id),
            };
            found.is_some_and(|found| wanted.contains(found))
        };
        let expected: Vec<Record> = all
            .iter()
            .filter(|record| matches(record.entry.attributes.as_ref()))
            .cloned()
            .collect();
        for records_max in [1, 10, 1000] {
            let query = Query {
                narrow: narrow.clone(),
                matches: Arc::new(matches.clone()),
                records_max,
                ..everything_after(Position::START)
            };
            let found = read_all(&*log, query).await;
            assert_eq!(
                ids(&found),
                ids(&expected),
                "{narrow:?}, {records_max} a page"
            );
        }
    }
    let small = Query {
        bytes_max: 1,
        ..everything_after(Position::START)
    };
    let page = read(&*log, small).await.expect("a page");
    assert_eq!(
        page.records.len(),
        1,
        "the record that reaches the bound ends the page"
    );
}

pub(super) async fn complete_a_read_across_removed_records_fails_instead_of_skipping<S: Store>() {
    let retention = Retention {
        keep_for: Some(Duration::from_secs(60)),
        ..Retention::default()
    };
    let store = S::new(retention);
    let log = store.open().await;
    let mut old = record("msg_old", "user.created", None);
    old.receive_time = UnixMillis::now().before(Duration::from_secs(3600));
    let removed = append(&*log, old).await;
    append(&*log, record("msg_new", "user.created", None)).await;
    log.apply_retention().await.expect("applied");
    let expired = read(&*log, everything_after(Position::START)).await;
    assert!(matches!(expired, Err(ReadError::Expired { trimmed }) if trimmed == removed));
    let rest = read(&*log, everything_after(removed))
        .await
        .expect("a page");
    assert_eq!(ids(&rest.records), ["msg_new"]);
}

struct Noting(Arc<AtomicBool>);

impl Reader for Noting {
    fn wants(&self, _: Attributes<&str>) -> bool {
        true
    }

    fn take(&mut self, _: RecordRef<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl Drop for Noting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// What it has kept comes back to its owner when it is dropped.
pub(super) async fn complete_a_reader_is_dropped_before_its_scan_answers<S: Store>() {
    let store = S::new(Retention::default());
    let log = store.open().await;
    append(&*log, record("msg_1", "user.created", None)).await;
    let last = log.bounds().last;
    for after in [Position::START, last] {
        let is_dropped = Arc::new(AtomicBool::new(false));
        let scan = Scan {
            after,
            narrow: IndexHint::All,
            payloads: Payloads::All,
        };
        let reader = Box::new(Noting(Arc::clone(&is_dropped)));
        let through = log.scan(scan, reader).await.expect("scanned");
        assert!(is_dropped.load(Ordering::SeqCst), "the store keeps it");
        assert_eq!(through, last);
    }
}

pub(super) async fn published_batches_are_in_order_and_chained<S: Store>() {
    let store = S::new(Retention::default());
    let log = store.open().await;
    let mut batches = log.follow();
    let mut end = log.bounds().last;
    let appends =
        (0..500).map(|number| log.append(record(&format!("msg_{number}"), "user.created", None)));
    for answer in futures_util::future::join_all(appends).await {
        answer.expect("durable");
    }
    let mut seen = HashSet::new();
    while seen.len() < 500 {
        let batch = batches.next().await.expect("it is open").expect("not late");
        assert_eq!(batch.after, end);
        for record in &batch.records {
            assert!(record.position > end);
            end = record.position;
            assert!(seen.insert(record.entry.id.clone()));
        }
        assert!(log.bounds().last >= end, "published only once durable");
    }
}

pub(super) async fn retention_by_size_removes_the_oldest<S: Store>() {
    let bytes_max = 4 << 20;
    let store = S::new(Retention {
        keep_bytes: Some(bytes_max),
        ..Retention::default()
    });
    let log = store.open().await;
    let large = Bytes::from(format!("\"{}\"", "x".repeat(10_000)));
    let appends = (0..1000).map(|number| {
        let record = record(&format!("msg_{number}"), "user.created", None);
        log.append(Entry {
            payload: large.clone(),
            ..record
        })
    });
    for answer in futures_util::future::join_all(appends).await {
        answer.expect("durable");
    }
    log.apply_retention().await.expect("applied");
    let described = log.describe().await.expect("described");
    // The ids that are remembered come on top, and what an empty log takes up.
    let on_top = 160 * (1000 - described.record_count) + (100 << 10);
    assert!(described.size_bytes <= bytes_max + on_top, "{described:?}");
    let of_limit = bytes_max / 2..=bytes_max;
    assert!(of_limit.contains(&described.counted_bytes), "{described:?}");
    let left = read_all(&*log, everything_after(log.bounds().trimmed)).await;
    assert!(!left.is_empty(), "only what had to go is gone");
    let newest = left.last().expect("some").position;
    assert_eq!(newest, log.bounds().last);
    assert_eq!(described.record_count, left.len() as u64);
    counted(&*log, described.record_count).await;
    let repeated = log.append(record("msg_0", "user.created", None)).await;
    assert_eq!(repeated.expect("answered"), Appended::Duplicate);
}

pub(super) async fn time_finds_the_first_record_received_since<S: Store>() {
    let store = S::new(Retention::default());
    let log = store.open().await;
    let received = |id: &str, milliseconds| Entry {
        receive_time: UnixMillis::new(milliseconds),
        ..record(id, "user.created", None)
    };
    // The clock goes back once, as clocks do.
    for (id, milliseconds) in [("a", 1000), ("b", 2000), ("c", 1500), ("d", 3000)] {
        append(&*log, received(id, milliseconds)).await;
    }
    for (since, expected) in [
        (0, &["a", "b", "c", "d"][..]),
        (1000, &["a", "b", "c", "d"]),
        (1001, &["b", "c", "d"]),
        (2500, &["d"]),
        (3001, &[]),
    ] {
        let after = log
            .position_before(UnixMillis::new(since))
            .await
            .expect("found");
        let found = read_all(&*log, everything_after(after)).await;
        assert_eq!(ids(&found), expected, "since {since}");
    }
}

pub(super) async fn find_returns_what_was_appended<S: Store>() {
    let store = S::new(Retention::default());
    let log = store.open().await;
    let mut appended = record("msg_1", "user.created", Some("user_1"));
    appended.attributes.object_id = Some("user_1".to_owned());
    let position = append(&*log, appended.clone()).await;
    let find = |source: Option<&'static str>| {
        let of_source = move |attributes: Attributes<&str>| {
            source.is_none_or(|source| source == attributes.source)
        };
        log.find("msg_1".to_owned(), Arc::new(of_source))
    };
    for source in [None, Some("default")] {
        let found = find(source).await.expect("read").expect("there");
        assert_eq!(found.position, position);
        assert_eq!(found.entry.attributes, appended.attributes);
        assert_eq!(found.entry.payload, appended.payload);
        assert_eq!(found.entry.event, appended.event);
        assert_eq!(found.entry.receive_time, appended.receive_time);
        assert_eq!(found.entry.decoding, appended.decoding);
    }
    assert!(find(Some("eu")).await.expect("read").is_none());
    // Another source's copy of the id, after it.
    let mut copy = appended;
    copy.attributes.source = "eu".to_owned();
    let position_of_copy = append(&*log, copy).await;
    for (source, position) in [("default", position), ("eu", position_of_copy)] {
        let found = find(Some(source)).await.expect("read").expect("there");
        assert_eq!(found.position, position, "{source}");
    }
}

pub(super) async fn a_closed_log_refuses<S: Store>() {
    let store = S::new(Retention::default());
    let log = store.open().await;
    append(&*log, record("msg_1", "user.created", None)).await;
    assert!(log.ping().await.is_ok());
    log.close().await;
    assert!(matches!(log.ping().await, Err(AppendError::Closed)));
    let refused = log.append(record("msg_2", "user.created", None)).await;
    assert!(matches!(refused, Err(AppendError::Closed)));
}
