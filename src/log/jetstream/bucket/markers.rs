//! The markers of deleted cells, which are removed after a while, or a bucket would grow with
//! every cell that it ever had.
//!
//! Every gateway sees every marker. Those of before its start are seen when it starts.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Maximum number of markers to remember. Beyond, the first are left to the next gateway that
/// starts.
const MARKERS_MAX: usize = 100_000;

/// Markers, in the order in which they were seen.
#[derive(Debug, Default)]
pub(in super::super) struct Markers {
    seen: VecDeque<(u64, Instant)>,
}

impl Markers {
    pub(in super::super) fn note(&mut self, sequence: u64, now: Instant) {
        self.seen.push_back((sequence, now));
        if self.seen.len() > MARKERS_MAX {
            self.seen.pop_front();
        }
    }

    /// Takes the first marker, if it was seen at least `kept_for` ago.
    pub(in super::super) fn take_due(&mut self, now: Instant, kept_for: Duration) -> Option<u64> {
        let (sequence, seen) = *self.seen.front()?;
        let is_due = now.saturating_duration_since(seen) >= kept_for;
        is_due.then(|| self.seen.pop_front())?;
        Some(sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_due_once_and_not_early() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let kept_for = Duration::from_secs(10);
        let mut markers = Markers::default();
        markers.note(3, at(0));
        markers.note(8, at(5));
        assert_eq!(markers.take_due(at(9), kept_for), None);
        assert_eq!(markers.take_due(at(10), kept_for), Some(3));
        assert_eq!(markers.take_due(at(14), kept_for), None);
        assert_eq!(markers.take_due(at(15), kept_for), Some(8));
        assert_eq!(markers.take_due(at(99), kept_for), None);
    }

    #[test]
    fn the_first_markers_are_forgotten_beyond_the_bound() {
        let now = Instant::now();
        let mut markers = Markers::default();
        for sequence in 0..=MARKERS_MAX as u64 {
            markers.note(sequence, now);
        }
        assert_eq!(markers.take_due(now, Duration::ZERO), Some(1));
    }
}
