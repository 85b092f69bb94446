//! Which waiting subscribers an event wakes.
//!
//! Pure: no clock, no waiting, no locks.
//!
//! Subscribers with equal filters are one group, which is asked once for all of them. A
//! group is filed under the values that its filter demands of an event, so that an event
//! is shown only to the groups that may want it: what it costs grows with its matches,
//! not with the number of subscribers. Filters that demand no particular user,
//! organization, session or type are asked about every event.
//!
//! Asking takes time, and subscribers come and go meanwhile. So [`Index::announce`] collects
//! the [`Questions`], which are asked without the index, and [`Index::settle`] takes the
//! answers. Who begins to wait in between has read what was announced.

mod budget;
mod groups;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::event::{Attributes, Position};
use crate::filter::Filter;
use budget::Budget;
use groups::GroupsByValue;

pub(super) use budget::{Limits, TooLarge};

/// Questions that room is kept for, from one batch to the next.
const QUESTIONS_KEPT: usize = 10_000;

/// The subscribers, each with its `W`, which is handed back to wake it.
#[derive(Debug)]
pub(super) struct Index<W> {
    /// Every event up to here has been shown to everyone who waits.
    settled: Position,
    /// Every event up to here can be read, and waiting groups are being asked about it.
    announced: Position,
    /// Counts announcements.
    announcement: u64,
    subscribers: HashMap<u64, Subscriber<W>>,
    groups: BTreeMap<u64, Group>,
    next_group: u64,
    group_of: HashMap<Filter, u64>,
    by_value: GroupsByValue,
    unfiled: BTreeSet<u64>,
    budget: Budget,
}

/// An event, where it lies.
pub(super) type Arrival<'a> = (Position, &'a Attributes);

#[derive(Debug)]
struct Subscriber<W> {
    group: u64,
    principal: Arc<str>,
    waker: W,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Reading,
    Waiting,
    /// Nothing up to here is wanted; something after it is.
    Woken(Position),
}

#[derive(Debug)]
struct Group {
    filter: Filter,
    members: usize,
    waiting: BTreeSet<u64>,
    /// The last announcement that it was asked about.
    announcement: u64,
}

/// Groups to ask about the events that were announced. Kept from one batch to the next, so
/// that asking allocates nothing.
#[derive(Debug)]
pub(super) struct Questions<W> {
    /// Each with the place of the first event that may concern it.
    asked: Vec<(u64, Filter, usize)>,
    /// Groups that want an event, with the first place.
    answers: Vec<(u64, usize)>,
    pub(super) woken: Vec<W>,
}

impl<W> Default for Questions<W> {
    fn default() -> Self {
        Self {
            asked: Vec::new(),
            answers: Vec::new(),
            woken: Vec::new(),
        }
    }
}

impl<W> Questions<W> {
    /// Asks each group about its events, in their order.
    pub(super) fn ask(&mut self, events: &[Arrival<'_>]) {
        for (group, filter, first) in self.asked.drain(..) {
            let is_wanted = |(_, event): &Arrival<'_>| filter.matches(event.as_ref());
            let rest = events.get(first..).unwrap_or_default();
            if let Some(further) = rest.iter().position(is_wanted) {
                self.answers.push((group, first + further));
            }
        }
        self.asked.shrink_to(QUESTIONS_KEPT);
    }
}

impl<W: Clone> Index<W> {
    pub(super) fn new(last: Position, limits: Limits) -> Self {
        Self {
            settled: last,
            announced: last,
            announcement: 0,
            subscribers: HashMap::new(),
            groups: BTreeMap::new(),
            next_group: 0,
            group_of: HashMap::new(),
            by_value: GroupsByValue::new(),
            unfiled: BTreeSet::new(),
            budget: Budget::new(limits),
        }
    }

    /// Bytes that the filters of all subscribers occupy.
    pub(super) fn filter_bytes(&self) -> usize {
        self.budget.all_bytes()
    }

    /// Adds a subscriber, who reads. Returns its filter, shared with its equals.
    ///
    /// # Errors
    /// When the filter would be too much beside those that are there.
    pub(super) fn join(
        &mut self,
        number: u64,
        filter: Filter,
        principal: &str,
        waker: W,
    ) -> Result<Filter, TooLarge> {
        let known = self.group_of.get(&filter).copied();
        let group = known.unwrap_or(self.next_group);
        let principal = self
            .budget
            .take(principal, group, filter.bytes(), known.is_none())?;
        if known.is_none() {
            self.add_group(filter.clone());
        }
        let subscriber = Subscriber {
            group,
            principal,
            waker,
            state: State::Reading,
        };
        self.subscribers.insert(number, subscriber);
        let Some(group) = self.groups.get_mut(&group) else {
            return Ok(filter);
        };
        group.members += 1;
        Ok(group.filter.clone())
    }

    fn add_group(&mut self, filter: Filter) {
        let number = self.next_group;
        self.next_group += 1;
        if !self.by_value.insert(number, filter.narrow()) {
            self.unfiled.insert(number);
        }
        self.group_of.insert(filter.clone(), number);
        let group = Group {
            filter,
            members: 0,
            waiting: BTreeSet::new(),
            announcement: 0,
        };
        self.groups.insert(number, group);
    }

    pub(super) fn leave(&mut self, number: u64) {
        self.resume(number);
        let Some(subscriber) = self.subscribers.remove(&number) else {
            return;
        };
        let Some(group) = self.groups.get_mut(&subscriber.group) else {
            return;
        };
        group.members -= 1;
        let is_empty = group.members == 0;
        let bytes = group.filter.bytes();
        self.budget
            .release(&subscriber.principal, subscriber.group, bytes, is_empty);
        if is_empty {
            self.remove_group(subscriber.group);
        }
    }

    fn remove_group(&mut self, number: u64) {
        let Some(group) = self.groups.remove(&number) else {
            return;
        };
        self.group_of.remove(&group.filter);
        self.by_value.remove(number, group.filter.narrow());
        self.unfiled.remove(&number);
    }

    /// A subscriber has nothing left to read up to `position`. Whether it now waits to be
    /// woken; if not, there is more to read.
    pub(super) fn wait(&mut self, number: u64, position: Position) -> bool {
        if position < self.announced {
            return false;
        }
        if let Some(subscriber) = self.subscribers.get_mut(&number)
            && let Some(group) = self.groups.get_mut(&subscriber.group)
        {
            subscriber.state = State::Waiting;
            group.waiting.insert(number);
        }
        true
    }

    /// A subscriber goes on reading. If it waited, nothing up to the returned position is
    /// wanted, and it need not look there.
    pub(super) fn resume(&mut self, number: u64) -> Option<Position> {
        let subscriber = self.subscribers.get_mut(&number)?;
        match std::mem::replace(&mut subscriber.state, State::Reading) {
            State::Reading => None,
            State::Woken(position) => Some(position),
            State::Waiting => {
                let group = self.groups.get_mut(&subscriber.group)?;
                group.waiting.remove(&number);
                Some(self.settled)
            }
        }
    }

    /// How far a subscriber who waits has come.
    pub(super) fn caught_up_to(&self, number: u64) -> Option<Position> {
        let subscriber = self.subscribers.get(&number)?;
        (subscriber.state == State::Waiting).then_some(self.settled)
    }

    /// Collects the groups to ask about the events that follow on the last ones. They must be
    /// settled before others are announced.
    pub(super) fn announce(&mut self, events: &[Arrival<'_>], questions: &mut Questions<W>) {
        let Some((last, _)) = events.last() else {
            return;
        };
        self.announced = *last;
        self.announcement += 1;
        let announcement = self.announcement;
        let groups = &mut self.groups;
        let mut ask = |number: u64, place: usize| {
            let Some(group) = groups
                .get_mut(&number)
                .filter(|group| !group.waiting.is_empty())
            else {
                return;
            };
            // Once for all events of a batch.
            if group.announcement != announcement {
                group.announcement = announcement;
                questions.asked.push((number, group.filter.clone(), place));
            }
        };
        for (place, (_, event)) in events.iter().enumerate() {
            self.by_value
                .for_each(event.as_ref(), |number| ask(number, place));
        }
        for number in &self.unfiled {
            ask(*number, 0);
        }
    }

    /// Takes the answers, and collects the subscribers to wake.
    pub(super) fn settle(&mut self, events: &[Arrival<'_>], questions: &mut Questions<W>) {
        for (group, place) in questions.answers.drain(..) {
            let before = place
                .checked_sub(1)
                .and_then(|before| events.get(before))
                .map_or(self.settled, |(position, _)| *position);
            if let Some(group) = self.groups.get_mut(&group) {
                wake(group, before, &mut self.subscribers, &mut questions.woken);
            }
        }
        self.settled = self.announced;
    }

    /// Goes on after `position`, because what lies before it was missed. Everyone who
    /// waits is returned, to read it elsewhere.
    pub(super) fn skip_to(&mut self, position: Position) -> Vec<W> {
        let mut woken = Vec::new();
        for group in self.groups.values_mut() {
            wake(group, self.settled, &mut self.subscribers, &mut woken);
        }
        self.settled = position;
        self.announced = position;
        woken
    }
}

fn wake<W: Clone>(
    group: &mut Group,
    nothing_until: Position,
    subscribers: &mut HashMap<u64, Subscriber<W>>,
    woken: &mut Vec<W>,
) {
    for number in std::mem::take(&mut group.waiting) {
        if let Some(subscriber) = subscribers.get_mut(&number) {
            subscriber.state = State::Woken(nothing_until);
            woken.push(subscriber.waker.clone());
        }
    }
}

#[cfg(test)]
mod tests;
