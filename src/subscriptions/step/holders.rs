//! Which streams of this gateway hold which deliveries.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::ack_id::AckId;
use super::super::machine::Grant;
use super::super::state::{Lease, State};
use crate::event::{Position, UnixMillis};

/// Deliveries that streams of this gateway were sent, also those that have left.
#[derive(Debug, Default)]
pub(super) struct Holders {
    by_position: BTreeMap<Position, Holder>,
    generation: u64,
}

#[derive(Clone, Copy, Debug)]
struct Holder {
    lease: Lease,
    worker: u64,
    since: UnixMillis,
}

impl Holders {
    pub(super) fn note(&mut self, worker: u64, grant: &Grant, now: UnixMillis) {
        let AckId {
            generation,
            position,
            lease,
        } = grant.ack_id;
        self.generation = generation;
        let holder = Holder {
            lease,
            worker,
            since: now,
        };
        self.by_position.insert(position, holder);
    }

    /// Forgets the deliveries that a state does not have with a worker.
    pub(super) fn follow(&mut self, state: &State) {
        let is_same = state.generation() == self.generation;
        let is_held =
            |position: &Position, holder: &mut Holder| state.is_leased(*position, holder.lease);
        self.by_position
            .retain(|position, holder| is_same && is_held(position, holder));
    }

    /// How many deliveries each stream holds, going by a state.
    pub(super) fn out(&self, state: &State) -> BTreeMap<u64, usize> {
        let mut out = BTreeMap::new();
        if state.generation() != self.generation {
            return out;
        }
        for (position, holder) in &self.by_position {
            if state.is_leased(*position, holder.lease) {
                *out.entry(holder.worker).or_default() += 1;
            }
        }
        out
    }

    pub(super) fn len(&self) -> usize {
        self.by_position.len()
    }

    /// How long a delivery has been out, if it was sent from here.
    pub(super) fn held_for(&self, ack_id: AckId, now: UnixMillis) -> Option<Duration> {
        let holder = self.by_position.get(&ack_id.position)?;
        let is_held = holder.lease == ack_id.lease && self.generation == ack_id.generation;
        is_held.then(|| now.since(holder.since))
    }
}
