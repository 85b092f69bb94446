//! What is in the way: credits, order, pauses, limits, retention.

use super::*;
use crate::fanout::OnExpired;

#[test]
fn order_by_log_has_one_event_at_a_time_and_never_passes_one() {
    let settings = Settings {
        order_by: OrderBy::Log,
        ..Settings::default()
    };
    let mut machine = machine(settings, Limits::default());
    let ahead = events([0, 0, 0]);
    assert_eq!(advance(&mut machine, &ahead, 3, at(0.0)), 1);
    let first = lease(&mut machine, 1, at(0.0));
    assert_eq!(advance(&mut machine, &ahead, 3, at(0.0)), 1);
    settle(&mut machine, first, Outcome::Done, at(1.0));
    assert_eq!(advance(&mut machine, &ahead, 3, at(1.0)), 2);
    assert_eq!(due(&machine, at(1.0)), [2]);
}

#[test]
fn advance_is_for_free_credits_alone() {
    let mut machine = machine(Settings::default(), Limits::default());
    let ahead = events([1, 1, 1, 2, 3, 4]);
    assert_eq!(advance(&mut machine, &ahead, 0, at(0.0)), 0);
    assert_eq!(machine.state.frontier(), Position::START);
    // Past the key that is taken.
    assert_eq!(advance(&mut machine, &ahead, 2, at(0.0)), 4);
    assert_eq!(machine.state.frontier(), position(4));
    assert_eq!(advance(&mut machine, &ahead, 2, at(0.0)), 4);
    assert_eq!(advance(&mut machine, &ahead, 9, at(0.0)), 6);
    // Without matching events, the frontier moves for nothing.
    assert_eq!(machine.advance(&[], position(90), 0, at(0.0)), 0);
    assert_eq!(machine.state.frontier(), position(90));
    assert_eq!(machine.handled_through(), Position::START);
}

#[test]
fn a_paused_subscription_hands_nothing_out_and_takes_acknowledgements() {
    let mut machine = machine(Settings::default(), Limits::default());
    let ahead = events([1, 2, 3]);
    advance(&mut machine, &ahead, 2, at(0.0));
    let first = lease(&mut machine, 1, at(0.0));
    let paused = Settings {
        paused: true,
        ..Settings::default()
    };
    machine.set_settings(paused);
    assert_eq!(advance(&mut machine, &ahead, 9, at(0.0)), 2);
    assert_eq!(
        settle(&mut machine, first, Outcome::Done, at(1.0)).answer,
        Answer::Recorded
    );
    assert_eq!(due(&machine, at(1.0)), [0; 0]);
    assert_eq!(machine.lease(position(2), at(1.0)), None);
    assert_eq!(machine.stall(Epoch::new(8), position(9), at(99.0)), None);
}

#[test]
fn unblocked_up_to_10_000_pending_events_and_then_stalled_in_words() {
    let mut machine = machine(Settings::default(), Limits::default());
    let ahead = events(std::iter::repeat_n(1, 10_001));
    assert_eq!(advance(&mut machine, &ahead, 64, at(0.0)), 10_000);
    let stall = |machine: &Machine, seconds| machine.stall(EPOCH, Position::START, at(seconds));
    assert_eq!(stall(&machine, 9.9), None);
    assert_eq!(stall(&machine, 10.0), Some(Stall::Pending(10_000)));
    let words = Stall::Pending(10_000).to_string();
    assert!(words.starts_with("10,000 events are pending"), "{words}");
    // A hot key that is acknowledged is slow, and not a stall.
    let first = lease(&mut machine, 1, at(10.0));
    settle(&mut machine, first, Outcome::Done, at(11.0));
    assert_eq!(advance(&mut machine, &ahead, 64, at(11.0)), 10_001);
    assert_eq!(stall(&machine, 20.9), None);
    let counts = machine.counts(at(12.0));
    assert_eq!((counts.blocked, counts.acknowledged), (10_000, 1));
}

#[test]
fn parked_events_fill_the_dead_letters_and_the_rest_stays_pending() {
    let limits = Limits {
        dead: 2,
        ..Limits::default()
    };
    let mut machine = machine(Settings::default(), limits);
    let ahead = events([1, 2, 3, 4]);
    advance(&mut machine, &ahead, 3, at(0.0));
    let acks = [1, 2, 3].map(|number| lease(&mut machine, number, at(0.0)));
    for ack_id in acks {
        settle(&mut machine, ack_id, Outcome::Rejected, at(1.0));
    }
    assert_eq!(
        (machine.state.dead.len(), machine.state.pending.len()),
        (2, 1)
    );
    assert_eq!(advance(&mut machine, &ahead, 3, at(9.0)), 3);
    assert_eq!(due(&machine, at(9.0)), [0; 0]);
    assert_eq!(machine.lease(position(3), at(9.0)), None);
    let stall = machine
        .stall(EPOCH, Position::START, at(9.0))
        .expect("a stall");
    assert_eq!(stall, Stall::DeadLetters(2));
    let words = Stall::DeadLetters(10_000).to_string();
    assert_eq!(
        words,
        "10,000 dead letters: is something that all events need broken?"
    );
    // What is replayed needs no room, so all can be worked off.
    let letters = [1, 2].map(|number| Candidate::new(position(number), Key::new(number)));
    assert_eq!(machine.replay(&letters), 2);
    assert_eq!(due(&machine, at(9.0)), [1, 2]);
    let again = lease(&mut machine, 1, at(9.0));
    settle(&mut machine, again, Outcome::Done, at(10.0));
    assert_eq!(due(&machine, at(10.0)), [2, 3]);
}

#[test]
fn dead_letters_are_full_by_their_bytes_too() {
    let limits = Limits {
        dead_bytes: 1500,
        ..Limits::default()
    };
    let mut machine = machine(Settings::default(), limits);
    advance(&mut machine, &events([1, 2]), 2, at(0.0));
    for number in 1..=2 {
        let ack_id = lease(&mut machine, number, at(0.0));
        settle(&mut machine, ack_id, Outcome::Rejected, at(1.0));
    }
    let stall = machine.stall(EPOCH, Position::START, at(1.0));
    assert_eq!(stall, Some(Stall::DeadLetterBytes(1500)));
    let words = Stall::DeadLetterBytes(Limits::default().dead_bytes).to_string();
    assert!(words.starts_with("256 MiB of dead letters"), "{words}");
}

#[test]
fn an_event_that_retention_took_stalls_or_is_passed_over() {
    for (on_expired, passed_over) in [(OnExpired::Fail, 0), (OnExpired::Earliest, 1)] {
        let settings = Settings {
            max_deliveries: 1,
            on_expired,
            ..Settings::default()
        };
        let mut machine = machine(settings, Limits::default());
        advance(&mut machine, &events([1]), 1, at(0.0));
        let ack_id = lease(&mut machine, 1, at(0.0));
        let stall = machine.stall(EPOCH, position(1), at(1.0));
        assert_eq!(stall, (passed_over == 0).then_some(Stall::Expired));
        let mut reading = Reading::default();
        reading.bodies.insert(position(1), Body::Gone);
        let failed = machine.settle(ack_id, FAILED, &mut reading, at(1.0));
        assert_eq!(failed.letter, None);
        assert_eq!(machine.state.passed_over, passed_over);
        assert_eq!(machine.state.pending.len() as u64, 1 - passed_over);
        assert_eq!(machine.state.accounted(), 1);
    }
}

#[test]
fn counts_judge_leases_by_now() {
    let mut machine = machine(Settings::default(), Limits::default());
    advance(&mut machine, &events([1, 2, 2, 3]), 3, at(0.0));
    lease(&mut machine, 1, at(0.0));
    let second = lease(&mut machine, 2, at(0.0));
    let counts = |machine: &Machine, seconds| {
        let counts = machine.counts(at(seconds));
        (counts.outstanding, counts.retrying, counts.blocked)
    };
    assert_eq!(counts(&machine, 1.0), (2, 0, 2));
    settle(&mut machine, second, FAILED, at(1.0));
    assert_eq!(counts(&machine, 2.0), (1, 1, 2));
    assert_eq!(counts(&machine, 30.0), (0, 2, 2));
}

#[test]
fn the_state_of_another_log_is_a_stall() {
    let machine = machine(Settings::default(), Limits::default());
    let stall = machine.stall(Epoch::new(8), Position::START, at(0.0));
    assert_eq!(stall, Some(Stall::OtherLog));
}

#[test]
fn a_replay_stops_where_the_limit_of_pending_events_is() {
    let limits = Limits {
        pending: 2,
        ..Limits::default()
    };
    let mut machine = machine(Settings::default(), limits);
    let ahead = events([1, 2, 3]);
    for number in 1..=3 {
        advance(&mut machine, &ahead, 1, at(0.0));
        let ack_id = lease(&mut machine, number, at(0.0));
        settle(&mut machine, ack_id, Outcome::Rejected, at(0.0));
    }
    assert_eq!(machine.replay(&ahead), 2);
    assert_eq!(machine.replay(&ahead), 0);
    assert_eq!(due(&machine, at(0.0)), [1, 2]);
    let again = lease(&mut machine, 1, at(0.0));
    settle(&mut machine, again, Outcome::Done, at(0.0));
    assert_eq!(machine.replay(&ahead), 1);
}
