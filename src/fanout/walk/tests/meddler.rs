//! A sink that has something happen while a walk is between two awaits, as another thread may.

use super::super::*;
use super::walker::OpenSink;
use crate::fanout::history::History;
use crate::fanout::sink::RecordSink;
use crate::log::Record;

type Happening = Box<dyn FnOnce() + Send>;

/// Keeps records.
pub(super) struct Meddler {
    records: RecordSink,
    /// Happens after a batch was taken.
    after_take: Option<Happening>,
    /// Happens when nothing is left to take.
    at_end: Option<Happening>,
}

impl Meddler {
    pub(super) fn after_take(happening: impl FnOnce() + Send + 'static) -> Self {
        Self {
            after_take: Some(Box::new(happening)),
            ..Self::new()
        }
    }

    pub(super) fn at_end(happening: impl FnOnce() + Send + 'static) -> Self {
        Self {
            at_end: Some(Box::new(happening)),
            ..Self::new()
        }
    }

    fn new() -> Self {
        Self {
            records: RecordSink::new(100, usize::MAX),
            after_take: None,
            at_end: None,
        }
    }
}

impl Sink for Meddler {
    type Batch = Vec<Record>;

    async fn read_page(&mut self, history: &History, page: PageKey) -> Result<Position, ReadError> {
        self.records.read_page(history, page).await
    }

    fn take<'a>(
        &mut self,
        batch: &'a RingBatch,
        matching: impl Iterator<Item = (usize, &'a Record)>,
    ) {
        self.records.take(batch, matching);
        if let Some(happening) = self.after_take.take() {
            happening();
        }
    }

    fn is_full(&self) -> bool {
        self.records.is_full()
    }

    fn flush(&mut self) -> Option<Vec<Record>> {
        let flushed = self.records.flush();
        if flushed.is_none()
            && let Some(happening) = self.at_end.take()
        {
            happening();
        }
        flushed
    }
}

impl OpenSink for Meddler {
    fn positions(records: Vec<Record>) -> Vec<Position> {
        RecordSink::positions(records)
    }
}
