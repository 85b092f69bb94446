//! What is in the log, and what it reports of itself.

use std::time::Duration;

use bytes::Bytes;

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
    /// When the oldest was received.
    pub oldest_receive_time: Option<UnixMillis>,
    /// When the newest was received.
    pub newest_receive_time: Option<UnixMillis>,
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
