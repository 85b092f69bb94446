//! A walk through the log: history, then the ring, then waiting for what comes.
//!
//! Knows no wire and no client. What becomes of matching records is its [`Sink`]'s.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::error::Error;
use super::hub::Hub;
use super::index::TooLarge;
use super::page_cache::PageKey;
use super::request::OnExpired;
use super::ring::{Lookup, RingBatch};
use super::sink::Sink;
use crate::event::Position;
use crate::filter::Filter;
use crate::log::ReadError;

/// Between looks for a log that is away.
const UNREACHABLE_RETRY: Duration = Duration::from_millis(250);

/// Where a walk begins, and what it does on the way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    /// Begins after this position.
    pub(super) from: Position,
    /// Where the history ends that is walked through first.
    pub(super) until: Position,
    /// Whether `from` stands for "the oldest event there is", which retention may still move.
    pub(super) follows_oldest: bool,
    /// Whether the end of the history is the end of the walk, so that it need not be near
    /// the ring.
    pub(super) stops_at_history: bool,
    pub(super) on_expired: OnExpired,
}

/// What a walk came upon.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<B> {
    /// What the sink made of matching records.
    Batch(B),
    /// The walk reached the end of the history, and is near the ring.
    CaughtUp,
    /// The ring was faster. The walk continues with history.
    FellBehind,
    /// Retention was faster, and the route allows it. The walk continues after `to`.
    Removed { from: Position, to: Position },
    /// Nothing matched up to the walk's position, or for as long as the caller waits.
    Quiet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// In the history up to this position.
    CatchingUp {
        until: Position,
    },
    Live,
}

/// Where a position lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RingState {
    /// Before the ring.
    Behind,
    /// In the ring, or at its end.
    Within,
}

/// A cursor that returns each matching record once, in order, as what its sink makes of it.
#[derive(Debug)]
pub(super) struct Walk<S: Sink> {
    hub: Arc<Hub>,
    /// Its number among those that wait.
    number: u64,
    /// Notified when a matching event arrives.
    woken: Arc<Notify>,
    filter: Filter,
    /// How far the log has been searched.
    position: Position,
    phase: Phase,
    /// Nothing was read yet from a start that means "the oldest there is".
    follows_oldest: bool,
    stops_at_history: bool,
    on_expired: OnExpired,
    /// Records to take before the next flush.
    records_max: usize,
    has_waited: bool,
    sink: S,
}

impl<S: Sink> Walk<S> {
    /// Begins a walk for a principal. No other walk may have its number.
    ///
    /// # Errors
    /// When the filter would be too much beside those of the other walks.
    pub(super) fn begin(
        hub: Arc<Hub>,
        number: u64,
        (filter, principal): (Filter, &str),
        route: Route,
        sink: S,
    ) -> Result<Self, TooLarge> {
        let (filter, woken) = hub.waiters.join(number, filter, principal)?;
        Ok(Self {
            hub,
            number,
            woken,
            filter,
            position: route.from,
            phase: Phase::CatchingUp { until: route.until },
            follows_oldest: route.follows_oldest,
            stops_at_history: route.stops_at_history,
            on_expired: route.on_expired,
            records_max: usize::MAX,
            has_waited: false,
            sink,
        })
    }

    /// Its filter, shared with its equals.
    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Every matching record up to here was returned.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Whether it is past its history.
    pub(super) fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Whether the last step waited, be it for the log or for an event.
    pub(super) fn has_waited(&self) -> bool {
        self.has_waited
    }

    /// Takes at most this many records in one step.
    pub(super) fn limit(&mut self, records_max: usize) {
        self.records_max = records_max;
    }

    /// Walks on to what comes next. Where nothing matches, waits until `patience` at most.
    ///
    /// Cancel-safe: what a dropped future has read is read again.
    pub(super) async fn step(&mut self, patience: Instant) -> Result<Step<S::Batch>, Error> {
        self.has_waited = false;
        loop {
            if self.note_caught_up() {
                return Ok(Step::CaughtUp);
            }
            let before = self.position;
            self.skip_unwanted();
            let from = self.position;
            match self.read_ring() {
                RingState::Behind if self.is_live() => return Ok(self.fall_behind()),
                RingState::Behind => {
                    if let Some(step) = self.read_log(patience).await? {
                        return Ok(step);
                    }
                }
                // For a moment after a commit, the log is ahead of the ring.
                RingState::Within if self.position == from && self.must_catch_up() => {
                    if let Some(step) = self.read_log(patience).await? {
                        return Ok(step);
                    }
                }
                RingState::Within => self.follows_oldest &= self.position == before,
            }
            if let Some(batch) = self.sink.flush() {
                return Ok(Step::Batch(batch));
            }
            if self.note_caught_up() {
                return Ok(Step::CaughtUp);
            }
            if self.position > before || Instant::now() >= patience {
                return Ok(Step::Quiet);
            }
            if self.hub.waiters.wait(self.number, self.position) {
                self.has_waited = true;
                let _found_nothing = timeout_at(patience, self.woken.notified()).await;
            }
        }
    }

    /// Whether the walk has just reached the end of its history; it is live from here on.
    pub(super) fn note_caught_up(&mut self) -> bool {
        let Phase::CatchingUp { until } = self.phase else {
            return false;
        };
        // Within the ring, or it would fall behind at once.
        let is_near = || self.stops_at_history || self.hub.ring().covers(self.position);
        let is_caught_up = self.position >= until && is_near();
        if is_caught_up {
            self.phase = Phase::Live;
        }
        is_caught_up
    }

    /// Continues at the last position before which nothing is wanted, if the walk waited.
    fn skip_unwanted(&mut self) {
        if let Some(position) = self.hub.waiters.resume(self.number)
            && position > self.position
        {
            self.position = position;
            self.follows_oldest = false;
        }
    }

    /// Whether there is history left to read.
    fn must_catch_up(&self) -> bool {
        matches!(self.phase, Phase::CatchingUp { until } if until > self.position)
    }

    /// Takes what the ring has, until the sink is full.
    fn read_ring(&mut self) -> RingState {
        let from = self.position;
        let mut left = self.records_max;
        loop {
            let next = self.hub.ring().after(self.position);
            match next {
                // It has just gone; the next look finds out.
                Lookup::Behind if self.position > from => return RingState::Within,
                Lookup::Behind => return RingState::Behind,
                Lookup::End => return RingState::Within,
                Lookup::Next(batch) => {
                    left -= self.take(&batch, left);
                    if batch.overfills_ring() {
                        self.hub.shed_ring();
                    }
                    if left == 0 || self.sink.is_full() {
                        return RingState::Within;
                    }
                }
            }
        }
    }

    /// Has the sink take what matches, at most this many records. Returns how many it took.
    fn take(&mut self, batch: &RingBatch, records_max: usize) -> usize {
        let Self {
            filter,
            position,
            sink,
            ..
        } = self;
        let mut taken = 0;
        let matching = batch.after(*position).filter(|(_, record)| {
            *position = record.position;
            let matches = filter.matches(record.entry.attributes.as_ref());
            taken += usize::from(matches);
            matches
        });
        sink.take(batch, matching.take(records_max));
        taken
    }

    /// Reads a page of history. Returns a step if no page can be read now.
    async fn read_log(&mut self, patience: Instant) -> Result<Option<Step<S::Batch>>, Error> {
        self.has_waited = true;
        loop {
            let key = self.page_key();
            match self.sink.read_page(&self.hub.history, key).await {
                Ok(through) => {
                    self.follows_oldest = false;
                    self.position = through;
                    return Ok(None);
                }
                Err(ReadError::Expired { trimmed }) => return self.skip_removed(trimmed),
                Err(ReadError::Unreachable(_)) => {
                    if !wait_for_log(patience).await {
                        return Ok(Some(Step::Quiet));
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn page_key(&self) -> PageKey {
        PageKey {
            after: self.position,
            filter: self.filter.clone(),
            events_max: self.records_max as u64,
        }
    }

    fn fall_behind(&mut self) -> Step<S::Batch> {
        let until = self.hub.log.bounds().last;
        self.phase = Phase::CatchingUp { until };
        Step::FellBehind
    }

    /// Retention removed what the walk had not read.
    fn skip_removed(&mut self, trimmed: Position) -> Result<Option<Step<S::Batch>>, Error> {
        let from = self.position;
        if self.follows_oldest {
            self.position = trimmed;
            return Ok(None);
        }
        let to = match self.on_expired {
            OnExpired::Fail => return Err(self.hub.expired()),
            OnExpired::Earliest => trimmed,
            OnExpired::Latest => self.hub.log.bounds().last,
        };
        self.position = to;
        Ok(Some(Step::Removed { from, to }))
    }
}

impl<S: Sink> Drop for Walk<S> {
    fn drop(&mut self) {
        self.hub.waiters.leave(self.number);
    }
}

/// The log is away and comes back by itself. Returns whether there is patience left to look
/// again.
async fn wait_for_log(patience: Instant) -> bool {
    let retry = Instant::now() + UNREACHABLE_RETRY;
    sleep_until(retry.min(patience)).await;
    Instant::now() < patience
}

#[cfg(test)]
mod tests;
