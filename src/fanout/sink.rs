//! What a walk keeps of matching records: encoded frames, or the records themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::frame::View;
use super::history::History;
use super::outbox::Outbox;
use super::page_cache::PageKey;
use super::ring::RingBatch;
use crate::event::Position;
use crate::log::{Query, ReadError, Record};

/// Frames taken ahead of the connection, in bytes of events. With what HTTP/2 buffers,
/// this is what a subscriber that never reads costs; where its filter picks single
/// events, four times as much.
const PAGE_BYTES_MAX: usize = 256 << 10;
/// Events taken ahead of the connection.
const PAGE_EVENTS_MAX: u64 = 1024;

/// Keeps what it wants of matching records, in their order.
pub(super) trait Sink: Send {
    /// What it makes of them.
    type Batch: Send;

    /// Reads a page of history, and returns how far the log was searched. Keeps nothing of
    /// it if the future is dropped before it completes.
    fn read_page(
        &mut self,
        history: &History,
        page: PageKey,
    ) -> impl Future<Output = Result<Position, ReadError>> + Send;

    /// Takes matching records of a batch, by index, until it is full. It must not look at a
    /// record that it does not take.
    fn take<'a>(
        &mut self,
        batch: &'a RingBatch,
        matching: impl Iterator<Item = (usize, &'a Record)>,
    );

    /// Whether what it keeps must be flushed before it takes more.
    fn is_full(&self) -> bool;

    /// Hands over what it keeps, if that is anything.
    fn flush(&mut self) -> Option<Self::Batch>;
}

/// Keeps shared runs of encoded frames.
#[derive(Debug)]
pub(super) struct FrameSink {
    view: View,
    outbox: Outbox,
}

impl FrameSink {
    pub(super) fn new(view: View) -> Self {
        Self {
            view,
            outbox: Outbox::default(),
        }
    }
}

impl Sink for FrameSink {
    type Batch = Outbox;

    async fn read_page(&mut self, history: &History, page: PageKey) -> Result<Position, ReadError> {
        let page = history.read(page, &self.view).await?;
        self.outbox.push_history(&page);
        Ok(page.through)
    }

    fn take<'a>(
        &mut self,
        batch: &'a RingBatch,
        matching: impl Iterator<Item = (usize, &'a Record)>,
    ) {
        let mut frames = None;
        for (index, record) in matching {
            let frames = *frames.get_or_insert_with(|| batch.frames(&self.view));
            self.outbox
                .push_event(frames, index, record.entry.receive_time);
            if self.is_full() {
                return;
            }
        }
    }

    fn is_full(&self) -> bool {
        self.outbox.events >= PAGE_EVENTS_MAX || self.outbox.event_bytes >= PAGE_BYTES_MAX
    }

    fn flush(&mut self) -> Option<Outbox> {
        (!self.outbox.runs.is_empty()).then(|| std::mem::take(&mut self.outbox))
    }
}

/// Keeps the records themselves.
#[derive(Debug)]
pub(super) struct RecordSink {
    records: Vec<Record>,
    bytes: usize,
    records_max: usize,
    bytes_max: usize,
    /// Rows of history that the filter was asked about.
    rows: Arc<AtomicUsize>,
}

impl RecordSink {
    /// A sink that is full with this many records or bytes.
    pub(super) fn new(records_max: usize, bytes_max: usize) -> Self {
        Self {
            records: Vec::new(),
            bytes: 0,
            records_max,
            bytes_max,
            rows: Arc::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How many rows of history the filter was asked about.
    pub(super) fn rows(&self) -> usize {
        self.rows.load(Ordering::Relaxed)
    }
}

impl Sink for RecordSink {
    type Batch = Vec<Record>;

    async fn read_page(&mut self, history: &History, page: PageKey) -> Result<Position, ReadError> {
        let PageKey {
            after,
            filter,
            events_max,
        } = page;
        let rows = Arc::clone(&self.rows);
        let left = self.records_max - self.records.len();
        let query = Query {
            after,
            narrow: filter.narrow().clone(),
            matches: Arc::new(move |attributes| {
                rows.fetch_add(1, Ordering::Relaxed);
                filter.matches(attributes)
            }),
            records_max: usize::try_from(events_max).map_or(left, |most| left.min(most)),
            bytes_max: self.bytes_max - self.bytes,
        };
        let page = history.read_records(query).await?;
        let sizes = page.records.iter().map(|record| record.entry.bytes());
        self.bytes += sizes.sum::<usize>();
        self.records.extend(page.records);
        Ok(page.through)
    }

    fn take<'a>(&mut self, _: &'a RingBatch, matching: impl Iterator<Item = (usize, &'a Record)>) {
        for (_, record) in matching {
            self.bytes += record.entry.bytes();
            self.records.push(record.clone());
            if self.is_full() {
                return;
            }
        }
    }

    fn is_full(&self) -> bool {
        self.records.len() >= self.records_max || self.bytes >= self.bytes_max
    }

    fn flush(&mut self) -> Option<Vec<Record>> {
        self.bytes = 0;
        (!self.records.is_empty()).then(|| std::mem::take(&mut self.records))
    }
}
