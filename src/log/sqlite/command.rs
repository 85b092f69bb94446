//! What the writer thread is asked to do.

use tokio::sync::oneshot;

use super::index::Change;
use super::retention::Step;
use super::retired::RetiredId;
use crate::log::error::AppendError;
use crate::log::record::{Appended, Entry};

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every command is the large one"
)]
pub(super) enum Command {
    Append {
        record: Entry,
        answer: Answer,
    },
    Retain {
        answer: oneshot::Sender<Result<Step, AppendError>>,
    },
    Remember {
        retired: Vec<RetiredId>,
        answer: oneshot::Sender<Result<u64, AppendError>>,
    },
    /// Made beside the next batch.
    Index {
        change: Box<Change>,
        answer: Done,
    },
    /// Drops a B-tree of a log from before segments.
    DropTree {
        name: &'static str,
        answer: Done,
    },
    /// The checkpoint thread moved nearly all of the WAL: move the rest, so that the
    /// next commit starts the WAL from its beginning instead of letting it grow.
    FinishCheckpoint,
    Close,
}

/// Whether it is durable; if not, why.
pub(super) type Done = oneshot::Sender<Result<(), String>>;

/// The answer to an append.
pub(super) type Answer = oneshot::Sender<Result<Appended, AppendError>>;
