//! The log, the cell, the dead letters, the workers and the time that gateways share.

use std::collections::BTreeMap;

use super::gateway::{Call, Gateway, Proposal};
use super::reference::{Law, Reference, Violation};
use super::schedule::{Fate, Operation, Schedule, TICK_MS};
use super::tally::Tally;
use crate::event::{Epoch, Position, UnixMillis};
use crate::subscriptions::{
    Grant, Key, Letter, Limits, Machine, OrderBy, Outcome, OwnLeases, Settings, State,
};

/// Deliveries that workers acknowledge in each round at the end; older ones run out.
const NEWEST: usize = 40;

/// A mistake that a schedule must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    KeysDoNotBlock,
    NoCompare,
    EarlyExpiry,
    DeadKeyNotFreed,
    ForeignLease,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct LogEvent {
    pub(super) position: Position,
    pub(super) key: u64,
    pub(super) matches: bool,
    pub(super) bytes: u64,
}

pub(super) struct Shared {
    /// By no gateway's clock.
    pub(super) now: i64,
    pub(super) log: Vec<LogEvent>,
    pub(super) trimmed: Position,
    pub(super) revision: u64,
    pub(super) value: Vec<u8>,
    pub(super) letters: BTreeMap<Position, Letter>,
    pub(super) settings: Settings,
    pub(super) limits: Limits,
    pub(super) mutant: Option<Mutant>,
}

impl Shared {
    pub(super) fn key(&self, position: Position) -> Key {
        match self.settings.order_by {
            OrderBy::None => Key::new(position.number()),
            OrderBy::Log => Key::new(0),
            OrderBy::User | OrderBy::Organization => {
                let event = self.log.iter().find(|event| event.position == position);
                Key::new(event.expect("an event of the log").key)
            }
        }
    }
}

pub(super) struct World {
    shared: Shared,
    gateways: Vec<Gateway>,
    /// What workers got, in that order.
    delivered: Vec<Grant>,
    reference: Reference,
    writers: u64,
    tally: Tally,
}

impl World {
    pub(super) fn new(schedule: &Schedule, mutant: Option<Mutant>) -> Self {
        let start = 1_790_000_000_000;
        let state = State::new(Epoch::new(7), 1, Position::START, UnixMillis::new(start));
        let gateways = schedule.skews.iter().zip(1..);
        Self {
            shared: Shared {
                now: start,
                log: Vec::new(),
                trimmed: Position::START,
                revision: 1,
                value: state.encode(),
                letters: BTreeMap::new(),
                settings: schedule.settings.clone(),
                limits: schedule.limits,
                mutant,
            },
            gateways: gateways
                .map(|(skew, writer)| Gateway::new(*skew, writer))
                .collect(),
            delivered: Vec::new(),
            reference: Reference::new(&schedule.settings, schedule.limits),
            writers: schedule.skews.len() as u64,
            tally: Tally::default(),
        }
    }

    pub(super) fn run(mut self, schedule: &Schedule) -> Result<Tally, Violation> {
        for operation in &schedule.operations {
            if !schedule.seeks && matches!(operation, Operation::Seek { .. }) {
                continue;
            }
            self.operate(*operation)?;
        }
        self.drain()
    }

    fn operate(&mut self, operation: Operation) -> Result<(), Violation> {
        let count = self.gateways.len();
        match operation {
            Operation::Append {
                key,
                matches,
                bytes,
            } => self.append(key, matches, bytes),
            Operation::Time { ticks } => self.shared.now += ticks * TICK_MS,
            Operation::Report {
                delivery,
                outcome,
                gateway,
            } => {
                let index = delivery.checked_rem(self.delivered.len());
                self.report(index, outcome, gateway % count);
            }
            Operation::ReportNew {
                back,
                outcome,
                gateway,
            } => {
                let index = self.delivered.len().checked_sub(back + 1);
                self.report(index, outcome, gateway % count);
            }
            Operation::Step { gateway, credits } => {
                self.step(
                    gateway % count,
                    Call {
                        credits,
                        ..Call::default()
                    },
                )?;
            }
            Operation::Swap { gateway, fate } => self.swap(gateway % count, fate)?,
            Operation::Send { gateway } => self.send(gateway % count),
            Operation::Run { gateway, credits } => {
                self.call(
                    gateway % count,
                    Call {
                        credits,
                        ..Call::default()
                    },
                )?;
                self.send(gateway % count);
            }
            Operation::Refresh { gateway } => self.refresh(gateway % count),
            Operation::Crash { gateway } => self.crash(gateway % count),
            Operation::Seek { gateway, place } => {
                let to = self.place(place).max(self.shared.trimmed);
                self.call(
                    gateway % count,
                    Call {
                        seek: Some(to),
                        ..Call::default()
                    },
                )?;
            }
            Operation::Replay {
                gateway,
                first,
                count: letters,
            } => {
                let replay = self.letters(first, letters);
                self.call(
                    gateway % count,
                    Call {
                        replay,
                        ..Call::default()
                    },
                )?;
            }
            Operation::Drop {
                gateway,
                first,
                count: letters,
            } => {
                let drop = self.letters(first, letters);
                self.call(
                    gateway % count,
                    Call {
                        drop,
                        ..Call::default()
                    },
                )?;
            }
            Operation::Trim { place } => {
                self.shared.trimmed = self.shared.trimmed.max(self.place(place / 2));
            }
        }
        Ok(())
    }

    fn append(&mut self, key: u64, matches: bool, bytes: u64) {
        let last = self.shared.log.last();
        let last = last.map_or(0, |event| event.position.number());
        let event = LogEvent {
            position: Position::new(last + 1 + bytes % 3),
            key,
            matches,
            bytes,
        };
        self.shared.log.push(event);
        let key = self.shared.key(event.position);
        self.reference.append(event, key);
    }

    fn report(&mut self, delivery: Option<usize>, outcome: Outcome, gateway: usize) {
        let grant = delivery.and_then(|index| self.delivered.get(index));
        if let Some(grant) = grant {
            self.gateways[gateway].inbox.push((grant.ack_id, outcome));
        }
    }

    /// A place in the log, by an index of 1000.
    fn place(&self, index: usize) -> Position {
        let event = self.shared.log.get(index * self.shared.log.len() / 1000);
        event.map_or(Position::START, |event| event.position)
    }

    fn letters(&self, first: usize, count: usize) -> Vec<Position> {
        let first = first.checked_rem(self.shared.letters.len()).unwrap_or(0);
        let positions = self.shared.letters.keys().skip(first);
        positions.take(count).copied().collect()
    }

    fn refresh(&mut self, gateway: usize) {
        let gateway = &mut self.gateways[gateway];
        if gateway.proposal.is_none() {
            gateway.refresh(&self.shared);
        }
    }

    fn crash(&mut self, gateway: usize) {
        self.writers += 1;
        self.tally.crashes += 1;
        let gateway = &mut self.gateways[gateway];
        *gateway = Gateway::new(gateway.skew, self.writers);
    }

    /// Steps once a step that is under way is stored.
    fn step(&mut self, index: usize, call: Call) -> Result<(), Violation> {
        self.swap(index, Fate::Answered)?;
        let gateway = &mut self.gateways[index];
        let outcomes = std::mem::take(&mut gateway.inbox);
        gateway.propose(&self.shared, outcomes, call);
        self.check_indexes(index)
    }

    fn call(&mut self, gateway: usize, call: Call) -> Result<(), Violation> {
        self.step(gateway, call)?;
        self.swap(gateway, Fate::Answered)
    }

    fn send(&mut self, gateway: usize) {
        self.delivered.append(&mut self.gateways[gateway].outbox);
    }

    fn swap(&mut self, index: usize, fate: Fate) -> Result<(), Violation> {
        let Some(proposal) = self.gateways[index].proposal.take() else {
            return Ok(());
        };
        if matches!(fate, Fate::CrashBefore) {
            self.crash(index);
            return Ok(());
        }
        let is_lost = matches!(fate, Fate::Unknown { stored: false });
        let is_current = proposal.revision == self.shared.revision
            || self.shared.mutant == Some(Mutant::NoCompare);
        let is_stored = is_current && !is_lost;
        if is_stored {
            self.store(&proposal)?;
        }
        if matches!(fate, Fate::CrashAfter) {
            self.crash(index);
            return Ok(());
        }
        // Whether it was stored is known by the signature alone.
        let state = State::decode(&self.shared.value).expect("a state");
        let gateway = &mut self.gateways[index];
        if state.written_by() == (gateway.writer, gateway.step) {
            if let Some((revision, machine)) = &mut gateway.memory {
                *revision = self.shared.revision;
                machine.note_stored();
            }
            gateway.outbox.extend(proposal.grants);
            return Ok(());
        }
        self.step_again(index, proposal)
    }

    /// The same outcomes and leases, on the value that another gateway wrote.
    fn step_again(&mut self, index: usize, proposal: Proposal) -> Result<(), Violation> {
        self.tally.conflicts += 1;
        let Proposal {
            outcomes,
            mut call,
            grants,
            ..
        } = proposal;
        call.again = grants.iter().map(|grant| grant.ack_id.position).collect();
        let gateway = &mut self.gateways[index];
        // The machine has changes that were not stored: its revision is not the cell's.
        if let Some((revision, _)) = &mut gateway.memory {
            *revision = 0;
        }
        gateway.refresh(&self.shared);
        gateway.propose(&self.shared, outcomes, call);
        self.check_indexes(index)?;
        self.swap(index, Fate::Answered)
    }

    fn store(&mut self, proposal: &Proposal) -> Result<(), Violation> {
        self.shared.revision += 1;
        self.shared.value.clone_from(&proposal.value);
        for (position, letter) in &proposal.letters {
            match letter {
                Some(letter) => self.shared.letters.insert(*position, *letter),
                None => self.shared.letters.remove(position),
            };
        }
        for note in &proposal.notes {
            self.tally.note(&note.deed);
            self.reference.note(note)?;
        }
        let state = State::decode(&proposal.value).expect("a state");
        let letters = self.shared.letters.keys().copied();
        if !letters.eq(state.dead.iter().copied()) {
            return Err(Violation::new(Law::Parked, "a dead letter without a cell"));
        }
        let bytes: u64 = self
            .shared
            .letters
            .values()
            .map(|letter| letter.bytes)
            .sum();
        if state.dead_bytes != bytes {
            return Err(Violation::new(Law::Parked, "bytes of dead letters"));
        }
        self.reference.check(&state)?;
        if self.shared.mutant == Some(Mutant::KeysDoNotBlock) {
            // Its keys are not those of the list.
            return Ok(());
        }
        self.reference.check_heads(&state)
    }

    /// Indexes that grew with the steps are those that are built of the state.
    fn check_indexes(&self, index: usize) -> Result<(), Violation> {
        let Some((_, machine)) = &self.gateways[index].memory else {
            return Ok(());
        };
        machine.assert_indexes();
        let shared = &self.shared;
        let state = State::decode(&machine.state().encode()).expect("a state");
        assert_eq!(&state, machine.state());
        let own = OwnLeases::default();
        let read = Machine::new(state, shared.settings.clone(), shared.limits, own);
        let far = UnixMillis::new(i64::MAX);
        if !read.due(far).eq(machine.due(far)) {
            return Err(Violation::new(
                Law::Unblocked,
                "an index that does not follow",
            ));
        }
        Ok(())
    }

    /// Healthy workers and gateways, until nothing is left to do.
    fn drain(mut self) -> Result<Tally, Violation> {
        for _ in 0..200 {
            if self.reference.is_drained() {
                return Ok(self.tally);
            }
            self.shared.now += 4 * TICK_MS;
            let drop = self.letters(0, usize::MAX);
            for gateway in 0..self.gateways.len() {
                self.refresh(gateway);
                let is_full = self.shared.letters.len() >= self.shared.limits.dead
                    || self.reference.are_bytes_full();
                let drop = if is_full { drop.clone() } else { Vec::new() };
                let credits = 4;
                self.call(
                    gateway,
                    Call {
                        credits,
                        drop,
                        ..Call::default()
                    },
                )?;
                self.send(gateway);
            }
            let newest = self.delivered.len().saturating_sub(NEWEST);
            for delivery in newest..self.delivered.len() {
                self.report(
                    Some(delivery),
                    Outcome::Done,
                    delivery % self.gateways.len(),
                );
            }
        }
        let left = self.reference.left();
        Err(Violation::new(
            Law::Delivered,
            format!("never handled: {left}"),
        ))
    }
}
