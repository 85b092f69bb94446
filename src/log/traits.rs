//! The log by caller: who appends does not read, and who reads does not close.

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::cells::Cells;
use super::error::{AppendError, ReadError};
use super::follower::Follower;
use super::record::{Appended, Bounds, Description, Entry, Lineage, Record, Tally, Writability};
use super::scan::{Predicate, Reader, Scan};
use crate::event::{Epoch, Position, Run, UnixMillis};

/// The producers' side of a log.
pub trait Append: fmt::Debug + Send + Sync + 'static {
    /// Makes `entry` durable, unless its source and id are in the log already.
    fn append(&self, entry: Entry) -> BoxFuture<'static, Result<Appended, AppendError>>;
}

/// The readers' side of a log.
///
/// The law of [`Read::scan`] for a store: **the reader is dropped before the scan answers**,
/// whatever it answers. What a reader has kept comes back to its owner when it is dropped,
/// as in `scan_with`.
pub trait Read: fmt::Debug + Send + Sync + 'static {
    /// The log's identity.
    fn epoch(&self) -> Epoch;

    /// Where the log begins and ends now.
    fn bounds(&self) -> Bounds;

    /// The bounds after a question to the store, because other processes may have appended records
    /// that this one has not heard of yet. A store that may not know its end at once has some
    /// seconds to reach `at_least`, which a client has seen.
    fn confirmed_bounds(&self, at_least: Position) -> BoxFuture<'_, Result<Bounds, ReadError>>;

    /// The run that `position` belongs to, for a cursor there; [`Run::NONE`] where that is
    /// not known.
    fn run_at(&self, position: Position) -> Run;

    /// Whether a position up to the last that a client has of `run` belongs to this log's
    /// history. Not to be trusted where retention has removed the position.
    fn lineage(&self, position: Position, run: Run) -> BoxFuture<'_, Result<Lineage, ReadError>>;

    /// Records per source and type.
    fn tallies(&self) -> Vec<Tally>;

    /// A number that changes whenever [`Read::tallies`] lists other sources and types than
    /// before, so that what is made of their names can be kept until then.
    fn names_version(&self) -> u64;

    /// Shows records to `reader`, until it has enough, the end is reached, or for as long
    /// as is fair to others. Drops it, and returns how far the log was searched.
    fn scan(
        &self,
        scan: Scan,
        reader: Box<dyn Reader>,
    ) -> BoxFuture<'_, Result<Position, ReadError>>;

    /// Finds a record with this id among those that `matches`: the oldest, except that a store
    /// without an index of ids may prefer a recent one. What does not match is not looked at,
    /// so several sources may have an id, and a caller finds the copy that is for it.
    fn find(
        &self,
        id: String,
        matches: Predicate,
    ) -> BoxFuture<'_, Result<Option<Record>, ReadError>>;

    /// The position before the first record that was received at or after `time`;
    /// the last position if no record was.
    fn position_before(&self, time: UnixMillis) -> BoxFuture<'_, Result<Position, ReadError>>;

    /// Describes the log.
    fn describe(&self) -> BoxFuture<'_, Result<Description, ReadError>>;

    /// Every batch that is committed from now on. A follower that is late sees that it
    /// missed some, and reads them from the log.
    fn follow(&self) -> Follower;
}

/// The operator's side of a log.
pub trait Keep: fmt::Debug + Send + Sync + 'static {
    /// Whether the log takes writes, and every change of that.
    fn writability(&self) -> watch::Receiver<Writability>;

    /// Keeps records for this long and up to this size from now on, where the log itself
    /// decides that; a store that others share goes by its own settings.
    fn set_retention(&self, _retain_for: Option<Duration>, _retain_bytes: Option<u64>) {}

    /// Removes what retention no longer keeps.
    fn apply_retention(&self) -> BoxFuture<'_, Result<(), AppendError>>;

    /// Completes once the part of the log that writes, or follows other writers, has taken a turn.
    /// Changes nothing, and completes also while the log refuses writes.
    fn ping(&self) -> BoxFuture<'_, Result<(), AppendError>>;

    /// Commits what is queued, refuses the rest, and lets go of the store.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// A durable, ordered log of records. The module's documentation is its law.
///
/// Who opens a log hands each room the part that it needs.
pub trait Log: Append + Read + Keep + Cells {}

impl<L: Append + Read + Keep + Cells> Log for L {}
