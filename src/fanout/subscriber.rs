//! One subscriber: a walk through the log whose frames are pulled by a connection.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::control::{Control, Delivery};
use super::entry::{State, SubscriberEntry};
use super::error::Error;
use super::hub::Hub;
use super::metrics::Ending;
use super::outbox::Outbox;
use super::request::{Request, Start};
use super::sink::FrameSink;
use super::start::{end_of_history, starting_position};
use super::walk::{Route, Step, Walk};
use crate::access::{Revocation, audit};
use crate::event::numbers::saturating;
use crate::event::{Cursor, Position, UnixMillis};

/// An open stream, pulled by its connection.
#[derive(Debug)]
pub struct Subscriber {
    hub: Arc<Hub>,
    request: Request,
    number: u64,
    entry: Arc<SubscriberEntry>,
    ends: Ends,
    walk: Walk<FrameSink>,
    /// What to deliver before the walk continues.
    pending: VecDeque<Delivery>,
    last_delivery: Instant,
    opened: Instant,
    ended: Option<Ending>,
}

/// What ends a subscriber from outside. The tokens are its own: those that all share would
/// be what they wait for, since each looks at them and waits on them with every delivery.
#[derive(Debug)]
struct Ends {
    drain: CancellationToken,
    revoked: CancellationToken,
}

impl Subscriber {
    pub(super) async fn open(hub: Arc<Hub>, mut request: Request) -> Result<Self, Error> {
        if hub.drain.is_cancelled() {
            return Err(Error::Draining);
        }
        let Request {
            start, on_expired, ..
        } = request;
        let bounds = hub.log.bounds();
        let (asked, from) = starting_position(&hub, bounds, start, on_expired).await?;
        let until = end_of_history(&hub, &request).await?.max(from);
        let entry = SubscriberEntry::new(&request);
        entry.set_position(from);
        let limit = hub.config.subscribers_max;
        let (number, entry) = hub.registry.join(entry, limit)?;
        let route = Route {
            from,
            until,
            follows_oldest: matches!(request.start, Start::Earliest | Start::Time(_)),
            stops_at_history: request.stop_when_caught_up,
            on_expired: request.on_expired,
        };
        let sink = FrameSink::new(request.view.clone());
        let walker = (request.filter, request.principal.name());
        let begun = Walk::begin(Arc::clone(&hub), number, walker, route, sink);
        let walk = begun.map_err(|too_large| {
            hub.registry.leave(number);
            Error::FiltersTooLarge {
                principal: request.principal.name().to_owned(),
                limit: too_large.limit,
            }
        })?;
        request.filter = walk.filter().clone();
        let ends = Ends {
            drain: hub.drain.child_token(),
            revoked: request.principal.revocation_token(),
        };
        let mut subscriber = Self {
            ends,
            walk,
            pending: VecDeque::new(),
            last_delivery: Instant::now(),
            opened: Instant::now(),
            ended: None,
            hub,
            request,
            number,
            entry,
        };
        subscriber.limit_walk();
        subscriber.push_opening(asked, until);
        audit::opened(subscriber.request.audited(), subscriber.request.start);
        Ok(subscriber)
    }

    /// What comes next; nothing once the stream has ended as asked. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Delivery, Error>> {
        if let Some(delivery) = self.pending.pop_front() {
            self.last_delivery = Instant::now();
            return Some(Ok(delivery));
        }
        if self.ended.is_some() {
            return None;
        }
        let delivery = self.advance().await;
        if let Err(error) = &delivery {
            self.ended = Some(ending(error));
        }
        Some(delivery)
    }

    /// Walks on until there is something to deliver.
    async fn advance(&mut self) -> Result<Delivery, Error> {
        loop {
            self.ensure_active()?;
            let heartbeat_due = self.last_delivery + self.request.heartbeat_interval;
            let step = tokio::select! {
                biased;
                step = self.walk.step(heartbeat_due) => step?,
                () = self.ends.drain.cancelled() => continue,
                () = self.ends.revoked.cancelled() => continue,
            };
            // It may have waited for its turn, or for its connection, for long.
            if self.walk.has_waited() {
                self.ensure_active()?;
            }
            match step {
                Step::Batch(batch) => return Ok(self.flush(batch)),
                Step::CaughtUp => return Ok(self.catch_up()),
                Step::FellBehind => return Ok(self.fall_behind()),
                Step::Removed { from, to } => {
                    let (from, to) = (self.cursor(from), self.cursor(to));
                    return Ok(self.control(Control::Gap { from, to }));
                }
                Step::Quiet => {
                    self.entry.set_position(self.walk.position());
                    if self.last_delivery.elapsed() >= self.request.heartbeat_interval {
                        return Ok(self.control(Control::Heartbeat));
                    }
                }
            }
        }
    }

    /// Accounts for events, once for all of a batch: counters are shared by all
    /// subscribers, and would be what they wait for if each event touched them.
    fn flush(&mut self, batch: Outbox) -> Delivery {
        self.last_delivery = Instant::now();
        self.entry.set_position(self.walk.position());
        if let Some((first, last)) = batch.received {
            self.entry.set_reached_time(last);
            let metrics = &self.hub.metrics;
            metrics.delivered.inc_by(batch.events);
            metrics.delivered_bytes.inc_by(batch.event_bytes as u64);
            if self.walk.is_live() {
                let age = UnixMillis::now().since(first);
                metrics.event_age.observe(age.as_secs_f64());
            }
            self.entry.count_delivered(batch.events);
            self.limit_walk();
        }
        if self.events_left() == 0 {
            if self.walk.note_caught_up() {
                let caught_up = self.catch_up();
                self.pending.push_back(caught_up);
            }
            self.ended = Some(Ending::MaxEvents);
        }
        Delivery::Events(batch.runs)
    }

    /// How many events may still be sent.
    fn events_left(&self) -> usize {
        let most = self.request.events_max.unwrap_or(u64::MAX);
        let left = most.saturating_sub(self.entry.delivered());
        saturating(left)
    }

    fn limit_walk(&mut self) {
        let left = self.events_left();
        self.walk.limit(left);
    }

    fn ensure_active(&self) -> Result<(), Error> {
        if self.ends.drain.is_cancelled() {
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

    /// The first deliveries: the stream is open, perhaps later than it was asked to be.
    fn push_opening(&mut self, asked: Position, newest: Position) {
        // It is sent once, and may be as large as the request.
        let narrowed = self.request.narrowed.take();
        let started = Control::Started {
            heartbeat_interval: self.request.heartbeat_interval,
            newest: self.hub.cursor(newest),
            narrowed,
        };
        let from = self.cursor(asked);
        self.pending.push_back(Delivery::Control(from, started));
        let position = self.walk.position();
        if position > asked {
            let to = self.cursor(position);
            let gap = Control::Gap { from, to };
            self.pending.push_back(Delivery::Control(to, gap));
        }
    }

    fn catch_up(&mut self) -> Delivery {
        self.entry.set_state(State::Live);
        if self.request.stop_when_caught_up {
            self.ended = Some(Ending::CaughtUp);
        }
        self.control(Control::CaughtUp)
    }

    fn fall_behind(&mut self) -> Delivery {
        self.entry.set_state(State::CatchingUp);
        self.entry.set_position(self.walk.position());
        self.hub.metrics.fell_behind.inc();
        let lag = self.entry.lag(self.hub.log.bounds());
        tracing::info!(
            subscriber = self.request.name.as_str(),
            lag_events = lag.events,
            "subscriber fell behind; reading from the log until caught up"
        );
        self.control(Control::FellBehind(lag))
    }

    /// A control at the position reached.
    fn control(&mut self, control: Control) -> Delivery {
        self.last_delivery = Instant::now();
        let position = self.walk.position();
        self.entry.set_position(position);
        Delivery::Control(self.cursor(position), control)
    }

    /// The cursor of a position. The one that the stream began with stays as the
    /// subscriber has it: of what retention removed, the log has forgotten the run.
    fn cursor(&self, position: Position) -> Cursor {
        match self.request.start {
            Start::After(cursor) if cursor.position == position => cursor,
            _ => self.hub.cursor(position),
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let Hub {
            registry,
            waiters,
            log,
            ..
        } = &*self.hub;
        let caught_up_to = waiters.caught_up_to(self.number);
        registry.depart(self.number, log.bounds(), caught_up_to);
        let reason = self.ended.unwrap_or_else(|| self.dropped_because());
        self.hub.metrics.count_end(reason);
        audit::closed(
            self.request.audited(),
            reason.name(),
            self.opened.elapsed(),
            self.entry.delivered(),
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
        | Error::OtherEvent
        | Error::TooManySubscribers(_)
        | Error::TooManyStreams { .. }
        | Error::FiltersTooLarge { .. }
        | Error::Log(_) => Ending::LogUnreadable,
    }
}
