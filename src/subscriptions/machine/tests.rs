//! Single steps, where the model says nothing: numbers, words, limits.

mod limits;

use std::time::Duration;

use proptest::prelude::*;

use super::indexes::Indexes;
use super::*;

const NOW: i64 = 1_790_000_000_000;
const EPOCH: Epoch = Epoch::new(7);

impl Machine {
    /// Panics unless the indexes are those that are built of the state.
    pub(in crate::subscriptions) fn assert_indexes(&self) {
        let mut built = Indexes::default();
        for (position, pending) in &self.state.pending {
            let expires_at = self.own.expires_at(pending);
            built.insert(*position, &self.state.pending, expires_at);
        }
        assert_eq!(self.indexes, built);
    }
}

fn at(seconds: f64) -> UnixMillis {
    let offset = Duration::from_secs_f64(seconds);
    UnixMillis::new(NOW).after(offset)
}

fn position(number: u64) -> Position {
    Position::new(number)
}

fn machine(settings: Settings, limits: Limits) -> Machine {
    let state = State::new(EPOCH, 1, Position::START, at(0.0));
    Machine::new(state, settings, limits, OwnLeases::default())
}

/// Events 1, 2, …, with these keys.
fn events(keys: impl IntoIterator<Item = u64>) -> Vec<Candidate> {
    let numbered = (1..).zip(keys);
    let candidates = numbered.map(|(number, key)| Candidate::new(position(number), Key::new(key)));
    candidates.collect()
}

fn advance(machine: &mut Machine, ahead: &[Candidate], credits: usize, now: UnixMillis) -> usize {
    let last = ahead.last().map_or(Position::START, |event| event.position);
    machine.advance(ahead, last, credits, now)
}

fn lease(machine: &mut Machine, number: u64, now: UnixMillis) -> AckId {
    let grant = machine.lease(position(number), now);
    grant.expect("it can be leased").ack_id
}

fn settle(machine: &mut Machine, ack_id: AckId, outcome: Outcome, now: UnixMillis) -> Settled {
    let mut reading = kept(100);
    machine.settle(ack_id, outcome, &mut reading, now)
}

/// Every body is in the log.
fn kept(count: u64) -> Reading {
    let bodies = (1..=count).map(|number| (position(number), Body::Kept(1000)));
    Reading {
        bodies: bodies.collect(),
        ..Reading::default()
    }
}

fn due(machine: &Machine, now: UnixMillis) -> Vec<u64> {
    machine.due(now).map(|due| due.position.number()).collect()
}

const FAILED: Outcome = Outcome::Failed { delay: None };

#[test]
fn redelivered_after_a_delay_that_doubles_up_to_the_longest() {
    let machine = machine(Settings::default(), Limits::default());
    let seconds = |deliveries, number| {
        let delay = machine.retry_delay(position(number), deliveries);
        delay.as_secs_f64()
    };
    for (deliveries, expected) in [
        (1, 1.0),
        (2, 2.0),
        (3, 4.0),
        (10, 512.0),
        (11, 600.0),
        (100, 600.0),
    ] {
        let delays: Vec<f64> = (1..1000)
            .map(|number| seconds(deliveries, number))
            .collect();
        let least = delays.iter().copied().fold(f64::MAX, f64::min);
        let most = delays.iter().copied().fold(0.0, f64::max);
        assert!(
            least >= expected * 0.9 && least < expected * 0.91,
            "{deliveries}: {least}"
        );
        assert!(
            most <= expected * 1.1 && most > expected * 1.09,
            "{deliveries}: {most}"
        );
    }
    // Every gateway has the same.
    assert_eq!(
        machine.retry_delay(position(1), 1),
        Duration::from_millis(907)
    );
}

#[test]
fn redelivered_when_the_worker_asks_for_it() {
    let mut machine = machine(Settings::default(), Limits::default());
    advance(&mut machine, &events([1]), 1, at(0.0));
    let ack_id = lease(&mut machine, 1, at(0.0));
    let delay = Some(Duration::from_secs(3600));
    settle(&mut machine, ack_id, Outcome::Failed { delay }, at(1.0));
    assert_eq!(due(&machine, at(3600.9)), [0; 0]);
    assert_eq!(due(&machine, at(3601.0)), [1]);
    assert_eq!(machine.next_change(at(1.0)), Some(at(3601.0)));
    assert_eq!(machine.next_change(at(3601.0)), None);
}

#[test]
fn a_lease_that_another_gateway_gave_or_extended_expires_2_s_late() {
    let mut first = machine(Settings::default(), Limits::default());
    advance(&mut first, &events([1]), 1, at(0.0));
    let ack_id = lease(&mut first, 1, at(0.0));
    let reads = |writer: &Machine, own| {
        Machine::new(
            writer.state.clone(),
            Settings::default(),
            Limits::default(),
            own,
        )
    };
    let is_expired = |machine: &Machine, seconds| {
        let mut machine = machine.clone();
        !machine
            .expire(&mut Reading::default(), at(seconds))
            .is_empty()
    };
    let mut other = reads(&first, OwnLeases::default());
    assert!(!is_expired(&first, 29.999) && is_expired(&first, 30.0));
    assert!(!is_expired(&other, 31.999) && is_expired(&other, 32.0));
    // Not its own before it is stored.
    let unstored = reads(&first, first.clone().into_own_leases());
    assert!(!is_expired(&unstored, 31.999));
    first.note_stored();
    let own = first.clone().into_own_leases();
    assert!(is_expired(&reads(&first, own.clone()), 30.0));
    let extended = settle(&mut other, ack_id, Outcome::Extended, at(20.0));
    assert_eq!(extended.answer, Answer::Recorded);
    assert!(!is_expired(&other, 49.999) && is_expired(&other, 50.0));
    let first = reads(&other, own);
    assert!(!is_expired(&first, 51.999) && is_expired(&first, 52.0));
}

#[test]
fn an_extension_by_a_clock_that_is_behind_lasts_as_long_as_it_says() {
    let mut first = machine(Settings::default(), Limits::default());
    advance(&mut first, &events([1]), 1, at(1.0));
    let ack_id = lease(&mut first, 1, at(1.0));
    first.note_stored();
    // Half a second later, by a clock that is one second behind.
    let mut other = Machine::new(
        first.state.clone(),
        Settings::default(),
        Limits::default(),
        OwnLeases::default(),
    );
    settle(&mut other, ack_id, Outcome::Extended, at(0.5));
    let own = first.into_own_leases();
    let settings = Settings::default();
    let mut first = Machine::new(other.state.clone(), settings, Limits::default(), own);
    // 30 s after the extension, the first clock is at 31.5 s.
    assert_eq!(first.expire(&mut Reading::default(), at(31.499)), []);
    assert_eq!(other.expire(&mut Reading::default(), at(30.499)), []);
}

#[test]
fn an_extension_never_brings_a_deadline_forward() {
    let mut machine = machine(Settings::default(), Limits::default());
    advance(&mut machine, &events([1]), 1, at(0.0));
    let ack_id = lease(&mut machine, 1, at(0.0));
    let shorter = Settings {
        ack_deadline: Duration::from_secs(1),
        ..Settings::default()
    };
    machine.set_settings(shorter);
    settle(&mut machine, ack_id, Outcome::Extended, at(1.0));
    assert_eq!(machine.next_change(at(1.0)), Some(at(30.0)));
}

#[test]
fn late_outcomes_are_taken_unless_the_event_was_handed_out_again() {
    let late = |outcome| {
        let mut machine = machine(Settings::default(), Limits::default());
        advance(&mut machine, &events([1]), 1, at(0.0));
        let ack_id = lease(&mut machine, 1, at(0.0));
        machine.expire(&mut Reading::default(), at(30.0));
        let taken = settle(&mut machine.clone(), ack_id, outcome, at(30.5)).answer;
        let again = lease(&mut machine, 1, at(40.0));
        let lost = settle(&mut machine, ack_id, outcome, at(40.5)).answer;
        assert_eq!(lost, Answer::Lost);
        let settled = settle(&mut machine, again, outcome, at(41.0));
        assert_eq!(settled.answer, Answer::Recorded);
        taken
    };
    for outcome in [Outcome::Extended, Outcome::Released] {
        // No gateway has noted that the lease ran out.
        let mut machine = machine(Settings::default(), Limits::default());
        advance(&mut machine, &events([1]), 1, at(0.0));
        let ack_id = lease(&mut machine, 1, at(0.0));
        let early = settle(&mut machine.clone(), ack_id, outcome, at(29.999));
        assert_eq!(early.answer, Answer::Recorded);
        let late = settle(&mut machine, ack_id, outcome, at(30.0));
        assert_eq!(late.answer, Answer::Lost);
    }
    assert_eq!(late(Outcome::Done), Answer::Recorded);
    assert_eq!(late(FAILED), Answer::Recorded);
    assert_eq!(late(Outcome::Rejected), Answer::Recorded);
    assert_eq!(late(Outcome::Extended), Answer::Lost);
    assert_eq!(late(Outcome::Released), Answer::Lost);
}

#[test]
fn an_id_that_was_never_given_is_lost() {
    let mut machine = machine(Settings::default(), Limits::default());
    advance(&mut machine, &events([1]), 1, at(0.0));
    for (generation, number, lease) in [(1, 1, 0), (1, 1, 7), (1, 2, 1), (2, 1, 1)] {
        let ack_id = AckId {
            generation,
            position: position(number),
            lease: Lease::new(lease),
        };
        for outcome in [Outcome::Done, FAILED, Outcome::Extended, Outcome::Released] {
            let settled = settle(&mut machine, ack_id, outcome, at(1.0));
            assert_eq!(settled.answer, Answer::Lost, "{ack_id:?}: {outcome:?}");
        }
    }
}

/// Another event may have its position when a log is put back from a backup.
#[test]
fn a_state_that_is_put_back_gives_no_lease_again() {
    let mut machine = machine(Settings::default(), Limits::default());
    advance(&mut machine, &events([1]), 1, at(0.0));
    let mut restored = machine.clone();
    let lost = lease(&mut machine, 1, at(1.0));
    let given = lease(&mut restored, 1, at(2.0));
    let late = settle(&mut restored, lost, Outcome::Done, at(3.0));
    assert_eq!(late.answer, Answer::Lost);
    let in_time = settle(&mut restored, given, Outcome::Done, at(3.0));
    assert_eq!(in_time.answer, Answer::Recorded);
}

#[test]
fn acknowledged_late_a_dead_letter_is_handled_after_all() {
    let settings = Settings {
        max_deliveries: 1,
        ..Settings::default()
    };
    let mut machine = machine(settings, Limits::default());
    advance(&mut machine, &events([1, 2]), 2, at(0.0));
    let [first, second] = [1, 2].map(|number| lease(&mut machine, number, at(0.0)));
    assert_eq!(
        machine.read_request(&[], at(30.0)).bodies,
        [position(1), position(2)]
    );
    let mut reading = kept(2);
    assert_eq!(machine.expire(&mut reading, at(30.0)).len(), 2);
    assert_eq!(
        (machine.state.dead.len(), machine.state.dead_bytes),
        (2, 2000)
    );
    let outcomes = [(first, Outcome::Done), (second, FAILED)];
    assert_eq!(
        machine.read_request(&outcomes, at(31.0)).letters,
        [position(1), position(2)]
    );
    let settled = machine.settle(first, Outcome::Done, &mut reading, at(31.0));
    assert_eq!(
        settled.letter,
        Some(LetterChange::Delete {
            position: position(1)
        })
    );
    let settled = machine.settle(second, FAILED, &mut reading, at(31.0));
    assert_eq!((settled.answer, settled.letter), (Answer::Recorded, None));
    assert_eq!(
        (machine.state.dead.len(), machine.state.dead_bytes),
        (1, 1000)
    );
    assert_eq!(
        (machine.state.acknowledged, machine.state.accounted()),
        (1, 2)
    );
}

#[test]
fn parked_again_a_replayed_dead_letter_is_the_same_one() {
    let mut machine = machine(Settings::default(), Limits::default());
    advance(&mut machine, &events([1, 1]), 2, at(0.0));
    let first = lease(&mut machine, 1, at(0.0));
    let died = settle(&mut machine, first, Outcome::Rejected, at(1.0)).letter;
    assert!(matches!(
        died,
        Some(LetterChange::Write {
            again: false,
            deliveries: 1,
            ..
        })
    ));
    // The next of its key is leased when the letter is replayed: it waits.
    let second = lease(&mut machine, 2, at(1.0));
    let letter = Candidate::new(position(1), Key::new(1));
    assert_eq!(machine.replay(&[letter, letter]), 1);
    assert_eq!(due(&machine, at(2.0)), [0; 0]);
    // It goes before what is behind.
    settle(&mut machine, second, Outcome::Released, at(2.0));
    assert_eq!(due(&machine, at(2.0)), [1]);
    let grant = machine.lease(position(1), at(2.0)).expect("a grant");
    assert_eq!((grant.attempt, grant.replayed), (1, true));
    let died = settle(&mut machine, grant.ack_id, Outcome::Rejected, at(3.0)).letter;
    assert!(matches!(
        died,
        Some(LetterChange::Write { again: true, .. })
    ));
    assert_eq!(
        (machine.state.dead.len(), machine.state.dead_bytes),
        (1, 1000)
    );
    assert_eq!(
        (due(&machine, at(3.0)), machine.state.accounted()),
        (vec![2], 2)
    );
}

#[test]
fn a_dropped_dead_letter_that_a_worker_holds_is_acknowledged_as_done() {
    let mut machine = machine(Settings::default(), Limits::default());
    advance(&mut machine, &events([1]), 1, at(0.0));
    let first = lease(&mut machine, 1, at(0.0));
    settle(&mut machine, first, Outcome::Rejected, at(1.0));
    machine.replay(&[Candidate::new(position(1), Key::new(1))]);
    let again = lease(&mut machine, 1, at(1.0));
    let dropped = machine.drop_dead(&[(position(1), 1000), (position(1), 1000)]);
    assert_eq!(
        dropped,
        [LetterChange::Delete {
            position: position(1)
        }]
    );
    assert_eq!(
        settle(&mut machine, again, Outcome::Done, at(2.0)).answer,
        Answer::Recorded
    );
    assert_eq!((machine.state.dead_bytes, machine.state.dropped), (0, 1));
    assert_eq!(
        (machine.state.acknowledged, machine.state.accounted()),
        (0, 1)
    );
}

#[test]
fn a_seek_voids_what_is_handed_out_and_leaves_dead_letters() {
    let mut machine = machine(Settings::default(), Limits::default());
    let ahead = events([1, 2, 3]);
    advance(&mut machine, &ahead, 3, at(0.0));
    let [first, second] = [1, 2].map(|number| lease(&mut machine, number, at(0.0)));
    settle(&mut machine, first, Outcome::Rejected, at(1.0));
    assert_eq!(machine.seek(Position::START, Epoch::new(8)), Err(SeekError));
    assert_eq!(machine.seek(Position::START, EPOCH), Ok(()));
    assert_eq!(
        settle(&mut machine, second, Outcome::Done, at(2.0)).answer,
        Answer::Lost
    );
    assert_eq!(advance(&mut machine, &ahead, 9, at(2.0)), 3);
    assert_eq!(due(&machine, at(2.0)), [2, 3]);
    assert_eq!(machine.state.generation(), 2);
    machine.drop_dead(&[(position(1), 1000)]);
    assert_eq!(machine.seek(Position::START, Epoch::new(8)), Ok(()));
}

proptest! {
    /// After the swap that was not answered, the same outcomes are applied to what it stored.
    #[test]
    fn a_repeated_call_changes_nothing_but_delays(
        outcomes in prop::collection::vec(0_usize..4, 1..5),
        max_deliveries in 1_u32..3,
    ) {
        let settings = Settings { max_deliveries, ..Settings::default() };
        let mut machine = machine(settings, Limits::default());
        let ahead = events(0..outcomes.len() as u64);
        advance(&mut machine, &ahead, 9, at(0.0));
        let kinds = [Outcome::Done, FAILED, Outcome::Rejected, Outcome::Extended];
        let acks = outcomes.iter().zip(1..).map(|(kind, number)| {
            (lease(&mut machine, number, at(0.0)), kinds[*kind])
        });
        let acks: Vec<_> = acks.collect();
        let mut reading = kept(9);
        let mut run = || {
            for (ack_id, outcome) in &acks {
                let settled = machine.settle(*ack_id, *outcome, &mut reading, at(1.0));
                assert_eq!(settled.answer, Answer::Recorded);
            }
            machine.state.clone()
        };
        let once = run();
        prop_assert_eq!(run(), once);
    }
}
