//! What is in the log, and what it reports of itself.

use std::time::Duration;

use bytes::Bytes;

use crate::event::numbers::saturating;
use crate::event::{Attributes, Position, Run, UnixMillis};

/// Minimum time that an id is remembered, whatever retention removes, because Svix
/// retries for 27 h 35 min (Svix, "Retries").
pub const DEDUPE_WINDOW: Duration = Duration::from_secs(28 * 60 * 60);

/// What is appended: a verified and decoded delivery.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The `svix-id`, unique per source.
    pub id: String,
    /// What filters and indexes look at.
    pub attributes: Attributes,
    /// When the webhook arrived.
    pub receive_time: UnixMillis,
    /// The decoded event, encoded for subscribers.
    pub event: Bytes,
    /// Which version of the decoding made `event`; see [`crate::clerk`].
    pub decoding: u32,
    /// The verified body, byte for byte.
    pub payload: Bytes,
}

impl Entry {
    /// Size of the entry in bytes, as counted against every budget.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.event.len() + self.payload.len()
    }
}

/// An entry at its position in the log.
#[derive(Clone, Debug)]
pub struct Record {
    /// The place in the total order.
    pub position: Position,
    /// The run that the position belongs to.
    pub run: Run,
    /// What was appended.
    pub entry: Entry,
}

/// The answer to an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// The record is durable now.
    Committed(Position),
    /// A record with this source and id was durable before.
    Duplicate,
}

/// A committed batch, as followers see it.
#[derive(Debug)]
pub struct Batch {
    /// The last position before this batch. A follower that has not seen everything up to
    /// here lags and must read the log.
    pub after: Position,
    /// The records in order; never empty.
    pub records: Vec<Record>,
}

/// Where the log begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The last position that retention removed: reading can start after it.
    pub trimmed: Position,
    /// The last position that is durable.
    pub last: Position,
    /// When the record at `last` was received.
    pub last_receive_time: UnixMillis,
}

/// How a client's position relates to the log's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lineage {
    /// It belongs to it, or nothing is known to the contrary.
    Same,
    /// Another run wrote it: the log was restored from a backup that is older.
    Lost {
        /// The last position that both histories have, where that is known.
        common: Option<Position>,
    },
    /// Another record is at the position: the log lost its end, and grew again.
    Replaced,
}

/// How many records of one source and type the log holds. Some of the pairs that it held
/// once stay, with a count of 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The configured source.
    pub source: String,
    /// Clerk's name of the type, [`Tally::LONG`] or [`Tally::OTHER`].
    pub event_type: String,
    /// Records in the log.
    pub count: u64,
}

impl Tally {
    /// What records are counted under whose type is longer than 256 bytes.
    pub const LONG: &str = "(long)";
    /// What records are counted under whose type came when a source had as many names as
    /// the log keeps.
    pub const OTHER: &str = "(other)";
}

/// What an operator asks about the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Description {
    /// How long records are kept.
    pub retain_for: Option<Duration>,
    /// How many bytes of records are kept.
    pub retain_bytes: Option<u64>,
    /// Records in the log.
    pub record_count: u64,
    /// Bytes that they take up in the store.
    pub size_bytes: u64,
    /// Those of them that retention compares with `retain_bytes`.
    pub counted_bytes: u64,
    /// When the oldest was received.
    pub oldest_receive_time: Option<UnixMillis>,
    /// When the newest was received.
    pub newest_receive_time: Option<UnixMillis>,
}

impl Description {
    /// How many bytes the log may take in before retention by bytes removes the oldest of its
    /// `newest_count` newest records, if it has such a limit. An estimate, for which every record
    /// has the mean size; exact where `newest_count` covers the whole log.
    #[must_use]
    pub fn headroom_bytes(&self, newest_count: u64) -> Option<u64> {
        let count = u128::from(self.record_count);
        let newest_count = u128::from(newest_count).min(count);
        let newest_bytes = u128::from(self.counted_bytes) * newest_count;
        let newest_bytes = saturating(newest_bytes / count.max(1));
        Some(self.retain_bytes?.saturating_sub(newest_bytes))
    }
}

/// Whether the log takes writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writability {
    /// It does.
    Writable,
    /// It does not, for this reason, and tries again by itself.
    Refusing(String),
    /// It never will again: what is on disk is no longer known. The process must end.
    Failed(String),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A log with records of these sizes.
    fn described(sizes: &[u64], retain_bytes: u64) -> Description {
        Description {
            retain_bytes: Some(retain_bytes),
            record_count: sizes.len() as u64,
            counted_bytes: sizes.iter().sum(),
            ..Description::default()
        }
    }

    /// Whether retention, which removes one record after the other, leaves the newest alone
    /// after the log has taken in this many bytes, each as a record.
    fn keeps_newest(sizes: &[u64], newest_count: usize, retain_bytes: u64, taken: u64) -> bool {
        let mut bytes = sizes.iter().sum::<u64>() + taken;
        let records = sizes.iter().copied().chain((0..taken).map(|_| 1));
        let removed = records.take_while(|size| {
            let is_too_much = bytes > retain_bytes;
            bytes -= if is_too_much { *size } else { 0 };
            is_too_much
        });
        removed.count() <= sizes.len().saturating_sub(newest_count)
    }

    proptest! {
        #[test]
        fn the_headroom_is_what_fits_before_the_oldest_of_the_newest_goes(
            size in 1_u64..50,
            record_count in 0_usize..40,
            newest_count in 0_usize..60,
            retain_bytes in 0_u64..2_000,
        ) {
            let sizes = vec![size; record_count];
            let log = described(&sizes, retain_bytes);
            let headroom = log.headroom_bytes(newest_count as u64).expect("limited");
            let keeps = |taken| keeps_newest(&sizes, newest_count, retain_bytes, taken);
            prop_assert!(headroom == 0 || keeps(headroom), "{headroom} fit");
            prop_assert!(!keeps(headroom + 1), "no more than {headroom} fit");
        }

        #[test]
        fn the_headroom_of_a_whole_log_is_exact_and_of_less_is_never_less(
            sizes in prop::collection::vec(1_u64..50, 0..40),
            retain_bytes in 0_u64..2_000,
        ) {
            let log = described(&sizes, retain_bytes);
            let of = |newest_count| log.headroom_bytes(newest_count).expect("limited");
            let count = sizes.len();
            let whole = of(count as u64);
            prop_assert!(whole == 0 || keeps_newest(&sizes, count, retain_bytes, whole));
            prop_assert!(!keeps_newest(&sizes, count, retain_bytes, whole + 1));
            prop_assert_eq!(of(0), retain_bytes, "nothing can be lost");
            let falls = (0..count as u64).all(|newest_count| of(newest_count) >= of(newest_count + 1));
            prop_assert!(falls);
        }
    }

    #[test]
    fn the_headroom_is_absent_without_a_limit_and_never_overflows() {
        let log = Description {
            retain_bytes: None,
            record_count: u64::MAX,
            counted_bytes: u64::MAX,
            ..Description::default()
        };
        assert_eq!(log.headroom_bytes(7), None);
        let limited = Description {
            retain_bytes: Some(u64::MAX),
            ..log
        };
        assert_eq!(limited.headroom_bytes(7), Some(u64::MAX - 7));
        assert_eq!(limited.headroom_bytes(u64::MAX), Some(0));
    }
}
