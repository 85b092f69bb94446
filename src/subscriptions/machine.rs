//! The steps from one state of a subscription to the next.
//!
//! ```text
//!                  advance (log)                    lease (worker, now)
//!   after frontier ────────────► waiting ───────────────────────────────► leased
//!                                │ due, and lowest of its key:             ├ done ───────────► gone
//!                                │ can be leased                           ├ released ───────► waiting, not counted
//!                                │ otherwise: behind another               ├ failed, expired ► waiting for a delay, or a dead letter
//!                                ▲                                         └ extended ───────► leased, for as long again
//!   dead letter ── replay ───────┘
//! ```
//!
//! At most one event of a key is leased, and the lowest position of a key goes first. An event
//! that is gone or dead frees the next of its key in the same step.
//!
//! Indexes (what is due, by time and position; what is pending, by key; what is leased, by
//! deadline) are built when a state is read. A step costs what it changes, and not what is
//! pending. Each function is handed the time, and two gateways that apply the same calls to the
//! same state make the same state of it.
//!
//! Pure: what a step needs of the log and of stored dead letters is read before, and handed in
//! as a [`Reading`].

mod indexes;
mod leases;
mod letters;
mod limits;
mod settle;
mod stall;

use crate::event::{Epoch, Position, UnixMillis};

use super::ack_id::AckId;
use super::key::Key;
use super::settings::{OrderBy, Settings};
use super::state::{Lease, Pending, Standing, State};

use indexes::Indexes;

pub(super) use leases::CLOCK_MARGIN;
pub use leases::OwnLeases;
pub use letters::{Body, Cause, Letter, LetterChange, ReadRequest, Reading};
pub use limits::Limits;
pub use settle::{Answer, Expired, Outcome, Settled};
pub use stall::{Counts, Stall};

/// A state between two swaps of its cell, with its indexes.
#[derive(Clone, Debug)]
pub struct Machine {
    state: State,
    settings: Settings,
    limits: Limits,
    own: OwnLeases,
    indexes: Indexes,
}

/// A matching event after the frontier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Where it is in the log.
    pub position: Position,
    /// What it waits behind.
    pub key: Key,
}

/// An event that can be leased now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueEvent {
    /// Where it is in the log.
    pub position: Position,
    /// It is a dead letter: its record is read from there, and not from the log.
    pub replayed: bool,
}

/// A delivery that is durable once the state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What the worker acknowledges it by.
    pub ack_id: AckId,
    /// Which delivery of the event this is; 1 is the first.
    pub attempt: u32,
    /// Until when no other worker is handed this event or another with its key.
    pub deadline: UnixMillis,
    /// It was a dead letter.
    pub replayed: bool,
}

/// A seek into another log was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the dead letters are of another log, where their positions mean other events; drop them first"
)]
pub struct SeekError;

impl Machine {
    /// Builds the indexes of a state that was read from its cell. `own` are the leases that
    /// this process gave and knows to be stored.
    #[must_use]
    pub fn new(state: State, settings: Settings, limits: Limits, own: OwnLeases) -> Self {
        let mut machine = Self {
            indexes: Indexes::default(),
            state,
            settings,
            limits,
            own,
        };
        for (position, pending) in &machine.state.pending {
            let expires_at = machine.own.expires_at(pending);
            let indexes = &mut machine.indexes;
            indexes.insert(*position, &machine.state.pending, expires_at);
        }
        machine
    }

    /// The state, as it is now.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The settings that steps follow.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Has the next steps follow other settings.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Signs the state with the process and the number of its step, by which a swap whose answer
    /// is lost is recognized.
    pub const fn sign(&mut self, writer: u64, step: u64) {
        self.state.writer = writer;
        self.state.step = step;
    }

    /// Notes that the state is stored: leases given since the last time are this process's own.
    pub fn note_stored(&mut self) {
        self.own.note_stored();
    }

    /// The leases that this process gave and knows to be stored, for the next state that is
    /// read from the cell.
    #[must_use]
    pub fn into_own_leases(self) -> OwnLeases {
        self.own.stored_only()
    }

    /// Takes matching events behind the frontier as pending until `credits` can be leased, and
    /// moves the frontier. `ahead` are events in order; up to `through`, the log has no other
    /// matching ones. Returns how many of `ahead` are used up.
    ///
    /// Passes events whose keys are taken, up to the limit of pending ones. Takes one event at
    /// a time where the order is that of the log, and none while nothing can be leased. Dead
    /// letters, which a seek may have brought back behind the frontier, stay dead.
    pub fn advance(
        &mut self,
        ahead: &[Candidate],
        through: Position,
        credits: usize,
        now: UnixMillis,
    ) -> usize {
        let mut leasable = self.due(now).take(credits).count();
        for (used, candidate) in ahead.iter().enumerate() {
            if candidate.position <= self.state.frontier {
                continue;
            }
            if leasable >= credits || !self.has_room() {
                let before = before(candidate.position);
                self.state.frontier = self.state.frontier.max(before);
                return used;
            }
            self.state.frontier = candidate.position;
            if self.state.dead.contains(&candidate.position) {
                continue;
            }
            self.put(candidate.position, Pending::new(candidate.key, false));
            if self.indexes.is_head(candidate.key, candidate.position) {
                leasable += 1;
            }
        }
        self.state.frontier = self.state.frontier.max(through);
        ahead.len()
    }

    /// Whether another event can become pending.
    fn has_room(&self) -> bool {
        !self.settings.paused
            && !self.are_letters_full()
            && match self.settings.order_by {
                OrderBy::Log => self.state.pending.is_empty(),
                OrderBy::User | OrderBy::Organization | OrderBy::None => {
                    self.state.pending.len() < self.limits.pending
                }
            }
    }

    /// Moves the frontier over positions that retention removed. Whether their events matched
    /// is unknown, so all of them count as passed over.
    pub fn skip(&mut self, through: Position) {
        let skipped = through.distance_from(self.state.frontier);
        self.state.passed_over += skipped;
        self.state.frontier = self.state.frontier.max(through);
    }

    /// Withdraws a waiting event that retention removed, or that the owner may no longer
    /// receive. A dead letter that waits for its replay is a plain dead letter again. Returns
    /// whether the event waited.
    pub fn pass_over(&mut self, position: Position) -> bool {
        let pending = self.state.pending.get(&position);
        let is_waiting =
            pending.is_some_and(|pending| matches!(pending.standing, Standing::Waiting { .. }));
        if is_waiting
            && let Some(pending) = self.take(position)
            && !pending.replayed
        {
            self.state.passed_over += 1;
        }
        is_waiting
    }

    /// What can be leased now, longest due first, then in log order. While the dead letters are
    /// full, only those that are replayed, since these need no more room.
    pub fn due(&self, now: UnixMillis) -> impl Iterator<Item = DueEvent> {
        let due = if self.settings.paused {
            None
        } else if self.are_letters_full() {
            Some(self.indexes.due_replayed())
        } else {
            Some(self.indexes.due())
        };
        let due = due.into_iter().flatten();
        due.take_while(move |(at, _)| *at <= now)
            .map(|(_, position)| DueEvent {
                position: *position,
                replayed: self.state.dead.contains(position),
            })
    }

    /// Gives an event to a worker, if it can be leased now.
    pub fn lease(&mut self, position: Position, now: UnixMillis) -> Option<Grant> {
        let is_due = self.due_at(position).is_some_and(|at| at <= now);
        if !is_due {
            return None;
        }
        let mut pending = self.take(position)?;
        let lease = Lease::new(self.state.next_lease).max(Lease::first_at(now));
        let deadline = now.after(self.settings.ack_deadline);
        self.state.next_lease = lease.number() + 1;
        self.own.note(lease, deadline);
        pending.deliveries = pending.deliveries.saturating_add(1);
        pending.lease = lease;
        pending.standing = Standing::Leased { until: deadline };
        let grant = Grant {
            ack_id: AckId {
                generation: self.state.generation,
                position,
                lease,
            },
            attempt: pending.deliveries,
            deadline,
            replayed: pending.replayed,
        };
        self.put(position, pending);
        Some(grant)
    }

    /// When an event can be leased, if nothing but time is in the way.
    fn due_at(&self, position: Position) -> Option<UnixMillis> {
        let pending = self.state.pending.get(&position)?;
        let has_room = pending.replayed || !self.are_letters_full();
        match pending.standing {
            Standing::Waiting { due }
                if has_room
                    && !self.settings.paused
                    && self.indexes.is_head(pending.key, position) =>
            {
                Some(due)
            }
            Standing::Waiting { .. } | Standing::Leased { .. } => None,
        }
    }

    /// Moves the subscription to another place: the next events are those after `to`, in the
    /// log of `epoch`. What is handed out is forgotten, and its ids are void. Dead letters stay.
    ///
    /// # Errors
    /// If there are dead letters and `epoch` is another log, where events that never failed have
    /// their positions.
    pub fn seek(&mut self, to: Position, epoch: Epoch) -> Result<(), SeekError> {
        if epoch != self.state.epoch && !self.state.dead.is_empty() {
            return Err(SeekError);
        }
        self.state.epoch = epoch;
        self.state.generation += 1;
        self.state.frontier = to;
        self.state.pending.clear();
        self.indexes = Indexes::default();
        self.own = OwnLeases::default();
        Ok(())
    }

    /// Up to here, everything that matches is acknowledged, dead or passed over.
    #[must_use]
    pub fn handled_through(&self) -> Position {
        let oldest = self.indexes.oldest_from_log();
        oldest.map_or(self.state.frontier, before)
    }

    /// When time alone next changes what can be done: an event becomes due, or a lease expires.
    /// A lease that has expired counts, since `expire` changes that; an event that is due does
    /// not, since it waits for a worker.
    #[must_use]
    pub fn next_change(&self, now: UnixMillis) -> Option<UnixMillis> {
        let due = if self.settings.paused {
            None
        } else if self.are_letters_full() {
            Indexes::first_after(self.indexes.due_replayed(), now)
        } else {
            Indexes::first_after(self.indexes.due(), now)
        };
        let expiry = self.indexes.next_expiry();
        due.into_iter().chain(expiry).min()
    }

    /// Takes a pending event out, and frees the next of its key.
    fn take(&mut self, position: Position) -> Option<Pending> {
        let pending = self.state.pending.remove(&position)?;
        self.indexes.remove(position, &pending, &self.state.pending);
        Some(pending)
    }

    fn put(&mut self, position: Position, pending: Pending) {
        let expires_at = self.own.expires_at(&pending);
        self.state.pending.insert(position, pending);
        let indexes = &mut self.indexes;
        indexes.insert(position, &self.state.pending, expires_at);
    }
}

const fn before(position: Position) -> Position {
    Position::new(position.number().saturating_sub(1))
}

#[cfg(test)]
mod tests;
