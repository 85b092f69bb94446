//! A log whose segments are small, so that they are merged often, beside what is known to be
//! in it. It looks at the file on a connection of its own, and damages it there.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clerkcast::event::{Attributes, Position, UnixMillis, Values};
use clerkcast::log::sqlite::{Config, SqliteLog};
use clerkcast::log::{
    Append as _, Appended, Entry, Keep as _, Metrics, Payloads, Query, Read, Reader, RecordRef,
    Scan,
};
use futures_util::future::join_all;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use rusqlite::Connection;
use tempfile::TempDir;

use super::Kind;
use crate::conformance::{everything_after, read_all};
use crate::harness::eventually;

/// Neighbors that become one.
const FANOUT: u64 = 8;
/// Batches that are committed between two looks at the log, where it is kept busy.
const COMMITS_PER_LOOK: usize = 20;

/// A record that retention has not removed.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) position: Position,
    pub(super) attributes: Attributes,
    pub(super) received: UnixMillis,
}

/// A segment as the file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) first: u64,
    pub(super) last: u64,
    /// The numbers of its parts.
    pub(super) parts: Range<u64>,
}

pub(super) struct Store {
    directory: TempDir,
    segment_records: u64,
    log: Option<SqliteLog>,
    registry: Registry,
    pub(super) file: Connection,
    pub(super) records: Vec<Known>,
    appended: u64,
}

impl Store {
    pub(super) fn new(segment_records: u64) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let (log, registry) = open(directory.path(), segment_records);
        let file = Connection::open(database(directory.path())).expect("opens");
        Self {
            directory,
            segment_records,
            log: Some(log),
            registry,
            file,
            records: Vec::new(),
            appended: 0,
        }
    }

    pub(super) fn log(&self) -> &SqliteLog {
        self.log.as_ref().expect("it is open")
    }

    pub(super) fn database(&self) -> PathBuf {
        database(self.directory.path())
    }

    /// Closes the log, and opens it again.
    pub(super) async fn reopen(&mut self, while_closed: impl FnOnce(&Connection)) {
        self.log().close().await;
        self.log = None;
        while_closed(&self.file);
        let (log, registry) = open(self.directory.path(), self.segment_records);
        (self.log, self.registry) = (Some(log), registry);
    }

    /// A record that is not in the log yet. Its session is its own, if it has one, and
    /// `users` decides how many have the same user.
    pub(super) fn entry(&mut self, users: u32, received: UnixMillis) -> Entry {
        let number = self.appended;
        self.appended += 1;
        let draw = |salt: u64, below: u64| scramble(number * 8 + salt) % below;
        let event_type = match draw(0, 4) {
            0 => 2 + draw(1, 38),
            _ => draw(1, 2),
        };
        let user = draw(3, users.into());
        let organization = draw(5, 7);
        Entry {
            id: format!("msg_{number}"),
            attributes: Attributes {
                event_type: format!("type.{event_type}"),
                source: "default".to_owned(),
                instance_id: None,
                user_id: (draw(2, 6) > 0).then(|| format!("user_{user}")),
                organization_id: (draw(4, 2) > 0).then(|| format!("org_{organization}")),
                session_id: (draw(6, 4) > 0).then(|| format!("sess_{number}")),
                object_id: None,
            },
            receive_time: received,
            event: Bytes::from_static(b"event"),
            decoding: 1,
            payload: Bytes::from_static(b"{}"),
        }
    }

    /// Appends records as fast as the log takes them.
    pub(super) async fn append(&mut self, entries: impl IntoIterator<Item = Entry>) {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let appends: Vec<_> = entries
            .iter()
            .map(|entry| self.log().append(entry.clone()))
            .collect();
        for (entry, appended) in entries.into_iter().zip(join_all(appends).await) {
            let Appended::Committed(position) = appended.expect("durable") else {
                panic!("{} is a duplicate", entry.id);
            };
            self.records.push(Known {
                position,
                attributes: entry.attributes,
                received: entry.receive_time,
            });
        }
    }

    pub(super) async fn append_new(&mut self, count: usize) {
        let now = UnixMillis::now();
        let entries: Vec<Entry> = (0..count).map(|_| self.entry(100, now)).collect();
        self.append(entries).await;
    }

    /// A commit that adds no record.
    pub(super) async fn append_again(&self) {
        let Some(number) = self.appended.checked_sub(1) else {
            return;
        };
        let again = Entry {
            id: format!("msg_{number}"),
            attributes: Attributes {
                source: "default".to_owned(),
                ..Attributes::default()
            },
            receive_time: UnixMillis::now(),
            event: Bytes::new(),
            decoding: 1,
            payload: Bytes::new(),
        };
        let appended = self.log().append(again).await;
        assert_eq!(appended.expect("answered"), Appended::Duplicate);
    }

    /// Removes old records.
    pub(super) async fn retain(&mut self, keep_for: Option<Duration>, keep_bytes: Option<u64>) {
        let log = self.log();
        log.set_retention(keep_for, keep_bytes);
        log.apply_retention().await.expect("applied");
        log.set_retention(None, None);
        let trimmed = log.bounds().trimmed;
        self.records.retain(|record| record.position > trimmed);
    }

    pub(super) fn metric(&self, name: &str) -> u64 {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("text");
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.expect("a metric").parse().expect("a number")
    }

    /// How many records should be in no segment, once the indexer has nothing to do.
    pub(super) fn tail(&self) -> u64 {
        let bounds = self.log().bounds();
        let last = bounds.last.number();
        let complete = last - last % self.segment_records;
        last - complete.max(bounds.trimmed.number())
    }

    /// Waits until the indexer has nothing to do, in a log that is idle.
    pub(super) async fn settle(&self) {
        eventually("the index is complete", || async { self.is_settled() }).await;
    }

    /// Waits for it in a log that commits batch after batch, which are shared.
    pub(super) async fn settle_among_commits(&self) {
        eventually("the index is complete", || async {
            for _ in 0..COMMITS_PER_LOOK {
                self.append_again().await;
            }
            self.is_settled()
        })
        .await;
    }

    fn is_settled(&self) -> bool {
        let trimmed = self.log().bounds().trimmed.number();
        let segments = segments(&self.file);
        let ranges: BTreeSet<_> = segments.iter().map(|it| (it.first, it.last)).collect();
        let can_merge = [1, FANOUT].into_iter().any(|times| {
            let size = self.segment_records * times;
            ranges.iter().any(|(first, _)| {
                let mut neighbors = (0..FANOUT).map(|number| first + number * size);
                first % (size * FANOUT) == 1 % (size * FANOUT)
                    && neighbors.all(|first| ranges.contains(&(first, first + size - 1)))
            })
        });
        let is_gone = |segment: &Segment| segment.last <= trimmed;
        self.metric("log_unsealed_records") == self.tail()
            && !can_merge
            && !segments.iter().any(is_gone)
    }

    /// Whether each part in the file belongs to a segment.
    pub(super) fn is_tidy(&self) -> bool {
        let segments = segments(&self.file);
        let mut parts = part_lengths(&self.file).into_keys();
        parts.all(|number| segments.iter().any(|it| it.parts.contains(&number)))
    }

    /// Everything is there, as it was appended.
    pub(super) async fn check_everything(&self) {
        let query = Query {
            records_max: 1_000,
            ..everything_after(self.log().bounds().trimmed)
        };
        let found = read_all(self.log(), query).await;
        assert_eq!(found.len(), self.records.len());
        for (found, known) in found.iter().zip(&self.records) {
            assert_eq!(found.position, known.position);
            assert_eq!(found.entry.attributes, known.attributes);
            assert_eq!(found.entry.receive_time, known.received);
        }
    }

    /// The records that a scan finds, and how many it judges for that.
    pub(super) async fn find(&self, kind: Kind, values: &Values) -> (Vec<Position>, u64) {
        let log = self.log();
        let mut scan = Scan {
            after: log.bounds().trimmed,
            narrow: kind.hint(values.clone()),
            payloads: Payloads::All,
        };
        let mut counting = Counting {
            kind,
            values: values.clone(),
            judged: std::cell::Cell::new(0),
            found: Vec::new(),
        };
        let last = log.bounds().last;
        while scan.after < last {
            let scanned = (log as &dyn Read).scan_with(scan.clone(), counting).await;
            (counting, scan.after) = scanned.expect("scanned");
        }
        (counting.found, counting.judged.get())
    }

    /// The values that records have.
    pub(super) fn values(&self, kind: Kind) -> BTreeSet<&str> {
        let values = self.records.iter();
        let values = values.filter_map(|record| kind.value(record.attributes.as_ref()));
        values.collect()
    }

    /// The positions of the records with one of these values.
    pub(super) fn known(&self, kind: Kind, values: &Values) -> impl Iterator<Item = Position> {
        let known = self.records.iter().filter(move |record| {
            let value = kind.value(record.attributes.as_ref());
            value.is_some_and(|value| values.contains(value))
        });
        known.map(|record| record.position)
    }

    /// What pages of at most this many records show.
    pub(super) async fn read(
        &self,
        kind: Kind,
        values: &Values,
        records_max: usize,
    ) -> Vec<Position> {
        let wanted = values.clone();
        let query = Query {
            narrow: kind.hint(values.clone()),
            matches: Arc::new(move |attributes| {
                let value = kind.value(attributes);
                value.is_some_and(|value| wanted.contains(value))
            }),
            records_max,
            ..everything_after(self.log().bounds().trimmed)
        };
        let found = read_all(self.log(), query).await;
        found.iter().map(|record| record.position).collect()
    }

    /// Asks for every value that the log has, so that all of the index is read.
    pub(super) async fn find_all_values(&self) {
        for kind in Kind::ALL {
            let values: Vec<&str> = self.values(kind).into_iter().collect();
            for some in values.chunks(64) {
                let some: Values = some.iter().collect();
                let known: Vec<Position> = self.known(kind, &some).collect();
                assert_eq!(self.find(kind, &some).await.0, known, "{kind:?} {some:?}");
            }
        }
    }

    /// Whether a record that alone has its session is found by segments: none is judged
    /// beside it but those that are in no segment.
    pub(super) async fn is_found_by_segments(&self, known: &Known) -> bool {
        let Some(session) = &known.attributes.session_id else {
            return true;
        };
        let session: Values = [session].into_iter().collect();
        let (found, judged) = self.find(Kind::Session, &session).await;
        assert_eq!(found, [known.position]);
        let is_in_tail = known.position.number() + self.tail() > self.log().bounds().last.number();
        judged == self.tail() + u64::from(!is_in_tail)
    }

    /// Waits until all records are found by segments, but for those at the end.
    pub(super) async fn wait_until_indexed(&self) {
        eventually("all records are found by segments", || async {
            self.find_all_values().await;
            self.settle_among_commits().await;
            for known in self.records.iter().step_by(1 + self.records.len() / 50) {
                if !self.is_found_by_segments(known).await {
                    return false;
                }
            }
            true
        })
        .await;
    }

    /// Compares where a time begins with what is known.
    pub(super) async fn check_seek(&self, time: UnixMillis) {
        let mut known = self.records.iter();
        let first = known.find(|record| record.received >= time);
        let naive = match first {
            Some(first) => Position::new(first.position.number() - 1),
            None => self.log().bounds().last,
        };
        let found = self.log().position_before(time).await.expect("found");
        assert_eq!(found, naive, "{time:?}");
    }
}

/// The segments that the file has.
pub(super) fn segments(file: &Connection) -> Vec<Segment> {
    let sql = "SELECT first_position, last_position, terms FROM segment ORDER BY first_position";
    let mut statement = file.prepare_cached(sql).expect("a table");
    let rows = statement.query_map([], |row| {
        let directory: Vec<u8> = row.get(2)?;
        Ok(Segment {
            first: row.get::<_, i64>(0)?.unsigned_abs(),
            last: row.get::<_, i64>(1)?.unsigned_abs(),
            parts: parts(&directory).unwrap_or_default(),
        })
    });
    rows.and_then(Iterator::collect).expect("read")
}

/// The length of each part in the file, by its number.
pub(super) fn part_lengths(file: &Connection) -> BTreeMap<u64, u64> {
    let sql = "SELECT number, length(bytes) FROM segment_part";
    let mut statement = file.prepare_cached(sql).expect("a table");
    let rows = statement.query_map([], |row| {
        let [number, length] = [row.get::<_, i64>(0)?, row.get(1)?];
        Ok((number.unsigned_abs(), length.unsigned_abs()))
    });
    rows.and_then(Iterator::collect).expect("read")
}

/// The checksum, the columns and the version come first.
fn parts(directory: &[u8]) -> Option<Range<u64>> {
    let rest = directory.get(4 + 24 + 1..)?;
    let (first, rest) = rest.split_first_chunk()?;
    let count: &[u8; 4] = rest.first_chunk()?;
    let first = u64::from_le_bytes(*first);
    Some(first..first + u64::from(u32::from_le_bytes(*count)))
}

fn open(directory: &Path, segment_records: u64) -> (SqliteLog, Registry) {
    let config = Config {
        data_dir: directory.to_owned(),
        retain_for: None,
        retain_bytes: None,
        segment_records,
    };
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    (SqliteLog::open(config, metrics).expect("opens"), registry)
}

fn database(directory: &Path) -> PathBuf {
    directory.join("clerkcast.db")
}

/// As random as a test needs it (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
/// Generators").
fn scramble(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Counts the records that it is asked about.
struct Counting {
    kind: Kind,
    values: Values,
    judged: std::cell::Cell<u64>,
    found: Vec<Position>,
}

impl Reader for Counting {
    fn wants(&self, attributes: Attributes<&str>) -> bool {
        self.judged.set(self.judged.get() + 1);
        let value = self.kind.value(attributes);
        value.is_some_and(|value| self.values.contains(value))
    }

    fn take(&mut self, record: RecordRef<'_>) -> ControlFlow<()> {
        self.found.push(record.position);
        ControlFlow::Continue(())
    }
}
