//! A log in memory, for the suite of laws and for the benches: what is measured over it is
//! not the disk.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clerkcast::event::{Epoch, Position, Run, UnixMillis};
use clerkcast::log::cells::{
    LIST_BYTES_MAX, WATCHED_CHANGES_MAX, check_changes, check_name, check_prefix,
};
use clerkcast::log::{
    Append, AppendError, Appended, Batch, Bounds, Cell, Cells, Change, Changed, DEDUPE_WINDOW,
    Description, Entry, Follower, Keep, Lineage, Predicate, Read, ReadError, Reader, Record,
    Revision, Scan, Swapped, Tally, Writability,
};
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};

/// Batches kept for a follower that is late.
const FOLLOWED_BATCHES_MAX: usize = 1024;

/// Where a log is kept: one that is opened there again is the same log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(Arc<Mutex<Contents>>);

/// A log that is open.
#[derive(Debug)]
pub(crate) struct MemoryLog {
    contents: Arc<Mutex<Contents>>,
    /// Held by each append, so that batches are sent in order.
    appending: Mutex<()>,
    batches: broadcast::Sender<Arc<Batch>>,
    writability: watch::Sender<Writability>,
    is_closed: AtomicBool,
    retain_for: Option<Duration>,
    retain_bytes: Option<u64>,
}

#[derive(Debug, Default)]
struct Contents {
    /// Of the first, retention may have removed some records.
    batches: VecDeque<Arc<Batch>>,
    bounds: Bounds,
    tallies: BTreeMap<(String, String), u64>,
    /// How often a pair came into the tallies.
    names_version: u64,
    /// When the record of each source and id was received.
    ids: HashMap<(String, String), UnixMillis>,
    cells: StoredCells,
}

#[derive(Debug)]
struct StoredCells {
    by_name: BTreeMap<String, Cell>,
    /// The last revision of any cell.
    last: u64,
    /// Of all logs that are open here.
    changes: broadcast::Sender<Changed>,
}

impl Default for StoredCells {
    fn default() -> Self {
        Self {
            by_name: BTreeMap::new(),
            last: 0,
            changes: broadcast::Sender::new(WATCHED_CHANGES_MAX),
        }
    }
}

impl StoredCells {
    fn swap(&mut self, changes: Vec<Change>) -> Swapped {
        let current = |change: &Change| self.by_name.get(&change.name).map(|cell| cell.revision);
        let mut expectations = changes.iter();
        if let Some(refused) = expectations.find(|change| current(change) != change.expected) {
            return Swapped::Conflict(refused.name.clone());
        }
        let stored = changes.into_iter().map(|change| self.store(change));
        Swapped::Stored(stored.collect())
    }

    fn store(&mut self, Change { name, value, .. }: Change) -> Option<Revision> {
        let changed = name.as_str().into();
        let revision = value.map(|value| {
            self.last += 1;
            let revision = Revision::new(self.last);
            let cell = Cell {
                name: name.clone(),
                revision,
                value,
            };
            self.by_name.insert(name.clone(), cell);
            revision
        });
        if revision.is_none() && self.by_name.remove(&name).is_none() {
            return None;
        }
        let _no_watcher = self.changes.send(Changed {
            name: changed,
            revision,
        });
        revision
    }
}

impl Contents {
    fn records(&self) -> impl Iterator<Item = &Record> {
        self.records_after(self.bounds.trimmed)
    }

    fn records_after(&self, after: Position) -> impl Iterator<Item = &Record> {
        let is_before =
            |batch: &Arc<Batch>| batch.records.last().is_none_or(|it| it.position <= after);
        let first = self.batches.partition_point(is_before);
        let records = self.batches.range(first..).flat_map(|batch| &batch.records);
        records.skip_while(move |record| record.position <= after)
    }

    fn bytes(&self) -> u64 {
        let bytes = self.records().map(|record| record.entry.bytes() as u64);
        bytes.sum()
    }

    /// Returns the entry's record, unless its source and id were appended before.
    fn enter(&mut self, entry: Entry) -> Option<Record> {
        let attributes = &entry.attributes;
        let id = (attributes.source.clone(), entry.id.clone());
        if self.ids.contains_key(&id) {
            return None;
        }
        self.ids.insert(id, entry.receive_time);
        let name = (attributes.source.clone(), attributes.event_type.clone());
        let names_before = self.tallies.len();
        *self.tallies.entry(name).or_default() += 1;
        self.names_version += u64::from(self.tallies.len() > names_before);
        Some(Record {
            position: self.bounds.last.next(),
            run: Run::NONE,
            entry,
        })
    }

    fn push(&mut self, batch: Arc<Batch>) {
        if let Some(newest) = batch.records.last() {
            self.bounds.last = newest.position;
            self.bounds.last_receive_time = newest.entry.receive_time;
            self.batches.push_back(batch);
        }
    }

    /// Removes the oldest records up to `through`.
    fn remove_through(&mut self, through: Position) {
        let removed = self
            .records()
            .take_while(|record| record.position <= through);
        let names = removed.map(|record| {
            let attributes = &record.entry.attributes;
            (attributes.source.clone(), attributes.event_type.clone())
        });
        for name in names.collect::<Vec<_>>() {
            if let Some(count) = self.tallies.get_mut(&name) {
                *count -= 1;
            }
        }
        self.bounds.trimmed = through;
        let is_gone =
            |batch: &Arc<Batch>| batch.records.last().is_none_or(|it| it.position <= through);
        let gone = self.batches.partition_point(is_gone);
        self.batches.drain(..gone);
    }

    /// The last record that may go.
    fn last_to_remove(
        &self,
        received_since: Option<UnixMillis>,
        bytes_max: Option<u64>,
    ) -> Option<Position> {
        let mut bytes = self.bytes();
        let mut last = None;
        for record in self.records() {
            let is_old = received_since.is_some_and(|since| record.entry.receive_time < since);
            let is_too_much = bytes_max.is_some_and(|bytes_max| bytes > bytes_max);
            if !is_old && !is_too_much {
                break;
            }
            bytes -= record.entry.bytes() as u64;
            last = Some(record.position);
        }
        last
    }

    /// Forgets the ids of records that are gone and were received before the dedupe window.
    fn forget_ids(&mut self, now: UnixMillis) {
        let since = now.before(DEDUPE_WINDOW);
        let kept = self.records().map(|record| {
            let entry = &record.entry;
            (entry.attributes.source.clone(), entry.id.clone())
        });
        let kept: HashSet<_> = kept.collect();
        self.ids
            .retain(|id, received| *received >= since || kept.contains(id));
    }
}

impl MemoryLog {
    pub(crate) fn open(
        Memory(contents): Memory,
        retain_for: Option<Duration>,
        retain_bytes: Option<u64>,
    ) -> Self {
        Self {
            contents,
            appending: Mutex::default(),
            batches: broadcast::Sender::new(FOLLOWED_BATCHES_MAX),
            writability: watch::Sender::new(Writability::Writable),
            is_closed: AtomicBool::new(false),
            retain_for,
            retain_bytes,
        }
    }

    /// Publishes a batch that follows on the last position. Its records are not counted, and
    /// their ids not known: a writer's work is not the fan-out's.
    pub(crate) fn publish(&self, batch: &Arc<Batch>) {
        self.contents.lock().push(Arc::clone(batch));
        let _no_follower = self.batches.send(Arc::clone(batch));
    }
}

impl Append for MemoryLog {
    fn append(&self, entry: Entry) -> BoxFuture<'static, Result<Appended, AppendError>> {
        if self.is_closed.load(Ordering::Relaxed) {
            return Box::pin(ready(Err(AppendError::Closed)));
        }
        let _appending = self.appending.lock();
        let after = self.bounds().last;
        let entered = self.contents.lock().enter(entry);
        let Some(record) = entered else {
            return Box::pin(ready(Ok(Appended::Duplicate)));
        };
        let position = record.position;
        let records = vec![record];
        self.publish(&Arc::new(Batch { after, records }));
        Box::pin(ready(Ok(Appended::Committed(position))))
    }
}

impl Read for MemoryLog {
    fn epoch(&self) -> Epoch {
        Epoch::new(1)
    }

    fn bounds(&self) -> Bounds {
        self.contents.lock().bounds
    }

    fn confirmed_bounds(&self, _at_least: Position) -> BoxFuture<'_, Result<Bounds, ReadError>> {
        Box::pin(ready(Ok(self.bounds())))
    }

    fn run_at(&self, _: Position) -> Run {
        Run::NONE
    }

    fn lineage(&self, _: Position, _: Run) -> BoxFuture<'_, Result<Lineage, ReadError>> {
        Box::pin(ready(Ok(Lineage::Same)))
    }

    fn tallies(&self) -> Vec<Tally> {
        let contents = self.contents.lock();
        let tallies = contents.tallies.iter();
        let tallies = tallies.map(|((source, event_type), count)| Tally {
            source: source.clone(),
            event_type: event_type.clone(),
            count: *count,
        });
        tallies.collect()
    }

    fn names_version(&self) -> u64 {
        self.contents.lock().names_version
    }

    fn scan(
        &self,
        scan: Scan,
        mut reader: Box<dyn Reader>,
    ) -> BoxFuture<'_, Result<Position, ReadError>> {
        let contents = self.contents.lock();
        let Bounds { trimmed, last, .. } = contents.bounds;
        if trimmed > scan.after {
            return Box::pin(ready(Err(ReadError::Expired { trimmed })));
        }
        let mut through = last.max(scan.after);
        for record in contents.records_after(scan.after) {
            let record = record.view();
            if reader.wants(record.attributes) && reader.take(record).is_break() {
                through = record.position;
                break;
            }
        }
        Box::pin(ready(Ok(through)))
    }

    fn find(
        &self,
        id: String,
        matches: Predicate,
    ) -> BoxFuture<'_, Result<Option<Record>, ReadError>> {
        let contents = self.contents.lock();
        let found = contents.records().find(|record| {
            let entry = &record.entry;
            entry.id == id && matches(entry.attributes.as_ref())
        });
        Box::pin(ready(Ok(found.cloned())))
    }

    fn position_before(&self, time: UnixMillis) -> BoxFuture<'_, Result<Position, ReadError>> {
        let contents = self.contents.lock();
        let first = contents
            .records()
            .find(|record| record.entry.receive_time >= time);
        let position = match first {
            Some(record) => Position::new(record.position.number() - 1),
            None => contents.bounds.last,
        };
        Box::pin(ready(Ok(position)))
    }

    fn describe(&self) -> BoxFuture<'_, Result<Description, ReadError>> {
        let contents = self.contents.lock();
        let oldest = contents.records().next();
        let newest = oldest.map(|_| contents.bounds.last_receive_time);
        Box::pin(ready(Ok(Description {
            retain_for: self.retain_for,
            retain_bytes: self.retain_bytes,
            record_count: contents.records().count() as u64,
            size_bytes: contents.bytes(),
            counted_bytes: contents.bytes(),
            oldest_receive_time: oldest.map(|record| record.entry.receive_time),
            newest_receive_time: newest,
        })))
    }

    fn follow(&self) -> Follower {
        self.batches.subscribe().into()
    }
}

impl Keep for MemoryLog {
    fn writability(&self) -> watch::Receiver<Writability> {
        self.writability.subscribe()
    }

    fn apply_retention(&self) -> BoxFuture<'_, Result<(), AppendError>> {
        let now = UnixMillis::now();
        let received_since = self.retain_for.map(|age| now.before(age));
        let mut contents = self.contents.lock();
        if let Some(through) = contents.last_to_remove(received_since, self.retain_bytes) {
            contents.remove_through(through);
        }
        contents.forget_ids(now);
        Box::pin(ready(Ok(())))
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), AppendError>> {
        let is_closed = self.is_closed.load(Ordering::Relaxed);
        let pong = if is_closed {
            Err(AppendError::Closed)
        } else {
            Ok(())
        };
        Box::pin(ready(pong))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.is_closed.store(true, Ordering::Relaxed);
        Box::pin(ready(()))
    }
}

impl Cells for MemoryLog {
    fn read(&self, name: &str) -> BoxFuture<'_, Result<Option<Cell>, ReadError>> {
        let cell = check_name(name).map(|()| {
            let contents = self.contents.lock();
            contents.cells.by_name.get(name).cloned()
        });
        Box::pin(ready(cell.map_err(ReadError::from)))
    }

    fn list(
        &self,
        prefix: &str,
        after: &str,
        max: usize,
    ) -> BoxFuture<'_, Result<Vec<Cell>, ReadError>> {
        let cells = check_prefix(prefix).map(|()| {
            let contents = self.contents.lock();
            let cells = contents.cells.by_name.values();
            let mut bytes = 0;
            cells
                .filter(|cell| cell.name.starts_with(prefix) && cell.name.as_str() > after)
                .take_while(|cell| {
                    let is_full = bytes >= LIST_BYTES_MAX;
                    bytes += cell.name.len() + cell.value.len();
                    !is_full
                })
                .take(max)
                .cloned()
                .collect()
        });
        Box::pin(ready(cells.map_err(ReadError::from)))
    }

    fn swap(&self, changes: Vec<Change>) -> BoxFuture<'static, Result<Swapped, AppendError>> {
        let swapped = if self.is_closed.load(Ordering::Relaxed) {
            Err(AppendError::Closed)
        } else {
            check_changes(&changes)
                .map(|()| self.contents.lock().cells.swap(changes))
                .map_err(AppendError::from)
        };
        Box::pin(ready(swapped))
    }

    fn watch(&self) -> broadcast::Receiver<Changed> {
        self.contents.lock().cells.changes.subscribe()
    }
}
