//! Pages of history, encoded straight from where the log has them, and shared by those
//! who go through it together: after a new release, all instances of a service start over
//! at the same time.

use std::collections::VecDeque;
use std::num::NonZero;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};

use super::filter::Filter;
use super::frame::{Frame, Frames, Payload, View};
use crate::clerk;
use crate::event::{AttributesRef, Epoch, Position, UnixMillis};
use crate::log::{Error, Log, Payloads, Reader, RecordRef, Scan};

/// A page ends with the frame that reaches this.
const PAGE_BYTES_MAX: usize = 256 << 10;
/// Events in a page.
const PAGE_EVENTS_MAX: u64 = 1024;
/// Pages kept for other subscribers, in bytes of events and filters. Subscribers that read
/// history together may be at most this far apart.
const KEPT_BYTES_MAX: usize = 4 << 20;
/// And so far in time. In a log that others change too, what is gone may be heard of late.
const KEPT_FOR: Duration = Duration::from_secs(5);

/// The log's history, page by page.
#[derive(Debug)]
pub(super) struct History {
    log: Arc<dyn Log>,
    /// Each page keeps a processor busy, and those who post must not wait for everybody
    /// who catches up.
    turns: Semaphore,
    kept: Mutex<Kept>,
}

/// A page to read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    pub(super) after: Position,
    pub(super) filter: Filter,
    pub(super) view: View,
    pub(super) events_max: u64,
}

/// The matching events up to `through`.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) runs: Vec<Frame>,
    pub(super) events: u64,
    pub(super) event_bytes: usize,
    /// When the first and the last were received.
    pub(super) received: Option<(UnixMillis, UnixMillis)>,
    pub(super) through: Position,
    is_full: bool,
}

impl History {
    pub(super) fn new(log: Arc<dyn Log>) -> Self {
        // Half of the processors.
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            log,
            turns: Semaphore::new((processors / 2).max(1)),
            kept: Mutex::default(),
        }
    }

    /// Waits for a turn at reading the log.
    pub(super) async fn turn(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        self.turns.acquire().await
    }

    /// Reads a page, unless somebody else just has.
    pub(super) async fn read(&self, mut wanted: Wanted) -> Result<Arc<Page>, Error> {
        wanted.events_max = wanted.events_max.min(PAGE_EVENTS_MAX);
        if let Some(page) = self.kept(&wanted) {
            return Ok(page);
        }
        let _turn = self.turn().await;
        // Whose turn it was may have read this one.
        if let Some(page) = self.kept(&wanted) {
            return Ok(page);
        }
        let page = Arc::new(self.read_log(wanted.clone()).await?);
        // One that is not full may be longer the next time, and one that was to be small is
        // worth nothing to others.
        if page.is_full && wanted.events_max == PAGE_EVENTS_MAX {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push(wanted, Arc::clone(&page));
        }
        Ok(page)
    }

    /// The page as somebody else has read it, for as long as retention keeps its events.
    fn kept(&self, wanted: &Wanted) -> Option<Arc<Page>> {
        if self.log.bounds().trimmed > wanted.after {
            return None;
        }
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.find(wanted)
    }

    async fn read_log(&self, wanted: Wanted) -> Result<Page, Error> {
        let Wanted {
            after,
            filter,
            view,
            events_max,
        } = wanted;
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

/// The pages that were read last, oldest first.
#[derive(Debug, Default)]
struct Kept {
    pages: VecDeque<KeptPage>,
    bytes: usize,
}

#[derive(Debug)]
struct KeptPage {
    wanted: Wanted,
    page: Arc<Page>,
    read: Instant,
}

impl KeptPage {
    fn bytes(&self) -> usize {
        self.page.event_bytes + self.wanted.filter.bytes()
    }

    fn is_too_old(&self) -> bool {
        self.read.elapsed() > KEPT_FOR
    }
}

impl Kept {
    fn find(&self, wanted: &Wanted) -> Option<Arc<Page>> {
        let recent = self
            .pages
            .iter()
            .rev()
            .take_while(|kept| !kept.is_too_old());
        let mut equal = recent.filter(|kept| kept.wanted == *wanted);
        equal.next().map(|kept| Arc::clone(&kept.page))
    }

    fn push(&mut self, wanted: Wanted, page: Arc<Page>) {
        let kept = KeptPage {
            wanted,
            page,
            read: Instant::now(),
        };
        self.bytes += kept.bytes();
        self.pages.push_back(kept);
        while let Some(oldest) = self.pages.front()
            && (self.bytes > KEPT_BYTES_MAX || oldest.is_too_old())
        {
            self.bytes -= oldest.bytes();
            self.pages.pop_front();
        }
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
    fn wants(&self, attributes: AttributesRef<'_>) -> bool {
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
