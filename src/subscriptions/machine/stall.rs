//! What is in the way of a subscription, and what its events wait for.

use std::fmt;
use std::time::Duration;

use super::Machine;
use crate::event::numbers::saturating;
use crate::event::{Epoch, Position, UnixMillis};
use crate::fanout::OnExpired;

/// With as many events pending as there may be, a subscription is stalled once nothing was
/// acknowledged for this long.
const STALLED_AFTER: Duration = Duration::from_secs(10);

/// Why nothing new is handed out. The text is for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stall {
    /// The state is of another log than the one that is there.
    OtherLog,
    /// Retention took events that were not handled, and the settings say to stop.
    Expired,
    /// As many dead letters as there may be.
    DeadLetters(usize),
    /// As many bytes of dead letters as there may be.
    DeadLetterBytes(u64),
    /// As many pending events as there may be, and none is acknowledged.
    Pending(usize),
}

impl fmt::Display for Stall {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherLog => formatter.write_str(
                "the log is another one than the subscription was in: seek to a place in this one",
            ),
            Self::Expired => formatter.write_str(
                "retention removed events that were not handled: seek to a place that is kept",
            ),
            Self::DeadLetters(count) => write!(
                formatter,
                "{} dead letters: is something that all events need broken?",
                Grouped(*count)
            ),
            Self::DeadLetterBytes(bytes) => write!(
                formatter,
                "{} MiB of dead letters: is something that all events need broken?",
                bytes >> 20
            ),
            Self::Pending(count) => write!(
                formatter,
                "{} events are pending, and none was acknowledged for 10 s: do all wait for a few that fail?",
                Grouped(*count)
            ),
        }
    }
}

/// A count with its thousands apart.
struct Grouped(usize);

impl fmt::Display for Grouped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1000 {
            return write!(formatter, "{}", self.0);
        }
        write!(formatter, "{},{:03}", Self(self.0 / 1000), self.0 % 1000)
    }
}

/// What the events of a subscription wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Handed out, and the deadline has not passed.
    pub outstanding: u64,
    /// Handed out before, and waiting for the next delivery.
    pub retrying: u64,
    /// Waiting for another event with the same key, or for a worker with room.
    pub blocked: u64,
    /// Dead letters, with those that are handed out again.
    pub dead: u64,
    /// Acknowledged since the subscription was created.
    pub acknowledged: u64,
    /// Removed by retention, or withdrawn because the owner may no longer receive them.
    pub passed_over: u64,
}

impl Machine {
    /// Why nothing new is handed out, if something is in the way. `epoch` and `trimmed` are the
    /// log's: its identity, and the last position that retention removed. A subscription that
    /// is paused is not stalled.
    #[must_use]
    pub fn stall(&self, epoch: Epoch, trimmed: Position, now: UnixMillis) -> Option<Stall> {
        if self.settings.paused {
            return None;
        }
        let unacknowledged = now.since(self.state.acknowledged_at);
        if epoch != self.state.epoch {
            Some(Stall::OtherLog)
        } else if self.is_expired(trimmed) {
            Some(Stall::Expired)
        } else if self.state.dead.len() >= self.limits.dead {
            Some(Stall::DeadLetters(self.limits.dead))
        } else if self.are_letters_full() {
            Some(Stall::DeadLetterBytes(self.limits.dead_bytes))
        } else if self.state.pending.len() >= self.limits.pending && unacknowledged >= STALLED_AFTER
        {
            Some(Stall::Pending(self.limits.pending))
        } else {
            None
        }
    }

    /// When a subscription with as many pending events as there may be counts as stalled, if
    /// nothing is acknowledged until then.
    #[must_use]
    pub fn stalls_at(&self) -> Option<UnixMillis> {
        let is_full = !self.settings.paused && self.state.pending.len() >= self.limits.pending;
        is_full.then(|| self.state.acknowledged_at.after(STALLED_AFTER))
    }

    /// Whether retention took events that were not handled, which the settings do not allow.
    fn is_expired(&self, trimmed: Position) -> bool {
        self.settings.on_expired == OnExpired::Fail && trimmed > self.handled_through()
    }

    /// What the events wait for, as of `now`: a lease that ran out counts as one even where no
    /// gateway has noted it.
    #[must_use]
    pub fn counts(&self, now: UnixMillis) -> Counts {
        let expired = self.indexes.expired(now).count();
        let outstanding = self.indexes.leased_count() - expired;
        let retrying = self.indexes.retrying_count() + expired;
        let blocked = self.state.pending.len() - outstanding - retrying;
        Counts {
            outstanding: saturating(outstanding),
            retrying: saturating(retrying),
            blocked: saturating(blocked),
            dead: saturating(self.state.dead.len()),
            acknowledged: self.state.acknowledged,
            passed_over: self.state.passed_over,
        }
    }
}
