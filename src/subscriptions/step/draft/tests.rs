use std::time::Duration;

use super::super::super::key::Key;
use super::super::super::machine::{Body, Limits, OwnLeases};
use super::super::super::rooms::Room;
use super::super::super::settings::Settings;
use super::*;
use crate::event::Epoch;

const NOW: UnixMillis = UnixMillis::new(1_000_000);
const EPOCH: Epoch = Epoch::new(7);

fn machine(on_expired: OnExpired) -> Machine {
    let settings = Settings {
        on_expired,
        ..Settings::default()
    };
    let state = State::new(EPOCH, 1, Position::START, NOW);
    Machine::new(state, settings, Limits::default(), OwnLeases::default())
}

/// Events at the positions from 1 on, each with its key.
fn candidates(keys: &[u64]) -> Vec<Candidate> {
    let events = (1..).zip(keys);
    let events = events.map(|(number, key)| Candidate::new(Position::new(number), Key::new(*key)));
    events.collect()
}

fn positions(draft: &Draft) -> Vec<u64> {
    let grants = draft.grants.iter();
    let positions = grants.map(|(_, grant)| grant.ack_id.position.number());
    positions.collect()
}

/// What a step has, unless a test has something else.
struct Setting<'a> {
    outcomes: &'a [(AckId, Outcome)],
    reading: Reading,
    change: Option<&'a Move>,
    trimmed: u64,
    candidates: &'a [Candidate],
    /// Of one stream, without the deliveries that it holds.
    credits: usize,
    look: &'a dyn Fn(DueEvent) -> Look,
}

const READY: &dyn Fn(DueEvent) -> Look = &|_| Look::Ready { bytes: 100 };

impl Default for Setting<'_> {
    fn default() -> Self {
        Self {
            outcomes: &[],
            reading: Reading::default(),
            change: None,
            trimmed: 0,
            candidates: &[],
            credits: 8,
            look: READY,
        }
    }
}

fn step(machine: &mut Machine, setting: Setting<'_>) -> Draft {
    let last = setting.candidates.last();
    let last = last.map_or(Position::START, |last| last.position);
    let credits = setting.credits;
    let rooms = move |state: &State| {
        let held = (1..100).filter(|number| {
            let position = Position::new(*number);
            state.pending.contains_key(&position) && !state.is_waiting(position)
        });
        let credits = credits.saturating_sub(held.count());
        let room = Room {
            worker: 5,
            credits,
            last_step: 0,
        };
        Rooms::new([room])
    };
    let materials = Materials {
        now: NOW,
        outcomes: setting.outcomes,
        reading: setting.reading,
        change: setting.change,
        bounds: Bounds {
            trimmed: Position::new(setting.trimmed),
            last: last.max(Position::new(setting.trimmed)),
            last_receive_time: NOW,
        },
        may_skip: true,
        candidates: setting.candidates,
        through: last,
        rooms: &rooms,
        look: setting.look,
    };
    draft(machine, materials)
}

fn outcomes(draft: &Draft, outcome: Outcome) -> Vec<(AckId, Outcome)> {
    let grants = draft.grants.iter();
    grants.map(|(_, grant)| (grant.ack_id, outcome)).collect()
}

#[test]
fn acknowledgements_make_room_for_leases_in_the_same_step() {
    let candidates = candidates(&[1, 2, 3, 4]);
    let mut machine = machine(OnExpired::Fail);
    let first = step(
        &mut machine,
        Setting {
            candidates: &candidates,
            credits: 2,
            ..Setting::default()
        },
    );
    assert_eq!(positions(&first), [1, 2]);
    assert!(first.must_store);
    let none = step(
        &mut machine,
        Setting {
            candidates: &candidates,
            credits: 2,
            ..Setting::default()
        },
    );
    assert!(!none.must_store && none.grants.is_empty());
    let next = step(
        &mut machine,
        Setting {
            outcomes: &outcomes(&first, Outcome::Done),
            candidates: &candidates,
            credits: 2,
            ..Setting::default()
        },
    );
    assert_eq!(next.answers, [Answer::Recorded, Answer::Recorded]);
    assert_eq!(positions(&next), [3, 4]);
    assert_eq!(next.tally.acknowledged.len(), 2);
}

#[test]
fn outcomes_are_settled_up_to_the_first_that_was_left_unread() {
    let candidates = candidates(&[1, 2, 3]);
    let mut machine = machine(OnExpired::Fail);
    let first = step(
        &mut machine,
        Setting {
            candidates: &candidates,
            ..Setting::default()
        },
    );
    let reading = Reading {
        bodies: [1, 3]
            .map(|number| (Position::new(number), Body::Kept(10)))
            .into(),
        unread: [Position::new(2)].into(),
        ..Reading::default()
    };
    let rejected = step(
        &mut machine,
        Setting {
            outcomes: &outcomes(&first, Outcome::Rejected),
            reading,
            credits: 0,
            ..Setting::default()
        },
    );
    assert_eq!(rejected.answers.len(), 1);
    let dead: Vec<&Position> = rejected.letters.keys().collect();
    assert_eq!(dead, [&Position::new(1)]);
}

#[test]
fn what_is_missing_is_named_and_what_is_withheld_withdrawn() {
    let candidates = candidates(&[1, 2, 3, 1]);
    let mut machine = machine(OnExpired::Fail);
    let look = |due: DueEvent| match due.position.number() {
        1 => Look::Withheld,
        2 => Look::Missing,
        _ => Look::Ready { bytes: 100 },
    };
    let first = step(
        &mut machine,
        Setting {
            candidates: &candidates,
            look: &look,
            ..Setting::default()
        },
    );
    assert_eq!(positions(&first), [3, 4], "the next of its key is free");
    let missing: Vec<u64> = first
        .missing
        .iter()
        .map(|due| due.position.number())
        .collect();
    assert_eq!(missing, [2]);
    assert_eq!(machine.counts(NOW).passed_over, 1);
}

#[test]
fn an_event_that_is_gone_is_passed_over_where_the_settings_allow_it() {
    for (on_expired, passed_over) in [
        (OnExpired::Fail, 0),
        (OnExpired::Earliest, 1),
        (OnExpired::Latest, 1),
    ] {
        let candidates = candidates(&[1]);
        let mut machine = machine(on_expired);
        let before = Setting {
            candidates: &candidates,
            look: &|_| Look::Missing,
            ..Setting::default()
        };
        step(&mut machine, before);
        let gone = Setting {
            trimmed: 1,
            candidates: &candidates,
            look: &|_| Look::Gone,
            ..Setting::default()
        };
        let draft = step(&mut machine, gone);
        assert_eq!(draft.tally.expired, passed_over, "{on_expired:?}");
        assert_eq!(machine.counts(NOW).passed_over, passed_over);
    }
}

#[test]
fn retention_that_passed_the_frontier_is_followed_where_the_settings_allow_it() {
    for (on_expired, frontier) in [
        (OnExpired::Fail, 0),
        (OnExpired::Earliest, 3),
        (OnExpired::Latest, 5),
    ] {
        let mut machine = machine(on_expired);
        let candidates = candidates(&[1, 2, 3, 4, 5]);
        let nothing_read = Setting {
            trimmed: 3,
            candidates: &candidates,
            credits: 0,
            ..Setting::default()
        };
        let draft = step(&mut machine, nothing_read);
        assert_eq!(machine.state().frontier().number(), frontier);
        assert_eq!(draft.tally.expired, frontier);
        assert_eq!(draft.must_store, frontier > 0);
    }
}

#[test]
fn nothing_is_given_in_the_step_of_a_seek() {
    let candidates = candidates(&[1, 2]);
    let mut machine = machine(OnExpired::Fail);
    let seek = Move::Seek {
        to: Position::new(9),
        epoch: EPOCH,
    };
    let sought = step(
        &mut machine,
        Setting {
            change: Some(&seek),
            candidates: &candidates,
            ..Setting::default()
        },
    );
    assert_eq!(sought.changed, Some(Ok(0)));
    assert!(sought.has_sought && sought.must_store);
    assert!(sought.grants.is_empty());
    assert_eq!(machine.state().frontier().number(), 9);
}

#[test]
fn leases_that_ran_out_are_handed_out_again_after_their_delay() {
    let candidates = candidates(&[1]);
    let mut machine = machine(OnExpired::Fail);
    let first = Setting {
        candidates: &candidates,
        ..Setting::default()
    };
    assert_eq!(positions(&step(&mut machine, first)), [1]);
    // Another process takes the deadline for that of a clock that may be off.
    let state = machine.state().clone();
    let settings = machine.settings().clone();
    let mut late = Machine::new(state, settings, Limits::default(), OwnLeases::default());
    let after = NOW.after(Duration::from_secs(33));
    let rooms = |_: &State| Rooms::default();
    let materials = Materials {
        now: after,
        outcomes: &[],
        reading: Reading::default(),
        change: None,
        bounds: Bounds::default(),
        may_skip: true,
        candidates: &[],
        through: Position::START,
        rooms: &rooms,
        look: READY,
    };
    let expired = draft(&mut late, materials);
    assert!(expired.must_store);
    assert_eq!(expired.tally.redelivered, [Redelivery::Deadline]);
}
