//! The index of a gateway's log: that of an older version is replaced while the gateway serves,
//! and what is damaged of it is built again.

use std::fs;
use std::sync::Arc;

use clerkcast::event::{IndexHint, Values};
use clerkcast::log::sqlite::{Config, SqliteLog};
use clerkcast::log::{Keep as _, Metrics, Query, Read};
use clerkcast::proto::subscribe_response::Kind;
use clerkcast::proto::{EventFilter, SubscribeRequest};
use futures_util::future::join_all;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::harness::{Gateway, Stream, body, eventually, from_earliest};
use crate::reopen::{AS_VERSION_3, fill};
use crate::sealing::{has_just_its_parts, old_trees, parts_of};

/// Records of the segments that are built of what is there already.
const SEGMENT_RECORDS: u64 = 4_096;
/// Two segments, and some records that are in none.
pub(crate) const EVENTS_OF_TWO_SEGMENTS: u64 = 2 * SEGMENT_RECORDS + 108;

/// What few of the events have, with what a webhook of it looks like.
const RARE: [(&str, &str, &str, &str); 3] = [
    (
        "user_id",
        "user_rare",
        "user.updated",
        "position % 1000 = 7",
    ),
    (
        "type",
        "session.created",
        "session.created",
        "position % 100 = 3",
    ),
    (
        "organization_id",
        "org_rare",
        "organization.updated",
        "position % 500 = 9",
    ),
];

/// Fills the log of a gateway that is stopped with events of as many users, of which few have
/// what [`filters`] ask for.
pub(crate) fn fill_with_rare(stopped: &Gateway, events: u64) {
    fill(stopped, events);
    let database = Connection::open(stopped.database()).expect("opens");
    let updates = RARE.map(|(column, value, _, those)| {
        format!("UPDATE record SET {column} = '{value}' WHERE {those};")
    });
    let tallies = "DELETE FROM tally; \
         INSERT INTO tally SELECT source, type, count(*) FROM record GROUP BY source, type;";
    let made = database.execute_batch(&(updates.concat() + tallies));
    made.expect("written");
}

/// A gateway that was stopped, and has such a log.
async fn stopped_with(events: u64) -> Gateway {
    let gateway = Gateway::start();
    gateway
        .accept("msg_first", body("user.created", "user_1"))
        .await;
    let stopped = gateway.stopped();
    fill_with_rare(&stopped, events);
    stopped
}

/// One user, one type, one organization.
fn filters() -> [EventFilter; 3] {
    RARE.map(|(column, value, ..)| {
        let mut filter = EventFilter::default();
        let values = match column {
            "user_id" => &mut filter.user_ids,
            "type" => &mut filter.types,
            _ => &mut filter.organization_ids,
        };
        values.push(value.to_owned());
        filter
    })
}

/// A webhook that a filter matches.
fn rare_body(filter: usize) -> String {
    let (_, value, event_type, _) = RARE[filter];
    body(event_type, value)
}

fn subscribing(filter: EventFilter) -> SubscribeRequest {
    SubscribeRequest {
        filter: Some(filter),
        ..from_earliest()
    }
}

/// The cursors of all events that match.
async fn cursors(gateway: &Gateway, filter: EventFilter) -> Vec<String> {
    let request = SubscribeRequest {
        stop_when_caught_up: true,
        ..subscribing(filter)
    };
    let mut stream = gateway.subscribe(request).await;
    let mut cursors = Vec::new();
    while let Some(frame) = stream.next().await {
        if let Some(Kind::Event(_)) = frame.kind {
            cursors.push(frame.cursor);
        }
    }
    cursors
}

pub(crate) async fn cursors_by_filter(gateway: &Gateway) -> Vec<Vec<String>> {
    join_all(filters().map(|filter| cursors(gateway, filter))).await
}

async fn note_cursors(mut stream: Stream, noted: Arc<Mutex<Vec<String>>>) {
    while let Ok(Some(frame)) = stream.try_next().await {
        if let Some(Kind::Event(_)) = frame.kind {
            noted.lock().push(frame.cursor);
        }
    }
}

fn observe(gateway: &Gateway) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    Connection::open_with_flags(gateway.database(), flags).expect("opens")
}

/// The lines of a level that concern the index.
fn index_lines(gateway: &Gateway, level: &str) -> Vec<String> {
    let log = gateway.log_text();
    let level = format!(r#""level":"{level}""#);
    let concerns = |line: &&str| line.contains(&level) && line.contains("the log's index");
    log.lines().filter(concerns).map(str::to_owned).collect()
}

/// Waits until all but the newest events are in segments, and nothing else finds them.
pub(crate) async fn sealed(gateway: &Gateway) {
    let database = observe(gateway);
    eventually("all are in segments", || async {
        gateway.metric("clerkcast_log_unsealed_records").await < 4_096.0
            && gateway.metric("clerkcast_log_segments").await > 0.0
            && old_trees(&database) == 0
            && has_just_its_parts(&database)
    })
    .await;
}

/// A page ends after 20,000 rows that were judged one by one. The B-trees find the user's records
/// among all of them.
async fn the_old_trees_answer(gateway: &Gateway, events: u64) {
    let directory = TempDir::new().expect("a temporary directory");
    fs::copy(gateway.database(), directory.path().join("clerkcast.db")).expect("copied");
    let config = Config {
        data_dir: directory.path().to_owned(),
        ..Config::default()
    };
    let log = SqliteLog::open(config, Metrics::register(&mut Registry::default())).expect("opens");
    let page = (&log as &dyn Read).read(Query {
        after: log.bounds().trimmed,
        narrow: IndexHint::Users(Values::from_iter(["user_rare"])),
        matches: Arc::new(|attributes| attributes.user_id == Some("user_rare")),
        records_max: 1_000,
        bytes_max: 16 << 20,
    });
    let page = page.await.expect("a page");
    assert_eq!(page.records.len() as u64, events / 1000);
    assert_eq!(page.through.number(), events);
    log.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn durable_an_old_log_is_indexed_anew_while_it_serves() {
    const EVENTS: u64 = 100_000;
    let stopped = stopped_with(EVENTS).await;
    let database = Connection::open(stopped.database()).expect("opens");
    database.execute_batch(AS_VERSION_3).expect("rewritten");
    drop(database);
    the_old_trees_answer(&stopped, EVENTS).await;

    let gateway = stopped.restarted();
    let database = observe(&gateway);
    let live = filters().map(|_| Arc::default());
    let mut following = JoinSet::new();
    for (filter, noted) in filters().into_iter().zip(&live) {
        let stream = gateway.subscribe(subscribing(filter)).await;
        following.spawn(note_cursors(stream, Arc::clone(noted)));
    }
    let mut expected = [100, 1_000, 200];
    let (mut rounds, mut rounds_before_the_end) = (0, 0);
    let mut first_answers = Vec::new();
    while rounds == 0 || old_trees(&database) > 0 {
        let filter = rounds % RARE.len();
        gateway
            .accept(&format!("msg_new_{rounds}"), rare_body(filter))
            .await;
        expected[filter] += 1;
        let answers = cursors_by_filter(&gateway).await;
        let found: Vec<usize> = answers.iter().map(Vec::len).collect();
        assert_eq!(found, expected);
        if first_answers.is_empty() {
            first_answers = answers;
        }
        rounds += 1;
        rounds_before_the_end += usize::from(old_trees(&database) > 0);
    }
    assert!(rounds_before_the_end > 0, "nothing was asked meanwhile");
    sealed(&gateway).await;

    let answers = cursors_by_filter(&gateway).await;
    for (filter, answer) in answers.iter().enumerate() {
        assert_eq!(answer.len(), expected[filter]);
        assert!(answer.starts_with(&first_answers[filter]));
        eventually("the subscribers from the beginning have all", || async {
            live[filter].lock().len() >= answer.len()
        })
        .await;
        assert_eq!(*live[filter].lock(), *answer);
    }
    let lines = index_lines(&gateway, "INFO");
    assert_eq!(lines.len(), 2, "{lines:#?}");
    println!(
        "{rounds_before_the_end} rounds before the end: {}",
        lines[1]
    );

    drop(following);
    drop(database);
    let gateway = gateway.stopped().restarted();
    assert_eq!(cursors_by_filter(&gateway).await, answers);
    assert_eq!(index_lines(&gateway, "INFO"), Vec::<String>::new());
}

/// What happens to the older of two segments.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// A bit of each part.
    Parts,
    /// A bit of the row that names them.
    Directory,
    /// A part is not there any more.
    MissingParts,
}

/// What the file has of the older segment.
fn oldest_directory(database: &Connection) -> Option<Vec<u8>> {
    let oldest = "SELECT terms FROM segment WHERE first_position = 1";
    let oldest = database.query_row(oldest, [], |row| row.get(0));
    oldest.optional().expect("readable")
}

impl Damage {
    fn happen(self, database: &Connection, directory: Vec<u8>) {
        let parts = parts_of(&directory);
        let [first, end] = [parts.start, parts.end].map(u64::cast_signed);
        match self {
            Self::Parts => {
                for number in first..end {
                    let read = "SELECT bytes FROM segment_part WHERE number = ?1";
                    let bytes = database.query_row(read, [number], |row| row.get(0));
                    let update = "UPDATE segment_part SET bytes = ?2 WHERE number = ?1";
                    let flipped = flip_a_bit(bytes.expect("a part"));
                    let updated = database.execute(update, params![number, flipped]);
                    assert_eq!(updated, Ok(1));
                }
            }
            Self::Directory => {
                let update = "UPDATE segment SET terms = ?1 WHERE first_position = 1";
                let updated = database.execute(update, [flip_a_bit(directory)]);
                assert_eq!(updated, Ok(1));
            }
            Self::MissingParts => {
                let delete = "DELETE FROM segment_part WHERE number >= ?1 AND number < ?2";
                let deleted = database.execute(delete, [first, end]);
                assert_eq!(deleted, Ok(parts.count()));
            }
        }
    }
}

fn flip_a_bit(mut bytes: Vec<u8>) -> Vec<u8> {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_segment_is_built_again() {
    let mut gateway = stopped_with(EVENTS_OF_TWO_SEGMENTS).await.restarted();
    sealed(&gateway).await;
    let answers = cursors_by_filter(&gateway).await;
    assert!(answers.iter().all(|answer| !answer.is_empty()));
    for damage in [Damage::Parts, Damage::Directory, Damage::MissingParts] {
        let stopped = gateway.stopped();
        let database = Connection::open(stopped.database()).expect("opens");
        let directory = oldest_directory(&database).expect("a segment");
        let damaged_parts = parts_of(&directory);
        damage.happen(&database, directory);
        drop(database);
        gateway = stopped.restarted();
        let several = join_all((0..3).map(|_| cursors_by_filter(&gateway))).await;
        for found in several {
            assert_eq!(found, answers, "{damage:?}");
        }
        let database = observe(&gateway);
        eventually("the segment is built again", || async {
            let directory = oldest_directory(&database);
            directory.is_some_and(|directory| parts_of(&directory) != damaged_parts)
        })
        .await;
        drop(database);
        sealed(&gateway).await;
        assert_eq!(gateway.metric("clerkcast_log_segments").await, 2.0);
        let warnings = index_lines(&gateway, "WARN");
        assert_eq!(warnings.len(), 1, "{damage:?}: {warnings:#?}");
        for value in ["user_", "org_", "msg_", "created", "ins_"] {
            assert!(!warnings[0].contains(value), "{}", warnings[0]);
        }

        // What was built again is whole.
        gateway = gateway.stopped().restarted();
        assert_eq!(cursors_by_filter(&gateway).await, answers, "{damage:?}");
        assert_eq!(gateway.metric("clerkcast_log_segments").await, 2.0);
        assert_eq!(index_lines(&gateway, "WARN"), Vec::<String>::new());
    }
}
