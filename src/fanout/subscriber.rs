//! One subscriber: a cursor that reads the log, then the ring, then waits.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::error::Error;
use super::frame::Frame;
use super::hub::Hub;
use super::metrics::Ending;
use super::outbox::Outbox;
use super::page_cache::PageKey;
use super::registry::{Lag, State, SubscriberEntry};
use super::request::{OnExpired, Request, Start};
use super::ring::{Lookup, RingBatch};
use super::start::{end_of_history, starting_position};
use crate::access::{Revocation, audit};
use crate::event::{Cursor, Position, UnixMillis};
use crate::log::ReadError;
use crate::proto;
use crate::proto::subscribe_response::Kind;

/// Frames taken ahead of the connection, in bytes of events. With what HTTP/2 buffers,
/// this is what a subscriber that never reads costs; where its filter picks single
/// events, four times as much.
const PAGE_BYTES_MAX: usize = 256 << 10;
/// Events taken ahead of the connection.
const PAGE_EVENTS_MAX: usize = 1024;
/// Between looks for a log that is away.
const UNREACHABLE_RETRY: Duration = Duration::from_millis(250);

/// An open stream, pulled by its connection.
#[derive(Debug)]
pub struct Subscriber {
    hub: Arc<Hub>,
    request: Request,
    number: u64,
    entry: Arc<SubscriberEntry>,
    /// Rings when something arrived that this subscriber waits for.
    woken: Arc<Notify>,
    /// How far the log has been searched for this subscriber.
    position: Position,
    phase: Phase,
    /// Nothing was read yet from a start that means "the oldest there is": retention
    /// may still move it.
    follows_oldest: bool,
    outbox: Outbox,
    last_frame: Instant,
    opened: Instant,
    ended: Option<Ending>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Sending history up to this position.
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

impl Subscriber {
    pub(super) async fn open(hub: Arc<Hub>, mut request: Request) -> Result<Self, Error> {
        if hub.drain.is_cancelled() {
            return Err(Error::Draining);
        }
        let (asked, position) = starting_position(&hub, &request).await?;
        let until = end_of_history(&hub, &request).await?.max(position);
        let entry = SubscriberEntry::new(&request);
        entry.set_position(position);
        let limit = hub.config.subscribers_max;
        let (number, entry) = hub.registry.join(entry, limit)?;
        let joined = hub
            .waiters
            .join(number, request.filter, request.principal.name());
        let (filter, woken) = joined.map_err(|too_large| {
            hub.registry.leave(number);
            Error::FiltersTooLarge {
                principal: request.principal.name().to_owned(),
                limit: too_large.limit,
            }
        })?;
        request.filter = filter;
        let mut subscriber = Self {
            follows_oldest: matches!(request.start, Start::Earliest | Start::Time(_)),
            phase: Phase::CatchingUp { until },
            outbox: Outbox::default(),
            last_frame: Instant::now(),
            opened: Instant::now(),
            ended: None,
            hub,
            request,
            number,
            entry,
            woken,
            position: asked,
        };
        subscriber.push_started(until);
        if position > asked {
            subscriber.skip_to(position);
        }
        audit::opened(subscriber.request.audited(), subscriber.request.start);
        Ok(subscriber)
    }

    /// The next frames, at least one; none once the stream has ended as asked.
    /// What follows on itself in memory comes as one [`Frame`].
    pub async fn next(&mut self) -> Option<Result<Vec<Frame>, Error>> {
        loop {
            if !self.outbox.runs.is_empty() {
                return Some(Ok(self.flush()));
            }
            if self.ended.is_some() {
                return None;
            }
            if let Err(error) = self.advance().await {
                self.ended = Some(ending(&error));
                return Some(Err(error));
            }
        }
    }

    /// Accounts for what is ready, once for all of it: counters are shared by all
    /// subscribers, and would be what they wait for if each event touched them.
    fn flush(&mut self) -> Vec<Frame> {
        let outbox = std::mem::take(&mut self.outbox);
        self.last_frame = Instant::now();
        self.entry.set_position(self.position);
        if let Some((first, last)) = outbox.received {
            self.entry.set_reached_time(last);
            let metrics = &self.hub.metrics;
            metrics.delivered.inc_by(outbox.events);
            metrics.delivered_bytes.inc_by(outbox.event_bytes as u64);
            if outbox.is_live {
                let age = UnixMillis::now().since(first);
                metrics.event_age.observe(age.as_secs_f64());
            }
            self.entry.count_delivered(outbox.events);
            if self.events_left() == 0 {
                self.ended = Some(Ending::MaxEvents);
            }
        }
        outbox.runs
    }

    /// How many events may still be sent.
    fn events_left(&self) -> usize {
        let most = self.request.events_max.unwrap_or(u64::MAX);
        let left = most.saturating_sub(self.entry.delivered());
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    /// Makes frames ready, or finds that there is nothing to send yet.
    async fn advance(&mut self) -> Result<(), Error> {
        self.ensure_active()?;
        let before = self.position;
        self.skip_unwanted();
        let from = self.position;
        match self.read_ring() {
            RingState::Behind if self.phase == Phase::Live => self.fall_behind(),
            RingState::Behind => self.read_log().await?,
            // For a moment after a commit, the log is ahead of the ring.
            RingState::Within if self.position == from && self.must_catch_up() => {
                self.read_log().await?;
            }
            RingState::Within => self.follows_oldest &= self.position == before,
        }
        self.note_progress();
        if !self.outbox.runs.is_empty() || self.ended.is_some() || self.position > before {
            return Ok(());
        }
        if !self.hub.waiters.wait(self.number, self.position) {
            return Ok(());
        }
        let heartbeat_due = self.last_frame + self.request.heartbeat_interval;
        tokio::select! {
            biased;
            () = self.hub.drain.cancelled() => {}
            () = self.request.principal.revoked() => {}
            () = self.woken.notified() => {}
            () = tokio::time::sleep_until(heartbeat_due) => {
                self.skip_unwanted();
                self.push_heartbeat();
            }
        }
        Ok(())
    }

    fn ensure_active(&self) -> Result<(), Error> {
        if self.hub.drain.is_cancelled() {
            return Err(Error::Draining);
        }
        match self.request.principal.revocation() {
            Some(Revocation::Removed) => Err(Error::PrincipalRemoved),
            Some(Revocation::Changed) => Err(Error::PolicyChanged),
            None => Ok(()),
        }
    }

    /// Why a subscriber that has not come to its end is dropped: it ends without being
    /// asked for more where its policy or the gateway ends while its connection has no room.
    fn dropped_because(&self) -> Ending {
        match self.ensure_active() {
            Ok(()) => Ending::ClientLeft,
            Err(error) => ending(&error),
        }
    }

    /// Goes on to the last position before which nothing is wanted, if it waited.
    fn skip_unwanted(&mut self) {
        if let Some(position) = self.hub.waiters.resume(self.number)
            && position > self.position
        {
            self.position = position;
            self.follows_oldest = false;
        }
    }

    /// Whether there is history left to send.
    fn must_catch_up(&self) -> bool {
        matches!(self.phase, Phase::CatchingUp { until } if until > self.position)
    }

    /// Takes what the ring has, up to a page.
    fn read_ring(&mut self) -> RingState {
        let from = self.position;
        let events_max = PAGE_EVENTS_MAX.min(self.events_left()) as u64;
        self.outbox.is_live = self.phase == Phase::Live;
        loop {
            let next = self.hub.ring().after(self.position);
            match next {
                // It has just gone; the next look finds out.
                Lookup::Behind if self.position > from => return RingState::Within,
                Lookup::Behind => return RingState::Behind,
                Lookup::End => return RingState::Within,
                Lookup::Next(recent) => {
                    let is_full = self.take(&recent, events_max).is_break();
                    if recent.overfills_ring() {
                        self.hub.shed_ring();
                    }
                    if is_full {
                        return RingState::Within;
                    }
                }
            }
        }
    }

    /// Takes what matches, until the page is full.
    fn take(&mut self, recent: &RingBatch, events_max: u64) -> ControlFlow<()> {
        let mut frames = None;
        for (index, record) in recent.after(self.position) {
            self.position = record.position;
            if !self.request.filter.matches(record.entry.attributes.view()) {
                continue;
            }
            let frames = *frames.get_or_insert_with(|| recent.frames(&self.request.view));
            self.outbox
                .push_event(frames, index, record.entry.receive_time);
            if self.outbox.events >= events_max || self.outbox.event_bytes >= PAGE_BYTES_MAX {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    async fn read_log(&mut self) -> Result<(), Error> {
        let page = loop {
            match self.hub.history.read(self.page_key()).await {
                Err(ReadError::Expired { trimmed }) => return self.skip_removed(trimmed),
                Err(ReadError::Unreachable(_)) => {
                    if self.wait_for_log().await?.is_break() {
                        return Ok(());
                    }
                }
                page => break page?,
            }
        };
        // It may have waited for its turn meanwhile.
        self.ensure_active()?;
        self.follows_oldest = false;
        self.position = page.through;
        self.outbox.push_history(&page);
        Ok(())
    }

    /// The log is away and comes back by itself. Until then, heartbeats at the position
    /// reached say that the stream lives; breaks off for one.
    async fn wait_for_log(&mut self) -> Result<ControlFlow<()>, Error> {
        let heartbeat_due = self.last_frame + self.request.heartbeat_interval;
        let retry = Instant::now() + UNREACHABLE_RETRY;
        tokio::select! {
            biased;
            () = self.hub.drain.cancelled() => {}
            () = self.request.principal.revoked() => {}
            () = tokio::time::sleep_until(retry.min(heartbeat_due)) => {}
        }
        self.ensure_active()?;
        if Instant::now() < heartbeat_due {
            return Ok(ControlFlow::Continue(()));
        }
        self.push_heartbeat();
        Ok(ControlFlow::Break(()))
    }

    fn page_key(&self) -> PageKey {
        PageKey {
            after: self.position,
            filter: self.request.filter.clone(),
            view: self.request.view.clone(),
            events_max: self.events_left() as u64,
        }
    }

    fn fall_behind(&mut self) {
        let bounds = self.hub.log.bounds();
        self.phase = Phase::CatchingUp { until: bounds.last };
        self.entry.set_state(State::CatchingUp);
        self.entry.set_position(self.position);
        self.hub.metrics.fell_behind.inc();
        let lag = self.entry.lag(bounds);
        tracing::info!(
            subscriber = self.request.name.as_str(),
            lag_events = lag.events,
            "subscriber fell behind; it is served from the log until it has caught up"
        );
        let lag = Some(lag.into());
        self.push(Kind::FellBehind(proto::FellBehind { lag }));
    }

    /// Retention removed what this subscriber had not read.
    fn skip_removed(&mut self, trimmed: Position) -> Result<(), Error> {
        if self.follows_oldest {
            self.position = trimmed;
            return Ok(());
        }
        let to = match self.request.on_expired {
            OnExpired::Fail => return Err(self.hub.expired()),
            OnExpired::Earliest => trimmed,
            OnExpired::Latest => self.hub.log.bounds().last,
        };
        self.skip_to(to);
        Ok(())
    }

    /// Goes on after `to`, and says so.
    fn skip_to(&mut self, to: Position) {
        let from = self.cursor().to_string();
        self.position = to;
        let to = self.hub.cursor(to).to_string();
        self.push(Kind::Gap(proto::Gap { from, to }));
    }

    /// After a step: has it caught up, or been silent for too long?
    fn note_progress(&mut self) {
        if let Phase::CatchingUp { until } = self.phase {
            // Within the ring, or it would fall behind at once.
            let near = self.request.stop_when_caught_up || self.hub.ring().covers(self.position);
            if self.position >= until && near {
                self.phase = Phase::Live;
                self.entry.set_state(State::Live);
                self.push(Kind::CaughtUp(proto::CaughtUp {}));
                if self.request.stop_when_caught_up {
                    self.ended = Some(Ending::CaughtUp);
                }
            }
        }
        if self.outbox.runs.is_empty() {
            self.entry.set_position(self.position);
            if self.last_frame.elapsed() >= self.request.heartbeat_interval {
                self.push_heartbeat();
            }
        }
    }

    fn push_started(&mut self, newest: Position) {
        // It is sent once, and may be as large as the request.
        let narrowed = self.request.narrowed.take();
        self.push(Kind::Started(proto::Started {
            heartbeat_interval: self.request.heartbeat_interval.try_into().ok(),
            newest_cursor: self.hub.cursor(newest).to_string(),
            narrowed,
        }));
    }

    fn push_heartbeat(&mut self) {
        self.push(Kind::Heartbeat(proto::Heartbeat {}));
    }

    /// The cursor of the position reached. The one that the stream began with stays as the
    /// subscriber has it: of what retention removed, the log has forgotten the run.
    fn cursor(&self) -> Cursor {
        match self.request.start {
            Start::After(cursor) if cursor.position == self.position => cursor,
            _ => self.hub.cursor(self.position),
        }
    }

    /// Queues a control frame at the position reached.
    fn push(&mut self, kind: Kind) {
        let cursor = self.cursor();
        self.outbox.runs.push(Frame::control(cursor, kind));
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.hub.waiters.leave(self.number);
        self.hub.registry.leave(self.number);
        let reason = self.ended.unwrap_or_else(|| self.dropped_because());
        self.hub.metrics.count_end(reason);
        let delivered = self.entry.delivered();
        audit::closed(
            self.request.audited(),
            reason.name(),
            self.opened.elapsed(),
            delivered,
        );
    }
}

fn ending(error: &Error) -> Ending {
    match error {
        Error::Draining => Ending::Draining,
        Error::CursorExpired { .. } => Ending::CursorExpired,
        Error::PrincipalRemoved | Error::PolicyChanged => Ending::AccessEnded,
        Error::OtherEpoch { .. }
        | Error::AheadOfLog { .. }
        | Error::OtherHistory { .. }
        | Error::TooManySubscribers(_)
        | Error::TooManyStreams { .. }
        | Error::FiltersTooLarge { .. }
        | Error::Log(_) => Ending::LogUnreadable,
    }
}

impl From<Lag> for proto::Lag {
    fn from(lag: Lag) -> Self {
        Self {
            events: i64::try_from(lag.events).unwrap_or(i64::MAX),
            seconds: lag.time.as_secs_f64(),
        }
    }
}
