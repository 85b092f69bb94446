//! How far a group of workers is.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

/// Longer than any round takes.
const REACHED_WITHIN: Duration = Duration::from_secs(120);

/// Events that all workers of a group have acknowledged together. One waiter at a time.
#[derive(Debug, Default)]
pub(super) struct Progress {
    acknowledged: AtomicUsize,
    awaited: AtomicUsize,
    reached: Notify,
}

impl Progress {
    pub(super) fn add(&self, events: usize) {
        let before = self.acknowledged.fetch_add(events, Ordering::SeqCst);
        let awaited = self.awaited.load(Ordering::SeqCst);
        // Waking the waiter for every event is not what is measured.
        if before < awaited && awaited <= before + events {
            self.reached.notify_one();
        }
    }

    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Waits until this many events are acknowledged.
    pub(super) async fn reach(&self, events: usize) {
        self.awaited.store(events, Ordering::SeqCst);
        let reached = async {
            while self.acknowledged() < events {
                self.reached.notified().await;
            }
        };
        let reached = timeout(REACHED_WITHIN, reached).await;
        assert!(
            reached.is_ok(),
            "{} of {events} acknowledged",
            self.acknowledged()
        );
    }
}
