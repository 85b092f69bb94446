//! WAL checkpoints, off the commit path.
//!
//! A thread of its own moves the bulk of the WAL into the file while commits go on. A
//! WAL that is written all the time is never wholly moved that way, so the writer,
//! between two batches, moves the little that came meanwhile; then SQLite starts the
//! WAL from its beginning. A reader that is at work at that moment prevents it, and the
//! thread may be slower than the writer; so once the WAL is large, the writer waits for both.
//!
//! A reader outside this process may read for hours. After one wait in vain, the writer
//! waits no more until the thread gets further.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::Connection;

use super::error::OpenError;
use super::outside::{Notice, OutsideReader};
use super::schema::{self, BUSY_TIMEOUT, WAL_BYTES_MAX};
use super::shared::Shared;

/// The WAL is moved when it holds this many pages of 4 KiB …
const PAGES: i64 = 4_000;
/// … and after this time, however few it holds, so that a reader that prevents it is noticed.
const PASS_INTERVAL: Duration = Duration::from_secs(15);
/// How often the thread tries while a reader outside prevents it.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Beyond this many, the writer waits.
const PAGES_TO_WAIT: i64 = 16_000;
/// Pages that the writer moves itself once a reader outside has ended. The thread moves the
/// rest before.
const LEFT_PAGES_MAX: i64 = 1_000;
/// How long the writer waits for readers outside this process.
const OTHERS_TIMEOUT: Duration = Duration::from_millis(50);
/// How often it is logged that a pass fails.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);
const OTHERS_TIMEOUT_AT_CLOSE: Duration = Duration::from_millis(500);

/// The writer's side: watches the WAL, and asks for a checkpoint when due.
#[derive(Debug)]
pub(super) struct Checkpoints {
    thread: Requests,
    requested: Instant,
}

/// The way to the thread.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    sender: SyncSender<()>,
    state: Arc<State>,
}

/// What the writer and the thread share.
#[derive(Debug, Default)]
struct State {
    /// Held for each pass: SQLite refuses a second checkpoint at once, without waiting.
    pass: Mutex<()>,
    /// A reader outside keeps the WAL.
    is_held: AtomicBool,
    /// The writer has waited for readers outside, and no pass has got further since.
    has_waited_in_vain: AtomicBool,
    /// When it was last logged that a pass fails. On a full disk, each commit tries one.
    reported: Mutex<Option<Instant>>,
}

impl State {
    fn is_held(&self) -> bool {
        self.is_held.load(Ordering::Relaxed)
    }

    fn has_waited_in_vain(&self) -> bool {
        self.has_waited_in_vain.load(Ordering::Relaxed)
    }

    /// The WAL still holds everything, so nothing is lost, unless it was the fsync that
    /// failed: then the file may lack what the WAL no longer keeps.
    fn report(&self, error: &rusqlite::Error, shared: &Shared) {
        let mut reported = self.reported.lock();
        let is_due = reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL);
        if is_due {
            *reported = Some(Instant::now());
            tracing::warn!(%error, "cannot checkpoint the log; trying again");
        } else {
            tracing::debug!(%error, "still cannot checkpoint the log");
        }
        if schema::is_failed_fsync(error) {
            shared.note_failure(error);
        }
    }
}

/// Starts the thread; it checkpoints for each request. It calls `nudge` once nearly all of
/// the WAL is moved: [`Checkpoints::finish`] is due.
pub(super) fn spawn(
    data_dir: &Path,
    nudge: impl Fn() + Send + 'static,
    shared: Arc<Shared>,
) -> Result<Requests, OpenError> {
    let connection = schema::open_for_checkpoints(data_dir)?;
    let (sender, asked) = sync_channel(1);
    let state = Arc::new(State::default());
    let requests = Requests {
        sender,
        state: Arc::clone(&state),
    };
    let mut thread = Thread {
        connection,
        state,
        nudge,
        shared,
        outside: OutsideReader::default(),
    };
    std::thread::Builder::new()
        .name("log-checkpoint".to_owned())
        .spawn(move || {
            while asked.recv().is_ok() {
                thread.pass();
            }
        })
        .map_err(OpenError::Thread)?;
    Ok(requests)
}

struct Thread<N> {
    connection: Connection,
    state: Arc<State>,
    nudge: N,
    shared: Arc<Shared>,
    outside: OutsideReader,
}

impl<N: Fn()> Thread<N> {
    fn pass(&mut self) {
        match self.try_pass() {
            Ok(Next::Finish) => (self.nudge)(),
            Ok(Next::Wait) => {}
            Err(error) => self.state.report(&error, &self.shared),
        }
    }

    fn try_pass(&mut self) -> rusqlite::Result<Next> {
        let wal = self.checkpoint()?;
        if wal.pages < 0 {
            // Another process checkpoints.
            return Ok(Next::Wait);
        }
        let now = Instant::now();
        let seen = self.outside.note_pass(wal.pages, wal.moved, now);
        if let Some(notice) = &seen.notice {
            self.tell(notice);
        }
        let is_held = self.outside.is_certain(now);
        self.state.is_held.store(is_held, Ordering::Relaxed);
        if self.state.has_waited_in_vain() {
            if !seen.has_moved_on {
                return Ok(Next::Wait);
            }
            self.catch_up()?;
            self.state
                .has_waited_in_vain
                .store(false, Ordering::Relaxed);
        }
        // Were the reader to end now, the writer would move what it had kept.
        Ok(if is_held { Next::Wait } else { Next::Finish })
    }

    fn checkpoint(&self) -> rusqlite::Result<Wal> {
        let _passing = self.state.pass.lock();
        checkpoint(&self.connection, Mode::Passive)
    }

    /// Moves what a reader had kept until little is left, for as long as commits add less
    /// than a pass moves.
    fn catch_up(&self) -> rusqlite::Result<()> {
        let mut left_before = i64::MAX;
        loop {
            let left = checkpoint(&self.connection, Mode::Noop)?.left();
            if left <= LEFT_PAGES_MAX || left >= left_before {
                return Ok(());
            }
            left_before = left;
            self.checkpoint()?;
        }
    }

    fn tell(&self, notice: &Notice) {
        match notice {
            Notice::Held(held_for) => tracing::warn!(
                "for" = format!("{:.3}s", held_for.as_secs_f64()),
                bytes = self.shared.metrics.wal_bytes.get(),
                "an outside reader has held the WAL; it grows until that reader ends, such as a sqlite3 shell or a backup"
            ),
            Notice::Gone => tracing::info!("the outside reader is gone"),
        }
    }
}

enum Next {
    /// The writer moves the rest.
    Finish,
    Wait,
}

impl Checkpoints {
    pub(super) fn new(thread: Requests) -> Self {
        Self {
            thread,
            requested: Instant::now(),
        }
    }

    /// After a commit: asks for a checkpoint if the WAL has grown enough, and lends a
    /// hand if it has grown too much.
    pub(super) fn note_commit(&mut self, connection: &Connection, shared: &Shared) {
        let result = checkpoint(connection, Mode::Noop).and_then(|wal| {
            if wal.pages >= PAGES_TO_WAIT && !self.thread.state.has_waited_in_vain() {
                return self.restart(connection, shared);
            }
            if wal.pages >= PAGES {
                self.request(Duration::ZERO);
            }
            Ok(())
        });
        if let Err(error) = result {
            self.thread.state.report(&error, shared);
        }
    }

    /// Called about once a second: looks for readers outside, and gives the disk back what
    /// one had made the WAL take.
    pub(super) fn note_second(&mut self, connection: &Connection, shared: &Shared) {
        let result = checkpoint(connection, Mode::Noop).and_then(|wal| {
            let wal_bytes = shared.metrics.wal_bytes.get();
            let is_large = wal_bytes.is_some_and(|bytes| bytes > WAL_BYTES_MAX);
            if is_large && wal.left() <= LEFT_PAGES_MAX {
                self.truncate(connection, shared)?;
            }
            let state = &self.thread.state;
            if state.is_held() || state.has_waited_in_vain() {
                self.request(RETRY_INTERVAL);
            } else if wal.left() > 0 {
                self.request(PASS_INTERVAL);
            }
            Ok(())
        });
        if let Err(error) = result {
            self.thread.state.report(&error, shared);
        }
    }

    /// Asks for a pass, unless the last was asked for within `interval`.
    fn request(&mut self, interval: Duration) {
        let is_held = self.thread.state.is_held();
        let interval = if is_held { RETRY_INTERVAL } else { interval };
        if self.requested.elapsed() >= interval {
            self.requested = Instant::now();
            // Where one is under way, it is this one.
            let _under_way = self.thread.sender.try_send(());
        }
    }

    /// Moves what is left of the WAL after the thread's pass.
    pub(super) fn finish(&self, connection: &Connection, shared: &Shared) {
        if let Err(error) = checkpoint(connection, Mode::Passive) {
            self.thread.state.report(&error, shared);
        }
    }

    /// Before the log is closed: leaves nothing in the WAL, so that the one file is all
    /// that there is to copy.
    pub(super) fn close(&self, connection: &Connection, shared: &Shared) {
        let waited = self.wait(connection, shared, Mode::Truncate, OTHERS_TIMEOUT_AT_CLOSE);
        if let Err(error) = waited {
            self.thread.state.report(&error, shared);
        }
    }

    fn restart(&self, connection: &Connection, shared: &Shared) -> rusqlite::Result<()> {
        let wal = self.wait(connection, shared, Mode::Restart, OTHERS_TIMEOUT)?;
        if wal.is_busy {
            let state = &self.thread.state;
            state.has_waited_in_vain.store(true, Ordering::Relaxed);
            tracing::debug!(
                pages = wal.pages,
                "waited in vain for a reader outside; the next wait is after a checkpoint that gets further"
            );
        }
        Ok(())
    }

    /// Moves everything, waiting for readers and for the thread.
    fn wait(
        &self,
        connection: &Connection,
        shared: &Shared,
        mode: Mode,
        others_timeout: Duration,
    ) -> rusqlite::Result<Wal> {
        let _passing = self.thread.state.pass.lock();
        // New reads wait, and those under way are short.
        let _no_reader = shared.reading.write();
        connection.busy_timeout(others_timeout)?;
        let waited = checkpoint(connection, mode);
        connection.busy_timeout(BUSY_TIMEOUT)?;
        waited
    }

    /// Empties the WAL's file, unless a reader or the thread is at work at this moment.
    fn truncate(&self, connection: &Connection, shared: &Shared) -> rusqlite::Result<()> {
        let (Some(_passing), Some(_no_reader)) = (
            self.thread.state.pass.try_lock(),
            shared.reading.try_write(),
        ) else {
            return Ok(());
        };
        connection.busy_timeout(Duration::ZERO)?;
        let truncated = checkpoint(connection, Mode::Truncate);
        connection.busy_timeout(BUSY_TIMEOUT)?;
        if !truncated?.is_busy {
            let state = &self.thread.state;
            state.has_waited_in_vain.store(false, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// How much a checkpoint does (SQLite, "PRAGMA `wal_checkpoint`").
#[derive(Clone, Copy)]
enum Mode {
    /// Nothing; it only returns the WAL's size.
    Noop,
    /// Everything that makes no reader or writer wait.
    Passive,
    /// Everything, waiting for readers; the next commit begins the WAL from its start.
    Restart,
    /// The same, and empties the WAL's file.
    Truncate,
}

struct Wal {
    /// Negative where another process checkpoints at this moment.
    pages: i64,
    moved: i64,
    is_busy: bool,
}

impl Wal {
    fn left(&self) -> i64 {
        self.pages - self.moved
    }
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
            moved: row.get(2)?,
        })
    })
}
