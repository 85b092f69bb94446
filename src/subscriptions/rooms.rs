//! Which stream the next lease goes to: the one with the most room.
//!
//! Pure: no clock, no waiting.

use std::cmp::Reverse;
use std::collections::BTreeSet;

/// One step gives a worker at most this many events.
const STEP_EVENTS_MAX: usize = 64;
/// And at most this many bytes of events, or a single event that is larger.
const STEP_BYTES_MAX: usize = 256 << 10;

/// A stream whose connection has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// The stream's number.
    pub(super) worker: u64,
    /// How many more events it can have before it acknowledges any.
    pub(super) credits: usize,
    /// The step that last gave it an event. Of streams with the same room, the one that waited
    /// longest is next.
    pub(super) last_step: u64,
}

/// The streams that can be given events in one step.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    by_room: BTreeSet<(usize, Reverse<u64>, Place)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    worker: u64,
    /// Events and bytes that are left in this step.
    events: usize,
    bytes: usize,
}

impl Rooms {
    pub(super) fn new(rooms: impl IntoIterator<Item = Room>) -> Self {
        let rooms = rooms.into_iter().filter(|room| room.credits > 0);
        let by_room = rooms.map(|room| {
            let place = Place {
                worker: room.worker,
                events: STEP_EVENTS_MAX,
                bytes: STEP_BYTES_MAX,
            };
            (room.credits, Reverse(room.last_step), place)
        });
        Self {
            by_room: by_room.collect(),
        }
    }

    /// How many events can be given, if none is large.
    pub(super) fn credits(&self) -> usize {
        let credits = self.by_room.iter();
        credits
            .map(|(credits, _, place)| (*credits).min(place.events))
            .sum()
    }

    /// Gives an event of this size to the stream with the most room. Returns the stream, unless
    /// none has room for it.
    pub(super) fn give(&mut self, bytes: usize) -> Option<u64> {
        let fits = |place: &Place| place.bytes >= bytes || place.events == STEP_EVENTS_MAX;
        let mut by_room = self.by_room.iter().rev();
        let roomiest = by_room.find(|(_, _, place)| fits(place)).copied()?;
        self.by_room.remove(&roomiest);
        let (credits, last_step, mut place) = roomiest;
        place.events -= 1;
        place.bytes = place.bytes.saturating_sub(bytes);
        if credits > 1 && place.events > 0 {
            self.by_room.insert((credits - 1, last_step, place));
        }
        Some(place.worker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(worker: u64, credits: usize, last_step: u64) -> Room {
        Room {
            worker,
            credits,
            last_step,
        }
    }

    fn give_all(rooms: &mut Rooms, bytes: usize) -> Vec<u64> {
        std::iter::from_fn(|| rooms.give(bytes)).collect()
    }

    #[test]
    fn the_stream_with_the_most_room_is_given_the_next_event() {
        let mut rooms = Rooms::new([room(1, 2, 0), room(2, 4, 0), room(3, 0, 0)]);
        assert_eq!(rooms.credits(), 6);
        assert_eq!(give_all(&mut rooms, 100), [2, 2, 2, 1, 2, 1]);
        assert_eq!(rooms.credits(), 0);
    }

    #[test]
    fn of_streams_with_the_same_room_the_one_that_waited_longest_is_next() {
        let mut rooms = Rooms::new([room(1, 1, 9), room(2, 1, 7), room(3, 1, 8)]);
        assert_eq!(give_all(&mut rooms, 100), [2, 3, 1]);
    }

    #[test]
    fn a_step_gives_a_stream_few_events_and_bytes() {
        let mut rooms = Rooms::new([room(1, 1000, 0)]);
        assert_eq!(rooms.credits(), STEP_EVENTS_MAX);
        assert_eq!(give_all(&mut rooms, 10).len(), STEP_EVENTS_MAX);
        let mut rooms = Rooms::new([room(1, 1000, 0)]);
        assert_eq!(give_all(&mut rooms, STEP_BYTES_MAX / 4).len(), 4);
        let mut rooms = Rooms::new([room(1, 1000, 0), room(2, 3, 0)]);
        assert_eq!(give_all(&mut rooms, STEP_BYTES_MAX * 4), [1, 2]);
    }
}
