//! Sees every delivery and every outcome, and holds them to the laws.

use std::collections::{BTreeMap, BTreeSet};

use clerkcast::event::{Position, UnixMillis};
use clerkcast::subscriptions::{Delivery, Outcome};

/// What was seen of one event.
#[derive(Clone, Debug, Default)]
struct Seen {
    user: String,
    attempt: u32,
    /// By the clock of the test.
    deadline: UnixMillis,
    /// A worker has it, and has not reported an outcome.
    is_held: bool,
    was_released: bool,
    is_done: bool,
    /// The acknowledgement was answered.
    is_acknowledged: bool,
    /// It may be a dead letter.
    may_be_dead: bool,
}

#[derive(Debug)]
pub(super) struct Watcher {
    max_deliveries: u32,
    events: BTreeMap<Position, Seen>,
    pub(super) deliveries: usize,
}

impl Watcher {
    pub(super) const fn new(max_deliveries: u32) -> Self {
        Self {
            max_deliveries,
            events: BTreeMap::new(),
            deliveries: 0,
        }
    }

    /// An event that matches was appended.
    pub(super) fn note_appended(&mut self, position: Position, user: &str) {
        let seen = Seen {
            user: user.to_owned(),
            ..Seen::default()
        };
        self.events.insert(position, seen);
    }

    /// A worker took a delivery. `skew_ms` is that of the clock that set the deadline.
    pub(super) fn note_delivered(&mut self, delivery: &Delivery, now: UnixMillis, skew_ms: i64) {
        self.deliveries += 1;
        let grant = &delivery.grant;
        let position = grant.ack_id.position;
        assert_eq!(delivery.record.position, position);
        let user = delivery.record.entry.attributes.user_id.clone();
        let user = user.expect("an event of a user");
        for (other, seen) in self.events.iter().filter(|(_, seen)| seen.user == user) {
            assert!(
                !seen.is_held || seen.deadline <= now,
                "exclusive lease: {position} is delivered while {other} of the same key is held: {seen:?} at {now:?}"
            );
            assert!(
                *other >= position || seen.is_done || seen.may_be_dead,
                "keyed order: {position} is delivered before {other}: {seen:?}"
            );
        }
        let max_deliveries = self.max_deliveries;
        let seen = self
            .events
            .get_mut(&position)
            .expect("an event that matches");
        assert!(
            !seen.is_acknowledged,
            "acknowledged: {position} is delivered once more"
        );
        let least = if seen.was_released {
            seen.attempt.max(1)
        } else {
            seen.attempt + 1
        };
        assert!(
            (least..=max_deliveries).contains(&grant.attempt),
            "redelivered: {position} has attempt {} after {seen:?}",
            grant.attempt
        );
        seen.attempt = grant.attempt;
        seen.deadline = UnixMillis::new(grant.deadline.milliseconds() - skew_ms);
        seen.is_held = true;
        seen.was_released = false;
        // Its worker may never be heard of again.
        seen.may_be_dead |= grant.attempt == max_deliveries;
    }

    /// A worker is about to report an outcome.
    pub(super) fn note_reporting(&mut self, position: Position, outcome: Outcome) {
        let seen = self.events.get_mut(&position).expect("an event");
        match outcome {
            Outcome::Done => seen.is_done = true,
            Outcome::Rejected => seen.may_be_dead = true,
            Outcome::Released => seen.was_released = true,
            Outcome::Failed { .. } => {}
            Outcome::Extended => {
                // Until when is known to the gateway; not before the deadline that it had.
                return;
            }
        }
        seen.is_held = false;
    }

    pub(super) fn note_acknowledged(&mut self, position: Position) {
        let seen = self.events.get_mut(&position).expect("an event");
        seen.is_acknowledged = true;
    }

    /// Every event is acknowledged or dead in the end, and none both.
    pub(super) fn check_end(&self, dead: &BTreeSet<Position>) {
        for (position, seen) in &self.events {
            assert!(
                seen.is_done || dead.contains(position),
                "delivered: {position} is neither acknowledged nor dead: {seen:?}"
            );
            assert!(
                !seen.is_acknowledged || !dead.contains(position),
                "parked: {position} is both: {seen:?}"
            );
            assert!(
                seen.may_be_dead || !dead.contains(position),
                "parked: {position} is dead too early: {seen:?}"
            );
        }
    }

    pub(super) fn matching(&self) -> u64 {
        self.events.len() as u64
    }
}
