//! When to come back: callers that are ended together must not return together.

use std::time::Duration;

use crate::event::numbers::saturating;

/// The least delay: long enough for a load balancer to notice, short enough not to trigger an
/// alert.
const LEAST: Duration = Duration::from_secs(1);
/// The greatest delay, however many callers there are.
const MOST: Duration = Duration::from_secs(30);
/// Streams that come back within a second.
const STREAMS_PER_SECOND: u64 = 500;

/// A delay for one of `crowd` callers, drawn with `random`: a second, and as long again as
/// it takes all of them to come back at 500 a second, a second at least.
fn draw(crowd: usize, random: u64) -> Duration {
    let crowd_ms = (crowd as u64).saturating_mul(1000) / STREAMS_PER_SECOND;
    let most = MOST.saturating_sub(LEAST).as_millis();
    let spread_ms = crowd_ms.clamp(1000, saturating(most));
    LEAST + Duration::from_millis(random % (spread_ms + 1))
}

/// A delay for one of `crowd` callers.
pub(super) fn delay(crowd: usize) -> Duration {
    // Without randomness, all callers return at once, which is better than no answer.
    draw(crowd, getrandom::u64().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_crowd_comes_back_at_500_a_second_within_thirty(
            crowd in 0..1_000_000_usize,
            random in any::<u64>(),
        ) {
            let delay = draw(crowd, random);
            let spread = Duration::from_millis((crowd as u64 * 2).max(1000));
            prop_assert!(delay >= LEAST && delay <= (LEAST + spread).min(MOST));
        }
    }

    #[test]
    fn delays_span_the_whole_spread() {
        for (crowd, longest) in [(0, 2), (200, 2), (1_000, 3), (5_000, 11), (100_000, 30)] {
            let longest = Duration::from_secs(longest);
            let delays: Vec<Duration> = (0..60_000).map(|random| draw(crowd, random)).collect();
            assert_eq!(delays.iter().max(), Some(&longest));
            assert_eq!(delays.iter().min(), Some(&LEAST));
        }
    }
}
