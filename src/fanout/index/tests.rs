use proptest::prelude::*;

use super::super::known_names;
use super::*;
use crate::filter::{Scope, Spec};

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

fn filter(asked: &Spec) -> Filter {
    let known = known_names([], &[]);
    Filter::compile(asked, &known, &Scope::default()).expect("valid")
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
        filter(&Spec {
            types: types.into_iter().map(str::to_owned).collect(),
            user_ids,
            session_ids,
            ..Spec::default()
        })
    })
}

fn notify(index: &mut Index<u64>, events: &[Arrival<'_>]) -> Vec<u64> {
    let mut questions = Questions::default();
    index.announce(events, &mut questions);
    questions.ask(events);
    index.settle(events, &mut questions);
    questions.woken
}

#[derive(Clone, Debug)]
enum Step {
    Join(Filter),
    Leave(usize),
    /// Reads all there is, and waits.
    Wait(usize),
    /// Reads on without having been woken, as a heartbeat does.
    Resume(usize),
    Notify(Vec<(usize, usize, usize)>),
    Skip,
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => filters().prop_map(Step::Join),
        1 => (0..20_usize).prop_map(Step::Leave),
        4 => (0..20_usize).prop_map(Step::Wait),
        1 => (0..20_usize).prop_map(Step::Resume),
        4 => prop::collection::vec((0..3_usize, 0..4_usize, 0..4_usize), 1..5)
            .prop_map(Step::Notify),
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
    /// wait and match are woken, and no subscriber goes on beyond an event that it
    /// has not seen and wants.
    #[test]
    fn a_waiter_wakes_on_its_first_match_only(
        steps in prop::collection::vec(steps(), 1..60),
    ) {
        let mut index = Index::new(Position::START, Limits::default());
        let mut models: BTreeMap<u64, Model> = BTreeMap::new();
        let mut log: Vec<Option<Attributes>> = Vec::new();
        let mut next = 0;
        let unseen_match = |log: &[Option<Attributes>], model: &Model, through: usize| {
            let unseen = log.get(model.read..through).unwrap_or_default();
            unseen.iter().any(|event| event.as_ref().is_none_or(|event| model.filter.matches(event.as_ref())))
        };
        for step in steps {
            let chosen = |number: usize| {
                let count = models.len().max(1);
                models.keys().nth(number % count).copied()
            };
            match step {
                Step::Join(filter) => {
                    let shared = index.join(next, filter.clone(), "someone", next).expect("small");
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
                    let _woken_before = index.resume(number);
                    model.read = log.len();
                    model.waits = true;
                    prop_assert!(index.wait(number, Position::new(model.read as u64)));
                }
                Step::Resume(number) => if let Some(number) = chosen(number)
                    && let Some(model) = models.get_mut(&number)
                {
                    if let Some(through) = index.resume(number) {
                        let through = usize::try_from(through.number()).expect("small");
                        prop_assert!(!unseen_match(&log, model, through));
                        model.read = model.read.max(through);
                    }
                    model.waits = false;
                    if model.read < log.len() {
                        prop_assert!(!index.wait(number, Position::new(model.read as u64)));
                    }
                }
                Step::Notify(events) => {
                    let events: Vec<Attributes> = events.into_iter().map(attributes).collect();
                    let positions = (log.len() as u64 + 1..).map(Position::new);
                    let numbered: Vec<Arrival<'_>> = positions.zip(&events).collect();
                    let mut woken = notify(&mut index, &numbered);
                    log.extend(events.into_iter().map(Some));
                    woken.sort_unstable();
                    let matched = models.iter_mut().filter(|(_, model)| {
                        model.waits && unseen_match(&log, model, log.len())
                    });
                    let expected: Vec<u64> = matched
                        .map(|(number, model)| { model.waits = false; *number })
                        .collect();
                    prop_assert_eq!(woken, expected);
                }
                Step::Skip => {
                    // An event that was never shown: it may match anyone.
                    log.push(None);
                    let mut woken = index.skip_to(Position::new(log.len() as u64));
                    woken.sort_unstable();
                    let waiting = models.iter_mut().filter(|(_, model)| model.waits);
                    let expected: Vec<u64> = waiting
                        .map(|(number, model)| { model.waits = false; *number })
                        .collect();
                    prop_assert_eq!(woken, expected);
                }
            }
        }
        for number in models.keys() {
            index.leave(*number);
        }
        prop_assert!(index.groups.is_empty() && index.subscribers.is_empty());
        prop_assert!(index.by_value.is_empty() && index.unfiled.is_empty());
        prop_assert!(index.group_of.is_empty() && index.budget.is_empty());
    }
}

/// While groups are asked, a subscriber that is woken by its heartbeat, or begins to wait,
/// passes over nothing that it wants.
#[test]
fn a_waiter_that_joins_or_leaves_during_an_announcement_misses_nothing() {
    let users = filter(&Spec {
        user_ids: vec!["user_1".to_owned()],
        ..Spec::default()
    });
    let mut index = Index::new(Position::START, Limits::default());
    for number in 1..=3 {
        index
            .join(number, users.clone(), "someone", number)
            .expect("small");
    }
    assert!(index.wait(1, Position::START) && index.wait(2, Position::START));
    let wanted = attributes((0, 1, 0));
    let events = [(Position::new(1), &wanted), (Position::new(2), &wanted)];
    let mut questions = Questions::default();
    index.announce(&events, &mut questions);
    assert_eq!(
        index.resume(2),
        Some(Position::START),
        "not beyond what is asked"
    );
    assert!(
        !index.wait(2, Position::START),
        "there is something to read"
    );
    assert!(!index.wait(3, Position::new(1)));
    assert!(index.wait(3, Position::new(2)));
    questions.ask(&events);
    index.leave(2);
    index.settle(&events, &mut questions);
    assert!(questions.woken.contains(&1));
    assert_eq!(index.resume(1), Some(Position::START));
    let later = attributes((0, 1, 0));
    let events = [(Position::new(3), &later)];
    assert!(!index.wait(1, Position::START));
    assert!(index.wait(1, Position::new(2)));
    index.resume(3);
    assert!(index.wait(3, Position::new(2)));
    let mut woken = notify(&mut index, &events);
    woken.sort_unstable();
    assert_eq!(woken, [1, 3]);
}

#[test]
fn filters_are_bounded_and_equal_ones_are_counted_once() {
    let of_user = |number: usize| {
        filter(&Spec {
            user_ids: vec![format!("user_{number}")],
            ..Spec::default()
        })
    };
    let bytes = of_user(1).bytes();
    let limits = Limits {
        principal_bytes: 2 * bytes,
        all_bytes: 3 * bytes,
    };
    let mut index = Index::new(Position::START, limits);
    let mut number = 0;
    let mut join = |index: &mut Index<u64>, user: usize, principal: &str| {
        number += 1;
        index
            .join(number, of_user(user), principal, number)
            .map(|_| number)
    };
    let first = join(&mut index, 1, "one").expect("the first");
    for _ in 0..10 {
        join(&mut index, 2, "one").expect("the second, and its equals");
    }
    let too_large = |limit| Err(TooLarge { limit });
    assert_eq!(join(&mut index, 3, "one"), too_large(2 * bytes));
    join(&mut index, 1, "other").expect("another principal's");
    let third = join(&mut index, 3, "other").expect("the third");
    assert_eq!(index.filter_bytes(), 3 * bytes);
    assert_eq!(join(&mut index, 4, "third"), too_large(3 * bytes));
    index.leave(third);
    assert_eq!(index.filter_bytes(), 2 * bytes);
    assert_eq!(join(&mut index, 4, "one"), too_large(2 * bytes));
    index.leave(first);
    assert_eq!(index.filter_bytes(), 2 * bytes, "the other has it still");
    join(&mut index, 4, "one").expect("there is room again");
}
