//! A connected subscriber, as others may look at it while it runs.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use super::request::Request;
use super::roster::{Departure, Pair};
use crate::access::Principal;
use crate::event::{Position, UnixMillis};
use crate::filter::{AskedFilter, Spec};
use crate::log::Bounds;

/// What a subscriber is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is being sent history.
    CatchingUp,
    /// It is being sent events as they arrive.
    Live,
}

impl State {
    /// As it stands in metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::CatchingUp => "catching_up",
            Self::Live => "live",
        }
    }
}

/// A distance in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lag {
    /// An upper bound for the events still to be judged.
    pub events: u64,
    /// Between the receive times of the newest event and the one reached.
    pub time: Duration,
}

impl Lag {
    /// From a position to the end of the log. The time is zero where it is not known when the
    /// event at the position was received.
    pub(super) fn between(
        bounds: Bounds,
        position: Position,
        reached_time: Option<UnixMillis>,
    ) -> Self {
        let events = bounds.last.distance_from(position);
        let reached_time = reached_time.filter(|_| events > 0);
        let time = reached_time.map(|reached| bounds.last_receive_time.since(reached));
        Self {
            events,
            time: time.unwrap_or_default(),
        }
    }

    /// The greater of both distances.
    pub(super) fn max(self, other: Self) -> Self {
        Self {
            events: self.events.max(other.events),
            time: self.time.max(other.time),
        }
    }
}

/// A connected subscriber, as it is now.
#[derive(Clone, Debug)]
pub struct SubscriberView {
    /// Its place in the order in which subscribers connected.
    pub number: u64,
    /// The name it gave itself.
    pub name: String,
    /// The principal that its credentials identify.
    pub principal: String,
    /// Where it connected from.
    pub peer: String,
    /// Its filter, as it asked for it.
    pub filter: Spec,
    /// What it is doing.
    pub state: State,
    /// How far behind it is.
    pub lag: Lag,
    /// Up to where it has been served.
    pub position: Position,
    /// Events handed to its connection.
    pub delivered: u64,
    /// When it connected.
    pub connect_time: UnixMillis,
}

/// The part of a subscriber that others may look at while it runs.
#[derive(Debug)]
pub(super) struct SubscriberEntry {
    pub(super) pair: Pair,
    pub(super) principal: Principal,
    peer: String,
    filter: AskedFilter,
    connect_time: UnixMillis,
    is_live: AtomicBool,
    position: AtomicU64,
    reached_time_ms: AtomicI64,
    delivered: AtomicU64,
}

impl SubscriberEntry {
    pub(super) fn new(request: &Request) -> Self {
        Self {
            pair: Pair {
                principal: request.principal.name().to_owned(),
                name: request.name.clone(),
            },
            principal: request.principal.clone(),
            peer: request.peer.clone(),
            filter: request.asked_filter.clone(),
            connect_time: UnixMillis::now(),
            is_live: AtomicBool::new(false),
            position: AtomicU64::new(0),
            reached_time_ms: AtomicI64::new(0),
            delivered: AtomicU64::new(0),
        }
    }

    pub(super) fn set_state(&self, state: State) {
        self.is_live.store(state == State::Live, Ordering::Relaxed);
    }

    pub(super) fn set_position(&self, position: Position) {
        self.position.store(position.number(), Ordering::Relaxed);
    }

    pub(super) fn set_reached_time(&self, time: UnixMillis) {
        self.reached_time_ms
            .store(time.milliseconds(), Ordering::Relaxed);
    }

    pub(super) fn count_delivered(&self, events: u64) {
        self.delivered.fetch_add(events, Ordering::Relaxed);
    }

    pub(super) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    fn position(&self) -> Position {
        Position::new(self.position.load(Ordering::Relaxed))
    }

    pub(super) fn lag(&self, bounds: Bounds) -> Lag {
        Lag::between(bounds, self.position(), self.reached_time())
    }

    fn reached_time(&self) -> Option<UnixMillis> {
        let reached = UnixMillis::new(self.reached_time_ms.load(Ordering::Relaxed));
        Some(reached).filter(|reached| *reached != UnixMillis::default())
    }

    /// How far behind it is. One that waits for what it wants has come to `caught_up_to`.
    pub(super) fn lag_now(&self, bounds: Bounds, caught_up_to: Option<Position>) -> Lag {
        let mut lag = self.lag(bounds);
        if let Some(position) = caught_up_to {
            // The last event that it was sent does not show how many it waits for.
            lag.events = lag.events.min(bounds.last.distance_from(position));
            lag.time = Duration::ZERO;
        }
        lag
    }

    pub(super) fn state(&self) -> State {
        if self.is_live.load(Ordering::Relaxed) {
            State::Live
        } else {
            State::CatchingUp
        }
    }

    /// Returns where it ended. A subscriber that had reached the end of the log lags behind what
    /// is received after it left.
    pub(super) fn departure(&self, bounds: Bounds, caught_up_to: Option<Position>) -> Departure {
        let time = UnixMillis::now();
        let position = self.position().max(caught_up_to.unwrap_or_default());
        let has_reached_end = caught_up_to.is_some() || position >= bounds.last;
        Departure {
            position,
            reached_time: if has_reached_end {
                Some(time)
            } else {
                self.reached_time()
            },
            time,
            delivered: self.delivered(),
        }
    }
}

impl SubscriberEntry {
    pub(super) fn view(
        &self,
        number: u64,
        bounds: Bounds,
        caught_up_to: Option<Position>,
    ) -> SubscriberView {
        SubscriberView {
            number,
            name: self.pair.name.clone(),
            principal: self.principal.name().to_owned(),
            peer: self.peer.clone(),
            filter: self.filter.filter().clone(),
            state: self.state(),
            lag: self.lag_now(bounds, caught_up_to),
            position: self.position().max(caught_up_to.unwrap_or_default()),
            delivered: self.delivered(),
            connect_time: self.connect_time,
        }
    }
}
