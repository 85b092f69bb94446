//! A state as the value of a cell: a protobuf message whose fields are only ever added.
//!
//! Positions are differences from the one before, and times from `acknowledged_at`, so that
//! most take one to three bytes. A pending event is a message of its own, so that fields can be
//! added to it too. Fields of later versions survive at both levels: they are kept as they
//! were read, and written after the known ones.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::{Lease, Pending, Standing, State};
use crate::event::{Epoch, Position, UnixMillis};
use crate::subscriptions::cell::{InvalidCell, fields, unknown_fields};
use crate::subscriptions::key::Key;

/// The value of the cell, but for the pending events.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredState {
    #[prost(fixed64, tag = "1")]
    epoch: u64,
    #[prost(uint64, tag = "2")]
    generation: u64,
    #[prost(uint64, tag = "3")]
    frontier: u64,
    #[prost(uint64, tag = "4")]
    next_lease: u64,
    /// The first from 0, each other from the one before it.
    #[prost(uint64, repeated, tag = "6")]
    dead_differences: Vec<u64>,
    #[prost(uint64, tag = "7")]
    dead_bytes: u64,
    #[prost(uint64, tag = "8")]
    acknowledged: u64,
    #[prost(int64, tag = "9")]
    acknowledged_at_ms: i64,
    #[prost(uint64, tag = "10")]
    passed_over: u64,
    #[prost(uint64, tag = "11")]
    dropped: u64,
    #[prost(fixed64, tag = "12")]
    writer: u64,
    #[prost(uint64, tag = "13")]
    step: u64,
}

/// The number of the pending events, a repeated [`StoredPending`], in [`StoredState`].
const PENDING_FIELD: u32 = 5;
/// The last number of [`StoredState`].
const LAST_FIELD: u32 = 13;

/// No log and no count grows beyond it, and sums of a few such numbers do not overflow.
const NUMBER_MAX: u64 = 1 << 60;

/// A pending event.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredPending {
    /// The first from the frontier, each other from the one before it.
    #[prost(sint64, tag = "1")]
    difference: i64,
    #[prost(fixed64, tag = "2")]
    key: u64,
    #[prost(uint32, tag = "3")]
    deliveries: u32,
    /// As states from before `lease_difference` have it.
    #[prost(uint64, tag = "4")]
    lease: u64,
    /// Of one that is with a worker, from `acknowledged_at`.
    #[prost(sint64, optional, tag = "5")]
    until_ms: Option<i64>,
    /// Of one that is not, from `acknowledged_at`; absent where it is due at once.
    #[prost(sint64, optional, tag = "6")]
    due_ms: Option<i64>,
    #[prost(bool, tag = "7")]
    replayed: bool,
    /// From the state's next lease back to this one; 0 where it was never handed out.
    #[prost(uint64, tag = "8")]
    lease_difference: u64,
}

/// What a pending event takes, about.
const PENDING_BYTES: usize = 24;
/// The last number of [`StoredPending`].
const LAST_FIELD_OF_PENDING: u32 = 8;

impl State {
    /// The value of the cell, as `writer` writes it in its `step`.
    pub fn encode(&self) -> Vec<u8> {
        let mut before = 0;
        let dead = self.dead.iter().map(|position| {
            let difference = position.number() - before;
            before = position.number();
            difference
        });
        let stored = StoredState {
            epoch: self.epoch.number(),
            generation: self.generation,
            frontier: self.frontier.number(),
            next_lease: self.next_lease,
            dead_differences: dead.collect(),
            dead_bytes: self.dead_bytes,
            acknowledged: self.acknowledged,
            acknowledged_at_ms: self.acknowledged_at.milliseconds(),
            passed_over: self.passed_over,
            dropped: self.dropped,
            writer: self.writer,
            step: self.step,
        };
        let mut bytes = stored.encode_to_vec();
        bytes.reserve(self.pending.len() * PENDING_BYTES);
        let mut before = self.frontier;
        for (position, pending) in &self.pending {
            let stored = pending.to_stored(*position, before, self);
            let length = stored.encoded_len() + pending.unknown.len();
            encode_key(PENDING_FIELD, WireType::LengthDelimited, &mut bytes);
            encode_varint(length as u64, &mut bytes);
            stored.encode_raw(&mut bytes);
            bytes.extend_from_slice(&pending.unknown);
            before = *position;
        }
        bytes.extend_from_slice(&self.unknown);
        bytes
    }

    /// Reads the value of a cell.
    ///
    /// # Errors
    /// If no gateway wrote it.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidCell> {
        let stored = StoredState::decode(bytes).map_err(|_| InvalidCell("not a state"))?;
        let frontier = Position::new(stored.frontier);
        let acknowledged_at = UnixMillis::new(stored.acknowledged_at_ms);
        let state = Self {
            epoch: Epoch::new(stored.epoch),
            generation: stored.generation,
            frontier,
            next_lease: stored.next_lease,
            pending: pending(bytes, &stored)?,
            dead: dead(&stored.dead_differences)?,
            dead_bytes: stored.dead_bytes,
            acknowledged: stored.acknowledged,
            acknowledged_at,
            passed_over: stored.passed_over,
            dropped: stored.dropped,
            writer: stored.writer,
            step: stored.step,
            unknown: unknown_fields(bytes, LAST_FIELD)?,
        };
        state.ensure_consistent()?;
        Ok(state)
    }

    /// Checks what the machine relies on.
    fn ensure_consistent(&self) -> Result<(), InvalidCell> {
        let last = self.pending.last_key_value();
        let positions = [
            Some(&self.frontier),
            last.map(|(last, _)| last),
            self.dead.last(),
        ];
        let positions = positions.into_iter().flatten();
        let numbers = [
            self.generation,
            self.next_lease,
            self.dead_bytes,
            self.acknowledged,
            self.passed_over,
            self.dropped,
        ];
        let mut numbers = positions.map(|position| position.number()).chain(numbers);
        if self.next_lease == 0 || numbers.any(|number| number > NUMBER_MAX) {
            return Err(InvalidCell("a number that no step reaches"));
        }
        let mut leased = BTreeSet::new();
        for (position, pending) in &self.pending {
            let is_leased = matches!(pending.standing, Standing::Leased { .. });
            if pending.replayed != self.dead.contains(position) {
                return Err(InvalidCell("a pending event that is dead, or not replayed"));
            }
            if !pending.replayed && *position > self.frontier {
                return Err(InvalidCell("a pending event beyond the frontier"));
            }
            if pending.lease.number() >= self.next_lease
                || is_leased && (pending.lease == Lease::NONE || pending.deliveries == 0)
            {
                return Err(InvalidCell("a lease that was not given"));
            }
            if is_leased && !leased.insert(pending.key) {
                return Err(InvalidCell("two leases of one key"));
            }
        }
        Ok(())
    }
}

impl Pending {
    fn to_stored(&self, position: Position, before: Position, state: &State) -> StoredPending {
        let base = state.acknowledged_at;
        let difference = position.number().wrapping_sub(before.number());
        let lease_difference = match self.lease {
            Lease::NONE => 0,
            lease => state.next_lease.saturating_sub(lease.number()),
        };
        let from_base =
            |time: UnixMillis| Some(time.milliseconds().wrapping_sub(base.milliseconds()));
        let (until_ms, due_ms) = match self.standing {
            Standing::AT_ONCE => (None, None),
            Standing::Waiting { due } => (None, from_base(due)),
            Standing::Leased { until } => (from_base(until), None),
        };
        StoredPending {
            difference: difference.cast_signed(),
            key: self.key.number(),
            deliveries: self.deliveries,
            lease: 0,
            until_ms,
            due_ms,
            replayed: self.replayed,
            lease_difference,
        }
    }

    fn from_stored(
        stored: &StoredPending,
        state: &StoredState,
        unknown: Vec<u8>,
    ) -> Result<Self, InvalidCell> {
        let base = UnixMillis::new(state.acknowledged_at_ms);
        let lease = match stored.lease_difference {
            0 => Some(stored.lease),
            difference => state.next_lease.checked_sub(difference),
        };
        let lease = lease.ok_or(InvalidCell("a lease that was not given"))?;
        let time = |from_base: i64| UnixMillis::new(base.milliseconds().wrapping_add(from_base));
        let standing = match (stored.until_ms, stored.due_ms) {
            (Some(until), _) => Standing::Leased { until: time(until) },
            (None, Some(due)) => Standing::Waiting { due: time(due) },
            (None, None) => Standing::AT_ONCE,
        };
        Ok(Self {
            key: Key::new(stored.key),
            deliveries: stored.deliveries,
            lease: Lease::new(lease),
            standing,
            replayed: stored.replayed,
            unknown,
        })
    }
}

fn pending(bytes: &[u8], state: &StoredState) -> Result<BTreeMap<Position, Pending>, InvalidCell> {
    let mut pending = BTreeMap::new();
    let mut before = None;
    for field in fields(bytes) {
        let field = field?;
        if field.number != PENDING_FIELD {
            continue;
        }
        let content = field.content.ok_or(InvalidCell("not a pending event"))?;
        let stored =
            StoredPending::decode(content).map_err(|_| InvalidCell("not a pending event"))?;
        let difference = stored.difference.cast_unsigned();
        let frontier = Position::new(state.frontier);
        let number = before.unwrap_or(frontier).number().wrapping_add(difference);
        let position = Position::new(number);
        if before.is_some_and(|before| position <= before) {
            return Err(InvalidCell("pending events out of order"));
        }
        before = Some(position);
        let unknown = unknown_fields(content, LAST_FIELD_OF_PENDING)?;
        pending.insert(position, Pending::from_stored(&stored, state, unknown)?);
    }
    Ok(pending)
}

fn dead(differences: &[u64]) -> Result<BTreeSet<Position>, InvalidCell> {
    let mut before = None;
    let positions = differences.iter().map(|difference| {
        let number = before.unwrap_or(0_u64).checked_add(*difference);
        let is_next = *difference > 0 || before.is_none();
        before = number;
        let number = number.filter(|_| is_next);
        let position = number.map(Position::new);
        position.ok_or(InvalidCell("dead letters out of order"))
    });
    positions.collect()
}
