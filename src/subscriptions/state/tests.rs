//! The stored form: round trips, what later versions add, and size.

use proptest::prelude::*;
use prost::encoding::{WireType, bytes, encode_key, encode_varint};

use super::{Lease, Pending, Standing, State};
use crate::event::{Epoch, Position, UnixMillis};
use crate::subscriptions::key::Key;

const NOW: i64 = 1_790_000_000_000;

fn times() -> impl Strategy<Value = i64> {
    prop_oneof![4 => NOW - 100_000..NOW + 100_000, 1 => any::<i64>()]
}

fn pending(next_lease: u64) -> impl Strategy<Value = Pending> {
    let standing = prop_oneof![
        Just(Standing::AT_ONCE),
        times().prop_map(|time| Standing::Waiting {
            due: UnixMillis::new(time)
        }),
        times().prop_map(|time| Standing::Leased {
            until: UnixMillis::new(time)
        }),
    ];
    let later = prop_oneof![
        4 => Just(Vec::new()),
        1 => (9_u32..99, prop::collection::vec(any::<u8>(), 0..5)).prop_map(|(number, content)| {
            let mut field = Vec::new();
            bytes::encode(number, &content, &mut field);
            field
        }),
    ];
    let numbers = (any::<u64>(), 1_u32..200, 1..next_lease, any::<bool>());
    (numbers, standing, later).prop_map(
        |((key, deliveries, lease, replayed), standing, unknown)| Pending {
            key: Key::new(key),
            deliveries,
            lease: Lease::new(lease),
            standing,
            replayed,
            unknown,
        },
    )
}

fn states() -> impl Strategy<Value = State> {
    let next_lease = prop_oneof![2_u64..1000, Just(1 << 60)];
    let numbers = (
        any::<u64>(),
        0_u64..1 << 60,
        any::<u64>(),
        any::<u64>(),
        times(),
    );
    (next_lease, numbers).prop_flat_map(|(next_lease, (epoch, generation, writer, step, time))| {
        let positions = prop::collection::btree_map(1_u64..1 << 60, pending(next_lease), 0..20);
        let dead = prop::collection::btree_set(1_u64..1 << 60, 0..20);
        (positions, dead, 0_u64..1000).prop_map(move |(positions, dead, count)| {
            let at = |number: u64| Position::new(number);
            let positions = positions
                .into_iter()
                .map(|(number, pending)| (at(number), pending));
            let mut keys = std::collections::BTreeSet::new();
            let positions = positions
                .filter(|(_, pending)| keys.insert(pending.key))
                .collect();
            let mut state = State {
                epoch: Epoch::new(epoch),
                generation,
                frontier: at(count),
                next_lease,
                pending: positions,
                dead: dead.into_iter().map(at).collect(),
                dead_bytes: count,
                acknowledged: count,
                acknowledged_at: UnixMillis::new(time),
                passed_over: count / 2,
                dropped: count / 3,
                writer,
                step,
                unknown: Vec::new(),
            };
            for (position, pending) in &state.pending {
                if pending.replayed {
                    state.dead.insert(*position);
                } else {
                    state.dead.remove(position);
                    state.frontier = state.frontier.max(*position);
                }
            }
            state
        })
    })
}

proptest! {
    #[test]
    fn a_state_round_trips(state in states()) {
        prop_assert_eq!(State::decode(&state.encode()), Ok(state));
    }

    /// At both levels: of the state, and of a pending event.
    #[test]
    fn fields_of_later_versions_survive(
        state in states(),
        later in prop::collection::vec((14_u32..5_000, any::<u64>()), 0..5),
    ) {
        let mut written = state.encode();
        let own = written.len();
        for (number, value) in &later {
            match value % 3 {
                0 => bytes::encode(*number, &value.to_be_bytes().to_vec(), &mut written),
                1 => {
                    encode_key(*number, WireType::Varint, &mut written);
                    encode_varint(*value, &mut written);
                }
                _ => {
                    encode_key(*number, WireType::SixtyFourBit, &mut written);
                    written.extend(value.to_be_bytes());
                }
            }
        }
        let mut read = State::decode(&written).expect("a state");
        prop_assert_eq!(&read.encode(), &written);
        read.acknowledged += 1;
        let rewritten = read.encode();
        prop_assert!(rewritten.ends_with(&written[own..]));
        let kept = |state: &State| {
            let unknown = state.pending.values().map(|pending| pending.unknown.clone());
            unknown.collect::<Vec<_>>()
        };
        let again = State::decode(&rewritten).expect("a state");
        prop_assert_eq!(kept(&again), kept(&state));
    }

    #[test]
    fn any_bytes_are_a_state_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(state) = State::decode(&bytes) {
            prop_assert_eq!(State::decode(&state.encode()), Ok(state));
        }
    }

    #[test]
    fn a_state_that_was_cut_or_changed_is_consistent_or_an_error(
        state in states(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = state.encode();
        let index = at.index(bytes.len());
        bytes[index] = byte;
        for bytes in [&bytes[..], &bytes[..index]] {
            if let Ok(state) = State::decode(bytes) {
                prop_assert_eq!(State::decode(&state.encode()), Ok(state));
            }
        }
    }
}

#[test]
fn a_state_that_no_machine_makes_is_refused() {
    let state = || {
        let mut state = State::new(Epoch::new(7), 1, Position::new(9), UnixMillis::new(NOW));
        state.next_lease = 5;
        state
    };
    let leased = |lease: u64| Pending {
        deliveries: 1,
        lease: Lease::new(lease),
        standing: Standing::Leased {
            until: UnixMillis::new(NOW),
        },
        ..Pending::new(Key::new(3), false)
    };
    let with = |events: &[(u64, Pending)]| {
        let mut state = state();
        let events = events.iter().cloned();
        state
            .pending
            .extend(events.map(|(number, pending)| (Position::new(number), pending)));
        State::decode(&state.encode()).is_ok()
    };
    assert!(with(&[(4, leased(4))]));
    let mut out_of_range = state();
    out_of_range.generation = u64::MAX;
    assert!(
        State::decode(&out_of_range.encode()).is_err(),
        "a generation without a next"
    );
    assert!(!with(&[(4, leased(5))]), "a lease that was not given");
    assert!(!with(&[(4, leased(0))]), "no lease");
    assert!(
        !with(&[(4, leased(3)), (5, leased(4))]),
        "two leases of one key"
    );
    assert!(!with(&[(10, leased(4))]), "beyond the frontier");
    assert!(
        !with(&[(4, Pending::new(Key::new(3), true))]),
        "replayed, and not dead"
    );
    let mut dead = state();
    dead.dead.insert(Position::new(4));
    assert!(State::decode(&dead.encode()).is_ok());
    dead.pending.insert(Position::new(4), leased(4));
    assert!(
        State::decode(&dead.encode()).is_err(),
        "dead, and not replayed"
    );
    dead.pending
        .insert(Position::new(4), Pending::new(Key::new(3), true));
    assert!(State::decode(&dead.encode()).is_ok());
}

/// Before there were differences, an event that was handed out had its lease as it is.
#[test]
fn a_state_of_an_earlier_version_is_read() {
    let mut state = State::new(Epoch::new(7), 1, Position::new(9), UnixMillis::new(NOW));
    state.next_lease = 5;
    let mut event = Vec::new();
    prost::encoding::sint64::encode(1, &-2, &mut event);
    prost::encoding::fixed64::encode(2, &3, &mut event);
    prost::encoding::uint32::encode(3, &1, &mut event);
    prost::encoding::uint64::encode(4, &4, &mut event);
    prost::encoding::sint64::encode(5, &30_000, &mut event);
    let mut written = state.encode();
    bytes::encode(5, &event, &mut written);
    let leased = Pending {
        deliveries: 1,
        lease: Lease::new(4),
        standing: Standing::Leased {
            until: UnixMillis::new(NOW + 30_000),
        },
        ..Pending::new(Key::new(3), false)
    };
    state.pending.insert(Position::new(7), leased);
    assert_eq!(State::decode(&written), Ok(state));
}

/// A subscription in use: all that is pending is with workers, or was.
fn in_use(pending: u64) -> State {
    let frontier = 1_234_567;
    let generation = NOW.unsigned_abs() - 1_000_000_000;
    let epoch = Epoch::new(0xfeed_beef_0000_0001);
    let mut state = State::new(
        epoch,
        generation,
        Position::new(frontier),
        UnixMillis::new(NOW),
    );
    state.next_lease = Lease::first_at(UnixMillis::new(NOW)).number();
    state.acknowledged = 222_222;
    (state.writer, state.step) = (0xfeed_beef_0000_0002, 123_456);
    for number in 0..pending {
        let time = UnixMillis::new(NOW + 30_000 - i64::try_from(number).unwrap_or(0));
        let is_leased = number % 10 < 6;
        let event = Pending {
            deliveries: 1,
            lease: Lease::new(state.next_lease - 1 - number),
            standing: if is_leased {
                Standing::Leased { until: time }
            } else {
                Standing::Waiting { due: time }
            },
            ..Pending::new(Key::new(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)), false)
        };
        state
            .pending
            .insert(Position::new(frontier - 3 * number), event);
    }
    state
}

#[test]
fn a_state_takes_23_bytes_for_a_pending_event_and_3_for_a_dead_letter() {
    for (pending, bytes) in [(1, 63), (100, 2_300), (1_000, 23_000), (10_000, 230_000)] {
        let written = in_use(pending).encode().len();
        println!("{pending} pending: {written} bytes");
        assert!(
            written * 5 <= bytes * 6,
            "{pending} pending take {written} bytes"
        );
        assert!(
            written * 6 >= bytes * 5,
            "{pending} pending take {written} bytes"
        );
    }
    let mut state = in_use(1);
    let without = state.encode().len();
    state.dead = (1..=1_000_u64)
        .map(|number| Position::new(number * 1_100))
        .collect();
    let each = (state.encode().len() - without) as f64 / 1_000.0;
    assert!(
        (2.0..=3.0).contains(&each),
        "{each} bytes for each dead letter"
    );
}
