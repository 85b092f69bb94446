//! A log in memory, to be walked through.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::broadcast;

use crate::event::{Attributes, Epoch, Position, Run, UnixMillis};
use crate::filter::Filter;
use crate::log::{
    Batch, Bounds, Description, Entry, Follower, Lineage, Predicate, Read, ReadError, Reader,
    Record, Scan, Tally,
};
use crate::proto;

pub(super) const TYPES: [&str; 3] = ["user.created", "user.deleted", "session.created"];
/// How often a scan is not ready before it answers.
pub(super) const SCAN_PENDING: usize = 3;
/// A scan shows at most this many records.
const SCAN_ROWS: usize = 7;

/// A log in memory, whose scans take several polls.
#[derive(Debug)]
pub(super) struct MemoryLog {
    kept: Mutex<Kept>,
    /// Of an event.
    event_bytes: usize,
    batches: broadcast::Sender<Arc<Batch>>,
}

#[derive(Debug, Default)]
struct Kept {
    records: Vec<Record>,
    /// Of all that were ever appended.
    appended: Vec<(Position, Attributes)>,
    /// Batches that the feed has not heard of.
    unpublished: Vec<Arc<Batch>>,
    trimmed: Position,
    last: Position,
    /// Scans that do not reach the log.
    away: usize,
    /// Scans that did.
    scans: usize,
}

impl MemoryLog {
    /// A log of events of this size, which begins with records of these types.
    pub(super) fn new(history: &[usize], event_bytes: usize) -> Self {
        let log = Self {
            kept: Mutex::default(),
            event_bytes,
            batches: broadcast::Sender::new(1),
        };
        log.append(history);
        log.miss();
        log
    }

    /// Appends a batch of records of these types, which the feed hears of later.
    pub(super) fn append(&self, types: &[usize]) {
        let mut kept = self.kept.lock();
        let after = kept.last;
        let records: Vec<Record> = (after.number() + 1..)
            .zip(types)
            .map(|(number, event_type)| record(number, TYPES[*event_type], self.event_bytes))
            .collect();
        kept.records.extend(records.iter().cloned());
        let attributes = |record: &Record| (record.position, record.entry.attributes.clone());
        kept.appended.extend(records.iter().map(attributes));
        kept.last = records.last().map_or(after, |record| record.position);
        kept.unpublished.push(Arc::new(Batch { after, records }));
    }

    /// The batches that the feed hears of next.
    pub(super) fn take_unpublished(&self) -> Vec<Arc<Batch>> {
        std::mem::take(&mut self.kept.lock().unpublished)
    }

    /// The feed lags, and never hears of what was not published yet.
    pub(super) fn miss(&self) {
        self.kept.lock().unpublished.clear();
    }

    /// The next scans do not reach the log.
    pub(super) fn go_away(&self, scans: usize) {
        self.kept.lock().away = scans;
    }

    /// How many scans have reached the log.
    pub(super) fn scans(&self) -> usize {
        self.kept.lock().scans
    }

    /// Where all records lie that were ever appended and match.
    pub(super) fn matching(&self, filter: &Filter) -> Vec<Position> {
        let kept = self.kept.lock();
        let appended = kept.appended.iter();
        let matching = appended.filter(|(_, attributes)| filter.matches(attributes.as_ref()));
        matching.map(|(position, _)| *position).collect()
    }

    /// Removes the oldest records, as retention does.
    pub(super) fn trim(&self, count: usize) {
        let mut kept = self.kept.lock();
        let count = count.min(kept.records.len());
        let removed = kept.records.drain(..count).last();
        kept.trimmed = removed.map_or(kept.trimmed, |record| record.position);
    }

    fn show(&self, scan: &Scan, reader: &mut dyn Reader) -> Result<Position, ReadError> {
        let mut kept = self.kept.lock();
        if kept.away > 0 {
            kept.away -= 1;
            return Err(ReadError::Unreachable("away".to_owned()));
        }
        kept.scans += 1;
        if kept.trimmed > scan.after {
            let trimmed = kept.trimmed;
            return Err(ReadError::Expired { trimmed });
        }
        let mut through = scan.after;
        let left = kept
            .records
            .iter()
            .filter(|record| record.position > scan.after);
        for record in left.take(SCAN_ROWS) {
            through = record.position;
            let record = record.view();
            if reader.wants(record.attributes) && reader.take(record) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(through)
    }
}

fn record(number: u64, event_type: &str, event_bytes: usize) -> Record {
    let event = proto::Event {
        id: format!("msg_{}{number}", "0".repeat(event_bytes)),
        ..proto::Event::default()
    };
    Record {
        position: Position::new(number),
        run: Run::NONE,
        entry: Entry {
            id: format!("msg_{number}"),
            attributes: Attributes {
                event_type: event_type.to_owned(),
                ..Attributes::default()
            },
            receive_time: UnixMillis::new(0),
            event: event.encode_to_vec().into(),
            decoding: crate::clerk::decoding(),
            payload: Bytes::from_static(b"{}"),
        },
    }
}

impl Read for MemoryLog {
    fn epoch(&self) -> Epoch {
        Epoch::new(1)
    }

    fn bounds(&self) -> Bounds {
        let kept = self.kept.lock();
        Bounds {
            trimmed: kept.trimmed,
            last: kept.last,
            last_receive_time: UnixMillis::new(0),
        }
    }

    fn confirmed_bounds(&self, _: Position) -> BoxFuture<'_, Result<Bounds, ReadError>> {
        Box::pin(std::future::ready(Ok(self.bounds())))
    }

    fn run_at(&self, _: Position) -> Run {
        Run::NONE
    }

    fn lineage(&self, _: Position, _: Run) -> BoxFuture<'_, Result<Lineage, ReadError>> {
        Box::pin(std::future::ready(Ok(Lineage::Same)))
    }

    fn tallies(&self) -> Vec<Tally> {
        Vec::new()
    }

    fn names_version(&self) -> u64 {
        0
    }

    fn scan(
        &self,
        scan: Scan,
        mut reader: Box<dyn Reader>,
    ) -> BoxFuture<'_, Result<Position, ReadError>> {
        Box::pin(async move {
            for _ in 0..SCAN_PENDING {
                tokio::task::yield_now().await;
            }
            self.show(&scan, &mut *reader)
        })
    }

    fn find(&self, _: String, _: Predicate) -> BoxFuture<'_, Result<Option<Record>, ReadError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn position_before(&self, _: UnixMillis) -> BoxFuture<'_, Result<Position, ReadError>> {
        Box::pin(std::future::ready(Ok(Position::START)))
    }

    fn describe(&self) -> BoxFuture<'_, Result<Description, ReadError>> {
        Box::pin(std::future::ready(Ok(Description::default())))
    }

    fn follow(&self) -> Follower {
        self.batches.subscribe().into()
    }
}
