//! Dead letters: what a step reads before it, and what it writes beside the state.

use std::collections::{BTreeMap, BTreeSet};

use super::super::ack_id::AckId;
use super::super::key::Key;
use super::super::state::{Lease, Pending};
use super::{Candidate, Machine, Outcome};
use crate::event::{Position, UnixMillis};
use crate::fanout::OnExpired;

/// A dead letter, as far as a step needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The delivery after which it was given up.
    pub lease: Lease,
    /// Size of its body.
    pub bytes: u64,
}

/// What the log has of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// A body of this many bytes.
    Kept(u64),
    /// Nothing: retention removed it.
    Gone,
}

/// What was read for a step: at least what [`Machine::read_request`] named of the same state. The step
/// keeps it in line with the dead letters that it writes and deletes.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Events of the log.
    pub bodies: BTreeMap<Position, Body>,
    /// Dead letters.
    pub letters: BTreeMap<Position, Letter>,
    /// What was named and is left for a later step. No outcome of these may be settled.
    pub unread: BTreeSet<Position>,
}

/// What to read for a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadRequest {
    /// Events of the log that may become dead letters.
    pub bodies: Vec<Position>,
    /// Dead letters.
    pub letters: Vec<Position>,
}

/// Why a delivery failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The worker reported it.
    Failed,
    /// The worker asked for no further delivery.
    Rejected,
    /// The worker was not heard of until the deadline.
    Deadline,
}

/// A change of a dead letter's cell, in the same swap as the state. Of two changes of one cell
/// in one step, the later counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterChange {
    /// An event was given up. Before the state, so that no state lists a letter without a cell.
    Write {
        /// The event.
        position: Position,
        /// How often it was delivered.
        deliveries: u32,
        /// The last of these deliveries.
        lease: Lease,
        /// Why that one failed.
        cause: Cause,
        /// When it was given up.
        dead_time: UnixMillis,
        /// The letter exists: its cause, time and lease change, its body does not.
        again: bool,
    },
    /// It is acknowledged or dropped. After the state.
    Delete {
        /// The event.
        position: Position,
    },
}

/// What becomes of an event that has failed too often.
pub(super) enum Burial {
    /// It becomes a dead letter, which takes this much more room.
    Letter { more_bytes: u64 },
    /// Retention took it, and the subscription goes on without.
    Gone,
    /// It stays pending, and is handed out again once there is room.
    Refused,
}

impl Cause {
    /// The value of a metric's label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Deadline => "deadline",
        }
    }
}

impl Machine {
    /// What to read before these acknowledgements are settled and leases expire.
    #[must_use]
    pub fn read_request(&self, outcomes: &[(AckId, Outcome)], now: UnixMillis) -> ReadRequest {
        let mut request = ReadRequest::default();
        for (ack_id, outcome) in outcomes {
            let position = ack_id.position;
            let pending = self.state.pending.get(&position);
            if ack_id.generation != self.state.generation {
                continue;
            }
            match (pending, outcome) {
                (None, _) if self.state.dead.contains(&position) => request.letters.push(position),
                (None, _) | (Some(_), Outcome::Extended | Outcome::Released) => {}
                (Some(pending), Outcome::Done) if pending.replayed => {
                    request.letters.push(position);
                }
                (Some(_), Outcome::Done) => {}
                (Some(pending), Outcome::Failed { .. }) if !self.is_last(pending) => {}
                (Some(pending), Outcome::Failed { .. } | Outcome::Rejected) => {
                    request.add_body(position, pending);
                }
            }
        }
        for position in self.indexes.expired(now) {
            let pending = self.state.pending.get(&position);
            if let Some(pending) = pending.filter(|pending| self.is_last(pending)) {
                request.add_body(position, pending);
            }
        }
        request
    }

    /// Hands dead letters out again, each as if never delivered, until the limit of pending
    /// events. Letters that are being handed out already do not count. Returns how many do.
    pub fn replay(&mut self, letters: &[Candidate]) -> usize {
        let mut count = 0;
        for Candidate { position, key } in letters.iter().copied() {
            let is_letter = self.state.dead.contains(&position);
            if !is_letter || self.state.pending.contains_key(&position) {
                continue;
            }
            if self.state.pending.len() >= self.limits.pending {
                break;
            }
            self.put(position, Pending::new(key, true));
            count += 1;
        }
        count
    }

    /// Drops dead letters, each with the size of its body; also those that are being handed out.
    pub fn drop_dead(&mut self, letters: &[(Position, u64)]) -> Vec<LetterChange> {
        let mut changes = Vec::new();
        for (position, bytes) in letters.iter().copied() {
            if !self.state.dead.contains(&position) {
                continue;
            }
            if let Some(pending) = self.take(position) {
                self.own.forget(pending.lease);
            }
            self.state.dropped += 1;
            changes.push(self.remove_letter(position, bytes));
        }
        changes
    }

    pub(super) fn remove_letter(&mut self, position: Position, bytes: u64) -> LetterChange {
        self.state.dead.remove(&position);
        self.state.dead_bytes = self.state.dead_bytes.saturating_sub(bytes);
        if self.state.dead.is_empty() {
            self.state.dead_bytes = 0;
        }
        LetterChange::Delete { position }
    }

    /// Whether the dead letters have no room. The event that fills them may exceed the bytes.
    pub(super) fn are_letters_full(&self) -> bool {
        self.state.dead.len() >= self.limits.dead || self.state.dead_bytes >= self.limits.dead_bytes
    }

    /// What becomes of an event that has failed too often.
    pub(super) fn burial(
        &self,
        position: Position,
        pending: &Pending,
        reading: &Reading,
    ) -> Burial {
        match reading.bodies.get(&position) {
            _ if pending.replayed => Burial::Letter { more_bytes: 0 },
            _ if self.are_letters_full() => Burial::Refused,
            Some(Body::Kept(bytes)) => Burial::Letter { more_bytes: *bytes },
            Some(Body::Gone) if self.settings.on_expired != OnExpired::Fail => Burial::Gone,
            Some(Body::Gone) | None => Burial::Refused,
        }
    }

    /// Whether an event is given up if it fails once more.
    pub(super) fn is_last(&self, pending: &Pending) -> bool {
        pending.deliveries >= self.settings.max_deliveries
    }
}

impl Reading {
    /// Notes that an event became a dead letter, or is one again.
    pub(super) fn note_letter(&mut self, position: Position, lease: Lease, more_bytes: u64) {
        let before = self.letters.get(&position);
        let bytes = more_bytes.max(before.map_or(0, |letter| letter.bytes));
        self.letters.insert(position, Letter { lease, bytes });
    }
}

impl ReadRequest {
    fn add_body(&mut self, position: Position, pending: &Pending) {
        if pending.replayed {
            self.letters.push(position);
        } else {
            self.bodies.push(position);
        }
    }
}

impl Candidate {
    /// A dead letter, with the key of its event.
    #[must_use]
    pub const fn new(position: Position, key: Key) -> Self {
        Self { position, key }
    }
}
