//! What the writer thread is asked to do.

use std::time::Instant;

use tokio::sync::oneshot;

use super::index;
use super::retention::Step;
use super::retired::RetiredId;
use crate::log::cells::{Change, Swapped};
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
    /// Decided beside records.
    Swap(Swap),
    Retain {
        answer: oneshot::Sender<Result<Step, AppendError>>,
    },
    Remember {
        retired: Vec<RetiredId>,
        answer: oneshot::Sender<Result<u64, AppendError>>,
    },
    /// Made beside the next batch.
    Index {
        change: Box<index::Change>,
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
    /// Answered at once: the writer lives.
    Ping {
        answer: oneshot::Sender<()>,
    },
    Close,
}

/// Changes of cells, all of which are made or none.
#[derive(Debug)]
pub(super) struct Swap {
    pub(super) changes: Vec<Change>,
    pub(super) asked: Instant,
    pub(super) answer: oneshot::Sender<Result<Swapped, AppendError>>,
}

impl Swap {
    pub(super) fn bytes(&self) -> usize {
        self.changes.iter().map(Change::bytes).sum()
    }
}

/// Whether it is durable; if not, why.
pub(super) type Done = oneshot::Sender<Result<(), String>>;

/// The answer to an append.
pub(super) type Answer = oneshot::Sender<Result<Appended, AppendError>>;
