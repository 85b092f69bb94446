//! What a task waits for, and how it follows the steps of other gateways.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::super::ahead::is_ahead;
use super::super::machine::{Machine, OwnLeases};
use super::super::reading::finished;
use super::super::state_cell::StateCell;
use super::super::status::first_state;
use super::super::step_error::StepError;
use super::{FETCH_AGAIN, Fetched, Known, LINGER, MOVED_MAX, NEWS_PATIENCE, STEP_PATIENCE, Task};
use crate::event::UnixMillis;
use crate::fanout;
use crate::log::Revision;

impl Task {
    /// Waits until there may be something to do, and takes the calls that are there.
    pub(super) async fn wait(&mut self) {
        if !self.has_more {
            self.wait_for_news().await;
        }
        while !self.queue.is_full()
            && let Ok(ask) = self.asks.try_recv()
        {
            self.queue.push(ask);
        }
        let patience = self.return_patience();
        let returned = self.shared.seats.take_returned(patience);
        self.queue.release(returned);
        let has_streams = self.shared.seats.len() > 0;
        if !self.queue.is_empty() || has_streams || self.had_streams {
            self.last_used = Instant::now();
        }
        self.had_streams = has_streams;
        self.is_stale |= self.shared.state_changes.take(self.known_revision());
    }

    fn known_revision(&self) -> Option<Revision> {
        self.known.as_ref().and_then(|known| known.revision)
    }

    async fn wait_for_news(&mut self) {
        let wake_at = self.wake_at();
        let reads_on = self.reads_on();
        let is_fetching = self.fetch.is_some();
        let known = self.known_revision();
        let changed = self.shared.state_changes.made_elsewhere(known);
        let fetch = async {
            match &mut self.fetch {
                Some(fetch) => finished(fetch).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ask = self.asks.recv() => {
                if let Some(ask) = ask {
                    self.queue.push(ask);
                }
            }
            () = self.shared.seats.news.notified() => {}
            () = changed => self.is_stale = true,
            read = self.ahead.read_on(), if reads_on => self.note_read(read),
            fetched = fetch, if is_fetching => self.note_fetched(fetched),
            () = sleep_until(wake_at) => {}
        }
    }

    /// Whether the walk reads on: while events can be handed out. What retention took, or another
    /// log, would be met again at once.
    pub(super) fn reads_on(&self) -> bool {
        let machine = self.known.as_ref().map(|known| &known.machine);
        self.ahead.has_room()
            && !self.shared.is_draining()
            && self.obstacle().is_none()
            && machine.is_some_and(|machine| !machine.settings().paused)
    }

    pub(super) fn note_read(&mut self, read: Result<(), fanout::Error>) {
        match read {
            // Retention has overtaken the walk, and the next turn goes by the settings.
            Ok(()) | Err(fanout::Error::CursorExpired { .. }) => {}
            Err(error) => self.note_failed(&StepError::Walk(error)),
        }
    }

    fn note_fetched(&mut self, fetched: Result<Fetched, StepError>) {
        self.fetch = None;
        match fetched {
            Ok(Fetched { records, gone }) => {
                let is_empty = records.is_empty() && gone.is_empty();
                self.fetch_at = is_empty.then(|| Instant::now() + FETCH_AGAIN);
                for record in records {
                    self.ahead.keep(record);
                }
                self.gone.extend(gone);
            }
            Err(error) => self.note_failed(&error),
        }
    }

    /// When time alone is a reason to look again.
    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let mut wake_at = now + NEWS_PATIENCE;
        if self.shared.seats.len() == 0 {
            wake_at = wake_at.min((self.last_used + LINGER).max(now));
        }
        if self.is_served()
            && let Some(known) = &self.known
        {
            let clock = self.shared.surroundings.clock.now();
            let machine = &known.machine;
            let later = |at: &UnixMillis| *at > clock;
            let next = [
                machine.next_change(clock),
                machine.stalls_at().filter(later),
            ];
            for at in next.into_iter().flatten() {
                wake_at = wake_at.min(now + at.since(clock));
            }
        }
        let patience = self.return_patience();
        let returned = self.shared.seats.next_return(patience);
        let moved = self.moved_at.map(|moved_at| moved_at + MOVED_MAX);
        for at in [returned, moved, self.fetch_at].into_iter().flatten() {
            wake_at = wake_at.min(at);
        }
        self.retry_at.unwrap_or(wake_at)
    }

    /// How long a connection may leave its deliveries, before they are given back.
    fn return_patience(&self) -> Duration {
        self.orders.definition.settings.ack_deadline / 2
    }

    /// Reads the state where it is unknown, or may have been changed by another process.
    pub(super) async fn refresh(&mut self) -> Result<(), StepError> {
        let is_old = |known: &Known| known.read_at.elapsed() >= NEWS_PATIENCE;
        let is_current = self.known.as_ref().is_some_and(|known| !is_old(known));
        if is_current && !self.is_stale {
            return Ok(());
        }
        self.is_stale = false;
        let first_generation = self.orders.definition.first_generation();
        let read = timeout(STEP_PATIENCE, self.store.read_state(first_generation)).await;
        let late = |_| StepError::NotStored("the log does not answer".to_owned());
        let read = read.map_err(late).flatten();
        if read.is_err() {
            self.is_stale = true;
        }
        self.note_state(read?);
        Ok(())
    }

    /// Takes a state that was read from its cell.
    pub(super) fn note_state(&mut self, cell: StateCell) {
        let read_at = Instant::now();
        if let Some(known) = &mut self.known
            && known.revision == cell.revision
        {
            known.read_at = read_at;
            return;
        }
        let StateCell { revision, state } = cell;
        let own = self.take_own_leases();
        let definition = &self.orders.definition;
        let state = state.unwrap_or_else(|| first_state(definition));
        if self.generation != state.generation() {
            self.generation = state.generation();
            self.shared.seats.void_deliveries();
        }
        self.holders.follow(&state);
        self.ahead.note_stored(&state);
        self.ahead.discard_unneeded(&state);
        self.gone.clear();
        self.moved_at = None;
        self.must_check_end = true;
        let settings = definition.settings.clone();
        let limits = self.shared.surroundings.limits;
        let machine = Machine::new(state, settings, limits, own);
        self.known = Some(Known {
            machine,
            revision,
            read_at,
        });
    }

    /// Gives up what is known of the state.
    pub(super) fn forget_state(&mut self) {
        self.own = self.take_own_leases();
    }

    fn take_own_leases(&mut self) -> OwnLeases {
        match self.known.take() {
            Some(known) => known.machine.into_own_leases(),
            None => std::mem::take(&mut self.own),
        }
    }

    /// Looks whether the state is ahead of the log, if it may be and a stream would end by it.
    /// Another gateway may know a later end of the log.
    pub(super) async fn note_end(&mut self) -> Result<(), StepError> {
        let has_streams = self.shared.seats.len() > 0;
        let is_due = self.queue.has_joins() || (self.must_check_end && has_streams);
        let Some(known) = self.known.as_ref().filter(|_| is_due) else {
            return Ok(());
        };
        let log = &*self.shared.surroundings.log;
        self.is_ahead = is_ahead(log, known.machine.state()).await?;
        self.must_check_end = false;
        Ok(())
    }
}
