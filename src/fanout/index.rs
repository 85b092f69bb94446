//! Which waiting subscribers an event wakes.
//!
//! Pure: no clock, no waiting, no locks.
//!
//! Subscribers with equal filters are one group, which is asked once for all of them. A
//! group is filed under the values that its filter demands of an event, so that an event
//! is shown only to the groups that may want it: what it costs grows with its matches,
//! not with the number of subscribers. Filters that demand no particular user,
//! organization, session or type are asked about every event.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Filter;
use crate::event::{Attributes, Position};
use crate::log::Narrow;

/// The subscribers, each with its `W`, which is handed back to wake it.
#[derive(Debug)]
pub(super) struct Index<W> {
    /// Every event up to here has been shown to everyone who waits.
    shown: Position,
    subscribers: HashMap<u64, Subscriber<W>>,
    groups: BTreeMap<u64, Group>,
    next_group: u64,
    group_of: HashMap<Filter, u64>,
    by_session: Filed,
    by_user: Filed,
    by_organization: Filed,
    by_type: Filed,
    unfiled: BTreeSet<u64>,
}

/// Groups by a value that their filters demand.
type Filed = HashMap<String, BTreeSet<u64>>;

#[derive(Debug)]
struct Subscriber<W> {
    group: u64,
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
}

impl<W: Clone> Index<W> {
    pub(super) fn new(tail: Position) -> Self {
        Self {
            shown: tail,
            subscribers: HashMap::new(),
            groups: BTreeMap::new(),
            next_group: 0,
            group_of: HashMap::new(),
            by_session: Filed::new(),
            by_user: Filed::new(),
            by_organization: Filed::new(),
            by_type: Filed::new(),
            unfiled: BTreeSet::new(),
        }
    }

    /// Adds a subscriber, who reads. Returns its filter, shared with its equals.
    pub(super) fn join(&mut self, number: u64, filter: Filter, waker: W) -> Filter {
        let group = match self.group_of.get(&filter) {
            Some(group) => *group,
            None => self.add_group(filter.clone()),
        };
        let subscriber = Subscriber {
            group,
            waker,
            state: State::Reading,
        };
        self.subscribers.insert(number, subscriber);
        let Some(group) = self.groups.get_mut(&group) else {
            return filter;
        };
        group.members += 1;
        group.filter.clone()
    }

    fn add_group(&mut self, filter: Filter) -> u64 {
        let number = self.next_group;
        self.next_group += 1;
        let (filed, values) = self.file(filter.narrow());
        match filed {
            Some(filed) => {
                for value in values {
                    filed.entry(value.clone()).or_default().insert(number);
                }
            }
            None => {
                self.unfiled.insert(number);
            }
        }
        self.group_of.insert(filter.clone(), number);
        let group = Group {
            filter,
            members: 0,
            waiting: BTreeSet::new(),
        };
        self.groups.insert(number, group);
        number
    }

    /// Where a filter is filed, and under what.
    fn file<'a>(&mut self, narrow: &'a Narrow) -> (Option<&mut Filed>, &'a [String]) {
        match narrow {
            Narrow::All => (None, &[]),
            Narrow::Sessions(ids) => (Some(&mut self.by_session), ids),
            Narrow::Users(ids) => (Some(&mut self.by_user), ids),
            Narrow::Organizations(ids) => (Some(&mut self.by_organization), ids),
            Narrow::Types(types) => (Some(&mut self.by_type), types),
        }
    }

    pub(super) fn leave(&mut self, number: u64) {
        self.read(number);
        let Some(subscriber) = self.subscribers.remove(&number) else {
            return;
        };
        let Some(group) = self.groups.get_mut(&subscriber.group) else {
            return;
        };
        group.members -= 1;
        if group.members == 0 {
            self.remove_group(subscriber.group);
        }
    }

    fn remove_group(&mut self, number: u64) {
        let Some(group) = self.groups.remove(&number) else {
            return;
        };
        self.group_of.remove(&group.filter);
        let (filed, values) = self.file(group.filter.narrow());
        let Some(filed) = filed else {
            self.unfiled.remove(&number);
            return;
        };
        for value in values {
            if let Some(groups) = filed.get_mut(value) {
                groups.remove(&number);
                if groups.is_empty() {
                    filed.remove(value);
                }
            }
        }
    }

    /// A subscriber has nothing left to read up to `position`. Whether it now waits to be
    /// woken; if not, there is more to read.
    pub(super) fn wait(&mut self, number: u64, position: Position) -> bool {
        if position < self.shown {
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
    pub(super) fn read(&mut self, number: u64) -> Option<Position> {
        let subscriber = self.subscribers.get_mut(&number)?;
        match std::mem::replace(&mut subscriber.state, State::Reading) {
            State::Reading => None,
            State::Woken(position) => Some(position),
            State::Waiting => {
                let group = self.groups.get_mut(&subscriber.group)?;
                group.waiting.remove(&number);
                Some(self.shown)
            }
        }
    }

    /// How far a subscriber who waits has come.
    pub(super) fn waits_at(&self, number: u64) -> Option<Position> {
        let subscriber = self.subscribers.get(&number)?;
        (subscriber.state == State::Waiting).then_some(self.shown)
    }

    /// Shows the events that follow on the last ones, and returns whom to wake.
    pub(super) fn show<'a>(
        &mut self,
        events: impl Iterator<Item = (Position, &'a Attributes)>,
    ) -> Vec<W> {
        let mut woken = Vec::new();
        for (position, attributes) in events {
            let before = std::mem::replace(&mut self.shown, position);
            let candidates = [
                Some(&self.unfiled),
                self.by_type.get(&attributes.event_type),
                filed_under(&self.by_session, attributes.session_id.as_ref()),
                filed_under(&self.by_user, attributes.user_id.as_ref()),
                filed_under(&self.by_organization, attributes.organization_id.as_ref()),
            ];
            for group in candidates.into_iter().flatten().flatten() {
                let Some(group) = self.groups.get_mut(group) else {
                    continue;
                };
                if !group.waiting.is_empty() && group.filter.matches(attributes.view()) {
                    wake(group, before, &mut self.subscribers, &mut woken);
                }
            }
        }
        woken
    }

    /// Goes on after `position`, because what lies before it was missed. Everyone who
    /// waits is returned, to read it elsewhere.
    pub(super) fn skip_to(&mut self, position: Position) -> Vec<W> {
        let mut woken = Vec::new();
        for group in self.groups.values_mut() {
            wake(group, self.shown, &mut self.subscribers, &mut woken);
        }
        self.shown = position;
        woken
    }
}

fn filed_under<'a>(filed: &'a Filed, value: Option<&String>) -> Option<&'a BTreeSet<u64>> {
    filed.get(value?)
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
mod tests {
    use proptest::prelude::*;

    use super::super::KnownNames;
    use super::*;
    use crate::proto::EventFilter;

    const TYPES: [&str; 3] = ["user.created", "user.deleted", "session.created"];

    fn attributes((event_type, user, session): (usize, usize, usize)) -> Attributes {
        let id = |kind: &str, number: usize| (number > 0).then(|| format!("{kind}_{number}"));
        Attributes {
            event_type: TYPES[event_type].to_owned(),
            user_id: id("user", user),
            session_id: id("sess", session),
            ..Attributes::default()
        }
    }

    fn filter(asked: &EventFilter) -> Filter {
        let known = KnownNames {
            types: TYPES.map(str::to_owned).into(),
            ..KnownNames::default()
        };
        Filter::compile(asked, &known).expect("valid")
    }

    fn filters() -> impl Strategy<Value = Filter> {
        let types = prop::sample::subsequence(
            vec!["user.created", "user.deleted", "session.created", "user.*"],
            0..3,
        );
        let ids = |kind: &'static str| {
            prop::collection::vec(1..4_usize, 0..3).prop_map(move |numbers| {
                let ids = numbers.iter().map(|number| format!("{kind}_{number}"));
                ids.collect::<Vec<_>>()
            })
        };
        (types, ids("user"), ids("sess")).prop_map(|(types, user_ids, session_ids)| {
            filter(&EventFilter {
                types: types.into_iter().map(str::to_owned).collect(),
                user_ids,
                session_ids,
                ..EventFilter::default()
            })
        })
    }

    #[derive(Clone, Debug)]
    enum Step {
        Join(Filter),
        Leave(usize),
        /// Reads all there is, and waits.
        Wait(usize),
        /// Reads on without having been woken, as a heartbeat does.
        Read(usize),
        Show(Vec<(usize, usize, usize)>),
        Skip,
    }

    fn steps() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => filters().prop_map(Step::Join),
            1 => (0..20_usize).prop_map(Step::Leave),
            4 => (0..20_usize).prop_map(Step::Wait),
            1 => (0..20_usize).prop_map(Step::Read),
            4 => prop::collection::vec((0..3_usize, 0..4_usize, 0..4_usize), 1..5)
                .prop_map(Step::Show),
            1 => Just(Step::Skip),
        ]
    }

    /// What a subscriber is, by the simplest account: its filter, how far it has read,
    /// and whether it waits.
    struct Model {
        filter: Filter,
        read: usize,
        waits: bool,
    }

    proptest! {
        /// Against a model that asks every filter about every event: exactly those that
        /// wait and match are woken, and nobody is told to go on beyond an event that it
        /// has not seen and wants.
        #[test]
        fn whoever_waits_is_woken_by_its_first_match_and_by_nothing_else(
            steps in prop::collection::vec(steps(), 1..60),
        ) {
            let mut index = Index::new(Position::START);
            let mut models: BTreeMap<u64, Model> = BTreeMap::new();
            let mut log: Vec<Option<Attributes>> = Vec::new();
            let mut next = 0;
            let unseen_match = |log: &[Option<Attributes>], model: &Model, through: usize| {
                let unseen = log.get(model.read..through).unwrap_or_default();
                unseen.iter().any(|event| event.as_ref().is_none_or(|it| model.filter.matches(it.view())))
            };
            for step in steps {
                let chosen = |number: usize| {
                    let count = models.len().max(1);
                    models.keys().nth(number % count).copied()
                };
                match step {
                    Step::Join(filter) => {
                        let shared = index.join(next, filter.clone(), next);
                        prop_assert_eq!(&shared, &filter);
                        models.insert(next, Model { filter, read: log.len(), waits: false });
                        next += 1;
                    }
                    Step::Leave(number) => if let Some(number) = chosen(number) {
                        index.leave(number);
                        models.remove(&number);
                    }
                    Step::Wait(number) => if let Some(number) = chosen(number)
                        && let Some(model) = models.get_mut(&number)
                        && !model.waits
                    {
                        let _woken_before = index.read(number);
                        model.read = log.len();
                        model.waits = true;
                        prop_assert!(index.wait(number, Position::new(model.read as u64)));
                    }
                    Step::Read(number) => if let Some(number) = chosen(number)
                        && let Some(model) = models.get_mut(&number)
                    {
                        if let Some(through) = index.read(number) {
                            let through = usize::try_from(through.number()).expect("small");
                            prop_assert!(!unseen_match(&log, model, through));
                            model.read = model.read.max(through);
                        }
                        model.waits = false;
                        if model.read < log.len() {
                            prop_assert!(!index.wait(number, Position::new(model.read as u64)));
                        }
                    }
                    Step::Show(events) => {
                        let events: Vec<Attributes> = events.into_iter().map(attributes).collect();
                        let numbered = (log.len() as u64 + 1..).map(Position::new).zip(&events);
                        let mut woken = index.show(numbered);
                        log.extend(events.into_iter().map(Some));
                        woken.sort_unstable();
                        let expected = models.iter_mut().filter(|(_, model)| {
                            model.waits && unseen_match(&log, model, log.len())
                        });
                        let expected: Vec<u64> = expected
                            .map(|(number, model)| { model.waits = false; *number })
                            .collect();
                        prop_assert_eq!(woken, expected);
                    }
                    Step::Skip => {
                        // An event that was never shown: it may match anyone.
                        log.push(None);
                        let mut woken = index.skip_to(Position::new(log.len() as u64));
                        woken.sort_unstable();
                        let expected = models.iter_mut().filter(|(_, model)| model.waits);
                        let expected: Vec<u64> = expected
                            .map(|(number, model)| { model.waits = false; *number })
                            .collect();
                        prop_assert_eq!(woken, expected);
                    }
                }
            }
            for number in models.keys() {
                index.leave(*number);
            }
            let left = (&index.groups, &index.subscribers, &index.unfiled, &index.by_user);
            prop_assert!(left.0.is_empty() && left.1.is_empty() && left.2.is_empty() && left.3.is_empty());
            prop_assert!(index.by_session.is_empty() && index.by_type.is_empty() && index.group_of.is_empty());
        }
    }
}
