//! Notices readers outside this process that keep the WAL from being moved.

use std::time::{Duration, Instant};

/// A reader that keeps the WAL for this long is reported …
const REPORT_AFTER: Duration = Duration::from_secs(60);
/// … and again after each of these.
const REPORT_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// This process's own reads are shorter.
const CERTAIN_AFTER: Duration = Duration::from_secs(1);

/// What checkpoint passes show about readers. Each pass moves the WAL up to the oldest
/// snapshot that is read; one that gets no further than the pass before found the same
/// reader.
#[derive(Debug, Default)]
pub(super) struct OutsideReader {
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    /// Pages that were moved: the reader's snapshot.
    moved: i64,
    since: Instant,
    reported: Option<Instant>,
}

/// What one pass showed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// All was moved, or more than by the pass before.
    pub(super) has_moved_on: bool,
    pub(super) notice: Option<Notice>,
}

/// What an operator should know.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// A reader has kept the WAL for this long.
    Held(Duration),
    /// The reader that was reported has ended.
    Gone,
}

impl OutsideReader {
    /// Notes that a pass has moved the first `moved` of the `pages` that it found.
    pub(super) fn note_pass(&mut self, pages: i64, moved: i64, now: Instant) -> Seen {
        let is_complete = moved >= pages;
        match &mut self.held {
            Some(held) if !is_complete && held.moved == moved => Seen {
                has_moved_on: false,
                notice: held.report(now),
            },
            held => {
                let former = held.take();
                *held = (!is_complete).then_some(Held {
                    moved,
                    since: now,
                    reported: None,
                });
                let was_reported = former
                    .as_ref()
                    .is_some_and(|reader| reader.reported.is_some());
                Seen {
                    has_moved_on: is_complete || former.is_some(),
                    notice: was_reported.then_some(Notice::Gone),
                }
            }
        }
    }

    /// Whether a reader has kept the WAL for longer than this process reads.
    pub(super) fn is_certain(&self, now: Instant) -> bool {
        let held = self.held.as_ref();
        held.is_some_and(|held| now.duration_since(held.since) >= CERTAIN_AFTER)
    }
}

impl Held {
    fn report(&mut self, now: Instant) -> Option<Notice> {
        let held_for = now.duration_since(self.since);
        let is_due = match self.reported {
            None => held_for >= REPORT_AFTER,
            Some(reported) => now.duration_since(reported) >= REPORT_INTERVAL,
        };
        is_due.then(|| {
            self.reported = Some(now);
            Notice::Held(held_for)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    /// The notices of passes, each given as seconds, pages and moved pages.
    fn notices(passes: &[(u64, i64, i64)]) -> Vec<(u64, Notice)> {
        let start = Instant::now();
        let mut outside = OutsideReader::default();
        let mut notices = Vec::new();
        for (seconds, pages, moved) in passes {
            let seen = outside.note_pass(*pages, *moved, at(start, *seconds));
            notices.extend(seen.notice.map(|notice| (*seconds, notice)));
        }
        notices
    }

    #[test]
    fn a_reader_is_reported_after_a_minute_and_each_ten_minutes_and_at_its_end() {
        let mut passes: Vec<_> = (0..=1300).map(|number| (number, 100 + 10, 100)).collect();
        passes.push((1301, 5000, 5000));
        passes.push((1302, 6000, 6000));
        let seconds = Duration::from_secs;
        let expected = [
            (60, Notice::Held(seconds(60))),
            (660, Notice::Held(seconds(660))),
            (1260, Notice::Held(seconds(1260))),
            (1301, Notice::Gone),
        ];
        assert_eq!(notices(&passes), expected);
    }

    #[test]
    fn readers_that_end_within_a_minute_are_not_reported() {
        // Another snapshot every 50 seconds, and none that lasts.
        let passes =
            (0..600_i64).map(|number| (number.cast_unsigned(), 1000 + number, 10 * (number / 50)));
        assert_eq!(notices(&passes.collect::<Vec<_>>()), []);
        let complete: Vec<_> = (0..600).map(|number| (number, 100, 100)).collect();
        assert_eq!(notices(&complete), []);
    }

    #[test]
    fn a_reader_that_follows_another_counts_from_its_own_beginning() {
        let first = (0..=70).map(|number| (number, 1000, 10));
        let second = (71..=140).map(|number| (number, 1000, 20));
        let passes: Vec<_> = first.chain(second).collect();
        let seconds = Duration::from_secs;
        let expected = [
            (60, Notice::Held(seconds(60))),
            (71, Notice::Gone),
            (131, Notice::Held(seconds(60))),
        ];
        assert_eq!(notices(&passes), expected);
    }

    #[test]
    fn a_pass_has_moved_on_if_it_moves_more_pages_than_the_last() {
        let start = Instant::now();
        let mut outside = OutsideReader::default();
        let mut pass = |seconds, pages, moved| {
            let now = at(start, seconds);
            let seen = outside.note_pass(pages, moved, now);
            (seen.has_moved_on, outside.is_certain(now))
        };
        assert_eq!(pass(0, 100, 100), (true, false));
        assert_eq!(pass(1, 200, 100), (false, false), "the first that is held");
        assert_eq!(pass(1, 200, 100), (false, false), "perhaps a read of ours");
        assert_eq!(pass(2, 300, 100), (false, true));
        assert_eq!(pass(3, 300, 200), (true, false));
        assert_eq!(pass(4, 300, 300), (true, false));
    }
}
