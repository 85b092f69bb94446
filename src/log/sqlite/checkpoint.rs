//! WAL checkpoints, off the commit path.
//!
//! A thread of its own moves the bulk of the WAL into the file while commits go on. A
//! WAL that is written all the time is never wholly moved that way, so the writer,
//! between two batches, moves the little that came meanwhile; then SQLite starts the
//! WAL anew. A reader that is at work at that moment prevents it, and the thread may be
//! slower than the writer; so once the WAL is large, the writer waits for both.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::Connection;

use super::Shared;
use super::schema::{self, BUSY_TIMEOUT, OpenError};
use super::writer::Command;

/// The WAL is moved when it holds so many pages of 4 KiB.
const PAGES: i64 = 4_000;
/// Beyond so many, the writer waits.
const PAGES_TO_WAIT: i64 = 16_000;
/// So long at the most for readers outside this process.
const OTHERS_TIMEOUT: Duration = Duration::from_millis(500);

/// The writer's side: watches the WAL, and asks for a checkpoint when due.
#[derive(Debug)]
pub(super) struct Checkpoints {
    thread: Requests,
    /// After a wait in vain, the next one is not before the WAL has this size.
    wait_from_pages: i64,
}

/// The way to the thread.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    sender: SyncSender<()>,
    /// Held for each pass: SQLite refuses a second checkpoint at once, without waiting.
    pass: Arc<Mutex<()>>,
}

/// Starts the thread; it checkpoints for each request.
pub(super) fn spawn(
    data_dir: &Path,
    writer: SyncSender<Command>,
    shared: Arc<Shared>,
) -> Result<Requests, OpenError> {
    let connection = schema::open_for_checkpoints(data_dir)?;
    let (sender, asked) = sync_channel(1);
    let pass = Arc::new(Mutex::new(()));
    let requests = Requests {
        sender,
        pass: Arc::clone(&pass),
    };
    std::thread::Builder::new()
        .name("log-checkpoint".to_owned())
        .spawn(move || run(&connection, &asked, &pass, &writer, &shared))
        .map_err(OpenError::Thread)?;
    Ok(requests)
}

fn run(
    connection: &Connection,
    asked: &Receiver<()>,
    pass: &Mutex<()>,
    writer: &SyncSender<Command>,
    shared: &Shared,
) {
    while asked.recv().is_ok() {
        let passing = pass.lock();
        let result = checkpoint(connection, Mode::Passive);
        drop(passing);
        match result {
            // A full queue means that the next batch asks again.
            Ok(_) => drop(writer.try_send(Command::FinishCheckpoint)),
            Err(error) => report(&error, shared),
        }
    }
}

impl Checkpoints {
    pub(super) fn new(thread: Requests) -> Self {
        Self {
            thread,
            wait_from_pages: PAGES_TO_WAIT,
        }
    }

    /// After a commit: asks for a checkpoint if the WAL has grown enough, and lends a
    /// hand if it has grown too much.
    pub(super) fn note_commit(&mut self, connection: &Connection, shared: &Shared) {
        let result = checkpoint(connection, Mode::Noop).and_then(|wal| {
            if wal.pages >= self.wait_from_pages {
                return self.restart(connection, shared);
            }
            if wal.pages >= PAGES {
                // Where one is under way, it is this one.
                let _under_way = self.thread.sender.try_send(());
            }
            Ok(())
        });
        if let Err(error) = result {
            report(&error, shared);
        }
    }

    /// Moves what is left of the WAL after the thread's pass.
    pub(super) fn finish(&self, connection: &Connection, shared: &Shared) {
        if let Err(error) = checkpoint(connection, Mode::Passive) {
            report(&error, shared);
        }
    }

    /// Before the log is closed: leaves nothing in the WAL, so that the one file is all
    /// that there is to copy.
    pub(super) fn close(&self, connection: &Connection, shared: &Shared) {
        if let Err(error) = self.wait(connection, shared, Mode::Truncate) {
            report(&error, shared);
        }
    }

    fn restart(&mut self, connection: &Connection, shared: &Shared) -> rusqlite::Result<()> {
        let wal = self.wait(connection, shared, Mode::Restart)?;
        // A reader that takes longer, such as an operator's, must not stall every batch.
        self.wait_from_pages = PAGES_TO_WAIT + if wal.is_busy { wal.pages } else { 0 };
        Ok(())
    }

    /// Moves everything, waiting for readers and for the thread.
    fn wait(&self, connection: &Connection, shared: &Shared, mode: Mode) -> rusqlite::Result<Wal> {
        let _passing = self.thread.pass.lock();
        // New reads wait, and those under way are short.
        let _no_reader = shared.reading.write();
        connection.busy_timeout(OTHERS_TIMEOUT)?;
        let waited = checkpoint(connection, mode);
        connection.busy_timeout(BUSY_TIMEOUT)?;
        waited
    }
}

/// How much a checkpoint does (SQLite, "PRAGMA `wal_checkpoint`").
#[derive(Clone, Copy)]
enum Mode {
    /// Nothing; it only tells the WAL's size.
    Noop,
    /// What can be done without making anybody wait.
    Passive,
    /// Everything, waiting for readers; the next commit begins the WAL anew.
    Restart,
    /// The same, and empties the WAL's file.
    Truncate,
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
        Mode::Truncate => "PRAGMA wal_checkpoint(TRUNCATE)",
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
