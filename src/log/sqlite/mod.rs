//! The embedded log: one SQLite file under the data directory.
//!
//! ```text
//!   append, swap ──► queue ──► writer thread ──► one transaction, one fsync ──► last, answers, batch
//!                            ▲ retention                └─► WAL ─► checkpoint thread ─► file
//!   indexer thread ──► parts of segments ──► queue
//!   read ──► a few read-only connections on blocking threads
//! ```
//!
//! Only the writer thread adds or removes records. It takes one request, drains what
//! else is ready, commits once and answers all: no timer, so an idle log answers after
//! one fsync and a busy one shares each fsync among all that wait. `WAL` with
//! `synchronous=FULL` fsyncs every commit (SQLite, "PRAGMA synchronous").

mod backup;
mod cells;
mod checkpoint;
mod command;
mod config;
mod describe;
mod error;
mod files;
mod index;
mod indexer;
mod obstacle;
mod outside;
mod reader;
mod retention;
mod retired;
mod runs;
mod scan;
mod schema;
mod seek;
mod segment;
mod shared;
mod tally;
mod times;
mod writer;

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{broadcast, oneshot, watch};

use super::cells::{
    Cell, Cells, Change, Changed, Swapped, check_changes, check_name, check_prefix,
};
use super::counts::IsDeclared;
use super::error::{AppendError, ReadError};
use super::follower::Follower;
use super::metrics::Metrics;
use super::published::Published;
use super::record::{
    Appended, Bounds, DEDUPE_WINDOW, Description, Entry, Lineage, Record, Tally, Writability,
};
use super::scan::{Predicate, Reader, Scan};
use super::traits::{Append, Keep, Read};
use crate::event::{Epoch, IndexHint, Position, Run, SteadyClock, UnixMillis};
use command::{Command, Swap};
use files::{DirectoryLock, Files};
use index::Bell;
use reader::ReaderPool;
use retired::PAGE_IDS_MAX;
use seek::TimeSearch;
use shared::Shared;

pub use backup::{BackedUp, Backup, BackupError, Unfinished};
pub use config::Config;
pub use error::OpenError;
pub use obstacle::{Obstacle, find_obstacle};
pub use retired::RetiredId;
pub use schema::exists;
#[doc(hidden)]
pub use segment::look_up_forged;

/// Whether SQLite calls fdatasync for a commit, and not fsync, which takes about twice as
/// long.
pub const HAS_FDATASYNC: bool = cfg!(sqlite_fdatasync);

/// Requests that wait for the writer; more are refused as overload.
const QUEUE_REQUESTS_MAX: usize = 16_384;
/// Delay of a ping that finds the queue full. A full queue alone does not mean that the writer
/// is stuck.
const PING_DELAY: Duration = Duration::from_millis(50);

/// The embedded log. Dropping it without [`Keep::close`] loses nothing that was
/// answered.
#[derive(Debug)]
pub struct SqliteLog {
    shared: Arc<Shared>,
    commands: SyncSender<Command>,
    readers: ReaderPool,
    times: TimeSearch,
    threads: Mutex<Option<Threads>>,
    /// Keeps a second process out for as long as this log lives.
    _lock: DirectoryLock,
}

#[derive(Debug)]
struct Threads {
    writer: JoinHandle<()>,
    indexer: JoinHandle<()>,
}

impl SqliteLog {
    /// Opens the log in `config.data_dir`, or begins one there.
    ///
    /// # Errors
    /// When the directory cannot be used, another process holds it, or the file is
    /// not a log that this version can write.
    ///
    /// # Panics
    /// Outside of a tokio runtime: appends are answered there.
    pub fn open(config: Config, metrics: Metrics) -> Result<Self, OpenError> {
        Self::open_declaring(config, metrics, |_| false)
    }

    /// The same, where some types are declared: each is always counted by its name.
    ///
    /// # Errors
    /// As [`SqliteLog::open`].
    ///
    /// # Panics
    /// As [`SqliteLog::open`].
    pub fn open_declaring(
        config: Config,
        metrics: Metrics,
        is_declared: IsDeclared,
    ) -> Result<Self, OpenError> {
        let lock = DirectoryLock::acquire(&config.data_dir)?;
        files::close_to_others(&config.data_dir);
        let (connection, state) = schema::open_for_writing(&config.data_dir, is_declared)?;
        let files = Files::of(&config.data_dir, &connection, &lock)?;
        files.sync_wal()?;
        let reading = Arc::new(RwLock::new(()));
        let readers = ReaderPool::open(&config.data_dir, Arc::clone(&reading))?;
        let (commands, queue) = sync_channel(QUEUE_REQUESTS_MAX);
        let data_dir = config.data_dir.clone();
        let shared = Arc::new(Shared {
            config: Mutex::new(config),
            clock: SteadyClock::start(),
            epoch: state.epoch,
            published: Published::new(state.bounds, state.counts, metrics.clone()),
            runs: RwLock::new(Arc::new(state.runs)),
            reading,
            retired_ids: state.retired_ids,
            cells: state.cells,
            times: Mutex::new(None),
            index: RwLock::new(Arc::new(state.loaded.index.clone())),
            bell: Bell::default(),
            metrics,
        });
        shared.note_index();
        shared.note_retention();
        let to_writer = commands.clone();
        let nudge = move || {
            // A full queue means that the next batch asks again.
            let _asked_again = to_writer.try_send(Command::FinishCheckpoint);
        };
        let requests = checkpoint::spawn(&data_dir, nudge, Arc::clone(&shared))?;
        let start = writer::Start {
            files,
            run: state.run,
            saved_tallies: state.saved_tallies,
        };
        let writer = writer::spawn(connection, start, queue, requests, Arc::clone(&shared))
            .map_err(OpenError::Thread)?;
        let to_writer = commands.clone();
        let indexer = indexer::spawn(&data_dir, state.loaded, to_writer, Arc::clone(&shared))?;
        Ok(Self {
            times: TimeSearch::new(&shared, &readers),
            shared,
            commands,
            readers,
            threads: Mutex::new(Some(Threads { writer, indexer })),
            _lock: lock,
        })
    }

    /// The next page of the ids that are remembered beyond their records; none at the end.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn retired_ids(&self, after: Option<RetiredId>) -> Result<Vec<RetiredId>, ReadError> {
        let since = self.shared.clock.now().before(DEDUPE_WINDOW);
        let read = move |connection: &mut _| {
            let listed = retired::list(connection, after.as_ref(), since, PAGE_IDS_MAX);
            listed.map_err(|error| ReadError::Unreadable(error.to_string()))
        };
        self.readers.run(read).await
    }

    /// Remembers ids that another log has retired. Returns how many are new here.
    ///
    /// # Errors
    /// When they do not become durable.
    pub async fn remember(&self, retired: Vec<RetiredId>) -> Result<u64, AppendError> {
        let (answer, receiver) = oneshot::channel();
        self.send(Command::Remember { retired, answer })?;
        receiver.await.map_err(|_| AppendError::Closed)?
    }

    fn send(&self, command: Command) -> Result<(), AppendError> {
        self.commands
            .try_send(command)
            .map_err(|error| match error {
                TrySendError::Full(_) => AppendError::Overloaded,
                TrySendError::Disconnected(_) => AppendError::Closed,
            })
    }
}

impl Append for SqliteLog {
    fn append(&self, record: Entry) -> BoxFuture<'static, Result<Appended, AppendError>> {
        let (answer, receiver) = oneshot::channel();
        let sent = self.send(Command::Append { record, answer });
        Box::pin(async move {
            sent?;
            receiver.await.map_err(|_| AppendError::Closed)?
        })
    }
}

impl Read for SqliteLog {
    fn epoch(&self) -> Epoch {
        self.shared.epoch
    }

    fn bounds(&self) -> Bounds {
        self.shared.bounds()
    }

    fn confirmed_bounds(&self, _at_least: Position) -> BoxFuture<'_, Result<Bounds, ReadError>> {
        Box::pin(async { Ok(self.shared.bounds()) })
    }

    fn run_at(&self, position: Position) -> Run {
        self.shared.runs().at(position)
    }

    fn lineage(&self, position: Position, run: Run) -> BoxFuture<'_, Result<Lineage, ReadError>> {
        let lineage = self.shared.runs().lineage(position, run);
        Box::pin(std::future::ready(Ok(lineage)))
    }

    fn tallies(&self) -> Vec<Tally> {
        self.shared.published.tallies()
    }

    fn names_version(&self) -> u64 {
        self.shared.published.counts().names_version()
    }

    fn scan(
        &self,
        mut scan: Scan,
        mut reader: Box<dyn Reader>,
    ) -> BoxFuture<'_, Result<Position, ReadError>> {
        let last = self.shared.bounds().last;
        drop_useless_narrowing(&mut scan, &self.shared);
        let shared = Arc::clone(&self.shared);
        Box::pin(
            self.readers
                .run(move |connection| scan::scan(connection, &scan, last, &shared, &mut *reader)),
        )
    }

    fn find(
        &self,
        id: String,
        matches: Predicate,
    ) -> BoxFuture<'_, Result<Option<Record>, ReadError>> {
        Box::pin(async move {
            let find = move |connection: &mut _| reader::find(connection, &id, &matches);
            let mut found = self.readers.run(find).await?;
            if let Some(record) = &mut found {
                record.run = self.shared.runs().at(record.position);
            }
            Ok(found)
        })
    }

    fn position_before(&self, time: UnixMillis) -> BoxFuture<'_, Result<Position, ReadError>> {
        Box::pin(self.times.position_before(time))
    }

    fn describe(&self) -> BoxFuture<'_, Result<Description, ReadError>> {
        Box::pin(async move {
            let shared = Arc::clone(&self.shared);
            let describe = move |connection: &mut _| {
                describe::describe(connection, &shared).map_err(reader::unreadable)
            };
            self.readers.run(describe).await
        })
    }

    fn follow(&self) -> Follower {
        self.shared.published.follow()
    }
}

impl Keep for SqliteLog {
    fn writability(&self) -> watch::Receiver<Writability> {
        self.shared.published.writability()
    }

    fn set_retention(&self, retain_for: Option<Duration>, retain_bytes: Option<u64>) {
        let mut config = self.shared.config();
        config.retain_for = retain_for;
        config.retain_bytes = retain_bytes;
        drop(config);
        self.shared.note_retention();
    }

    fn apply_retention(&self) -> BoxFuture<'_, Result<(), AppendError>> {
        Box::pin(async move {
            loop {
                let (answer, receiver) = oneshot::channel();
                self.send(Command::Retain { answer })?;
                let step = receiver.await.map_err(|_| AppendError::Closed)??;
                if step == retention::Step::Done {
                    return Ok(());
                }
            }
        })
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), AppendError>> {
        Box::pin(async move {
            loop {
                let (answer, receiver) = oneshot::channel();
                match self.send(Command::Ping { answer }) {
                    Err(AppendError::Overloaded) => tokio::time::sleep(PING_DELAY).await,
                    sent => {
                        sent?;
                        return receiver.await.map_err(|_| AppendError::Closed);
                    }
                }
            }
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let threads = self.threads.lock().take();
            let commands = self.commands.clone();
            let closing = tokio::task::spawn_blocking(move || {
                // Blocks while the queue is full: what is queued is committed first.
                let sent = commands.send(Command::Close);
                if let (Ok(()), Some(threads)) = (sent, threads) {
                    let _panicked = threads.writer.join();
                    let _panicked = threads.indexer.join();
                }
            });
            let _panicked = closing.await;
        })
    }
}

impl Cells for SqliteLog {
    fn read(&self, name: &str) -> BoxFuture<'_, Result<Option<Cell>, ReadError>> {
        let name = name.to_owned();
        Box::pin(async move {
            check_name(&name)?;
            let read = move |connection: &mut _| {
                cells::read(connection, &name).map_err(reader::unreadable)
            };
            self.readers.run(read).await
        })
    }

    fn list(
        &self,
        prefix: &str,
        after: &str,
        max: usize,
    ) -> BoxFuture<'_, Result<Vec<Cell>, ReadError>> {
        let [prefix, after] = [prefix, after].map(str::to_owned);
        Box::pin(async move {
            check_prefix(&prefix)?;
            let list = move |connection: &mut _| {
                cells::list(connection, &prefix, &after, max).map_err(reader::unreadable)
            };
            self.readers.run(list).await
        })
    }

    fn swap(&self, changes: Vec<Change>) -> BoxFuture<'static, Result<Swapped, AppendError>> {
        let asked = Instant::now();
        let (answer, receiver) = oneshot::channel();
        let sent = check_changes(&changes)
            .map_err(AppendError::from)
            .and_then(|()| {
                self.send(Command::Swap(Swap {
                    changes,
                    asked,
                    answer,
                }))
            });
        if let Err(error) = &sent {
            let refused = Err(error.clone());
            self.shared.metrics.note_swap(&refused, asked.elapsed());
        }
        Box::pin(async move {
            sent?;
            receiver.await.map_err(|_| AppendError::Closed)?
        })
    }

    fn watch(&self) -> broadcast::Receiver<Changed> {
        self.shared.cells.watch()
    }
}

/// Ends the threads. They would otherwise wait for each other.
impl Drop for SqliteLog {
    fn drop(&mut self) {
        let _closed_already = self.commands.try_send(Command::Close);
        self.shared.bell.close();
    }
}

/// An index over types pays only where it skips most of the log.
fn drop_useless_narrowing(scan: &mut Scan, shared: &Shared) {
    if let IndexHint::Types(types) = &scan.narrow {
        let counts = shared.published.counts();
        let of_types: u64 = types.iter().map(|name| counts.count_of(name)).sum();
        if of_types > counts.record_count() / 8 {
            scan.narrow = IndexHint::All;
        }
    }
}
