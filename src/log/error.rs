//! The errors of the log: one enum for writers, one for readers, and one for cells, which both
//! include.

use crate::event::Position;

/// Why a write did not become durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// It may become durable later.
    #[error("the log cannot take writes now: {0}")]
    Refusing(String),
    /// More writes are queued than the queue's bound.
    #[error("the log's write queue is full")]
    Overloaded,
    /// The log is closed.
    #[error("the log is closed")]
    Closed,
    /// No log stores such a change of a cell.
    #[error(transparent)]
    InvalidCell(#[from] CellError),
}

impl AppendError {
    /// Whether the same write may succeed later without anything being done about it.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Refusing(_) | Self::Overloaded => true,
            Self::Closed | Self::InvalidCell(_) => false,
        }
    }
}

/// Why records could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Retention removed records that the scan would have had to show.
    #[error("retention removed the log up to position {trimmed}")]
    Expired {
        /// The last position that is gone.
        trimmed: Position,
    },
    /// As many searches as there may be at once took all the time that this one had.
    #[error("too many searches for events at once (at most {limit}); try again later")]
    TooManySearches {
        /// The most at once.
        limit: usize,
    },
    /// Reading failed.
    #[error("the log cannot be read: {0}")]
    Unreadable(String),
    /// The store is away; it is looked for, and reading may continue.
    #[error("the log cannot be reached now: {0}")]
    Unreachable(String),
    /// The log is closed.
    #[error("the log is closed")]
    Closed,
    /// No log has such a cell.
    #[error(transparent)]
    InvalidCell(#[from] CellError),
}

impl ReadError {
    /// Whether the same read may succeed later without anything being done about it.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::TooManySearches { .. } | Self::Unreachable(_) => true,
            Self::Expired { .. } | Self::Unreadable(_) | Self::Closed | Self::InvalidCell(_) => {
                false
            }
        }
    }
}

/// What is wrong with a cell that was asked for, or with changes of cells.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CellError {
    /// No cell can have the name.
    #[error(
        "`{0}` is not the name of a cell: write words of `a` to `z`, `0` to `9`, `-` and `_` with `/` between them, at most 200 bytes"
    )]
    MalformedName(String),
    /// No name can have the prefix.
    #[error("`{0}` is not a prefix of names of cells: write whole words, each with its `/`")]
    MalformedPrefix(String),
    /// A name stands in two changes.
    #[error("cell `{0}` is changed twice in one swap")]
    RepeatedName(String),
    /// A value is larger than any may be.
    #[error("the value of cell `{name}` has {bytes} bytes (at most {most})")]
    ValueTooLarge {
        /// The cell.
        name: String,
        /// How large the value is.
        bytes: usize,
        /// The most that a value may have.
        most: usize,
    },
    /// A value is larger than the servers' limit for messages.
    #[error(
        "the value of cell `{name}` has {bytes} bytes, and the NATS servers' max_payload has room for {most}: raise it to 8MB"
    )]
    BeyondPayload {
        /// The cell.
        name: String,
        /// How large the value is.
        bytes: usize,
        /// The most that a value may have.
        most: usize,
    },
    /// The changes are larger than those of one swap may be.
    #[error("the changes of cells in one swap have {bytes} bytes (at most {most})")]
    SwapTooLarge {
        /// How large the changes are.
        bytes: usize,
        /// The most that one swap may have.
        most: usize,
    },
    /// There are more changes than one swap may have.
    #[error("{found} changes of cells in one swap (at most {most})")]
    TooManyChanges {
        /// How many there are.
        found: usize,
        /// The most that one swap may have.
        most: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_transient_errors_are_retryable() {
        let reason = || "a reason".to_owned();
        let append_errors = [
            (AppendError::Refusing(reason()), true),
            (AppendError::Overloaded, true),
            (AppendError::Closed, false),
            (CellError::RepeatedName(reason()).into(), false),
        ];
        for (error, is_retryable) in append_errors {
            assert_eq!(error.is_retryable(), is_retryable, "{error}");
        }
        let trimmed = Position::new(3);
        let read_errors = [
            (ReadError::Expired { trimmed }, false),
            (ReadError::TooManySearches { limit: 4 }, true),
            (ReadError::Unreadable(reason()), false),
            (ReadError::Unreachable(reason()), true),
            (ReadError::Closed, false),
            (CellError::MalformedName(reason()).into(), false),
        ];
        for (error, is_retryable) in read_errors {
            assert_eq!(error.is_retryable(), is_retryable, "{error}");
        }
    }
}
