//! What became of deliveries: reported by workers, or by the clock.

use std::time::Duration;

use super::super::ack_id::AckId;
use super::super::state::{Lease, Standing};
use super::letters::Burial;
use super::{Cause, LetterChange, Machine, Reading};
use crate::event::numbers::saturating;
use crate::event::{Position, UnixMillis};

/// What a worker reports of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The event is handled.
    Done,
    /// It is not handled: try again.
    Failed {
        /// When; absent where the settings decide. At most 24 h.
        delay: Option<Duration>,
    },
    /// It is not handled, and never will be: a dead letter at once.
    Rejected,
    /// It is still being handled.
    Extended,
    /// It is given back untouched.
    Released,
}

/// What the worker is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The outcome is part of the state, or was before.
    Recorded,
    /// It came too late, and changes nothing.
    Lost,
}

/// What an outcome did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// What the worker is answered once the state is stored.
    pub answer: Answer,
    /// What to store beside the state.
    pub letter: Option<LetterChange>,
}

/// A lease that ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired {
    /// The event.
    pub position: Position,
    /// What to store beside the state, where that was its last delivery.
    pub letter: Option<LetterChange>,
}

const LOST: Settled = Settled {
    answer: Answer::Lost,
    letter: None,
};
const RECORDED: Settled = Settled {
    answer: Answer::Recorded,
    letter: None,
};

impl Machine {
    /// Notes what became of a delivery.
    ///
    /// A late outcome is taken if the event was not handed out again, except for an extension or
    /// a release. Acknowledging an event that is gone is answered as done. So repeating a call
    /// whose answer was lost is harmless.
    pub fn settle(
        &mut self,
        ack_id: AckId,
        outcome: Outcome,
        reading: &mut Reading,
        now: UnixMillis,
    ) -> Settled {
        if ack_id.generation != self.state.generation {
            return LOST;
        }
        let position = ack_id.position;
        let Some(pending) = self.state.pending.get(&position) else {
            return self.settle_absent(ack_id, outcome, reading, now);
        };
        if pending.lease != ack_id.lease || pending.lease == Lease::NONE {
            return LOST;
        }
        let is_held = self.own.expires_at(pending) > Some(now);
        let letter = match outcome {
            Outcome::Done => self.acknowledge(position, reading, now),
            Outcome::Failed { delay } => self.fail(position, Cause::Failed, delay, reading, now),
            Outcome::Rejected => self.fail(position, Cause::Rejected, None, reading, now),
            Outcome::Extended if is_held => self.extend(position, now),
            Outcome::Released if is_held => self.release(position),
            Outcome::Extended | Outcome::Released => return LOST,
        };
        Settled {
            answer: Answer::Recorded,
            letter,
        }
    }

    /// Has the leases that ran out count as failures. Those whose deadline another gateway set
    /// do so 2 s late. What is left unread waits for a later step.
    pub fn expire(&mut self, reading: &mut Reading, now: UnixMillis) -> Vec<Expired> {
        let expired = self.indexes.expired(now);
        let expired = expired.filter(|position| !reading.unread.contains(position));
        let expired: Vec<Position> = expired.collect();
        let expired = expired.into_iter().map(|position| Expired {
            position,
            letter: self.fail(position, Cause::Deadline, None, reading, now),
        });
        expired.collect()
    }

    /// Of an event that is not pending: a dead letter, or handled, or not looked at.
    fn settle_absent(
        &mut self,
        ack_id: AckId,
        outcome: Outcome,
        reading: &mut Reading,
        now: UnixMillis,
    ) -> Settled {
        let position = ack_id.position;
        if !self.state.dead.contains(&position) {
            let is_handled = position <= self.state.frontier;
            return match outcome {
                Outcome::Done if is_handled => RECORDED,
                _ => LOST,
            };
        }
        let letter = reading.letters.get(&position);
        let Some(letter) = letter.filter(|letter| letter.lease == ack_id.lease) else {
            return LOST;
        };
        match outcome {
            Outcome::Done => {
                let bytes = letter.bytes;
                reading.letters.remove(&position);
                self.note_acknowledged(now);
                let deleted = self.remove_letter(position, bytes);
                Settled {
                    answer: Answer::Recorded,
                    letter: Some(deleted),
                }
            }
            Outcome::Failed { .. } | Outcome::Rejected => RECORDED,
            Outcome::Extended | Outcome::Released => LOST,
        }
    }

    fn acknowledge(
        &mut self,
        position: Position,
        reading: &mut Reading,
        now: UnixMillis,
    ) -> Option<LetterChange> {
        let pending = self.take(position)?;
        self.own.forget(pending.lease);
        self.note_acknowledged(now);
        let letter = reading.letters.remove(&position);
        let bytes = letter.map_or(0, |letter| letter.bytes);
        pending
            .replayed
            .then(|| self.remove_letter(position, bytes))
    }

    fn note_acknowledged(&mut self, now: UnixMillis) {
        self.state.acknowledged += 1;
        self.state.acknowledged_at = self.state.acknowledged_at.max(now);
    }

    /// Has an event wait for its next delivery, or makes it a dead letter.
    fn fail(
        &mut self,
        position: Position,
        cause: Cause,
        delay: Option<Duration>,
        reading: &mut Reading,
        now: UnixMillis,
    ) -> Option<LetterChange> {
        let mut pending = self.take(position)?;
        self.own.forget(pending.lease);
        if cause == Cause::Rejected || self.is_last(&pending) {
            match self.burial(position, &pending, reading) {
                Burial::Letter { more_bytes } => {
                    self.state.dead.insert(position);
                    self.state.dead_bytes = self.state.dead_bytes.saturating_add(more_bytes);
                    reading.note_letter(position, pending.lease, more_bytes);
                    return Some(LetterChange::Write {
                        position,
                        deliveries: pending.deliveries,
                        lease: pending.lease,
                        cause,
                        dead_time: now,
                        again: pending.replayed,
                    });
                }
                Burial::Gone => {
                    self.state.passed_over += 1;
                    return None;
                }
                Burial::Refused => {}
            }
        }
        let delay = delay.unwrap_or_else(|| self.retry_delay(position, pending.deliveries));
        pending.standing = Standing::Waiting {
            due: now.after(delay),
        };
        self.put(position, pending);
        None
    }

    /// Never brings a deadline forward: the worker was promised the later one.
    ///
    /// Moves a deadline that another gateway set by at least 1 ms, so that this one's clock
    /// counts from now on. Otherwise, where this clock is behind, the other gateway would expire
    /// the lease by its own before the extension is over.
    fn extend(&mut self, position: Position, now: UnixMillis) -> Option<LetterChange> {
        const LEAST: Duration = Duration::from_millis(1);
        let mut pending = self.take(position)?;
        let is_own = self.own.is_own(&pending);
        if let Standing::Leased { until } = &mut pending.standing {
            let least = if is_own { *until } else { until.after(LEAST) };
            *until = now.after(self.settings.ack_deadline).max(least);
            self.own.note(pending.lease, *until);
        }
        self.put(position, pending);
        None
    }

    fn release(&mut self, position: Position) -> Option<LetterChange> {
        let mut pending = self.take(position)?;
        self.own.forget(pending.lease);
        pending.deliveries = pending.deliveries.saturating_sub(1);
        pending.standing = Standing::AT_ONCE;
        self.put(position, pending);
        None
    }

    /// The wait after this many deliveries: twice as long with each, and by up to 10 % more or
    /// less, so that events that failed together do not all come back together.
    pub(super) fn retry_delay(&self, position: Position, deliveries: u32) -> Duration {
        /// `min_retry_delay` is at most 24 h, so that the product fits.
        const DOUBLINGS_MAX: u32 = 30;
        let milliseconds = |duration: Duration| -> u64 { saturating(duration.as_millis()) };
        let doublings = deliveries.saturating_sub(1).min(DOUBLINGS_MAX);
        let doubled = milliseconds(self.settings.min_retry_delay).saturating_mul(1 << doublings);
        let delay = doubled.min(milliseconds(self.settings.max_retry_delay));
        let per_mille = 900 + spread(position, deliveries) % 201;
        Duration::from_millis(delay.saturating_mul(per_mille) / 1000)
    }
}

/// The finish of `SplitMix64`: the same at every gateway.
const fn spread(position: Position, deliveries: u32) -> u64 {
    let step = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(deliveries as u64 + 1);
    let mixed = position.number().wrapping_add(step);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
