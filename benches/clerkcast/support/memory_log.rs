//! A log without a disk, so that the fan-out is measured and not the disk.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use clerkcast::clerk::{self, Envelope};
use clerkcast::event::{Epoch, Position, Run, UnixMillis};
use clerkcast::log::{
    Append, AppendError, Appended, Batch, Bounds, Description, Entry, Follower, Keep, Lineage,
    Predicate, Read, ReadError, Reader, Record, Scan, Tally, Writability,
};
use futures_util::future::BoxFuture;
use tokio::sync::{broadcast, watch};

#[derive(Debug)]
pub(crate) struct MemoryLog {
    published: Mutex<Vec<Arc<Batch>>>,
    batches: broadcast::Sender<Arc<Batch>>,
    writability: watch::Sender<Writability>,
}

/// A `user.created` whose encoded event has about so many bytes.
pub(crate) fn record(event_bytes: usize) -> Entry {
    let filler = "x".repeat(event_bytes.saturating_sub(150));
    let body = format!(
        r#"{{"type":"user.created","data":{{"id":"user_3ATV8zndaNuwl9Z3aLvmUEmOJSm","image_url":"{filler}"}}}}"#
    );
    let envelope = Envelope {
        id: "msg_3ATV8zndaNuwl9Z3aLvmUEmOJSm",
        source: "default",
        send_time: UnixMillis::now(),
    };
    let decoded = clerk::decode(envelope, body.as_bytes());
    Entry {
        id: envelope.id.to_owned(),
        attributes: decoded.attributes,
        receive_time: UnixMillis::now(),
        event: decoded.event,
        decoding: clerk::decoding(),
        payload: Bytes::from(body),
    }
}

impl MemoryLog {
    pub(crate) fn new() -> Self {
        Self {
            published: Mutex::default(),
            batches: broadcast::Sender::new(1024),
            writability: watch::Sender::new(Writability::Writable),
        }
    }

    /// Batches of `batch` copies, `count` copies in all. Made before the clock starts: a
    /// real log's writer is not part of the fan-out.
    pub(crate) fn prepare(entry: &Entry, batch: usize, count: usize) -> Vec<Arc<Batch>> {
        let positions: Vec<u64> = (1..=count as u64).collect();
        let batches = positions.chunks(batch).map(|positions| {
            let records = positions.iter().map(|position| Record {
                position: Position::new(*position),
                run: Run::NONE,
                entry: entry.clone(),
            });
            Arc::new(Batch {
                after: Position::new(positions[0] - 1),
                records: records.collect(),
            })
        });
        batches.collect()
    }

    /// Commits and publishes a batch.
    pub(crate) fn publish(&self, batch: &Arc<Batch>) {
        let mut published = self.published.lock().expect("unpoisoned");
        published.push(Arc::clone(batch));
        drop(published);
        let _nobody = self.batches.send(Arc::clone(batch));
    }
}

impl Append for MemoryLog {
    fn append(&self, record: Entry) -> BoxFuture<'static, Result<Appended, AppendError>> {
        let after = self.bounds().last;
        let entry = record;
        let position = after.next();
        let records = vec![Record {
            position,
            run: Run::NONE,
            entry,
        }];
        self.publish(&Arc::new(Batch { after, records }));
        Box::pin(std::future::ready(Ok(Appended::Committed(position))))
    }
}

impl Read for MemoryLog {
    fn epoch(&self) -> Epoch {
        Epoch::new(1)
    }

    fn bounds(&self) -> Bounds {
        let published = self.published.lock().expect("unpoisoned");
        let newest = published.last().and_then(|batch| batch.records.last());
        Bounds {
            trimmed: Position::START,
            last: newest.map_or(Position::START, |record| record.position),
            last_receive_time: UnixMillis::now(),
        }
    }

    fn confirmed_bounds(&self, _at_least: Position) -> BoxFuture<'_, Result<Bounds, ReadError>> {
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
        let published = self.published.lock().expect("unpoisoned");
        let records = published.iter().flat_map(|batch| &batch.records);
        let mut through = scan.after;
        for record in records.filter(|record| record.position > scan.after) {
            through = record.position;
            let record = record.view();
            if reader.wants(record.attributes) && reader.take(record).is_break() {
                break;
            }
        }
        drop(published);
        Box::pin(std::future::ready(Ok(through)))
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

impl Keep for MemoryLog {
    fn writability(&self) -> watch::Receiver<Writability> {
        self.writability.subscribe()
    }

    fn apply_retention(&self) -> BoxFuture<'_, Result<(), AppendError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}
