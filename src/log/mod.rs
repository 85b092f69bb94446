//! The durable, ordered log: the only thing between the producer and the consumers.
//!
//! ```text
//!   position   0        41        42   43        45
//!              ┆ removed │          A    B         C
//!              └─────────┴────────────────────────────
//!                        ▲                         ▲
//!                     trimmed                     last
//! ```
//!
//! The law of a [`Log`], held by one conformance suite (`tests/it/conformance.rs`)
//! that every implementation passes:
//!
//! * **Durable.** [`Log::append`] answers only when the record survives a crash, and
//!   "duplicate" only when the first copy does.
//! * **Unique.** One (source, id) enters once, for as long as the record is kept and
//!   never under [`DEDUPE_WINDOW`].
//! * **Ordered.** Positions strictly increase in the order of the log and are never
//!   used twice, not even after a crash or after everything was removed. They may
//!   leave holes.
//! * **Complete.** A scan shows its reader every record that it wants in `(scan.after,
//!   through]`, so scan after scan misses nothing and repeats nothing; where retention
//!   removed some of those, the scan fails with [`Error::Expired`].
//! * **Published once.** Each committed batch is published to [`Log::follow`] after
//!   it is durable, in order. A follower that lags reads the log instead.
//!
//! The log knows bytes, positions and durability. It does not know what an event
//! means, who posted it or who listens.

mod counts;
pub mod jetstream;
mod metrics;
mod scan;
pub mod sqlite;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::{broadcast, watch};

use crate::event::{Attributes, Epoch, Position, Run, UnixMillis};

pub use counts::IsDeclared;
pub use metrics::Metrics;
pub use scan::{Page, Payloads, Predicate, Query, Reader, RecordRef, Scan, Scanned};

/// How long an id is remembered at the least, whatever retention removes. Svix
/// retries for 27 h 35 min (Svix, "Retries").
pub const DEDUPE_WINDOW: Duration = Duration::from_secs(28 * 60 * 60);

/// What the webhook hands in.
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
    /// What this record weighs in every budget.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.event.len() + self.payload.len()
    }
}

/// A record in the log.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its place in the total order.
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

/// Why the log did not do as asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A write did not become durable; it may later.
    #[error("the log cannot take writes now: {0}")]
    Refusing(String),
    /// More writes are queued than the queue's bound.
    #[error("the log's write queue is full")]
    Overloaded,
    /// As many searches as there may be at once took all the time that this one had.
    #[error("too many searches for events at once (at most {limit}); try again later")]
    TooManySearches {
        /// The most at once.
        limit: usize,
    },
    /// The log is closed.
    #[error("the log is closed")]
    Closed,
    /// Retention removed records that the query would have had to show.
    #[error("retention removed the log up to position {trimmed}")]
    Expired {
        /// The last position that is gone.
        trimmed: Position,
    },
    /// Reading failed.
    #[error("the log cannot be read: {0}")]
    Unreadable(String),
    /// The store is away; it is looked for, and reading may go on.
    #[error("the log cannot be reached now: {0}")]
    Unreachable(String),
}

/// A durable, ordered log of records. The module's documentation is its law.
pub trait Log: fmt::Debug + Send + Sync + 'static {
    /// The log's identity.
    fn epoch(&self) -> Epoch;

    /// Where the log begins and ends now.
    fn bounds(&self) -> Bounds;

    /// The same, after asking the store: other processes may have appended what this one
    /// has not heard of yet. A store that may not know its end at once has some seconds to
    /// reach `expected`, which a client says was there.
    fn confirmed_bounds(&self, expected: Position) -> BoxFuture<'_, Result<Bounds, Error>>;

    /// The run that `position` belongs to, for a cursor there; [`Run::NONE`] where that is
    /// not known.
    fn run_at(&self, position: Position) -> Run;

    /// Whether a position up to the last that a client has of `run` belongs to this
    /// log's history. Not to be trusted where retention has removed the position.
    fn lineage(&self, position: Position, run: Run) -> BoxFuture<'_, Result<Lineage, Error>>;

    /// Makes `record` durable, unless its source and id are in the log already.
    fn append(&self, record: Entry) -> BoxFuture<'static, Result<Appended, Error>>;

    /// Shows records to `reader`, until it has enough, the end is reached, or for as long
    /// as is fair to others. Returns it, with how far the log was searched.
    fn scan(&self, scan: Scan, reader: Box<dyn Reader>) -> BoxFuture<'_, Result<Scanned, Error>>;

    /// Finds a record with this id among those that `matches`: the oldest, except that a store
    /// without an index of ids may prefer a recent one. What does not match is not looked at,
    /// so several sources may have an id, and a caller finds the copy that is for it.
    fn find(&self, id: String, matches: Predicate) -> BoxFuture<'_, Result<Option<Record>, Error>>;

    /// The position before the first record that was received at or after `time`;
    /// the last one where there is none.
    fn position_before(&self, time: UnixMillis) -> BoxFuture<'_, Result<Position, Error>>;

    /// Records per source and type.
    fn tallies(&self) -> Vec<Tally>;

    /// A number that changes whenever [`Log::tallies`] lists other sources and types than
    /// before, so that what is made of their names can be kept until then.
    fn names_version(&self) -> u64;

    /// Describes the log.
    fn describe(&self) -> BoxFuture<'_, Result<Description, Error>>;

    /// Every batch that is committed from now on.
    fn follow(&self) -> broadcast::Receiver<Arc<Batch>>;

    /// Whether the log takes writes, and every change of that.
    fn writability(&self) -> watch::Receiver<Writability>;

    /// Keeps records for this long and up to this size from now on, where the log itself
    /// decides that; a store that others share goes by its own settings.
    fn set_retention(&self, _retain_for: Option<Duration>, _retain_bytes: Option<u64>) {}

    /// Removes what retention no longer keeps.
    fn apply_retention(&self) -> BoxFuture<'_, Result<(), Error>>;

    /// Commits what is queued, refuses the rest, and lets go of the store.
    fn close(&self) -> BoxFuture<'_, ()>;
}
