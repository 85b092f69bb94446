//! Logs that were there before: large ones, of which nothing at start-up may read all, and
//! those of earlier versions.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clerkcast::event::UnixMillis;
use clerkcast::log::sqlite::{Config, SqliteLog};
use clerkcast::log::{Append, Keep, Metrics, Read};
use clerkcast::proto::subscribe_request::Start;
use clerkcast::proto::{GetEventRequest, SubscribeRequest};
use futures_util::future::join_all;
use prometheus_client::registry::Registry;
use tempfile::TempDir;

use crate::conformance::record;
use crate::harness::{Gateway, after, body, from_earliest, now_seconds, types};
use crate::soak::{Figure, figure};

fn events() -> u64 {
    figure(Figure::ReopenedEvents) as u64
}

/// Copies of one event under other ids, by way of SQLite: in minutes, not hours.
pub(crate) fn fill(gateway: &Gateway, events: u64) {
    let database = rusqlite::Connection::open(gateway.database()).expect("opens");
    let copies = format!(
        "PRAGMA synchronous = OFF;
         BEGIN;
         CREATE TEMP VIEW number AS
         WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < {events} - 1)
         SELECT n FROM number;
         INSERT INTO record (position, receive_time_ms, decoding, id, source, type, instance_id,
                user_id, organization_id, session_id, object_id, event, payload)
         SELECT position + n, receive_time_ms, decoding, printf('msg_%09d', n), source, type, instance_id,
                printf('user_%09d', n % 100000), organization_id, session_id, object_id, event, payload
         FROM record, number;
         INSERT INTO body SELECT position + n, payload FROM body, number;
         INSERT OR REPLACE INTO tally SELECT source, type, count(*) FROM record GROUP BY source, type;
         UPDATE meta SET tallied = (SELECT max(position) FROM record);
         COMMIT;
         PRAGMA wal_checkpoint(TRUNCATE);"
    );
    database.execute_batch(&copies).expect("filled");
}

#[tokio::test]
async fn durable_a_large_log_is_open_at_once_with_its_first_and_last_event() {
    let gateway = Gateway::start();
    gateway
        .accept("msg_first", body("user.created", "user_1"))
        .await;
    let stopped = gateway.stopped();
    fill(&stopped, events());
    let started = Instant::now();
    let gateway = stopped.restarted();
    println!(
        "{} events, {} MiB, open after {} ms",
        events(),
        std::fs::metadata(gateway.database()).expect("there").len() >> 20,
        started.elapsed().as_millis()
    );

    let again = gateway
        .post("msg_first", body("user.created", "user_1"))
        .await;
    assert_eq!(again.json()["duplicate"], true);
    let last = format!("msg_{:09}", events() - 1);
    let mut client = gateway.client().await;
    let found = client.get_event(GetEventRequest {
        id: last,
        ..GetEventRequest::default()
    });
    assert!(found.await.expect("found").into_inner().event.is_some());
    gateway
        .accept("msg_new", body("session.created", "sess_1"))
        .await;
    let rare = gateway.history(SubscribeRequest {
        filter: types(&["session.created"]),
        ..from_earliest()
    });
    assert_eq!(rare.await.len(), 1, "of {}", events());
    let since = prost_types::Timestamp {
        seconds: now_seconds() + 3600,
        nanos: 0,
    };
    let none = gateway.history(SubscribeRequest {
        start: Some(Start::StartTime(since)),
        ..SubscribeRequest::default()
    });
    assert_eq!(none.await.len(), 0);
    let mut all = gateway.subscribe(from_earliest()).await;
    assert_eq!(all.next_event().await.1.user_id, "user_1");
}

/// Turns a log into one of schema 4, which had no cells.
pub(crate) const AS_VERSION_4: &str = "
    DROP TABLE cell;
    ALTER TABLE record DROP COLUMN object_id;
    PRAGMA user_version = 4;";

/// Turns a log into one of schema 3, where each commit wrote to all indexes, too.
pub(crate) const AS_VERSION_3: &str = "
    DROP TABLE cell;
    ALTER TABLE record DROP COLUMN object_id;
    DROP TABLE segment;
    DROP TABLE segment_part;
    CREATE INDEX record_receive_time ON record (receive_time_ms);
    CREATE INDEX record_type ON record (type);
    CREATE INDEX record_user ON record (user_id) WHERE user_id IS NOT NULL;
    CREATE INDEX record_organization ON record (organization_id) WHERE organization_id IS NOT NULL;
    CREATE INDEX record_session ON record (session_id) WHERE session_id IS NOT NULL;
    PRAGMA user_version = 3;";

/// Turns that into one of schema 2, where positions had no run.
const AS_VERSION_2: &str = "
    DROP TABLE run;
    PRAGMA user_version = 2;";

/// Turns it into one of schema 1, where bodies lay beside the events, too.
const AS_VERSION_1: &str = "
    DROP TABLE run;
    UPDATE record SET payload = (SELECT payload FROM body WHERE body.position = record.position);
    DROP VIEW webhook;
    DROP TABLE body;
    INSERT OR REPLACE INTO tally SELECT source, type, count(*) FROM record GROUP BY source, type;
    ALTER TABLE meta DROP COLUMN tallied;
    ALTER TABLE record ALTER COLUMN payload SET NOT NULL;
    PRAGMA user_version = 1;";

#[tokio::test]
async fn durable_the_log_of_an_earlier_version_is_continued() {
    for as_version in [AS_VERSION_3, AS_VERSION_4] {
        continues_with(as_version, str::to_owned).await;
    }
    for as_version in [AS_VERSION_1, AS_VERSION_2] {
        continues_with(&format!("{AS_VERSION_3}{as_version}"), without_run).await;
    }
}

/// The cursor as the first two versions wrote it: without a run.
fn without_run(cursor: &str) -> String {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).expect("a cursor");
    let mut content = [&[1], &bytes[1..17]].concat();
    let hash = content.iter().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    let [a, b, c, d] = hash.to_be_bytes();
    content.extend([a ^ c, b ^ d]);
    let text = URL_SAFE_NO_PAD.encode(content);
    assert_eq!(text.len(), 26);
    text
}

async fn continues_with(as_version: &str, old: impl Fn(&str) -> String) {
    let gateway = Gateway::start();
    let bodies = ["user_1", "user_2"].map(|user| body("user.created", user));
    gateway.accept("msg_1", bodies[0].clone()).await;
    let (cursor, _) = gateway.subscribe(from_earliest()).await.next_event().await;
    let old_cursor = old(&cursor);
    let stopped = gateway.stopped();
    let database = rusqlite::Connection::open(stopped.database()).expect("opens");
    database.execute_batch(as_version).expect("rewritten");
    drop(database);

    let gateway = stopped.restarted();
    gateway.accept("msg_2", bodies[1].clone()).await;
    let again = gateway.post("msg_1", bodies[0].clone()).await;
    assert_eq!(again.json()["duplicate"], true);
    let with_payload = SubscribeRequest {
        include_payload: true,
        ..from_earliest()
    };
    let events = gateway.history(with_payload).await;
    let payloads: Vec<_> = events.into_iter().map(|it| it.payload_json).collect();
    assert_eq!(payloads, bodies.clone().map(Some));
    let rest = gateway.history(after(&old_cursor)).await;
    assert_eq!(rest.len(), 1, "its cursors go on");
    assert_eq!(rest[0].id, "msg_2");

    let gateway = gateway.stopped().restarted();
    let database = rusqlite::Connection::open(gateway.database()).expect("opens");
    let mut for_people = database
        .prepare("SELECT payload FROM webhook ORDER BY position")
        .expect("a view");
    let shown = for_people.query_map([], |row| row.get::<_, String>(0));
    let shown: Result<Vec<String>, _> = shown.expect("rows").collect();
    assert_eq!(shown.expect("text"), bodies);
    let mut objects = database
        .prepare("SELECT object_id FROM record ORDER BY position")
        .expect("a column");
    let objects = objects.query_map([], |row| row.get::<_, Option<String>>(0));
    let objects: Result<Vec<_>, _> = objects.expect("rows").collect();
    assert_eq!(objects.expect("text"), [None, Some("user_2".to_owned())]);
}

fn open(data_dir: &Path) -> SqliteLog {
    let config = Config {
        data_dir: data_dir.to_owned(),
        retain_for: Some(Duration::from_secs(3600)),
        retain_bytes: None,
        ..Config::default()
    };
    SqliteLog::open(config, Metrics::register(&mut Registry::default())).expect("opens")
}

/// A copy of what is on disk while the log is open, as a power cut would leave it.
fn copy(data_dir: &Path) -> TempDir {
    let copied = TempDir::new().expect("a temporary directory");
    for name in ["clerkcast.db", "clerkcast.db-wal"] {
        std::fs::copy(data_dir.join(name), copied.path().join(name)).expect("copied");
    }
    copied
}

#[tokio::test]
async fn the_counts_of_a_log_are_those_of_its_records_however_it_ended() {
    let directory = TempDir::new().expect("a temporary directory");
    let log = open(directory.path());
    let mut expected = BTreeMap::new();
    for round in 0..4 {
        // The first two are for retention.
        let age = Duration::from_secs(if round < 2 { 7200 } else { 0 });
        let appends = (0..3_000).map(|number| {
            let event_type = ["user.created", "session.created"][number % 3 % 2];
            let mut record = record(&format!("msg_{round}_{number}"), event_type, None);
            record.receive_time = UnixMillis::now().before(age);
            *expected.entry(event_type).or_insert(0) += 1;
            log.append(record)
        });
        for appended in join_all(appends.collect::<Vec<_>>()).await {
            appended.expect("durable");
        }
        if round == 2 {
            log.apply_retention().await.expect("applied");
            for count in expected.values_mut() {
                *count /= 3;
            }
        }
        let counts = |log: &SqliteLog| -> BTreeMap<String, u64> {
            let tallies = log.tallies().into_iter();
            tallies.map(|it| (it.event_type, it.count)).collect()
        };
        let known: BTreeMap<String, u64> = expected
            .iter()
            .map(|(event_type, count)| ((*event_type).to_owned(), *count))
            .collect();
        assert_eq!(counts(&log), known, "while it is open");
        assert_eq!(
            counts(&open(copy(directory.path()).path())),
            known,
            "{round}"
        );
    }
}
