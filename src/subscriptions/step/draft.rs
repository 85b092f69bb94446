//! The decisions of a step: what the state becomes, and which events go to which streams.
//!
//! Pure: no clock, no waiting. What a step needs was read before.

use std::collections::{BTreeMap, BTreeSet};

use super::super::ack_id::AckId;
use super::super::ask::{DroppedLetter, Move};
use super::super::machine::{
    Answer, Candidate, Cause, DueEvent, Grant, LetterChange, Machine, Outcome, Reading, SeekError,
};
use super::super::metrics::Redelivery;
use super::super::rooms::Rooms;
use super::super::state::State;
use crate::event::{Position, UnixMillis};
use crate::fanout::OnExpired;
use crate::log::Bounds;

/// A step looks for at most this many records that it does not have.
const MISSING_MAX: usize = 256;

/// What a step is made of.
pub(super) struct Materials<'a> {
    pub(super) now: UnixMillis,
    /// What workers report, in the order in which it came.
    pub(super) outcomes: &'a [(AckId, Outcome)],
    /// What was read for these outcomes.
    pub(super) reading: Reading,
    pub(super) change: Option<&'a Move>,
    /// What retention has removed, and where the log ends.
    pub(super) bounds: Bounds,
    /// Whether the subscription follows retention now: it does for streams.
    pub(super) may_skip: bool,
    /// Matching events behind the frontier, and how far the log was searched for them.
    pub(super) candidates: &'a [Candidate],
    pub(super) through: Position,
    /// The streams that can be given events once a state is stored; none where nothing may be
    /// handed out.
    pub(super) rooms: &'a dyn Fn(&State) -> Rooms,
    /// What is known of an event that is due.
    pub(super) look: &'a dyn Fn(DueEvent) -> Look,
}

/// What is known of an event that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Its record is there, of this size.
    Ready { bytes: usize },
    /// Its record has to be read.
    Missing,
    /// The log no longer has it.
    Gone,
    /// The owner may not receive it.
    Withheld,
}

/// A step that is made and not stored.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// Of the outcomes, in order, as many as are settled.
    pub(super) answers: Vec<Answer>,
    /// The answer to the change, if there was one.
    pub(super) changed: Option<Result<u64, SeekError>>,
    /// Of each letter, the last change.
    pub(super) letters: BTreeMap<Position, LetterChange>,
    /// Each for the stream of this number.
    pub(super) grants: Vec<(u64, Grant)>,
    /// Due events whose records have to be read.
    pub(super) missing: Vec<DueEvent>,
    /// Whether something other than the frontier and what lies behind it changed.
    pub(super) must_store: bool,
    /// Whether the frontier moved, or events became pending.
    pub(super) has_moved: bool,
    /// The place changed.
    pub(super) has_sought: bool,
    pub(super) tally: Tally,
}

/// What a step does, for the metrics.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) acknowledged: Vec<AckId>,
    pub(super) redelivered: Vec<Redelivery>,
    pub(super) dead: Vec<Cause>,
    pub(super) lost: u64,
    pub(super) expired: u64,
}

/// Makes a step.
pub(super) fn draft(machine: &mut Machine, materials: Materials<'_>) -> Draft {
    let before = (machine.state().frontier(), machine.state().pending.len());
    let mut step = Step {
        machine,
        materials,
        rooms: Rooms::default(),
        draft: Draft::default(),
    };
    step.settle();
    step.expire();
    step.change();
    if !step.draft.has_sought {
        step.skip();
        step.give();
    }
    let Step {
        machine, mut draft, ..
    } = step;
    let after = (machine.state().frontier(), machine.state().pending.len());
    draft.has_moved = before != after;
    draft
}

struct Step<'a, 'b> {
    machine: &'a mut Machine,
    materials: Materials<'b>,
    rooms: Rooms,
    draft: Draft,
}

impl Step<'_, '_> {
    /// Settles outcomes up to the first for which something is left unread.
    fn settle(&mut self) {
        for (ack_id, outcome) in self.materials.outcomes.iter().copied() {
            let position = ack_id.position;
            if self.materials.reading.unread.contains(&position) {
                break;
            }
            self.draft.must_store = true;
            let now = self.materials.now;
            let acknowledged = self.machine.state().acknowledged;
            let reading = &mut self.materials.reading;
            let settled = self.machine.settle(ack_id, outcome, reading, now);
            if self.machine.state().acknowledged > acknowledged {
                self.draft.tally.acknowledged.push(ack_id);
            }
            self.draft.answers.push(settled.answer);
            self.note_letter(settled.letter);
            if settled.answer == Answer::Lost {
                self.draft.tally.lost += 1;
                continue;
            }
            let redelivery = match outcome {
                Outcome::Failed { .. } | Outcome::Rejected => Redelivery::Failed,
                Outcome::Released => Redelivery::Released,
                Outcome::Done | Outcome::Extended => continue,
            };
            if self.machine.state().is_waiting(position) {
                self.draft.tally.redelivered.push(redelivery);
            }
        }
    }

    fn expire(&mut self) {
        let now = self.materials.now;
        for expired in self.machine.expire(&mut self.materials.reading, now) {
            self.draft.must_store = true;
            self.note_letter(expired.letter);
            if self.machine.state().is_waiting(expired.position) {
                self.draft.tally.redelivered.push(Redelivery::Deadline);
            }
        }
    }

    fn change(&mut self) {
        let Some(change) = self.materials.change else {
            return;
        };
        self.draft.must_store = true;
        let changed = match change {
            Move::Seek { to, epoch } => {
                let sought = self.machine.seek(*to, *epoch);
                self.draft.has_sought = sought.is_ok();
                sought.map(|()| 0)
            }
            Move::Replay(candidates) => Ok(self.machine.replay(candidates) as u64),
            Move::Drop(letters) => Ok(self.drop_letters(letters)),
        };
        self.draft.changed = Some(changed);
    }

    fn drop_letters(&mut self, letters: &[DroppedLetter]) -> u64 {
        let letters = letters.iter().map(|letter| (letter.position, letter.bytes));
        let changes = self.machine.drop_dead(&letters.collect::<Vec<_>>());
        let count = changes.len() as u64;
        for change in changes {
            self.note_letter(Some(change));
        }
        count
    }

    /// Follows retention where the settings allow it and events can be handed out.
    fn skip(&mut self) {
        let to = match self.machine.settings().on_expired {
            OnExpired::Fail => return,
            OnExpired::Earliest => self.materials.bounds.trimmed,
            OnExpired::Latest => self.materials.bounds.last,
        };
        let frontier = self.machine.state().frontier();
        let is_behind = self.materials.bounds.trimmed > frontier;
        if is_behind && self.materials.may_skip && !self.machine.settings().paused {
            self.machine.skip(to);
            self.draft.tally.expired += to.distance_from(frontier);
            self.draft.must_store = true;
        }
    }

    /// Gives events that can be leased to streams that have room.
    fn give(&mut self) {
        let now = self.materials.now;
        self.rooms = (self.materials.rooms)(self.machine.state());
        let mut set_aside = BTreeSet::new();
        loop {
            let credits = self.rooms.credits();
            let wanted = if credits == 0 {
                0
            } else {
                credits + set_aside.len()
            };
            let Materials {
                candidates,
                through,
                ..
            } = self.materials;
            self.machine.advance(candidates, through, wanted, now);
            if credits == 0 || self.draft.missing.len() >= MISSING_MAX {
                return;
            }
            let due = self.machine.due(now);
            let due = due.filter(|due| !set_aside.contains(&due.position));
            let due: Vec<DueEvent> = due.take(credits).collect();
            if due.is_empty() {
                return;
            }
            for event in due {
                if !self.give_one(event) {
                    set_aside.insert(event.position);
                }
            }
        }
    }

    /// Gives an event to a stream, or withdraws it. Returns whether it is due no longer.
    fn give_one(&mut self, due: DueEvent) -> bool {
        let position = due.position;
        let is_withdrawn = match (self.materials.look)(due) {
            Look::Ready { bytes } => return self.lease(position, bytes),
            Look::Missing => {
                self.draft.missing.push(due);
                return false;
            }
            Look::Gone => {
                let may_pass = due.replayed
                    || self.machine.settings().on_expired != OnExpired::Fail
                    || position > self.materials.bounds.trimmed;
                let is_passed = may_pass && self.machine.pass_over(position);
                self.draft.tally.expired += u64::from(is_passed);
                is_passed
            }
            Look::Withheld => self.machine.pass_over(position),
        };
        self.draft.must_store |= is_withdrawn;
        is_withdrawn
    }

    fn lease(&mut self, position: Position, bytes: usize) -> bool {
        let Some(worker) = self.rooms.give(bytes) else {
            return false;
        };
        let grant = self.machine.lease(position, self.materials.now);
        self.draft.must_store |= grant.is_some();
        self.draft.grants.extend(grant.map(|grant| (worker, grant)));
        grant.is_some()
    }

    fn note_letter(&mut self, change: Option<LetterChange>) {
        let Some(change) = change else { return };
        let position = match change {
            LetterChange::Write {
                position, cause, ..
            } => {
                self.draft.tally.dead.push(cause);
                position
            }
            LetterChange::Delete { position } => position,
        };
        self.draft.letters.insert(position, change);
    }
}

#[cfg(test)]
mod tests;
