//! WAL checkpoints, off the commit path.
//!
//! A thread of its own moves the bulk of the WAL into the file while commits go on. A
//! WAL that is written all the time is never wholly moved that way, so the writer,
//! between two batches, moves the little that came meanwhile; then SQLite starts the
//! WAL anew. A reader that is at work at that moment prevents it, which is why, once the
//! WAL is large, the writer waits a moment for the readers' pages to end.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use rusqlite::Connection;

use super::Shared;
use super::schema::{self, BUSY_TIMEOUT, OpenError};
use super::writer::Command;

/// The WAL is moved when it holds so many pages of 4 KiB.
const PAGES: i64 = 4_000;
/// Beyond so many, the writer waits for readers.
const PAGES_TO_WAIT: i64 = 16_000;
/// So long at the most; the readers' pages are shorter.
const READERS_TIMEOUT: Duration = Duration::from_millis(500);

/// The writer's side: watches the WAL, and asks for a checkpoint when due.
#[derive(Debug)]
pub(super) struct Checkpoints {
    requests: SyncSender<()>,
    /// After a wait in vain, the next one is not before the WAL has this size.
    wait_from_pages: i64,
}

/// Starts the thread; it checkpoints for each request.
pub(super) fn spawn(
    data_dir: &Path,
    writer: SyncSender<Command>,
    shared: Arc<Shared>,
) -> Result<SyncSender<()>, OpenError> {
    let connection = schema::open_for_checkpoints(data_dir)?;
    let (requests, asked) = sync_channel(1);
    std::thread::Builder::new()
        .name("log-checkpoint".to_owned())
        .spawn(move || run(&connection, &asked, &writer, &shared))
        .map_err(OpenError::Thread)?;
    Ok(requests)
}

fn run(
    connection: &Connection,
    asked: &Receiver<()>,
    writer: &SyncSender<Command>,
    shared: &Shared,
) {
    while asked.recv().is_ok() {
        match checkpoint(connection, Mode::Passive) {
            // A full queue means that the next batch asks again.
            Ok(_) => drop(writer.try_send(Command::FinishCheckpoint)),
            Err(error) => report(&error, shared),
        }
    }
}

impl Checkpoints {
    pub(super) fn new(requests: SyncSender<()>) -> Self {
        Self {
            requests,
            wait_from_pages: PAGES_TO_WAIT,
        }
    }

    /// After a commit: asks for a checkpoint if the WAL has grown enough.
    pub(super) fn note_commit(&self, connection: &Connection, shared: &Shared) {
        match checkpoint(connection, Mode::Noop) {
            Ok(wal) if wal.pages >= PAGES => {
                // Where one is under way, it is this one.
                let _under_way = self.requests.try_send(());
            }
            Ok(_) => {}
            Err(error) => report(&error, shared),
        }
    }

    /// Moves what is left of the WAL.
    pub(super) fn finish(&mut self, connection: &Connection, shared: &Shared) {
        let result = checkpoint(connection, Mode::Passive).and_then(|wal| {
            if wal.pages < self.wait_from_pages {
                return Ok(());
            }
            connection.busy_timeout(READERS_TIMEOUT)?;
            let waited = checkpoint(connection, Mode::Restart);
            connection.busy_timeout(BUSY_TIMEOUT)?;
            // A reader that takes longer, such as an operator's, must not stall every batch.
            let in_vain = waited?.is_busy;
            self.wait_from_pages = if in_vain {
                wal.pages * 2
            } else {
                PAGES_TO_WAIT
            };
            Ok(())
        });
        if let Err(error) = result {
            report(&error, shared);
        }
    }
}

/// How much a checkpoint does (SQLite, "PRAGMA `wal_checkpoint`").
#[derive(Clone, Copy)]
enum Mode {
    /// Nothing; it only tells the WAL's size.
    Noop,
    /// What can be done without making anybody wait.
    Passive,
    /// Everything, waiting for readers.
    Restart,
}

struct Wal {
    pages: i64,
    is_busy: bool,
}

fn checkpoint(connection: &Connection, mode: Mode) -> rusqlite::Result<Wal> {
    let statement = match mode {
        Mode::Noop => "PRAGMA wal_checkpoint(NOOP)",
        Mode::Passive => "PRAGMA wal_checkpoint(PASSIVE)",
        Mode::Restart => "PRAGMA wal_checkpoint(RESTART)",
    };
    connection.prepare_cached(statement)?.query_row([], |row| {
        Ok(Wal {
            is_busy: row.get::<_, i64>(0)? != 0,
            pages: row.get(1)?,
        })
    })
}

/// The WAL still holds everything, so nothing is lost, unless it was the fsync that
/// failed: then the file may lack what the WAL no longer keeps.
fn report(error: &rusqlite::Error, shared: &Shared) {
    tracing::warn!(%error, "could not checkpoint the log; it is tried again");
    if schema::is_failed_fsync(error) {
        shared.note_failure(error);
    }
}
