//! Bounds the log lines that unauthenticated callers can cause.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

const LINES_MAX: u64 = 10;
const INTERVAL: Duration = Duration::from_secs(1);

/// Admits ten lines a second, and counts the rest.
#[derive(Debug, Default)]
pub struct LogLimit {
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    since: Option<Instant>,
    lines: u64,
    unlogged: u64,
}

impl LogLimit {
    /// Returns whether to log a line now; if so, with the number of lines left out since the
    /// last.
    #[must_use]
    pub fn admit(&self) -> Option<u64> {
        let mut window = self.window.lock();
        if window.since.is_none_or(|since| since.elapsed() >= INTERVAL) {
            window.since = Some(Instant::now());
            window.lines = 0;
        }
        if window.lines == LINES_MAX {
            window.unlogged += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_limit_are_counted_and_reported_with_the_next() {
        let limit = LogLimit::default();
        let admitted = (0..100).filter_map(|_| limit.admit()).count();
        let unlogged = limit.window.lock().unlogged;
        assert!(admitted >= 10, "{admitted}");
        assert_eq!(admitted as u64 + unlogged, 100);
        limit.window.lock().since = None;
        assert_eq!(limit.admit(), Some(unlogged));
    }
}
