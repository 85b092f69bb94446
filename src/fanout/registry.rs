//! Who is connected.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::entry::{Lag, State, SubscriberEntry, SubscriberView};
use super::error::Error;
use super::roster::{Departure, Roster};
use crate::access::Principal;
use crate::event::{Position, UnixMillis};
use crate::log::Bounds;

/// Maximum number of connected subscribers with series; further ones have none. Subscribers choose
/// their names, so they need a bound.
const PAIRS_SHOWN_MAX: usize = 1000;

/// A subscriber by name, connected or away.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PairView {
    pub(super) principal: String,
    pub(super) name: String,
    /// Its open streams.
    pub(super) streams: usize,
    /// Of the stream furthest behind; while it is away, of the last one.
    pub(super) lag: Lag,
    pub(super) last_seen: UnixMillis,
    /// Events handed to its connections, also to former ones while it is remembered.
    pub(super) delivered: u64,
}

impl PairView {
    /// A connected subscriber, before its streams are counted.
    fn connected((principal, name): (&str, &str), now: UnixMillis, delivered: u64) -> Self {
        Self {
            principal: principal.to_owned(),
            name: name.to_owned(),
            streams: 0,
            lag: Lag::default(),
            last_seen: now,
            delivered,
        }
    }
}

/// What gauges show of subscribers.
#[derive(Debug, Default)]
pub(super) struct Observed {
    pub(super) catching_up: usize,
    pub(super) live: usize,
    /// The connected ones, then those that are away.
    pub(super) pairs: Vec<PairView>,
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
    roster: Roster,
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
        entries.roster.join(&entry.pair, Instant::now());
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

    /// Removes a subscriber that was served, and remembers how far it came.
    pub(super) fn depart(&self, number: u64, bounds: Bounds, caught_up_to: Option<Position>) {
        self.remove(number, |entry| Some(entry.departure(bounds, caught_up_to)));
    }

    /// Removes a worker, or a subscriber that was not served.
    pub(super) fn leave(&self, number: u64) {
        self.remove(number, |_| None);
    }

    fn remove(&self, number: u64, departure: impl FnOnce(&SubscriberEntry) -> Option<Departure>) {
        let mut entries = self.lock();
        if let Some(entry) = entries.connected.remove(&number) {
            entries.forget(&entry.principal);
            let departure = departure(&entry);
            entries.roster.leave(&entry.pair, departure, Instant::now());
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

    /// What gauges show. `caught_up_to` is as for [`Registry::views`].
    pub(super) fn observe(
        &self,
        bounds: Bounds,
        caught_up_to: impl Fn(u64) -> Option<Position>,
    ) -> Observed {
        let now = UnixMillis::now();
        let mut entries = self.lock();
        let Entries {
            connected, roster, ..
        } = &mut *entries;
        let mut observed = Observed::default();
        let mut pairs: BTreeMap<(&str, &str), PairView> = BTreeMap::new();
        for (number, entry) in &*connected {
            match entry.state() {
                State::CatchingUp => observed.catching_up += 1,
                State::Live => observed.live += 1,
            }
            let pair = (entry.principal.name(), entry.pair.name.as_str());
            if pairs.len() == PAIRS_SHOWN_MAX && !pairs.contains_key(&pair) {
                continue;
            }
            let view = pairs.entry(pair).or_insert_with(|| {
                PairView::connected(pair, now, roster.delivered_before(&entry.pair))
            });
            view.streams += 1;
            view.delivered += entry.delivered();
            view.lag = view.lag.max(entry.lag_now(bounds, caught_up_to(*number)));
        }
        observed.pairs = pairs.into_values().collect();
        let away = roster.away(Instant::now()).map(|(pair, last)| PairView {
            principal: pair.principal.clone(),
            name: pair.name.clone(),
            streams: 0,
            lag: Lag::between(bounds, last.position, last.reached_time),
            last_seen: last.time,
            delivered: last.delivered,
        });
        observed.pairs.extend(away);
        observed
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
