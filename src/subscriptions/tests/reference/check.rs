//! What is compared with the list: deliveries, what a step leaves, and states.

use std::collections::BTreeSet;

use super::{Claim, Event, Law, Note, Reference, Status, Violation, ensure, milliseconds};
use crate::event::{Position, UnixMillis};
use crate::subscriptions::{Grant, Machine, OrderBy, OwnLeases, State};

impl Reference {
    pub(super) fn leased(&mut self, note: &Note, grant: Grant) -> Result<(), Violation> {
        let position = grant.ack_id.position;
        let event = self.event(position).clone();
        let now = note.clock - note.skew;
        ensure(
            event.status != Status::Acknowledged,
            Law::Acknowledged,
            "handed out",
            note,
        )?;
        ensure(
            event.is_active(),
            Law::Parked,
            "handed out as it is not pending",
            note,
        )?;
        for other in self.events.iter().filter(|other| other.key == event.key) {
            let is_free = other.held.is_none_or(|held| held.promised <= now);
            ensure(
                is_free,
                Law::ExclusiveLease,
                "its key is held",
                &(note, other),
            )?;
            let is_handled = !matches!(other.status, Status::Unseen | Status::Pending);
            let is_earlier = other.position < position && !event.replaying;
            ensure(
                !is_earlier || is_handled,
                Law::KeyedOrder,
                "behind",
                &(note, other),
            )?;
        }
        let is_next = grant.attempt == event.deliveries + 1;
        ensure(is_next, Law::Redelivered, "attempts", &(note, &event))?;
        ensure(
            note.clock >= event.due.0,
            Law::Redelivered,
            "too early",
            &(note, &event),
        )?;
        let deadline = note.clock + milliseconds(self.settings.ack_deadline);
        let is_given = grant.deadline == UnixMillis::new(deadline);
        ensure(is_given, Law::ExclusiveLease, "deadline", note)?;
        ensure(
            grant.replayed == event.replaying,
            Law::Parked,
            "replayed",
            note,
        )?;
        let event = self.event(position);
        event.deliveries += 1;
        event.lease = grant.ack_id.lease;
        event.held = Some(Claim {
            deadline,
            promised: deadline - note.skew,
        });
        Ok(())
    }

    /// A step that has credits left found nothing to hand out.
    pub(super) fn ended(
        &self,
        note: &Note,
        credits: usize,
        last: Position,
    ) -> Result<(), Violation> {
        if credits == 0 {
            return Ok(());
        }
        let pending = self.events.iter().filter(|event| event.is_active()).count();
        let has_room = match self.settings.order_by {
            OrderBy::Log => pending == 0,
            _ => pending < self.limits.pending,
        };
        for event in self.events.iter().filter(|event| event.position <= last) {
            let is_waiting = match event.status {
                Status::Unseen => has_room && !self.are_full(),
                Status::Pending => !self.are_full() && event.held.is_none(),
                _ => event.replaying && event.held.is_none(),
            };
            let mut of_key = self.events.iter().filter(|other| other.key == event.key);
            let is_behind = of_key.any(|other| {
                let is_earlier = other.position < event.position;
                let is_open = other.is_active() || other.status == Status::Unseen;
                other.held.is_some() || is_earlier && is_open
            });
            let is_left = is_waiting && !is_behind && event.due.1 <= note.clock;
            ensure(!is_left, Law::Unblocked, "left", &(note, event))?;
        }
        Ok(())
    }

    /// The state that is stored has what the list has.
    pub(in crate::subscriptions::tests) fn check(&self, state: &State) -> Result<(), Violation> {
        let matching = self
            .events
            .iter()
            .filter(|event| event.position <= self.frontier && !event.skipped);
        let matching = matching.count() as u64 + self.skipped_positions;
        let is_accounted = self.was_sought || state.accounted() == matching;
        ensure(is_accounted, Law::Accounted, "sum", &(matching, state))?;
        let positions = |is_listed: fn(&Event) -> bool| -> Vec<Position> {
            let listed = self.events.iter().filter(|event| is_listed(event));
            listed.map(|event| event.position).collect()
        };
        let pending = positions(Event::is_active);
        ensure(
            state.pending.keys().eq(&pending),
            Law::Delivered,
            "pending",
            &(&pending, state),
        )?;
        let dead = positions(Event::is_dead);
        ensure(
            state.dead.iter().eq(&dead),
            Law::Parked,
            "dead",
            &(&dead, state),
        )?;
        ensure(
            state.frontier == self.frontier,
            Law::Delivered,
            "frontier",
            state,
        )?;
        for event in self.events.iter().filter(|event| event.is_active()) {
            let stored = &state.pending[&event.position];
            let is_same = (stored.deliveries, stored.lease) == (event.deliveries, event.lease);
            ensure(is_same, Law::Redelivered, "deliveries", &(event, stored))?;
        }
        Ok(())
    }

    /// The next event of each key of which none is with a worker can be leased, at some time.
    pub(in crate::subscriptions::tests) fn check_heads(
        &self,
        state: &State,
    ) -> Result<(), Violation> {
        let own = OwnLeases::default();
        let machine = Machine::new(state.clone(), self.settings.clone(), self.limits, own);
        let due = machine
            .due(UnixMillis::new(i64::MAX))
            .map(|due| due.position);
        let due: BTreeSet<Position> = due.collect();
        let mut heads = BTreeSet::new();
        for event in self.events.iter().filter(|event| event.is_active()) {
            let of_key = || self.events.iter().filter(|other| other.key == event.key);
            let is_held = of_key().any(|other| other.held.is_some());
            let lowest = of_key().find(|other| other.is_active());
            let is_lowest = lowest.is_some_and(|lowest| lowest.position == event.position);
            if !is_held && is_lowest && (event.replaying || !self.are_full()) {
                heads.insert(event.position);
            }
        }
        ensure(
            due == heads,
            Law::Parked,
            "the next of a key",
            &(&due, &heads, state),
        )
    }
}
