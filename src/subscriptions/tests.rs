//! The machine under random schedules, against a naive reference.
//!
//! One to three gateways share a cell, each with a clock of its own. They step, swap, conflict,
//! lose answers and crash, while workers acknowledge early, late, twice or not at all. The
//! reference keeps a list of all events with what happened to each, and looks at all of them
//! each time.

mod gateway;
mod reference;
mod schedule;
mod tally;
mod world;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use reference::Law;
use schedule::{Schedule, schedules};
use tally::Tally;
use world::{Mutant, World};

/// Schedules that each law is held to with each run of the tests.
const SCHEDULES: u32 = 50;
/// Schedules within which each mutant is found.
const SCHEDULES_FOR_A_MUTANT: u32 = 300;

fn run(schedule: &Schedule, mutant: Option<Mutant>) -> Result<Tally, reference::Violation> {
    World::new(schedule, mutant).run(schedule)
}

fn hold(law: Law) {
    let config = Config {
        failure_persistence: None,
        ..Config::with_cases(cases())
    };
    let held = TestRunner::new(config).run(&schedules(), |schedule| {
        let violation = run(&schedule, None);
        // The test of each law fails for that law alone.
        match violation {
            Err(violation) if violation.law == law => Err(TestCaseError::fail(violation.what)),
            Ok(_) | Err(_) => Ok(()),
        }
    });
    if let Err(violation) = held {
        panic!("{law:?}: {violation}");
    }
}

/// `CLERKCAST_SOAK=1` asks for many more.
fn cases() -> u32 {
    match std::env::var("CLERKCAST_SOAK") {
        Ok(soak) if soak == "1" => 10_000,
        _ => SCHEDULES,
    }
}

#[test]
fn acknowledged_is_never_handed_out_again() {
    hold(Law::Acknowledged);
}

#[test]
fn delivered_until_acknowledged_or_dead() {
    hold(Law::Delivered);
}

#[test]
fn exclusive_lease_until_its_deadline() {
    hold(Law::ExclusiveLease);
}

#[test]
fn keyed_order_behind_every_earlier_event() {
    hold(Law::KeyedOrder);
}

#[test]
fn redelivered_after_its_delay_one_attempt_higher() {
    hold(Law::Redelivered);
}

#[test]
fn parked_once_and_the_next_of_its_key_is_free() {
    hold(Law::Parked);
}

#[test]
fn unblocked_by_events_of_other_keys() {
    hold(Law::Unblocked);
}

#[test]
fn accounted_for_every_matching_event() {
    hold(Law::Accounted);
}

/// Laws that hold because nothing happens are not held.
#[test]
fn schedules_come_through_everything_that_the_laws_are_about() {
    let config = Config {
        failure_persistence: None,
        ..Config::with_cases(cases())
    };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let all = std::cell::Cell::new(Tally::default());
    let mut runner = TestRunner::new_with_rng(config, random);
    let held = runner.run(&schedules(), |schedule| {
        let mut tally = all.get();
        let of_schedule = run(&schedule, None);
        tally.add(of_schedule.map_err(|violation| TestCaseError::fail(violation.what))?);
        all.set(tally);
        Ok(())
    });
    held.expect("every law");
    let all = all.get();
    println!("{all:?}");
    for (count, least_of_100) in [
        (all.deliveries, 500),
        (all.redeliveries, 100),
        (all.replays, 40),
        (all.conflicts, 400),
        (all.crashes, 80),
        (all.expired, 200),
        (all.dead, 100),
        (all.lost, 400),
        (all.passed_over, 10),
    ] {
        let least = least_of_100 * u64::from(cases()) / 100;
        assert!(count >= least, "{count} of at least {least}: {all:?}");
    }
}

/// The law that a mutant breaks first.
fn find(mutant: Mutant) -> Law {
    let config = Config {
        cases: SCHEDULES_FOR_A_MUTANT,
        max_shrink_iters: 0,
        failure_persistence: None,
        ..Config::default()
    };
    // Always the same schedules, so that what is found once is found each time.
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, random);
    let found = runner.run(&schedules(), |schedule| {
        match run(&schedule, Some(mutant)) {
            Ok(_) => Ok(()),
            Err(violation) => Err(TestCaseError::fail(violation.what)),
        }
    });
    match found {
        Err(TestError::Fail(_, schedule)) => {
            let violation = run(&schedule, Some(mutant)).expect_err("it failed");
            println!("{mutant:?}: {:?}: {}", violation.law, violation.what);
            violation.law
        }
        other => panic!("{mutant:?} is not found: {other:?}"),
    }
}

#[test]
fn a_key_that_does_not_block_is_found() {
    let law = find(Mutant::KeysDoNotBlock);
    assert!(
        matches!(law, Law::KeyedOrder | Law::ExclusiveLease),
        "{law:?}"
    );
}

#[test]
fn a_swap_that_does_not_compare_is_found() {
    find(Mutant::NoCompare);
}

#[test]
fn an_expiry_a_tick_early_is_found() {
    let law = find(Mutant::EarlyExpiry);
    assert!(
        matches!(law, Law::ExclusiveLease | Law::Redelivered),
        "{law:?}"
    );
}

#[test]
fn a_dead_letter_that_does_not_free_its_key_is_found() {
    let law = find(Mutant::DeadKeyNotFreed);
    assert!(
        matches!(law, Law::Parked | Law::Unblocked | Law::Delivered),
        "{law:?}"
    );
}

#[test]
fn an_acknowledgement_by_a_foreign_lease_is_found() {
    find(Mutant::ForeignLease);
}
