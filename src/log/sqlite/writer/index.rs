//! Changes of the index, which go to disk with a batch: they have no commit of their own
//! unless none comes.

use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction};

use crate::log::sqlite::command::Done;
use crate::log::sqlite::index::Change;
use crate::log::sqlite::schema;
use crate::log::sqlite::shared::Shared;

/// How long a change waits for a batch to join.
const PATIENCE: Duration = Duration::from_millis(20);

/// A change that waits for a batch.
pub(super) struct Indexed {
    change: Box<Change>,
    answer: Done,
    /// When it is committed alone.
    due: Instant,
}

impl Indexed {
    pub(super) fn due_in(&self, now: Instant) -> Duration {
        self.due.saturating_duration_since(now)
    }

    fn answer(self, made: Result<(), String>) {
        let _closing = self.answer.send(made);
    }
}

/// Keeps a change for the next batch. While it is known that writes fail, refuses it, as a
/// batch is.
pub(super) fn accept(change: Box<Change>, answer: Done, shared: &Shared) -> Option<Indexed> {
    let indexed = Indexed {
        change,
        answer,
        due: Instant::now() + PATIENCE,
    };
    match shared.refusal() {
        Some(error) => {
            indexed.answer(Err(error.to_string()));
            None
        }
        None => Some(indexed),
    }
}

/// Commits a batch, and the change that joins it. Without the change, the batch is as good.
pub(super) fn commit(
    transaction: Transaction<'_>,
    indexed: Option<Indexed>,
) -> rusqlite::Result<()> {
    let Some(indexed) = indexed else {
        return transaction.commit();
    };
    let made = indexed.change.make(&transaction);
    let committed = transaction.commit();
    let answer = match (&made, &committed) {
        (Ok(()), Ok(())) => Ok(()),
        (Err(error), _) | (_, Err(error)) => Err(schema::explain(error)),
    };
    indexed.answer(answer);
    committed
}

/// Commits a change that no batch has come for.
pub(super) fn commit_alone(connection: &Connection, indexed: Option<Indexed>, shared: &Shared) {
    let Some(indexed) = indexed else {
        return;
    };
    if let Some(error) = shared.refusal() {
        indexed.answer(Err(error.to_string()));
        return;
    }
    match connection.unchecked_transaction() {
        Ok(transaction) => {
            if let Err(error) = commit(transaction, Some(indexed)) {
                note_failed_fsync(&error, shared);
            }
        }
        Err(error) => indexed.answer(Err(schema::explain(&error))),
    }
}

/// Drops a B-tree of a log from before segments.
pub(super) fn drop_tree(connection: &Connection, name: &str, answer: Done, shared: &Shared) {
    let dropped = match shared.refusal() {
        Some(error) => Err(error.to_string()),
        None => connection
            .execute(&format!("DROP INDEX IF EXISTS {name}"), [])
            .map(drop)
            .map_err(|error| {
                note_failed_fsync(&error, shared);
                schema::explain(&error)
            }),
    };
    let _closing = answer.send(dropped);
}

/// Gives the log up where an fsync failed. Whatever else fails here is tried again.
fn note_failed_fsync(error: &rusqlite::Error, shared: &Shared) {
    if schema::is_failed_fsync(error) {
        let _answered = shared.note_failure(error);
    }
}
