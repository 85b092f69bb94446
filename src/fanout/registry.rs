//! Who is connected.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::error::Error;
use super::request::Request;
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

/// Which subscribers to list.
#[derive(Clone, Copy, Debug)]
pub struct SubscriberPage<'a> {
    /// Only those that connected after the one with this number.
    pub after: Option<u64>,
    /// Only those of this principal.
    pub principal: Option<&'a str>,
    /// At most this many.
    pub most: usize,
}

#[derive(Debug, Default)]
pub(super) struct Registry {
    entries: Mutex<Entries>,
    left: Notify,
}

#[derive(Debug, Default)]
struct Entries {
    next: u64,
    connected: BTreeMap<u64, Arc<SubscriberEntry>>,
    /// The principals of connected workers.
    workers: BTreeMap<u64, Principal>,
    /// How many streams each principal holds.
    streams: BTreeMap<String, usize>,
}

/// The part of a subscriber that others may look at while it runs.
#[derive(Debug)]
pub(super) struct SubscriberEntry {
    name: String,
    principal: Principal,
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
            name: request.name.clone(),
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
        let position = self.position();
        let events = bounds.last.distance_from(position);
        let reached = UnixMillis::new(self.reached_time_ms.load(Ordering::Relaxed));
        let time = if events == 0 || reached == UnixMillis::default() {
            Duration::ZERO
        } else {
            bounds.last_receive_time.since(reached)
        };
        Lag { events, time }
    }
}

impl SubscriberEntry {
    fn view(&self, number: u64, bounds: Bounds, caught_up_to: Option<Position>) -> SubscriberView {
        let mut lag = self.lag(bounds);
        if let Some(position) = caught_up_to {
            // The last event that it was sent does not show how many it waits for.
            lag.events = lag.events.min(bounds.last.distance_from(position));
            lag.time = Duration::ZERO;
        }
        SubscriberView {
            number,
            name: self.name.clone(),
            principal: self.principal.name().to_owned(),
            peer: self.peer.clone(),
            filter: self.filter.filter().clone(),
            state: if self.is_live.load(Ordering::Relaxed) {
                State::Live
            } else {
                State::CatchingUp
            },
            lag,
            position: self.position().max(caught_up_to.unwrap_or_default()),
            delivered: self.delivered(),
            connect_time: self.connect_time,
        }
    }
}

impl Entries {
    fn len(&self) -> usize {
        self.connected.len() + self.workers.len()
    }

    /// Counts one more stream of a principal, and returns its number.
    fn admit(&mut self, principal: &Principal, max: usize) -> Result<u64, Error> {
        if self.len() >= max {
            return Err(Error::TooManySubscribers(max));
        }
        let name = principal.name().to_owned();
        let held = self.streams.get(&name).copied().unwrap_or(0);
        let streams_max = principal.policy().streams_max;
        if let Some(limit) = streams_max.filter(|most| held >= *most) {
            let principal = name;
            return Err(Error::TooManyStreams { principal, limit });
        }
        self.streams.insert(name, held + 1);
        let number = self.next;
        self.next += 1;
        Ok(number)
    }

    fn forget(&mut self, principal: &Principal) {
        let principal = principal.name();
        if let Some(held) = self.streams.get_mut(principal) {
            *held -= 1;
            if *held == 0 {
                self.streams.remove(principal);
            }
        }
    }
}

impl Registry {
    /// Adds a subscriber, unless `max` are connected or the principal holds as many
    /// streams as it may.
    pub(super) fn join(
        &self,
        entry: SubscriberEntry,
        max: usize,
    ) -> Result<(u64, Arc<SubscriberEntry>), Error> {
        let mut entries = self.lock();
        let number = entries.admit(&entry.principal, max)?;
        let entry = Arc::new(entry);
        entries.connected.insert(number, Arc::clone(&entry));
        Ok((number, entry))
    }

    /// Adds a worker, within the same limits.
    pub(super) fn join_worker(&self, principal: &Principal, max: usize) -> Result<u64, Error> {
        let mut entries = self.lock();
        let number = entries.admit(principal, max)?;
        entries.workers.insert(number, principal.clone());
        Ok(number)
    }

    /// A number that no subscriber has, for a walk that is not a subscriber's.
    pub(super) fn take_number(&self) -> u64 {
        let mut entries = self.lock();
        let number = entries.next;
        entries.next += 1;
        number
    }

    pub(super) fn leave(&self, number: u64) {
        let mut entries = self.lock();
        if let Some(entry) = entries.connected.remove(&number) {
            entries.forget(&entry.principal);
        }
        if let Some(principal) = entries.workers.remove(&number) {
            entries.forget(&principal);
        }
        drop(entries);
        self.left.notify_waiters();
    }

    pub(super) async fn emptied(&self) {
        loop {
            let left = self.left.notified();
            if self.lock().len() == 0 {
                return;
            }
            left.await;
        }
    }

    /// The subscribers after `after` that `is_wanted`, at most `most` of them. `caught_up_to`
    /// returns how far a subscriber has come that waits for what it wants.
    pub(super) fn views(
        &self,
        page: &SubscriberPage<'_>,
        bounds: Bounds,
        caught_up_to: impl Fn(u64) -> Option<Position>,
    ) -> Vec<SubscriberView> {
        let entries = self.lock();
        let after = page.after.map_or(Bound::Unbounded, Bound::Excluded);
        let connected = entries.connected.range((after, Bound::Unbounded));
        let wanted = connected.filter(|(_, entry)| {
            page.principal
                .is_none_or(|principal| principal == entry.principal.name())
        });
        let views =
            wanted.map(|(number, entry)| entry.view(*number, bounds, caught_up_to(*number)));
        views.take(page.most).collect()
    }

    /// How many streams there are.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// How many streams belong to a principal that is no longer in force.
    pub(super) fn count_ended(&self) -> usize {
        let entries = self.lock();
        let subscribers = entries.connected.values().map(|entry| &entry.principal);
        let principals = subscribers.chain(entries.workers.values());
        principals
            .filter(|principal| principal.revocation().is_some())
            .count()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock()
    }
}
