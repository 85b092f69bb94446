//! Pages of history, encoded straight from where the log has them, and shared by those
//! who go through it together: after a new release, all instances of a service start over
//! at the same time.

use std::num::NonZero;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};

use super::frame::{Frames, Payload, View};
use super::page_cache::{Page, PageCache, PageKey};
use crate::clerk;
use crate::event::{Attributes, Epoch, UnixMillis};
use crate::filter::Filter;
use crate::log::{self, Payloads, Query, Read, ReadError, Reader, RecordRef, Scan};

/// A page ends with the frame that reaches this.
const PAGE_BYTES_MAX: usize = 256 << 10;
/// Events in a page.
const PAGE_EVENTS_MAX: u64 = 1024;
/// The log's history, page by page.
#[derive(Debug)]
pub(super) struct History {
    log: Arc<dyn Read>,
    /// Each page keeps a processor busy, and webhooks must not wait for all subscribers that
    /// catch up.
    turns: Semaphore,
    pages: Mutex<PageCache>,
}

impl History {
    pub(super) fn new(log: Arc<dyn Read>) -> Self {
        // Half of the processors.
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            log,
            turns: Semaphore::new((processors / 2).max(1)),
            pages: Mutex::default(),
        }
    }

    /// Waits for a turn at reading the log.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        self.turns.acquire().await
    }

    /// Reads a page, unless another subscriber has just read it.
    pub(super) async fn read(&self, mut key: PageKey, view: &View) -> Result<Arc<Page>, ReadError> {
        key.events_max = key.events_max.min(PAGE_EVENTS_MAX);
        if let Some(page) = self.cached(&key, view) {
            return Ok(page);
        }
        let _turn = self.turn().await;
        // The subscriber before may have read this one.
        if let Some(page) = self.cached(&key, view) {
            return Ok(page);
        }
        let page = Arc::new(self.read_log(key.clone(), view.clone()).await?);
        // One that is not full may be longer the next time, and one that was to be small is
        // worth nothing to others.
        if page.is_full && key.events_max == PAGE_EVENTS_MAX {
            let mut pages = self.pages.lock();
            pages.push((key, view.clone()), Arc::clone(&page), Instant::now());
        }
        Ok(page)
    }

    /// Reads a page of records, in turn with those that read frames.
    pub(super) async fn read_records(&self, query: Query) -> Result<log::Page, ReadError> {
        let _turn = self.turn().await;
        self.log.read(query).await
    }

    /// The page as another subscriber has read it, while retention keeps its events.
    fn cached(&self, key: &PageKey, view: &View) -> Option<Arc<Page>> {
        if self.log.bounds().trimmed > key.after {
            return None;
        }
        self.pages.lock().find(key, view, Instant::now())
    }

    async fn read_log(&self, key: PageKey, view: View) -> Result<Page, ReadError> {
        let PageKey {
            after,
            filter,
            events_max,
        } = key;
        let scan = Scan {
            after,
            narrow: filter.narrow().clone(),
            payloads: match view.payload {
                Payload::Included => Payloads::All,
                Payload::Omitted => Payloads::UnlessDecodedBy(clerk::decoding()),
            },
        };
        let encoder = Encoder {
            filter,
            view,
            epoch: self.log.epoch(),
            events_max,
            frames: Frames::default(),
            events: 0,
            event_bytes: 0,
            received: None,
        };
        let (encoder, through) = self.log.scan_with(scan, encoder).await?;
        Ok(Page {
            is_full: encoder.is_full(),
            runs: encoder.frames.into_runs(),
            events: encoder.events,
            event_bytes: encoder.event_bytes,
            received: encoder.received,
            through,
        })
    }
}

struct Encoder {
    filter: Filter,
    view: View,
    epoch: Epoch,
    events_max: u64,
    frames: Frames,
    events: u64,
    event_bytes: usize,
    received: Option<(UnixMillis, UnixMillis)>,
}

impl Encoder {
    fn is_full(&self) -> bool {
        self.events >= self.events_max || self.event_bytes >= PAGE_BYTES_MAX
    }
}

impl Reader for Encoder {
    fn wants(&self, attributes: Attributes<&str>) -> bool {
        self.filter.matches(attributes)
    }

    fn take(&mut self, record: RecordRef<'_>) -> ControlFlow<()> {
        self.event_bytes += self.frames.push(self.epoch, record, &self.view);
        self.events += 1;
        let now = record.receive_time;
        let first = self.received.map_or(now, |(first, _)| first);
        self.received = Some((first, now));
        if self.is_full() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}
