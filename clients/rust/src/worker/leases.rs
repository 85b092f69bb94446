//! Which leases to extend, and when. Pure: `now` is given.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The leases that a worker holds, by their `ack_id`.
#[derive(Debug)]
pub(super) struct Leases {
    held: HashMap<String, Held>,
    handling_max: Duration,
}

#[derive(Debug)]
struct Held {
    interval: Duration,
    extend_at: Instant,
    /// Not extended from here on.
    until: Instant,
    is_lost: Arc<AtomicBool>,
}

impl Held {
    /// Whether the lease is extended by a call that is made at `now` anyway. A quarter of the
    /// interval early, so that leases of different ages share calls.
    fn is_due(&self, now: Instant) -> bool {
        now < self.until && self.extend_at <= now + self.interval / 4
    }
}

impl Leases {
    pub(super) fn new(handling_max: Duration) -> Self {
        Self {
            held: HashMap::new(),
            handling_max,
        }
    }

    pub(super) fn hold(
        &mut self,
        ack_id: String,
        interval: Duration,
        is_lost: Arc<AtomicBool>,
        now: Instant,
    ) {
        let held = Held {
            interval,
            extend_at: now + interval,
            until: now + self.handling_max,
            is_lost,
        };
        self.held.insert(ack_id, held);
    }

    /// From here on the time for handling runs.
    pub(super) fn begin(&mut self, ack_id: &str, now: Instant) {
        if let Some(held) = self.held.get_mut(ack_id) {
            held.until = now + self.handling_max;
        }
    }

    pub(super) fn settle(&mut self, ack_id: &str) {
        self.held.remove(ack_id);
    }

    /// When the first lease has to be extended.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        let held = self.held.values();
        let extended = held.filter(|held| now < held.until && held.extend_at < held.until);
        extended.map(|held| held.extend_at).min()
    }

    /// Whether one has to be extended now.
    pub(super) fn are_due(&self, now: Instant) -> bool {
        self.next_due(now).is_some_and(|at| at <= now)
    }

    /// At most `max` leases to extend by a call now.
    pub(super) fn due(&self, now: Instant, max: usize) -> Vec<String> {
        let due = self.held.iter().filter(|(_, held)| held.is_due(now));
        due.take(max).map(|(ack_id, _)| ack_id.clone()).collect()
    }

    /// The gateway has extended the lease.
    pub(super) fn extended(&mut self, ack_id: &str, now: Instant) {
        if let Some(held) = self.held.get_mut(ack_id) {
            held.extend_at = now + held.interval;
        }
    }

    /// Another worker has the event.
    pub(super) fn lose(&mut self, ack_id: &str) {
        if let Some(held) = self.held.remove(ack_id) {
            held.is_lost.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn held(leases: &mut Leases, ack_id: &str, now: Instant) -> Arc<AtomicBool> {
        let is_lost = Arc::new(AtomicBool::new(false));
        leases.hold(ack_id.to_owned(), seconds(15), Arc::clone(&is_lost), now);
        is_lost
    }

    #[test]
    fn a_lease_is_extended_until_its_event_is_settled_and_never_beyond_the_maximum() {
        let mut leases = Leases::new(seconds(60));
        let start = Instant::now();
        held(&mut leases, "a", start);
        assert_eq!(leases.next_due(start), Some(start + seconds(15)));
        assert!(!leases.are_due(start + seconds(14)));

        // Begun after 20 s, so extended until 80 s.
        leases.begin("a", start + seconds(20));
        let mut now = start + seconds(15);
        let mut extensions = 0;
        while let Some(due) = leases.next_due(now) {
            now = now.max(due);
            assert_eq!(leases.due(now, 10), ["a"]);
            leases.extended("a", now);
            extensions += 1;
        }
        assert_eq!((extensions, now), (5, start + seconds(75)));
        assert!(!leases.are_due(start + seconds(1000)));

        held(&mut leases, "b", now);
        leases.settle("b");
        assert_eq!(leases.next_due(now), None);
    }

    #[test]
    fn an_extension_that_is_late_is_not_sent_beyond_the_maximum() {
        let mut leases = Leases::new(seconds(60));
        let start = Instant::now();
        held(&mut leases, "a", start);
        assert!(leases.are_due(start + seconds(59)));
        // No call got through until the maximum had passed.
        assert!(!leases.are_due(start + seconds(60)));
        assert!(leases.due(start + seconds(60), 10).is_empty());
    }

    #[test]
    fn leases_of_different_ages_share_a_call_and_a_lost_one_is_not_extended() {
        let mut leases = Leases::new(seconds(60));
        let start = Instant::now();
        held(&mut leases, "a", start);
        let is_lost = held(&mut leases, "b", start + seconds(3));
        held(&mut leases, "c", start + seconds(12));
        let mut due = leases.due(start + seconds(15), 10);
        due.sort();
        assert_eq!(due, ["a", "b"]);
        assert_eq!(leases.due(start + seconds(15), 1).len(), 1);
        leases.lose("b");
        assert!(is_lost.load(Ordering::Relaxed));
        assert_eq!(leases.due(start + seconds(15), 10), ["a"]);
    }
}
