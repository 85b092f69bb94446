//! Random schedules.

use std::time::Duration;

use proptest::prelude::*;

use crate::fanout::OnExpired;
use crate::subscriptions::{Limits, OrderBy, Outcome, Settings};

/// All times of a schedule are multiples of this, so that clocks often stand at a deadline.
pub(super) const TICK_MS: i64 = 250;

#[derive(Clone, Debug)]
pub(super) struct Schedule {
    /// What each gateway's clock is ahead, in milliseconds.
    pub(super) skews: Vec<i64>,
    pub(super) settings: Settings,
    pub(super) limits: Limits,
    /// Whether it seeks: until then, more can be counted.
    pub(super) seeks: bool,
    pub(super) operations: Vec<Operation>,
}

/// An index is taken modulo what there is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    Append {
        key: u64,
        matches: bool,
        bytes: u64,
    },
    Time {
        ticks: i64,
    },
    /// A worker reports, by any delivery that was ever sent.
    Report {
        delivery: usize,
        outcome: Outcome,
        gateway: usize,
    },
    /// Of the newest deliveries, which are rarely late.
    ReportNew {
        back: usize,
        outcome: Outcome,
        gateway: usize,
    },
    /// Steps, and leaves the swap for later.
    Step {
        gateway: usize,
        credits: usize,
    },
    Swap {
        gateway: usize,
        fate: Fate,
    },
    Send {
        gateway: usize,
    },
    /// Steps, swaps and sends.
    Run {
        gateway: usize,
        credits: usize,
    },
    Refresh {
        gateway: usize,
    },
    Crash {
        gateway: usize,
    },
    Seek {
        gateway: usize,
        place: usize,
    },
    Replay {
        gateway: usize,
        first: usize,
        count: usize,
    },
    Drop {
        gateway: usize,
        first: usize,
        count: usize,
    },
    Trim {
        place: usize,
    },
}

/// What becomes of a swap.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Answered,
    /// An error, which leaves open whether it was stored.
    Unknown {
        stored: bool,
    },
    CrashBefore,
    CrashAfter,
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        5 => Just(Outcome::Done),
        4 => Just(Outcome::Failed { delay: None }),
        1 => (0_u64..8).prop_map(|ticks| Outcome::Failed {
            delay: Some(Duration::from_millis(ticks * TICK_MS.unsigned_abs())),
        }),
        1 => Just(Outcome::Rejected),
        2 => Just(Outcome::Extended),
        1 => Just(Outcome::Released),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let gateway = || 0_usize..3;
    let index = || 0_usize..1000;
    let fate = prop_oneof![
        5 => Just(Fate::Answered),
        1 => any::<bool>().prop_map(|stored| Fate::Unknown { stored }),
        1 => Just(Fate::CrashBefore),
        1 => Just(Fate::CrashAfter),
    ];
    prop_oneof![
        12 => (0_u64..4, prop::bool::weighted(0.8), 1_u64..1000)
            .prop_map(|(key, matches, bytes)| Operation::Append { key, matches, bytes }),
        20 => (1_i64..12).prop_map(|ticks| Operation::Time { ticks }),
        8 => (index(), outcome(), gateway())
            .prop_map(|(delivery, outcome, gateway)| Operation::Report { delivery, outcome, gateway }),
        20 => (0_usize..4, outcome(), gateway())
            .prop_map(|(back, outcome, gateway)| Operation::ReportNew { back, outcome, gateway }),
        10 => (gateway(), 0_usize..4).prop_map(|(gateway, credits)| Operation::Step { gateway, credits }),
        12 => (gateway(), fate).prop_map(|(gateway, fate)| Operation::Swap { gateway, fate }),
        6 => gateway().prop_map(|gateway| Operation::Send { gateway }),
        36 => (gateway(), 0_usize..5).prop_map(|(gateway, credits)| Operation::Run { gateway, credits }),
        6 => gateway().prop_map(|gateway| Operation::Refresh { gateway }),
        2 => gateway().prop_map(|gateway| Operation::Crash { gateway }),
        1 => (gateway(), index()).prop_map(|(gateway, place)| Operation::Seek { gateway, place }),
        4 => (gateway(), index(), 1_usize..4)
            .prop_map(|(gateway, first, count)| Operation::Replay { gateway, first, count }),
        2 => (gateway(), index(), 1_usize..3)
            .prop_map(|(gateway, first, count)| Operation::Drop { gateway, first, count }),
        2 => index().prop_map(|place| Operation::Trim { place }),
    ]
}

fn settings() -> impl Strategy<Value = Settings> {
    let orders = vec![OrderBy::User, OrderBy::User, OrderBy::None, OrderBy::Log];
    let times = (1_u64..4, 100_u64..600, 0_u64..2000);
    (times, 1_u32..4, prop::sample::select(orders)).prop_map(
        |((deadline, least, more), max_deliveries, order_by)| Settings {
            ack_deadline: Duration::from_secs(deadline),
            max_deliveries,
            min_retry_delay: Duration::from_millis(least),
            max_retry_delay: Duration::from_millis(least + more),
            order_by,
            on_expired: OnExpired::Earliest,
            ..Settings::default()
        },
    )
}

pub(super) fn schedules() -> impl Strategy<Value = Schedule> {
    let skew = (-2_i64..=2).prop_map(|ticks| ticks * TICK_MS);
    let limits = (2_usize..9, 2_usize..6, 500_u64..4000);
    let limits = limits.prop_map(|(pending, dead, dead_bytes)| Limits {
        pending,
        dead,
        dead_bytes,
    });
    let operations = prop::collection::vec(operation(), 20..200);
    (
        prop::collection::vec(skew, 1..4),
        settings(),
        limits,
        any::<bool>(),
        operations,
    )
        .prop_map(|(skews, settings, limits, seeks, operations)| Schedule {
            skews,
            settings,
            limits,
            seeks,
            operations,
        })
}
