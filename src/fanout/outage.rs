//! How many streams an outage of the log ends.
//!
//! Pure: no clock, no waiting.

use std::time::{Duration, Instant};

/// An outage is over when no stream has ended for this long.
const QUIET: Duration = Duration::from_secs(10);

/// The current outage, or the last one.
#[derive(Debug, Default)]
pub(super) struct Outage {
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    /// The streams that were open when the first of them ended.
    streams: usize,
    last_error: Instant,
}

impl Outage {
    /// Notes that a stream ends because the log cannot be read. Returns how many streams
    /// were open when the outage began; `open` counts those that are now.
    pub(super) fn streams(&mut self, now: Instant, open: impl FnOnce() -> usize) -> usize {
        let current = self.current.take();
        let goes_on =
            current.filter(|outage| now.saturating_duration_since(outage.last_error) < QUIET);
        let streams = goes_on.map_or_else(open, |outage| outage.streams);
        self.current = Some(Current {
            streams,
            last_error: now,
        });
        streams
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_counted_when_an_outage_begins() {
        let began = Instant::now();
        let mut outage = Outage::default();
        for (after_s, open, expected) in [
            (0, 100, 100),
            (1, 99, 100),
            (9, 1, 100),
            (18, 0, 100),
            (29, 7, 7),
        ] {
            let now = began + Duration::from_secs(after_s);
            assert_eq!(outage.streams(now, || open), expected, "after {after_s} s");
        }
    }
}
