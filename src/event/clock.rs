//! A clock that does not leap. It measures the age of records and the end of leases.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::UnixMillis;
use super::numbers::saturating;

/// A clock that is set right moves by less.
const LEAP: Duration = Duration::from_secs(60 * 60);

/// The machine's clock, for as long as it does not leap ahead of one that only counts.
///
/// A clock that an operator sets a year ahead, if only for a minute, would otherwise have
/// retention remove everything. Where the leap was right, such as after a suspension,
/// records stay for longer, until the process starts again.
#[derive(Debug)]
pub struct SteadyClock {
    began: UnixMillis,
    counting_since: Instant,
    has_leapt: AtomicBool,
}

impl SteadyClock {
    /// A clock that counts from now on.
    #[must_use]
    pub fn start() -> Self {
        Self {
            began: UnixMillis::now(),
            counting_since: Instant::now(),
            has_leapt: AtomicBool::new(false),
        }
    }

    /// The time.
    pub fn now(&self) -> UnixMillis {
        self.believe(UnixMillis::now(), self.counting_since.elapsed())
    }

    fn believe(&self, shown: UnixMillis, elapsed: Duration) -> UnixMillis {
        let counted = later(self.began, elapsed);
        let leaps = shown > later(counted, LEAP);
        if leaps && !self.has_leapt.swap(leaps, Ordering::Relaxed) {
            tracing::warn!(
                seconds = (shown.milliseconds() - counted.milliseconds()) / 1000,
                "the clock jumped ahead; until it is back, or the next start, the gateway counts the time since this start"
            );
        }
        self.has_leapt.store(leaps, Ordering::Relaxed);
        if leaps { counted } else { shown }
    }
}

fn later(instant: UnixMillis, duration: Duration) -> UnixMillis {
    let milliseconds = saturating(duration.as_millis());
    UnixMillis::new(instant.milliseconds().saturating_add(milliseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_ignores_leaps_ahead_and_follows_small_corrections() {
        let clock = SteadyClock {
            began: UnixMillis::new(1_000_000_000_000),
            counting_since: Instant::now(),
            has_leapt: AtomicBool::new(false),
        };
        let minute = Duration::from_secs(60);
        let at = |milliseconds: i64| UnixMillis::new(1_000_000_000_000 + milliseconds);
        for (shown, believed) in [
            (at(60_000), at(60_000)),
            (at(60_000 + 3_600_000), at(60_000 + 3_600_000)),
            (at(60_001 + 3_600_000), at(60_000)),
            (UnixMillis::new(i64::MAX), at(60_000)),
            // Going back removes nothing too early.
            (UnixMillis::new(0), UnixMillis::new(0)),
            (at(61_000), at(61_000)),
        ] {
            assert_eq!(clock.believe(shown, minute), believed, "{shown:?}");
        }
    }
}
