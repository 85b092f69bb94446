//! `kill -9` while segments of the index are built, merged and removed, and while they take the
//! place of an older log's indexes.
//!
//! The gateway seals every 512 records. Here, a process of its own opens the log as the
//! gateway does and seals every 16, so that each kill interrupts some of it.

mod process;

use std::cell::Cell;
use std::collections::{BTreeSet, HashSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use clerkcast::event::{Attributes, IndexHint, Position, UnixMillis, Values};
use clerkcast::log::sqlite::{Config, SqliteLog};
use clerkcast::log::{Append as _, Keep as _, Metrics, Query, Read, Record};
use futures_util::future::join_all;
use prometheus_client::registry::Registry;
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use crate::conformance::read_all;
use crate::harness::eventually;
use crate::reopen::AS_VERSION_3;
use crate::soak::{Figure, figure};
use process::entry;

pub(crate) use process::{Load, start_sealer};

const SEGMENT_RECORDS: u64 = 16;
/// Segments that are merged into one, twice.
const NEIGHBORS: u64 = 8;
/// The B-trees of a log from before segments.
const OLD_TREES: [&str; 5] = [
    "record_receive_time",
    "record_type",
    "record_user",
    "record_organization",
    "record_session",
];
const FIRST_RECEIVED: i64 = 1_700_000_000_000;

fn open(data_dir: &Path) -> SqliteLog {
    let config = Config {
        data_dir: data_dir.to_owned(),
        retain_for: None,
        retain_bytes: None,
        segment_records: SEGMENT_RECORDS,
    };
    SqliteLog::open(config, Metrics::register(&mut Registry::default())).expect("opens")
}

/// Looks at a running process's log without writing to it.
fn observe(data_dir: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    Connection::open_with_flags(data_dir.join("clerkcast.db"), flags).expect("opens")
}

/// Turns the log into one of schema 3, also where one is being brought up to date.
fn make_old(data_dir: &Path) {
    let database = Connection::open(data_dir.join("clerkcast.db")).expect("opens");
    let drops = OLD_TREES.map(|tree| format!("DROP INDEX IF EXISTS {tree};"));
    let made = database.execute_batch(&(drops.concat() + AS_VERSION_3));
    made.expect("rewritten");
}

fn number_of<P: rusqlite::Params>(database: &Connection, sql: &str, parameters: P) -> u64 {
    let number = database.query_row(sql, parameters, |row| row.get::<_, i64>(0));
    number.expect("a number").unsigned_abs()
}

pub(crate) fn old_trees(database: &Connection) -> u64 {
    let names = format!("'{}'", OLD_TREES.join("', '"));
    let sql = format!("SELECT count(*) FROM sqlite_schema WHERE name IN ({names})");
    number_of(database, &sql, [])
}

/// The parts that a segment names: after the checksum, three columns and the version, its
/// directory has the number of the first, and how many they are.
pub(crate) fn parts_of(directory: &[u8]) -> Range<u64> {
    let first = u64::from_le_bytes(directory[29..37].try_into().expect("8 bytes"));
    let count = u32::from_le_bytes(directory[37..41].try_into().expect("4 bytes"));
    first..first + u64::from(count)
}

/// Whether the file has exactly the parts that its segments name.
pub(crate) fn has_just_its_parts(database: &Connection) -> bool {
    let mut segments = database.prepare("SELECT terms FROM segment").expect("SQL");
    let named = segments.query_map([], |row| Ok(parts_of(row.get_ref(0)?.as_blob()?)));
    let named: Vec<Range<u64>> = named
        .expect("rows")
        .collect::<Result<_, _>>()
        .expect("blobs");
    let named: BTreeSet<u64> = named.into_iter().flatten().collect();
    let mut parts = database
        .prepare("SELECT number FROM segment_part")
        .expect("SQL");
    let found = parts.query_map([], |row| Ok(row.get::<_, i64>(0)?.unsigned_abs()));
    let found: Result<BTreeSet<u64>, _> = found.expect("rows").collect();
    named == found.expect("numbers")
}

/// Whether the indexer has nothing to do: as few segments as there may be cover every complete
/// stretch, no part is left of others, and no old B-tree.
fn is_settled(database: &Connection, last: Position) -> bool {
    let sealed = last.number() / SEGMENT_RECORDS;
    let [merged, merged_twice] = [sealed / NEIGHBORS, sealed / NEIGHBORS.pow(2)];
    let fewest = merged_twice + merged % NEIGHBORS + sealed % NEIGHBORS;
    number_of(database, "SELECT count(*) FROM segment", []) == fewest
        && covered(database) == sealed * SEGMENT_RECORDS
        && old_trees(database) == 0
        && has_just_its_parts(database)
}

/// Positions in segments.
fn covered(database: &Connection) -> u64 {
    let sum = "SELECT coalesce(sum(last_position - first_position + 1), 0) FROM segment";
    number_of(database, sum, [])
}

/// Whether a segment of the log was made of others.
pub(crate) fn has_merged(data_dir: &Path) -> bool {
    let largest = "SELECT coalesce(max(last_position - first_position + 1), 0) FROM segment";
    number_of(&observe(data_dir), largest, []) > SEGMENT_RECORDS
}

fn hints() -> Vec<IndexHint> {
    let users = |numbers: &[u64]| -> IndexHint {
        let names = numbers.iter().map(|number| format!("user_{number}"));
        IndexHint::Users(names.collect())
    };
    let values = |names: &[&str]| names.iter().collect::<Values>();
    vec![
        users(&[0]),
        users(&[7]),
        users(&[1_000]),
        users(&(0..64).collect::<Vec<u64>>()),
        IndexHint::Types(values(&["type.3"])),
        IndexHint::Types(values(&["type.5", "type.6", "type.absent"])),
        IndexHint::Types(values(&["user.updated"])),
        IndexHint::Organizations(values(&["org_2"])),
        IndexHint::Organizations(values(&["org_0", "org_6"])),
        IndexHint::Sessions(values(&["sess_3", "sess_40", "sess_400"])),
    ]
}

fn is_hinted_at(hint: &IndexHint, of: Attributes<&str>) -> bool {
    let is_in = |values: &Values, value: Option<&str>| value.is_some_and(|it| values.contains(it));
    match hint {
        IndexHint::All => true,
        IndexHint::Types(values) => values.contains(of.event_type),
        IndexHint::Users(values) => is_in(values, of.user_id),
        IndexHint::Organizations(values) => is_in(values, of.organization_id),
        IndexHint::Sessions(values) => is_in(values, of.session_id),
    }
}

/// The records that a scan by the hint shows.
async fn shown(log: &dyn Read, hint: &IndexHint) -> Vec<Record> {
    let wanted = hint.clone();
    let query = Query {
        after: log.bounds().trimmed,
        narrow: hint.clone(),
        matches: Arc::new(move |attributes| is_hinted_at(&wanted, attributes)),
        records_max: 1_000,
        bytes_max: 16 << 20,
    };
    read_all(log, query).await
}

/// Compares what the log shows by each hint, and finds by time, with all of its records. Each
/// record that was acknowledged is there once.
async fn check_answers(log: &SqliteLog, acknowledged: &HashSet<String>) {
    let everything = shown(log, &IndexHint::All).await;
    let ids: HashSet<&String> = everything.iter().map(|record| &record.entry.id).collect();
    assert_eq!(ids.len(), everything.len(), "an id is in the log twice");
    let is_lost = |id: &&String| !ids.contains(id);
    let lost: Vec<&String> = acknowledged.iter().filter(is_lost).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    for hint in hints() {
        let found = shown(log, &hint).await;
        let is_meant = |record: &&Record| is_hinted_at(&hint, record.entry.attributes.as_ref());
        let meant: Vec<Position> = everything
            .iter()
            .filter(is_meant)
            .map(|record| record.position)
            .collect();
        let found: Vec<Position> = found.iter().map(|record| record.position).collect();
        assert_eq!(found, meant, "{hint:?}");
    }
    let newest = everything
        .iter()
        .map(|record| record.entry.receive_time)
        .max();
    let newest = newest.map_or(FIRST_RECEIVED, UnixMillis::milliseconds);
    for step in 0..=20 {
        let time = UnixMillis::new(FIRST_RECEIVED + step * (newest - FIRST_RECEIVED) / 19);
        let found = log.position_before(time).await.expect("found");
        let since = everything.iter().find(|it| it.entry.receive_time >= time);
        let before = |record: &Record| Position::new(record.position.number() - 1);
        let last = log.bounds().last;
        assert_eq!(found, since.map_or(last, before), "{time:?}");
    }
}

/// Opens the log after a kill. Its answers are right at once, and once the indexer is done.
pub(crate) async fn check(data_dir: &Path, acknowledged: &HashSet<String>) {
    let log = open(data_dir);
    check_answers(&log, acknowledged).await;
    let database = observe(data_dir);
    eventually("the indexer is done", || async {
        is_settled(&database, log.bounds().last)
    })
    .await;
    check_answers(&log, acknowledged).await;
    let integrity = database.query_row("PRAGMA integrity_check", [], |row| row.get(0));
    assert_eq!(integrity, Ok("ok".to_owned()));
    drop(database);
    log.close().await;
}

/// The same, without waiting for the indexer.
pub(crate) async fn check_at_once(data_dir: &Path, acknowledged: &HashSet<String>) {
    let log = open(data_dir);
    check_answers(&log, acknowledged).await;
    log.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn same_answers_through_kill_9_while_sealing_and_merging() {
    let directory = TempDir::new().expect("a temporary directory");
    let mut acknowledged = HashSet::new();
    let rounds = figure(Figure::CrashRounds);
    for round in 0..rounds {
        if [3, 10].contains(&round) {
            make_old(directory.path());
        }
        let load = [Load::Flood, Load::Trickle][round % 2];
        let sealer = start_sealer(directory.path(), load, Vec::new());
        // Varies where the kill falls.
        let enough = 1 + (round * 97) % 400;
        sealer.has_acknowledged(enough).await;
        acknowledged.extend(sealer.kill());
        if round % 5 == 4 || round + 1 == rounds {
            check(directory.path(), &acknowledged).await;
        }
    }
    println!("{rounds} rounds, {} acknowledged", acknowledged.len());
}

/// How far the upgrade of an old log has come.
#[derive(Clone, Copy, Debug)]
struct Progress {
    covered: u64,
    old_trees: u64,
}

impl Progress {
    fn read(database: &Connection) -> Self {
        Self {
            covered: covered(database),
            old_trees: old_trees(database),
        }
    }

    /// Waits until the upgrade is further than before. It never goes back.
    async fn further(self, database: &Connection) -> Self {
        let reached = Cell::new(self);
        eventually("the upgrade goes on", || async {
            let now = Self::read(database);
            let is_kept = now.covered >= self.covered && now.old_trees <= self.old_trees;
            assert!(is_kept, "after {self:?}, it began again: {now:?}");
            reached.set(now);
            let is_done = now.old_trees == 0;
            is_done || now.old_trees < self.old_trees || now.covered >= self.covered + 500
        })
        .await;
        reached.get()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_goes_on_where_it_was_killed() {
    let directory = TempDir::new().expect("a temporary directory");
    let log = open(directory.path());
    for appended in join_all((1..=4_000).map(|number| log.append(entry(number)))).await {
        appended.expect("durable");
    }
    log.close().await;
    drop(log);
    make_old(directory.path());

    let mut acknowledged: HashSet<String> = (1..=4_000).map(|it| format!("msg_{it}")).collect();
    let mut progress = Progress {
        covered: 0,
        old_trees: 5,
    };
    let mut kills = 0;
    while progress.old_trees > 0 {
        let sealer = start_sealer(directory.path(), Load::Trickle, Vec::new());
        // By then, the file has what schema 4 has.
        sealer.has_acknowledged(1).await;
        progress = progress.further(&observe(directory.path())).await;
        acknowledged.extend(sealer.kill());
        kills += 1;
        assert!(kills < 50, "there is no end: {progress:?}");
        if kills % 3 == 0 {
            check_at_once(directory.path(), &acknowledged).await;
        }
    }
    check(directory.path(), &acknowledged).await;

    // A kill between the drops of two B-trees leaves one.
    let database = Connection::open(directory.path().join("clerkcast.db")).expect("opens");
    let tree = "CREATE INDEX record_session ON record (session_id) WHERE session_id IS NOT NULL";
    database.execute_batch(tree).expect("made");
    drop(database);
    check(directory.path(), &acknowledged).await;
    println!("killed {kills} times");
}
