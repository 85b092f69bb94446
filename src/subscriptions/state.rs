//! Where a subscription is, and its stored form.

mod stored;

use std::collections::{BTreeMap, BTreeSet};

use super::key::Key;
use crate::event::{Epoch, Position, UnixMillis};

/// A number of a delivery, unique in a generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease(u64);

/// No step that takes a millisecond gives more than 2^10 leases.
const LEASES_PER_MS_BITS: u32 = 10;
/// Beyond this time, leases are counted from the one before.
const FIRST_LEASE_MS_MAX: u64 = 1 << 49;

impl Lease {
    /// Of an event that was never handed out.
    pub const NONE: Self = Self(0);

    /// The first lease of a delivery at this time, if no later one was given. So a state that is
    /// put back from a backup gives none of the leases that it gave since, which workers may
    /// still report: their positions are those of other events now.
    pub(super) fn first_at(now: UnixMillis) -> Self {
        let milliseconds = u64::try_from(now.milliseconds()).unwrap_or(0);
        Self(milliseconds.min(FIRST_LEASE_MS_MAX) << LEASES_PER_MS_BITS)
    }

    /// The lease that a state knows by this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The state's number for this lease.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// Everything that a subscription remembers between two steps.
///
/// ```text
///   start ───────────── looked at ───────────── frontier ── not looked at ──►
///     acknowledged (counted) │ pending │ dead
/// ```
///
/// What is acknowledged needs no memory but its number: up to the frontier, each matching event
/// that is neither pending nor dead is handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The log that the positions are in.
    pub(super) epoch: Epoch,
    /// The creation time in milliseconds, and one more with each seek.
    pub(super) generation: u64,
    /// Every event up to here was looked at.
    pub(super) frontier: Position,
    /// The lease of the next delivery, or a later one: see [`Lease::first_at`].
    pub(super) next_lease: u64,
    /// What is neither acknowledged nor dead, and dead letters that are handed out again.
    pub(super) pending: BTreeMap<Position, Pending>,
    /// Dead letters, with those that are handed out again.
    pub(super) dead: BTreeSet<Position>,
    /// Bytes of the bodies of dead letters.
    pub(super) dead_bytes: u64,
    /// Events acknowledged since the subscription was created.
    pub(super) acknowledged: u64,
    /// When the last of them was; when the subscription was created, where there is none.
    pub(super) acknowledged_at: UnixMillis,
    /// Events that retention took, or that the owner may no longer receive.
    pub(super) passed_over: u64,
    /// Dead letters that were dropped.
    pub(super) dropped: u64,
    /// The process that wrote this state, by a number that it chose at its start.
    pub(super) writer: u64,
    /// That process's number for the step.
    pub(super) step: u64,
    /// Fields of later versions, as they were read.
    unknown: Vec<u8>,
}

/// An event that is not handled yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) key: Key,
    /// How often it was handed out; releases do not count.
    pub(super) deliveries: u32,
    /// Of its last delivery.
    pub(super) lease: Lease,
    pub(super) standing: Standing,
    /// It is a dead letter that is handed out again.
    pub(super) replayed: bool,
    /// Fields of later versions, as they were read.
    unknown: Vec<u8>,
}

/// What a pending event waits for. That it waits for another event with its key is not stored:
/// it follows from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// For a worker, not before this time.
    Waiting { due: UnixMillis },
    /// For its worker, until this time.
    Leased { until: UnixMillis },
}

impl State {
    /// The first state of a subscription.
    #[must_use]
    pub const fn new(epoch: Epoch, generation: u64, start: Position, now: UnixMillis) -> Self {
        Self {
            epoch,
            generation,
            frontier: start,
            next_lease: 1,
            pending: BTreeMap::new(),
            dead: BTreeSet::new(),
            dead_bytes: 0,
            acknowledged: 0,
            acknowledged_at: now,
            passed_over: 0,
            dropped: 0,
            writer: 0,
            step: 0,
            unknown: Vec::new(),
        }
    }

    /// The creation time in milliseconds, and one more with each seek. A state whose generation
    /// is less than its subscription's creation time is left over from an earlier life of the
    /// name.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The process that wrote this state, and its number for the step.
    #[must_use]
    pub const fn written_by(&self) -> (u64, u64) {
        (self.writer, self.step)
    }

    /// Every event up to here was looked at.
    #[must_use]
    pub const fn frontier(&self) -> Position {
        self.frontier
    }

    /// Notes that the positions are no longer those of the log.
    pub(super) const fn leave_log(&mut self) {
        self.epoch = Epoch::new(!self.epoch.number());
    }

    /// How many events are acknowledged, dead, pending, passed over or dropped. Until the first
    /// seek, this is the number of matching events from the start to the frontier. A dead letter
    /// that is handed out again counts as dead.
    #[must_use]
    pub fn accounted(&self) -> u64 {
        let replayed = self.pending.values().filter(|pending| pending.replayed);
        let pending = self.pending.len() - replayed.count();
        let listed = (pending + self.dead.len()) as u64;
        self.acknowledged + self.passed_over + self.dropped + listed
    }
}

impl State {
    /// The log that the positions are in.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether an event is a dead letter.
    #[must_use]
    pub fn is_dead(&self, position: Position) -> bool {
        self.dead.contains(&position)
    }

    /// Whether a dead letter is being handed out again.
    #[must_use]
    pub fn is_replaying(&self, position: Position) -> bool {
        let pending = self.pending.get(&position);
        pending.is_some_and(|pending| pending.replayed)
    }

    /// The last dead letter in log order.
    #[must_use]
    pub fn newest_dead(&self) -> Option<Position> {
        self.dead.last().copied()
    }

    /// Whether an event waits, be it for a worker or for another event.
    pub(super) fn is_waiting(&self, position: Position) -> bool {
        let pending = self.pending.get(&position);
        pending.is_some_and(|pending| matches!(pending.standing, Standing::Waiting { .. }))
    }

    /// Whether a delivery is with its worker.
    pub(super) fn is_leased(&self, position: Position, lease: Lease) -> bool {
        let pending = self.pending.get(&position);
        pending.is_some_and(|pending| {
            pending.lease == lease && matches!(pending.standing, Standing::Leased { .. })
        })
    }
}

impl Pending {
    /// An event that was never handed out.
    pub(super) const fn new(key: Key, replayed: bool) -> Self {
        Self {
            key,
            deliveries: 0,
            lease: Lease::NONE,
            standing: Standing::AT_ONCE,
            replayed,
            unknown: Vec::new(),
        }
    }
}

impl Standing {
    /// For a worker, and nothing else. The same at every gateway, whatever its clock.
    pub(super) const AT_ONCE: Self = Self::Waiting {
        due: UnixMillis::new(0),
    };
}

#[cfg(test)]
mod tests;
