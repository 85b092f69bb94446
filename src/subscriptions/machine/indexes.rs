//! What finds pending events without looking at all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::super::key::Key;
use super::super::state::{Pending, Standing};
use crate::event::{Position, UnixMillis};

/// Rebuilt when a state is read, and never stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Indexes {
    by_key: BTreeSet<(Key, Position)>,
    /// The one event of each key that is not behind another: the leased one, or the lowest.
    heads: BTreeMap<Key, Head>,
    due: BTreeSet<(UnixMillis, Position)>,
    /// What of `due` are dead letters.
    due_replayed: BTreeSet<(UnixMillis, Position)>,
    /// By the time at which a lease expires for this process.
    leased: BTreeSet<(UnixMillis, Position)>,
    /// Pending events that are not dead letters.
    from_log: BTreeSet<Position>,
    /// Waiting events that were handed out before.
    retrying: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    Due {
        at: UnixMillis,
        position: Position,
        replayed: bool,
    },
    Leased {
        expires_at: UnixMillis,
        position: Position,
    },
}

impl Head {
    const fn position(self) -> Position {
        match self {
            Self::Due { position, .. } | Self::Leased { position, .. } => position,
        }
    }
}

impl Indexes {
    /// Notes an event that is in `pending` now; `expires_at` is when its lease does, if it has
    /// one.
    pub(super) fn insert(
        &mut self,
        position: Position,
        pending: &BTreeMap<Position, Pending>,
        expires_at: Option<UnixMillis>,
    ) {
        let Some(event) = pending.get(&position) else {
            return;
        };
        self.by_key.insert((event.key, position));
        if !event.replayed {
            self.from_log.insert(position);
        }
        if is_retrying(event) {
            self.retrying += 1;
        }
        let is_taken = matches!(self.heads.get(&event.key), Some(Head::Leased { .. }));
        if let Some(expires_at) = expires_at {
            self.remove_head(event.key);
            self.leased.insert((expires_at, position));
            let head = Head::Leased {
                expires_at,
                position,
            };
            self.heads.insert(event.key, head);
        } else if !is_taken {
            self.remove_head(event.key);
            self.set_head(event.key, pending);
        }
    }

    /// Forgets an event that is no longer in `pending`.
    pub(super) fn remove(
        &mut self,
        position: Position,
        event: &Pending,
        pending: &BTreeMap<Position, Pending>,
    ) {
        self.by_key.remove(&(event.key, position));
        self.from_log.remove(&position);
        if is_retrying(event) {
            self.retrying -= 1;
        }
        if self.is_head(event.key, position) {
            self.remove_head(event.key);
            self.set_head(event.key, pending);
        }
    }

    fn remove_head(&mut self, key: Key) {
        match self.heads.remove(&key) {
            Some(Head::Due { at, position, .. }) => {
                self.due.remove(&(at, position));
                self.due_replayed.remove(&(at, position));
            }
            Some(Head::Leased {
                expires_at,
                position,
            }) => {
                self.leased.remove(&(expires_at, position));
            }
            None => {}
        }
    }

    /// Makes the lowest event of a key, none of which is leased, its head.
    fn set_head(&mut self, key: Key, pending: &BTreeMap<Position, Pending>) {
        let mut of_key = self.by_key.range((key, Position::START)..);
        let lowest = of_key.next().filter(|(other, _)| *other == key);
        let Some((_, position)) = lowest.copied() else {
            return;
        };
        let Some(event) = pending.get(&position) else {
            return;
        };
        if let Standing::Waiting { due: at } = event.standing {
            let replayed = event.replayed;
            self.due.insert((at, position));
            if replayed {
                self.due_replayed.insert((at, position));
            }
            let head = Head::Due {
                at,
                position,
                replayed,
            };
            self.heads.insert(key, head);
        }
    }

    /// Whether an event is leased, or the next of its key to be.
    pub(super) fn is_head(&self, key: Key, position: Position) -> bool {
        let head = self.heads.get(&key);
        head.is_some_and(|head| head.position() == position)
    }

    /// The next event of each key none of which is leased, by time, then position.
    pub(super) const fn due(&self) -> &BTreeSet<(UnixMillis, Position)> {
        &self.due
    }

    /// The same, of dead letters alone.
    pub(super) const fn due_replayed(&self) -> &BTreeSet<(UnixMillis, Position)> {
        &self.due_replayed
    }

    /// The first time after `now` at which an event is due.
    pub(super) fn first_after(
        due: &BTreeSet<(UnixMillis, Position)>,
        now: UnixMillis,
    ) -> Option<UnixMillis> {
        let last_of_now = (now, Position::new(u64::MAX));
        let mut later = due.range((Bound::Excluded(last_of_now), Bound::Unbounded));
        later.next().map(|(at, _)| *at)
    }

    pub(super) fn next_expiry(&self) -> Option<UnixMillis> {
        self.leased.first().map(|(at, _)| *at)
    }

    /// Leases that expire at or before `now`.
    pub(super) fn expired(&self, now: UnixMillis) -> impl Iterator<Item = Position> {
        let leased = self.leased.iter();
        let expired = leased.take_while(move |(at, _)| *at <= now);
        expired.map(|(_, position)| *position)
    }

    pub(super) fn leased_count(&self) -> usize {
        self.leased.len()
    }

    pub(super) const fn retrying_count(&self) -> usize {
        self.retrying
    }

    pub(super) fn oldest_from_log(&self) -> Option<Position> {
        self.from_log.first().copied()
    }
}

const fn is_retrying(event: &Pending) -> bool {
    matches!(event.standing, Standing::Waiting { .. }) && event.deliveries > 0
}
