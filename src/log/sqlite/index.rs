//! The segments in the file, and the changes that the writer makes of them.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::segment::{Damaged, Segment, Segments};
use crate::event::{Position, UnixMillis};

/// The B-trees that logs had before they had segments. They answer until all records are in
/// segments, and are dropped then.
pub(super) const OLD_TREES: [&str; 5] = [
    "record_receive_time",
    "record_type",
    "record_user",
    "record_organization",
    "record_session",
];

const INSERT_PART: &str = "INSERT INTO segment_part (number, bytes) VALUES (?1, ?2)";
const FORGET_PARTS: &str = "DELETE FROM segment_part WHERE number >= ?1 AND number < ?2";
const READ_PART: &str = "SELECT bytes FROM segment_part WHERE number = ?1";
const INSERT_SEGMENT: &str = "INSERT OR REPLACE INTO segment (first_position, last_position, latest_receive_time_ms, terms) \
     VALUES (?1, ?2, ?3, ?4)";
const REMOVE_SEGMENT: &str = "DELETE FROM segment WHERE first_position = ?1";

/// What finds records.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    pub(super) segments: Segments,
    /// The old B-trees are all there and answer, since segments do not cover all records yet.
    pub(super) is_in_trees: bool,
}

/// What the file has of the index, at a start.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) index: Index,
    /// Old B-trees that are still there.
    pub(super) old_trees: Vec<&'static str>,
    /// Parts of no segment.
    pub(super) unused_parts: Vec<Range<u64>>,
    /// Greater than the number of every part.
    pub(super) next_part: u64,
}

impl Loaded {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let mut segments = Segments::default();
        let mut statement = connection.prepare(
            "SELECT first_position, last_position, latest_receive_time_ms, terms FROM segment \
             ORDER BY first_position",
        )?;
        let mut rows = statement.query([])?;
        let mut damaged = Vec::new();
        while let Some(row) = rows.next()? {
            let [first, last] = [row.get::<_, i64>(0)?, row.get(1)?]
                .map(|number| Position::new(number.unsigned_abs()));
            let latest = UnixMillis::new(row.get(2)?);
            let terms = row.get_ref(3)?;
            let read = Segment::from_bytes(first..=last, latest, terms.as_blob().unwrap_or(&[]));
            let overlaps = |segment| !segments.insert(Arc::new(segment));
            match read.map(overlaps) {
                Ok(false) => {}
                Ok(true) => damaged.push((first, Damaged("positions of another"))),
                Err(reason) => damaged.push((first, reason)),
            }
        }
        drop(rows);
        for (first, reason) in damaged {
            warn_of_damage(first, reason);
            connection.execute(REMOVE_SEGMENT, [first.number().cast_signed()])?;
        }
        let has_tree = "SELECT 1 FROM sqlite_schema WHERE type = 'index' AND name = ?1";
        let mut has_tree = connection.prepare(has_tree)?;
        let mut old_trees = Vec::new();
        for name in OLD_TREES {
            if has_tree.exists([name])? {
                old_trees.push(name);
            }
        }
        let (unused_parts, next_part) = unused_parts(connection, &segments)?;
        Ok(Self {
            index: Index {
                segments,
                is_in_trees: old_trees.len() == OLD_TREES.len(),
            },
            old_trees,
            unused_parts,
            next_part,
        })
    }
}

/// What a process that was killed left, or a segment that was damaged, and a number that no
/// part has. Found between the parts of segments, without reading those.
fn unused_parts(
    connection: &Connection,
    segments: &Segments,
) -> rusqlite::Result<(Vec<Range<u64>>, u64)> {
    let greatest = "SELECT coalesce(max(number), 0) FROM segment_part";
    let greatest: i64 = connection.query_row(greatest, [], |row| row.get(0))?;
    let mut used: Vec<Range<u64>> = segments.iter().map(|segment| segment.parts()).collect();
    used.sort_unstable_by_key(|parts| parts.start);
    // A segment that has lost its last parts must not be given those of another.
    let greatest_used = used.last().map_or(0, |parts| parts.end);
    let next = greatest_used.max(greatest.unsigned_abs() + 1);
    used.push(next..next);
    let between = "SELECT number FROM segment_part WHERE number >= ?1 AND number < ?2 LIMIT 1";
    let mut between = connection.prepare(between)?;
    let mut unused = Vec::new();
    let mut end = 0;
    for parts in used {
        if between.exists(range(&(end..parts.start)))? {
            unused.push(end..parts.start);
        }
        end = end.max(parts.end);
    }
    Ok((unused, next))
}

/// Reads a part into `buffer`. Whatever keeps it from being read, its segment is of no use.
pub(super) fn read_part(
    connection: &Connection,
    number: u64,
    buffer: &mut Vec<u8>,
) -> Result<(), Damaged> {
    let mut read = || {
        let mut statement = connection.prepare_cached(READ_PART)?;
        let take = |row: &rusqlite::Row<'_>| {
            buffer.clear();
            buffer.extend_from_slice(row.get_ref(0)?.as_blob()?);
            Ok(())
        };
        statement.query_row([number.cast_signed()], take).optional()
    };
    match read() {
        Ok(Some(())) => Ok(()),
        Ok(None) => Err(Damaged("a part that is missing")),
        Err(_) => Err(Damaged("a part that cannot be read")),
    }
}

pub(super) fn warn_of_damage(first: Position, reason: Damaged) {
    tracing::warn!(
        first_position = first.number(),
        %reason,
        "a segment of the log's index is damaged; it is built again from the events"
    );
}

/// A change of the index, which the writer makes beside a batch.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// Parts to add, by their numbers.
    pub(super) parts: Vec<(u64, Vec<u8>)>,
    /// The segment that has them.
    pub(super) segment: Option<Arc<Segment>>,
    /// Where segments begin that go.
    pub(super) removed: Vec<Position>,
    /// Parts of no segment.
    pub(super) unused_parts: Range<u64>,
}

impl Change {
    /// Makes it within a transaction, all or nothing: without it, the batch is as good.
    pub(super) fn make(&self, transaction: &Connection) -> rusqlite::Result<()> {
        transaction.execute_batch("SAVEPOINT index_change")?;
        let made = self.execute(transaction);
        let end = match made {
            Ok(()) => "RELEASE index_change",
            Err(_) => "ROLLBACK TO index_change; RELEASE index_change",
        };
        transaction.execute_batch(end)?;
        made
    }

    fn execute(&self, transaction: &Connection) -> rusqlite::Result<()> {
        let mut remove = transaction.prepare_cached(REMOVE_SEGMENT)?;
        for first in &self.removed {
            remove.execute([first.number().cast_signed()])?;
        }
        let mut insert = transaction.prepare_cached(INSERT_PART)?;
        for (number, bytes) in &self.parts {
            insert.execute(params![number.cast_signed(), bytes])?;
        }
        if let Some(segment) = &self.segment {
            transaction
                .prepare_cached(INSERT_SEGMENT)?
                .execute(params![
                    segment.first().number().cast_signed(),
                    segment.last().number().cast_signed(),
                    segment.latest_receive_time().milliseconds(),
                    segment.to_bytes(),
                ])?;
        }
        if !self.unused_parts.is_empty() {
            let mut forget = transaction.prepare_cached(FORGET_PARTS)?;
            forget.execute(range(&self.unused_parts))?;
        }
        Ok(())
    }
}

fn range(parts: &Range<u64>) -> [i64; 2] {
    [parts.start, parts.end].map(u64::cast_signed)
}

/// Wakes the indexer.
#[derive(Debug, Default)]
pub(super) struct Bell {
    state: Mutex<BellState>,
    rung: Condvar,
}

#[derive(Debug, Default)]
struct BellState {
    is_rung: bool,
    is_closed: bool,
    suspects: Vec<Position>,
}

/// Why the indexer woke.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// There may be something to do.
    Rung,
    /// The log is closed.
    Closed,
}

impl Bell {
    /// There may be something to do.
    pub(super) fn ring(&self) {
        self.state.lock().is_rung = true;
        self.rung.notify_one();
    }

    /// A reader has found fault with the segment that begins here.
    pub(super) fn report(&self, first: Position) {
        let mut state = self.state.lock();
        if !state.suspects.contains(&first) {
            state.suspects.push(first);
        }
        state.is_rung = true;
        self.rung.notify_one();
    }

    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        self.rung.notify_one();
    }

    /// Waits until the bell is rung, at most for this time if one is given.
    pub(super) fn wait(&self, time: Option<Duration>) -> Woken {
        let mut state = self.state.lock();
        let is_quiet = |state: &mut BellState| !state.is_rung && !state.is_closed;
        match time {
            Some(time) => {
                let _rung = self.rung.wait_while_for(&mut state, is_quiet, time);
            }
            None => self.rung.wait_while(&mut state, is_quiet),
        }
        if state.is_closed {
            return Woken::Closed;
        }
        state.is_rung = false;
        Woken::Rung
    }

    /// Takes the first positions of segments that readers have found fault with.
    pub(super) fn take_suspects(&self) -> Vec<Position> {
        std::mem::take(&mut self.state.lock().suspects)
    }

    /// Waits for this time, however often the bell is rung. Returns whether the log is open.
    pub(super) fn rest(&self, time: Duration) -> bool {
        let mut state = self.state.lock();
        let is_open = |state: &mut BellState| !state.is_closed;
        let _closed = self.rung.wait_while_for(&mut state, is_open, time);
        !state.is_closed
    }
}
