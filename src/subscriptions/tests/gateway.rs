//! A gateway: its clock, its memory, and a step at a time.

use std::collections::BTreeMap;

use super::reference::{Deed, Note};
use super::world::{Mutant, Shared};
use crate::event::{Position, UnixMillis};
use crate::subscriptions::{
    AckId, Answer, Body, Candidate, DueEvent, Grant, Key, Letter, LetterChange, Machine, Outcome,
    OwnLeases, Reading, State,
};

pub(super) struct Gateway {
    pub(super) skew: i64,
    pub(super) writer: u64,
    pub(super) step: u64,
    /// What it knows, and of which revision.
    pub(super) memory: Option<(u64, Machine)>,
    /// Reported by workers, and not settled.
    pub(super) inbox: Vec<(AckId, Outcome)>,
    pub(super) proposal: Option<Proposal>,
    /// Stored, and not sent.
    pub(super) outbox: Vec<Grant>,
}

/// What a call asks for, beside what workers report.
#[derive(Clone, Debug, Default)]
pub(super) struct Call {
    pub(super) credits: usize,
    pub(super) seek: Option<Position>,
    pub(super) replay: Vec<Position>,
    pub(super) drop: Vec<Position>,
    /// Leases of an attempt that met a conflict.
    pub(super) again: Vec<Position>,
}

/// A step that is not stored yet.
pub(super) struct Proposal {
    pub(super) revision: u64,
    pub(super) value: Vec<u8>,
    pub(super) letters: BTreeMap<Position, Option<Letter>>,
    pub(super) notes: Vec<Note>,
    pub(super) grants: Vec<Grant>,
    /// To repeat the step after a conflict.
    pub(super) outcomes: Vec<(AckId, Outcome)>,
    pub(super) call: Call,
}

impl Gateway {
    pub(super) const fn new(skew: i64, writer: u64) -> Self {
        Self {
            skew,
            writer,
            step: 0,
            memory: None,
            inbox: Vec::new(),
            proposal: None,
            outbox: Vec::new(),
        }
    }

    pub(super) fn refresh(&mut self, shared: &Shared) {
        if self
            .memory
            .as_ref()
            .is_some_and(|(known, _)| *known == shared.revision)
        {
            return;
        }
        let own = match self.memory.take() {
            Some((_, machine)) => machine.into_own_leases(),
            None => OwnLeases::default(),
        };
        let state = State::decode(&shared.value).expect("a state");
        let machine = Machine::new(state, shared.settings.clone(), shared.limits, own);
        self.memory = Some((shared.revision, machine));
    }

    /// Makes the next state, from what this gateway knows.
    pub(super) fn propose(&mut self, shared: &Shared, outcomes: Vec<(AckId, Outcome)>, call: Call) {
        if self.memory.is_none() {
            self.refresh(shared);
        }
        let Some((revision, machine)) = &mut self.memory else {
            return;
        };
        let now = UnixMillis::new(shared.now + self.skew);
        let mut step = Step {
            shared,
            machine,
            now,
            skew: self.skew,
            notes: Vec::new(),
            grants: Vec::new(),
            letters: BTreeMap::new(),
        };
        step.take(&outcomes, &call);
        let Step {
            notes,
            grants,
            letters,
            ..
        } = step;
        self.step += 1;
        machine.sign(self.writer, self.step);
        self.proposal = Some(Proposal {
            revision: *revision,
            value: machine.state().encode(),
            letters,
            notes,
            grants,
            outcomes,
            call,
        });
    }
}

struct Step<'a> {
    shared: &'a Shared,
    machine: &'a mut Machine,
    now: UnixMillis,
    skew: i64,
    notes: Vec<Note>,
    grants: Vec<Grant>,
    letters: BTreeMap<Position, Option<Letter>>,
}

impl Step<'_> {
    fn take(&mut self, outcomes: &[(AckId, Outcome)], call: &Call) {
        let early = match self.shared.mutant {
            Some(Mutant::EarlyExpiry) => super::schedule::TICK_MS,
            _ => 0,
        };
        let expiry = UnixMillis::new(self.now.milliseconds() + early);
        let mut reading = self.read(outcomes, expiry);
        self.settle(outcomes, &mut reading);
        for expired in self.machine.expire(&mut reading, expiry) {
            let died = self.change(expired.letter);
            let is_gone = !died && !self.machine.state().pending.contains_key(&expired.position);
            self.note(Deed::Expired {
                position: expired.position,
                died,
                is_gone,
            });
        }
        self.resolve(call);
        if self.shared.trimmed > self.machine.state().frontier() {
            self.machine.skip(self.shared.trimmed);
            self.note(Deed::Skipped {
                through: self.shared.trimmed,
            });
        }
        for position in &call.again {
            self.lease(*position);
        }
        let mut credits = call.credits.saturating_sub(self.grants.len());
        while credits > 0 {
            self.advance(credits);
            let Some(DueEvent { position, replayed }) = self.first_due() else {
                break;
            };
            if !replayed && position <= self.shared.trimmed {
                self.machine.pass_over(position);
                self.note(Deed::Passed { position });
            } else if self.lease(position) {
                credits -= 1;
            }
        }
        let last = self.shared.log.last();
        let last = last.map_or(Position::START, |event| event.position);
        self.note(Deed::Ended { credits, last });
    }

    fn read(&self, outcomes: &[(AckId, Outcome)], expiry: UnixMillis) -> Reading {
        let request = self.machine.read_request(outcomes, expiry);
        let body = |position: Position| {
            let is_gone = position <= self.shared.trimmed;
            let event = self
                .shared
                .log
                .iter()
                .find(|event| event.position == position);
            let bytes = event.expect("an event of the log").bytes;
            (
                position,
                if is_gone {
                    Body::Gone
                } else {
                    Body::Kept(bytes)
                },
            )
        };
        let letter = |position: Position| Some((position, *self.shared.letters.get(&position)?));
        Reading {
            bodies: request.bodies.into_iter().map(body).collect(),
            letters: request.letters.into_iter().filter_map(letter).collect(),
            ..Reading::default()
        }
    }

    fn settle(&mut self, outcomes: &[(AckId, Outcome)], reading: &mut Reading) {
        for (ack_id, outcome) in outcomes.iter().copied() {
            let position = ack_id.position;
            let lease = match self.machine.state().pending.get(&position) {
                Some(pending) if self.shared.mutant == Some(Mutant::ForeignLease) => pending.lease,
                _ => ack_id.lease,
            };
            let was_pending = self.machine.state().pending.contains_key(&position);
            let settled =
                self.machine
                    .settle(AckId { lease, ..ack_id }, outcome, reading, self.now);
            let died = self.change(settled.letter);
            let recorded = settled.answer == Answer::Recorded;
            let is_gone = was_pending
                && !died
                && matches!(outcome, Outcome::Failed { .. } | Outcome::Rejected)
                && !self.machine.state().pending.contains_key(&position);
            self.note(Deed::Settled {
                ack_id,
                outcome,
                recorded,
                died,
                is_gone,
            });
        }
    }

    fn resolve(&mut self, call: &Call) {
        if let Some(to) = call.seek {
            let epoch = self.machine.state().epoch;
            self.machine.seek(to, epoch).expect("the same log");
            self.note(Deed::Sought { to });
        }
        let candidates: Vec<Candidate> = call
            .replay
            .iter()
            .map(|position| Candidate::new(*position, self.key(*position)))
            .collect();
        let before: Vec<Position> = self.machine.state().pending.keys().copied().collect();
        let count = self.machine.replay(&candidates);
        let now_pending = self.machine.state().pending.keys().copied();
        let positions: Vec<Position> = now_pending
            .filter(|position| !before.contains(position))
            .collect();
        assert_eq!(count, positions.len());
        self.note(Deed::Replayed { positions });
        let sizes = call.drop.iter().filter_map(|position| {
            let letter = self.shared.letters.get(position)?;
            Some((*position, letter.bytes))
        });
        for change in self.machine.drop_dead(&sizes.collect::<Vec<_>>()) {
            if let LetterChange::Delete { position } = change {
                self.note(Deed::Dropped { position });
            }
            self.change(Some(change));
        }
    }

    fn advance(&mut self, credits: usize) {
        let before = self.machine.state().frontier();
        let ahead: Vec<Candidate> = self
            .shared
            .log
            .iter()
            .filter(|event| event.matches && event.position > before)
            .map(|event| Candidate::new(event.position, self.key(event.position)))
            .collect();
        let last = self.shared.log.last();
        let through = last.map_or(Position::START, |event| event.position);
        let used = self.machine.advance(&ahead, through, credits, self.now);
        let frontier = self.machine.state().frontier();
        let rest = ahead.get(used);
        assert!(rest.is_none_or(|next| next.position > frontier));
        self.note(Deed::Advanced { through: frontier });
    }

    fn first_due(&self) -> Option<DueEvent> {
        let mut due = self.machine.due(self.now);
        due.find(|due| !self.is_held_back(due.position))
    }

    fn lease(&mut self, position: Position) -> bool {
        let Some(grant) = self.machine.lease(position, self.now) else {
            return false;
        };
        self.note(Deed::Leased { grant });
        self.grants.push(grant);
        true
    }

    /// As if a dead letter still blocked its key.
    fn is_held_back(&self, position: Position) -> bool {
        let key = self.shared.key(position);
        let state = self.machine.state();
        self.shared.mutant == Some(Mutant::DeadKeyNotFreed)
            && state
                .dead
                .range(..position)
                .any(|dead| !state.pending.contains_key(dead) && self.shared.key(*dead) == key)
    }

    fn key(&self, position: Position) -> Key {
        match self.shared.mutant {
            Some(Mutant::KeysDoNotBlock) => Key::new(position.number()),
            _ => self.shared.key(position),
        }
    }

    /// Notes what happens to a dead letter. Returns whether an event became one.
    fn change(&mut self, change: Option<LetterChange>) -> bool {
        match change {
            Some(LetterChange::Write {
                position, lease, ..
            }) => {
                let event = self
                    .shared
                    .log
                    .iter()
                    .find(|event| event.position == position);
                let bytes = event.expect("an event of the log").bytes;
                self.letters.insert(position, Some(Letter { lease, bytes }));
                true
            }
            Some(LetterChange::Delete { position }) => {
                self.letters.insert(position, None);
                false
            }
            None => false,
        }
    }

    fn note(&mut self, deed: Deed) {
        self.notes.push(Note {
            clock: self.now.milliseconds(),
            skew: self.skew,
            deed,
        });
    }
}
