//! A walk for a reader that keeps the records themselves.

use std::sync::Arc;

use tokio::time::Instant;

use super::Fanout;
use super::error::Error;
use super::request::OnExpired;
use super::sink::RecordSink;
use super::walk::{Route, Step, Walk};
use crate::event::Position;
use crate::filter::Filter;
use crate::log::Record;

/// Bounds of what one step of a walk returns: it is full with this many records or bytes.
#[derive(Clone, Copy, Debug)]
pub struct RecordBatch {
    /// The most records.
    pub records_max: usize,
    /// The step ends with the record that reaches this many bytes.
    pub bytes_max: usize,
}

/// A cursor that returns each matching record once, in order. It waits at the end of the log.
#[derive(Debug)]
pub struct RecordWalk {
    walk: Walk<RecordSink>,
}

impl Fanout {
    /// Begins a walk after a position, for a principal that shares the filter's memory with its
    /// subscribers.
    ///
    /// # Errors
    /// When the filter would be too much beside those of the other walks.
    pub fn walk_records(
        &self,
        (filter, principal): (Filter, &str),
        after: Position,
        batch: RecordBatch,
    ) -> Result<RecordWalk, Error> {
        let hub = &self.hub;
        let route = Route {
            from: after,
            until: hub.log.bounds().last.max(after),
            follows_oldest: false,
            stops_at_history: false,
            on_expired: OnExpired::Fail,
        };
        let sink = RecordSink::new(batch.records_max, batch.bytes_max);
        let number = hub.registry.take_number();
        let begun = Walk::begin(Arc::clone(hub), number, (filter, principal), route, sink);
        let walk = begun.map_err(|too_large| Error::FiltersTooLarge {
            principal: principal.to_owned(),
            limit: too_large.limit,
        })?;
        Ok(RecordWalk { walk })
    }
}

impl RecordWalk {
    /// Every matching record up to here was returned.
    #[must_use]
    pub fn position(&self) -> Position {
        self.walk.position()
    }

    /// Whether it is past its history. What a dropped step has read of the log itself is read
    /// again; a live walk reads only what is in memory.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.walk.is_live()
    }

    /// Walks on to the next matching records. Returns none where the position alone may have
    /// moved, or nothing matched until `patience`. Cancel-safe.
    ///
    /// # Errors
    /// When retention removed what was not read, or the log cannot be read.
    pub async fn next(&mut self, patience: Instant) -> Result<Vec<Record>, Error> {
        Ok(match self.walk.step(patience).await? {
            Step::Batch(records) => records,
            Step::Quiet | Step::CaughtUp | Step::FellBehind | Step::Removed { .. } => Vec::new(),
        })
    }
}
