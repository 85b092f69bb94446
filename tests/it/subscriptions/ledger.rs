//! What workers saw of a subscription, held to its laws by the clock of this machine.

use std::collections::HashMap;

use clerkcast::event::UnixMillis;
use clerkcast::proto::Delivery;

/// What was seen of one event.
#[derive(Clone, Debug, Default)]
struct Seen {
    user: String,
    deadline: UnixMillis,
    attempt: i32,
    /// A worker has it, and has not begun to report an outcome.
    is_held: bool,
    is_acknowledged: bool,
}

/// Every delivery, and every acknowledgement.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    events: HashMap<String, Seen>,
    pub(super) deliveries: usize,
    pub(super) acknowledged: usize,
}

impl Ledger {
    pub(super) fn note_delivered(&mut self, delivery: &Delivery) {
        let now = UnixMillis::now();
        let event = delivery.event.as_ref().expect("an event");
        let deadline = delivery.deadline.as_ref().expect("a deadline");
        for (id, seen) in &self.events {
            assert!(
                seen.user != event.user_id || !seen.is_held || seen.deadline <= now,
                "exclusive lease: {} is delivered while {id} is held: {seen:?} at {now}",
                event.id
            );
        }
        self.deliveries += 1;
        let seen = self.events.entry(event.id.clone()).or_default();
        assert!(
            !seen.is_acknowledged,
            "acknowledged: {} is delivered once more",
            event.id
        );
        assert!(
            delivery.attempt > seen.attempt,
            "redelivered: {} has attempt {} after {seen:?}",
            event.id,
            delivery.attempt
        );
        seen.user.clone_from(&event.user_id);
        seen.deadline = deadline.into();
        seen.attempt = delivery.attempt;
        seen.is_held = true;
    }

    /// An event was a dead letter, and its attempts are counted from 1 again.
    pub(super) fn note_replayed(&mut self, id: &str) {
        if let Some(seen) = self.events.get_mut(id) {
            seen.attempt = 0;
        }
    }

    /// A worker is about to acknowledge an event.
    pub(super) fn note_acknowledging(&mut self, id: &str) {
        self.events.get_mut(id).expect("delivered").is_held = false;
    }

    /// The acknowledgement was answered.
    pub(super) fn note_acknowledged(&mut self, id: &str) {
        let seen = self.events.get_mut(id).expect("delivered");
        self.acknowledged += usize::from(!seen.is_acknowledged);
        seen.is_acknowledged = true;
    }

    pub(super) fn is_acknowledged(&self, id: &str) -> bool {
        self.events.get(id).is_some_and(|seen| seen.is_acknowledged)
    }
}
