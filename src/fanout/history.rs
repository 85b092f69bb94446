//! Pages of history, encoded straight from where the log has them.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::Filter;
use super::frame::{Frame, Frames, Payload, View};
use crate::clerk;
use crate::event::{AttributesRef, Epoch, Position, UnixMillis};
use crate::log::{Bodies, Error, Log, Reader, RecordRef, Scan};

/// A page ends with the frame that reaches this.
const PAGE_BYTES_MAX: usize = 256 << 10;
/// Events in a page.
const PAGE_EVENTS_MAX: u64 = 1024;

/// What to read.
#[derive(Debug)]
pub(super) struct History {
    pub(super) log: Arc<dyn Log>,
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
}

impl History {
    /// Reads the page.
    pub(super) async fn read(self) -> Result<Page, Error> {
        let scan = Scan {
            after: self.after,
            narrow: self.filter.narrow().clone(),
            bodies: match self.view.payload {
                Payload::Included => Bodies::All,
                Payload::Omitted => Bodies::UnlessDecodedBy(clerk::decoding()),
            },
        };
        let encoder = Encoder {
            filter: self.filter,
            view: self.view,
            epoch: self.log.epoch(),
            events_max: self.events_max.min(PAGE_EVENTS_MAX),
            frames: Frames::default(),
            events: 0,
            event_bytes: 0,
            received: None,
        };
        let (encoder, through) = self.log.scan_with(scan, encoder).await?;
        Ok(Page {
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
        if self.events >= self.events_max || self.event_bytes >= PAGE_BYTES_MAX {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}
