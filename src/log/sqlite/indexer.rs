//! The thread that builds segments of what is committed, and merges them.
//!
//! It reads rows on a connection of its own, in short steps, and hands what it made to the
//! writer, which adds it to the next batch: no commit waits for it, and a batch carries at
//! most [`STEP_BYTES`] of it. Everything it makes can be made again from the rows.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::command::Command;
use super::error::OpenError;
use super::index::{Change, Loaded, Woken, read_part, warn_of_damage};
use super::schema;
use super::segment::{Builder, Built, Damaged, Merge, Segment, Tiling, Work};
use super::shared::Shared;
use crate::event::{Attributes, Position, UnixMillis};

/// What one batch carries of a segment.
const STEP_BYTES: usize = 256 << 10;
/// Unused parts that one batch removes: each is a page.
const STEP_PARTS: u64 = 64;
/// Rows read at once, while the writer may not keep readers out.
const ROWS_AT_ONCE: usize = 1_024;
/// Before it tries again what the log refused.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

const ROWS: &str = "SELECT position, receive_time_ms, type, user_id, organization_id, session_id \
     FROM record WHERE position BETWEEN ?1 AND ?2";

/// Why a piece of work was not finished.
enum Unfinished {
    /// The log is closed.
    Closed,
    /// It is tried again.
    Failed(String),
    /// A segment that it needed is damaged.
    Damaged(Arc<Segment>, Damaged),
}

impl From<rusqlite::Error> for Unfinished {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(schema::explain(&error))
    }
}

/// Starts the thread. It ends once the log's bell is closed.
pub(super) fn spawn(
    data_dir: &Path,
    loaded: Loaded,
    commands: SyncSender<Command>,
    shared: Arc<Shared>,
) -> Result<JoinHandle<()>, OpenError> {
    let tiling = Tiling {
        records: shared.config().segment_records.max(1),
    };
    let indexer = Indexer {
        connection: schema::open_for_reading(data_dir)?,
        tiling,
        next_part: loaded.next_part,
        unused_parts: loaded.unused_parts.into(),
        old_trees: loaded.old_trees,
        upgrade: None,
        commands,
        shared,
    };
    std::thread::Builder::new()
        .name("log-indexer".to_owned())
        .spawn(move || indexer.run())
        .map_err(OpenError::Thread)
}

struct Indexer {
    connection: Connection,
    tiling: Tiling,
    /// The number of the next part that it makes.
    next_part: u64,
    unused_parts: VecDeque<Range<u64>>,
    old_trees: Vec<&'static str>,
    /// When it began to build the segments of a log that had none.
    upgrade: Option<Instant>,
    commands: SyncSender<Command>,
    shared: Arc<Shared>,
}

impl Indexer {
    fn run(mut self) {
        self.announce_upgrade();
        let mut patience = Some(Duration::ZERO);
        while self.shared.bell.wait(patience) == Woken::Rung {
            patience = None;
            match self.work() {
                Ok(()) => {}
                Err(Unfinished::Closed) => return,
                Err(Unfinished::Failed(reason)) => {
                    tracing::debug!(reason, "the log's index is tried again");
                    patience = Some(Duration::ZERO);
                    if !self.shared.bell.rest(RETRY_INTERVAL) {
                        return;
                    }
                }
                Err(Unfinished::Damaged(segment, reason)) => {
                    self.discard(&segment, reason);
                    patience = Some(Duration::ZERO);
                }
            }
        }
    }

    /// Does what there is to do, piece by piece. Damage comes first: until it is mended, each
    /// look-up costs a whole segment of rows.
    fn work(&mut self) -> Result<(), Unfinished> {
        loop {
            let started = Instant::now();
            for first in self.shared.bell.take_suspects() {
                self.examine(first);
            }
            if let Some(work) = self.next_work() {
                self.do_work(work)?;
            } else if let Some(parts) = self.unused_parts.front_mut() {
                let step = parts.start..parts.end.min(parts.start + STEP_PARTS);
                let end = step.end;
                self.submit(Change {
                    unused_parts: step,
                    ..Change::default()
                })?;
                self.note_removed(end);
            } else if let Some(tree) = self.old_trees.first().copied() {
                self.drop_tree(tree)?;
                self.old_trees.remove(0);
                self.announce_end_of_upgrade();
            } else {
                return Ok(());
            }
            // An old log is worked through beside the webhooks, not instead of them.
            if self.upgrade.is_some() && !self.shared.bell.rest(started.elapsed()) {
                return Err(Unfinished::Closed);
            }
        }
    }

    fn next_work(&self) -> Option<Work> {
        let bounds = self.shared.bounds();
        let index = self.shared.index();
        self.tiling
            .next_work(&index.segments, bounds.trimmed, bounds.last)
    }

    fn do_work(&mut self, work: Work) -> Result<(), Unfinished> {
        match work {
            Work::Remove(segments) => self.replace(&segments, None, Vec::new()),
            Work::Build { first, last } => {
                let started = Instant::now();
                let Built { segment, parts } = self.build(first, last)?;
                let parts = self.numbered(parts);
                self.replace(&[], Some(segment), parts)?;
                let seconds = started.elapsed().as_secs_f64();
                self.shared.metrics.segment_build_seconds.observe(seconds);
                Ok(())
            }
            Work::Merge(neighbors) => self.merge(&neighbors),
        }
    }

    /// Builds a segment from its rows.
    fn build(&self, first: Position, last: Position) -> Result<Built, Unfinished> {
        let index = self.shared.index();
        let before = index.segments.before(first);
        let latest = before.map_or(UnixMillis::new(i64::MIN), |segment| {
            segment.latest_receive_time()
        });
        let mut builder = Builder::new(first, last, latest);
        let mut statement = self.connection.prepare_cached(ROWS)?;
        for from in (first.number()..=last.number()).step_by(ROWS_AT_ONCE) {
            let to = last.number().min(from + (ROWS_AT_ONCE as u64 - 1));
            let _reading = self.shared.reading.read();
            let mut rows = statement.query([from.cast_signed(), to.cast_signed()])?;
            while let Some(row) = rows.next()? {
                let attributes = Attributes {
                    source: "",
                    event_type: row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?,
                    instance_id: None,
                    object_id: None,
                    user_id: row
                        .get_ref(3)?
                        .as_str_or_null()
                        .map_err(rusqlite::Error::from)?,
                    organization_id: row
                        .get_ref(4)?
                        .as_str_or_null()
                        .map_err(rusqlite::Error::from)?,
                    session_id: row
                        .get_ref(5)?
                        .as_str_or_null()
                        .map_err(rusqlite::Error::from)?,
                };
                let position = Position::new(row.get::<_, i64>(0)?.unsigned_abs());
                builder.add(position, UnixMillis::new(row.get(1)?), attributes);
            }
        }
        Ok(builder.finish(self.next_part))
    }

    /// Makes neighbors one segment, whose parts are there before it is.
    fn merge(&mut self, neighbors: &[Arc<Segment>]) -> Result<(), Unfinished> {
        let first_part = self.next_part;
        let merged = self.merge_parts(neighbors);
        if merged.is_err() {
            self.forget_parts(first_part..self.next_part);
        }
        let segment = merged?;
        self.replace(neighbors, Some(segment), Vec::new())
    }

    fn merge_parts(&mut self, neighbors: &[Arc<Segment>]) -> Result<Segment, Unfinished> {
        let connection = schema::open_for_reading(&self.shared.config().data_dir)
            .map_err(|error| Unfinished::Failed(error.to_string()))?;
        let reading = Arc::clone(&self.shared.reading);
        let read = |number, buffer: &mut Vec<u8>| {
            let _reading = reading.read();
            read_part(&connection, number, buffer)
        };
        let mut merge = Merge::new(neighbors, self.next_part, read);
        loop {
            let parts = merge.next_parts(STEP_BYTES);
            let parts = parts.map_err(|reason| self.blame(neighbors, reason))?;
            let Some(parts) = parts else {
                return Ok(merge.finish());
            };
            let parts = self.numbered(parts);
            self.submit(Change {
                parts,
                ..Change::default()
            })?;
        }
    }

    /// Finds the neighbor that a merge found fault with.
    fn blame(&self, neighbors: &[Arc<Segment>], reason: Damaged) -> Unfinished {
        let fault = |segment: &&Arc<Segment>| self.check(segment).is_err();
        match neighbors.iter().find(fault) {
            Some(segment) => Unfinished::Damaged(Arc::clone(segment), reason),
            None => Unfinished::Failed(reason.to_string()),
        }
    }

    /// Numbers parts as they are made, one after the other.
    fn numbered(&mut self, parts: Vec<Vec<u8>>) -> Vec<(u64, Vec<u8>)> {
        let parts: Vec<_> = (self.next_part..).zip(parts).collect();
        self.next_part += parts.len() as u64;
        parts
    }

    /// Puts `segment` in the place of others.
    fn replace(
        &mut self,
        replaced: &[Arc<Segment>],
        segment: Option<Segment>,
        parts: Vec<(u64, Vec<u8>)>,
    ) -> Result<(), Unfinished> {
        let removed: Vec<Position> = replaced.iter().map(|segment| segment.first()).collect();
        let segment = segment.map(Arc::new);
        let numbers = parts.first().zip(parts.last());
        let numbers = numbers.map(|((first, _), (last, _))| *first..last + 1);
        let submitted = self.submit(Change {
            parts,
            segment: segment.clone(),
            removed: removed.clone(),
            unused_parts: 0..0,
        });
        if submitted.is_err() {
            self.forget_parts(numbers.unwrap_or_default());
        }
        submitted?;
        self.shared.change_index(|index| {
            index.segments.remove(&removed);
            if let Some(segment) = segment {
                index.segments.insert(segment);
            }
        });
        for segment in replaced {
            self.forget_parts(segment.parts());
        }
        Ok(())
    }

    /// Has parts removed that no segment has.
    fn forget_parts(&mut self, parts: Range<u64>) {
        if !parts.is_empty() {
            self.unused_parts.push_back(parts);
        }
    }

    fn note_removed(&mut self, end: u64) {
        if let Some(parts) = self.unused_parts.front_mut() {
            parts.start = end;
            if parts.is_empty() {
                self.unused_parts.pop_front();
            }
        }
    }

    /// Hands a change to the writer, and waits until it is durable.
    fn submit(&self, change: Change) -> Result<(), Unfinished> {
        let (answer, receiver) = oneshot::channel();
        let change = Box::new(change);
        let sent = self.commands.send(Command::Index { change, answer });
        sent.map_err(|_| Unfinished::Closed)?;
        match receiver.blocking_recv() {
            Ok(made) => made.map_err(Unfinished::Failed),
            Err(_) => Err(Unfinished::Closed),
        }
    }

    /// Looks at a segment that a reader found fault with, and discards it where that is so.
    /// What was merged meanwhile is gone.
    fn examine(&mut self, first: Position) {
        let index = self.shared.index();
        let mut segments = index.segments.iter();
        if let Some(segment) = segments.find(|segment| segment.first() == first)
            && let Err(reason) = self.check(segment)
        {
            self.discard(segment, reason);
        }
    }

    fn check(&self, segment: &Segment) -> Result<(), Damaged> {
        let mut buffer = Vec::new();
        for number in segment.parts() {
            let _reading = self.shared.reading.read();
            read_part(&self.connection, number, &mut buffer)?;
            segment.check_part(&buffer)?;
        }
        Ok(())
    }

    /// From now on, its records are judged one by one, until it is built again.
    fn discard(&mut self, segment: &Arc<Segment>, reason: Damaged) {
        warn_of_damage(segment.first(), reason);
        let first = segment.first();
        self.shared
            .change_index(|index| index.segments.remove(&[first]));
        let removed = self.submit(Change {
            removed: vec![first],
            ..Change::default()
        });
        // Otherwise it is found again at the next start.
        if removed.is_ok() {
            self.forget_parts(segment.parts());
        }
    }

    /// All records are in segments: they answer from now on, and the B-tree goes.
    fn drop_tree(&self, name: &'static str) -> Result<(), Unfinished> {
        self.shared.change_index(|index| index.is_in_trees = false);
        // Those that read by the trees have ended once this is had.
        drop(self.shared.reading.write());
        let (answer, receiver) = oneshot::channel();
        let sent = self.commands.send(Command::DropTree { name, answer });
        sent.map_err(|_| Unfinished::Closed)?;
        match receiver.blocking_recv() {
            Ok(dropped) => dropped.map_err(Unfinished::Failed),
            Err(_) => Err(Unfinished::Closed),
        }
    }

    fn announce_upgrade(&mut self) {
        if !self.old_trees.is_empty() {
            self.upgrade = Some(Instant::now());
            tracing::info!(
                events = self.shared.published.counts().record_count(),
                "the log's indexes are rebuilt; its old ones answer until then"
            );
        }
    }

    fn announce_end_of_upgrade(&mut self) {
        if self.old_trees.is_empty()
            && let Some(since) = self.upgrade.take()
        {
            tracing::info!(
                "for" = format!("{:.3}s", since.elapsed().as_secs_f64()),
                "the log's indexes are rebuilt; the old ones are removed"
            );
        }
    }
}
