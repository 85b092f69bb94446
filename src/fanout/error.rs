//! Why a subscriber's stream or a read ends early.

use crate::event::{Cursor, Epoch};
use crate::log::ReadError;

/// Why a subscriber's stream or a read ended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Retention removed events after the cursor.
    #[error("the events after this cursor have been removed by retention")]
    CursorExpired {
        /// As a cursor, it yields all that is left.
        oldest: Cursor,
        /// The end of the log.
        newest: Cursor,
    },
    /// The cursor belongs to a log that no longer exists.
    #[error("the cursor belongs to another log (epoch {found}; this log is {expected})")]
    OtherEpoch {
        /// The cursor's.
        found: Epoch,
        /// The log's.
        expected: Epoch,
    },
    /// The cursor is newer than the log, which must have been restored from a backup.
    #[error("the cursor is ahead of the log; was the log restored from a backup?")]
    AheadOfLog {
        /// The end of the log.
        newest: Cursor,
    },
    /// The cursor belongs to a history of the log that a backup has replaced.
    #[error("the log was restored from a backup that is older than this cursor")]
    OtherHistory {
        /// The end of what both histories have, where it is known.
        common: Option<Cursor>,
    },
    /// Another event has the cursor's position.
    #[error(
        "the log has another event where this cursor is: it lost its end, or older files were put back"
    )]
    OtherEvent,
    /// The bound on connected subscribers is reached.
    #[error("{0} subscribers are connected, which is the limit")]
    TooManySubscribers(usize),
    /// The principal holds as many streams as its policy allows.
    #[error("{principal} holds {limit} streams, which is the limit that its policy sets")]
    TooManyStreams {
        principal: String,
        /// How many.
        limit: usize,
    },
    /// The filters of open streams would occupy more memory than they may.
    #[error(
        "the filters of the open streams would occupy more than {limit} bytes, which is the limit; ask for fewer values, or for the same ones on every stream"
    )]
    FiltersTooLarge {
        /// Whose stream it would have been.
        principal: String,
        /// In bytes: the principal's own limit, or that of all principals together.
        limit: usize,
    },
    /// The principal may not call any more.
    #[error("the gateway's operator has removed the principal that this stream belongs to")]
    PrincipalRemoved,
    /// The principal may receive something else now.
    #[error("the caller's policy has changed; repeat the call (Subscribe: from its last cursor)")]
    PolicyChanged,
    /// The gateway stops.
    #[error("the gateway is shutting down; repeat the call (Subscribe: from its last cursor)")]
    Draining,
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] ReadError),
}
