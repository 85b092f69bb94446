//! Why a running subscription does not answer a call, or ends a worker's stream.

use super::cell::InvalidCell;
use super::machine::SeekError;
use crate::event::{Cursor, Epoch};
use crate::fanout;
use crate::log::ReadError;

/// Why a running subscription did not answer a call, or ended a worker's stream.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StepError {
    /// The state could not be stored, or it is unknown whether it was. The same call can be
    /// repeated.
    #[error("the subscription could not be stored: {0}; repeat the same call")]
    NotStored(String),
    /// Retention removed events that were not handled, and the settings say to stop.
    #[error("retention removed events that were not handled")]
    Expired {
        /// As a cursor, it yields all that is left.
        oldest: Cursor,
        /// The end of the log.
        newest: Cursor,
    },
    /// The subscription is in another log than the one that is there.
    #[error("the subscription is in another log (epoch {found}; this log is {expected})")]
    OtherLog {
        /// The subscription's.
        found: Epoch,
        /// The log's.
        expected: Epoch,
    },
    /// The subscription is in more of the log than there is.
    #[error("the subscription is ahead of the log; was the log restored from a backup?")]
    AheadOfLog {
        /// The end of the log.
        newest: Cursor,
    },
    /// The seek is refused.
    #[error(transparent)]
    Seek(#[from] SeekError),
    /// The subscription was deleted.
    #[error("the subscription was deleted")]
    Deleted,
    /// The gateway stops.
    #[error("the gateway is shutting down; call another, or this one once it is back")]
    Draining,
    /// The log could not be walked, or the filter is too large beside the others.
    #[error(transparent)]
    Walk(fanout::Error),
    /// A value that the gateways keep could not be read.
    #[error("the subscription's state cannot be read: {0}")]
    State(#[from] InvalidCell),
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] ReadError),
}
