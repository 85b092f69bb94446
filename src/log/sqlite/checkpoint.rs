//! WAL checkpoints, off the commit path.
//!
//! A thread of its own moves the bulk of the WAL into the file while commits go on.
//! A WAL that is written all the time is never wholly moved that way, so the writer,
//! between two batches, moves the little that came meanwhile; then SQLite starts the
//! WAL anew.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use rusqlite::Connection;

use super::schema::{self, OpenError};
use super::writer::Command;

/// Records of so many bytes are committed between two checkpoints. What reaches the
/// WAL is a few times as much, since it holds whole pages.
const CHECKPOINT_BYTES: usize = 8 << 20;

/// The writer's side: counts what it wrote, and asks for a checkpoint when due.
#[derive(Debug)]
pub(super) struct Checkpoints {
    requests: SyncSender<()>,
    written_bytes: usize,
}

pub(super) fn spawn(
    data_dir: &Path,
    writer: SyncSender<Command>,
) -> Result<Checkpoints, OpenError> {
    let connection = schema::open_for_checkpoints(data_dir)?;
    let (requests, asked) = sync_channel(1);
    std::thread::Builder::new()
        .name("log-checkpoint".to_owned())
        .spawn(move || run(&connection, &asked, &writer))
        .map_err(OpenError::Thread)?;
    Ok(Checkpoints {
        requests,
        written_bytes: 0,
    })
}

fn run(connection: &Connection, asked: &Receiver<()>, writer: &SyncSender<Command>) {
    while asked.recv().is_ok() {
        if let Err(error) = checkpoint(connection) {
            // The WAL still holds everything, so nothing is lost; but it grows.
            tracing::warn!(%error, "could not checkpoint the log; it is tried again");
            continue;
        }
        if let Err(TrySendError::Disconnected(_)) = writer.try_send(Command::FinishCheckpoint) {
            return;
        }
    }
}

impl Checkpoints {
    /// Counts committed bytes.
    pub(super) fn note_written(&mut self, bytes: usize) {
        self.written_bytes += bytes;
        if self.written_bytes >= CHECKPOINT_BYTES && self.requests.try_send(()).is_ok() {
            self.written_bytes = 0;
        }
    }

    /// Moves what is left of the WAL; the next checkpoint moves it where this fails.
    pub(super) fn finish(&self, connection: &Connection) {
        if let Err(error) = checkpoint(connection) {
            tracing::warn!(%error, "could not finish a checkpoint of the log");
        }
    }
}

/// PASSIVE: moves what it can without making anybody wait (SQLite, "PRAGMA
/// `wal_checkpoint`").
fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}
