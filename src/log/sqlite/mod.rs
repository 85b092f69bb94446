//! The embedded log: one SQLite file under the data directory.
//!
//! ```text
//!   append ──► queue ──► writer thread ──► one transaction, one fsync ──► last, answers, batch
//!                            ▲ retention                └─► WAL ─► checkpoint thread ─► file
//!   read ──► a few read-only connections on blocking threads
//! ```
//!
//! Only the writer thread adds or removes records. It takes one request, drains what
//! else is ready, commits once and answers all: no timer, so an idle log answers after
//! one fsync and a busy one shares each fsync among as many as wait. `WAL` with
//! `synchronous=FULL` fsyncs every commit (SQLite, "PRAGMA synchronous").

mod backup;
mod checkpoint;
mod clock;
mod files;
mod outside;
mod reader;
mod retention;
mod retired;
mod runs;
mod schema;
mod seek;
mod tally;
mod times;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::{broadcast, oneshot, watch};

use super::{
    Append, AppendError, Appended, Batch, Bounds, Description, Entry, IsDeclared, Keep, Lineage,
    Metrics, Predicate, Read, ReadError, Reader, Record, Scan, Tally, Writability,
};
use crate::event::{Epoch, IndexHint, Position, Run, UnixMillis};
use clock::SteadyClock;
use files::{DirectoryLock, Files};
use reader::ReaderPool;
use retention::Limits;
use retired::RetiredIds;
use runs::Runs;
use tally::Tallies;
use times::LatestTimes;
use writer::Command;

pub use backup::{BackedUp, Backup, BackupError, Unfinished};
pub use retired::RetiredId;
pub use schema::{OpenError, exists};

/// Whether SQLite calls fdatasync for a commit, and not fsync, which takes about twice as
/// long.
pub const HAS_FDATASYNC: bool = cfg!(sqlite_fdatasync);

/// Requests that wait for the writer; more are refused as overload.
const QUEUE_REQUESTS_MAX: usize = 16_384;
/// Batches kept for a follower that is late; one that is later reads the log.
const FOLLOWED_BATCHES_MAX: usize = 64;

/// How to open the embedded log.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory of the log; created if it is missing.
    pub data_dir: PathBuf,
    /// Remove records that are older.
    pub retain_for: Option<Duration>,
    /// Remove the oldest records while the log takes up more bytes.
    pub retain_bytes: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./clerkcast-data"),
            retain_for: Some(Duration::from_secs(30 * 24 * 60 * 60)),
            retain_bytes: Some(10 << 30),
        }
    }
}

/// The embedded log. Dropping it without [`Keep::close`] loses nothing that was
/// answered.
#[derive(Debug)]
pub struct SqliteLog {
    shared: Arc<Shared>,
    commands: SyncSender<Command>,
    readers: ReaderPool,
    gathering: Mutex<Option<seek::Gathering>>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
    /// Keeps a second process out for as long as this log lives.
    _lock: DirectoryLock,
}

/// What the writer thread tells the rest.
#[derive(Debug)]
struct Shared {
    config: Mutex<Config>,
    clock: SteadyClock,
    epoch: Epoch,
    bounds: RwLock<Bounds>,
    tallies: RwLock<Tallies>,
    runs: RwLock<Arc<Runs>>,
    /// Held by each read while it lasts, and by the writer to keep readers out.
    reading: Arc<RwLock<()>>,
    retired_ids: RetiredIds,
    /// What [`Read::position_before`] looks at, once it has been asked.
    times: Mutex<Option<LatestTimes>>,
    batches: broadcast::Sender<Arc<Batch>>,
    writability: watch::Sender<Writability>,
    metrics: Metrics,
}

impl Shared {
    fn config(&self) -> MutexGuard<'_, Config> {
        self.config.lock()
    }

    /// What may stay now.
    fn limits(&self) -> Limits {
        Limits::new(&self.config(), self.clock.now())
    }

    fn bounds(&self) -> Bounds {
        *self.bounds.read()
    }

    /// Notes a change, once; nothing follows on [`Writability::Failed`].
    fn set_writability(&self, new: Writability) {
        self.change_writability(new, |new| match new {
            Writability::Writable => tracing::info!("the log takes writes again"),
            Writability::Refusing(reason) => tracing::error!(
                %reason,
                "the log refuses writes; webhooks are answered 503 until it recovers"
            ),
            Writability::Failed(reason) => tracing::error!("{reason}"),
        });
    }

    /// Gives the log up, since `file` is not the one that is open.
    fn fail_moved(&self, file: &str) -> AppendError {
        let reason = files::MOVED.to_owned();
        self.change_writability(Writability::Failed(reason.clone()), |_| {
            tracing::error!(file, "{}", files::MOVED);
        });
        AppendError::Refusing(reason)
    }

    fn change_writability(&self, new: Writability, note: impl FnOnce(&Writability)) {
        self.writability.send_if_modified(|current| {
            let failed = matches!(current, Writability::Failed(_));
            if failed || *current == new {
                return false;
            }
            note(&new);
            self.metrics
                .writable
                .set(i64::from(new == Writability::Writable));
            *current = new;
            true
        });
    }

    /// Notes a failed write, and says what to answer.
    fn note_failure(&self, error: &rusqlite::Error) -> AppendError {
        let reason = schema::explain(error);
        self.set_writability(if schema::is_failed_fsync(error) {
            Writability::Failed(format!(
                "fsync failed: {reason}; what is on disk is no longer known"
            ))
        } else if schema::is_position_taken(error) {
            Writability::Failed(format!(
                "another process writes to this log, which one gateway alone may use: {reason}"
            ))
        } else {
            Writability::Refusing(reason.clone())
        });
        AppendError::Refusing(reason)
    }

    /// Keeps the gauge in step with the bounds.
    fn note_last(&self) {
        let position = i64::try_from(self.bounds().last.number()).unwrap_or(i64::MAX);
        self.metrics.tail_position.set(position);
    }

    /// Keeps the gauge in step with the tallies.
    fn note_record_count(&self) {
        let count = i64::try_from(self.record_count()).unwrap_or(i64::MAX);
        self.metrics.records.set(count);
    }

    fn record_count(&self) -> u64 {
        self.tallies().record_count()
    }

    fn tallies(&self) -> RwLockReadGuard<'_, Tallies> {
        self.tallies.read()
    }

    /// Which run wrote which positions, of all positions up to a last one that was seen before
    /// and from a trimmed position on that is seen later.
    fn runs(&self) -> Arc<Runs> {
        Arc::clone(&self.runs.read())
    }

    /// For the writer.
    fn change_runs(&self, change: impl FnOnce(&mut Runs)) {
        let mut runs = self.runs.write();
        change(Arc::make_mut(&mut runs));
    }

    /// For the writer.
    fn tallies_mut(&self) -> RwLockWriteGuard<'_, Tallies> {
        self.tallies.write()
    }
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
        let reading = Arc::new(RwLock::new(()));
        let readers = ReaderPool::open(&config.data_dir, Arc::clone(&reading))?;
        let (commands, queue) = sync_channel(QUEUE_REQUESTS_MAX);
        let data_dir = config.data_dir.clone();
        let shared = Arc::new(Shared {
            config: Mutex::new(config),
            clock: SteadyClock::start(),
            epoch: state.epoch,
            bounds: RwLock::new(state.bounds),
            tallies: RwLock::new(state.tallies),
            runs: RwLock::new(Arc::new(state.runs)),
            reading,
            retired_ids: state.retired_ids,
            times: Mutex::new(None),
            batches: broadcast::Sender::new(FOLLOWED_BATCHES_MAX),
            writability: watch::Sender::new(Writability::Writable),
            metrics,
        });
        shared.metrics.writable.set(1);
        shared.note_record_count();
        shared.note_last();
        let requests = checkpoint::spawn(&data_dir, commands.clone(), Arc::clone(&shared))?;
        let writer = writer::spawn(
            connection,
            files,
            state.run,
            queue,
            requests,
            Arc::clone(&shared),
        )
        .map_err(OpenError::Thread)?;
        Ok(Self {
            shared,
            commands,
            readers,
            gathering: Mutex::new(None),
            writer: Mutex::new(Some(writer)),
            _lock: lock,
        })
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
        let (answer, answered) = oneshot::channel();
        let sent = self.send(Command::Append { record, answer });
        Box::pin(async move {
            sent?;
            answered.await.map_err(|_| AppendError::Closed)?
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
        self.shared.tallies().list()
    }

    fn names_version(&self) -> u64 {
        self.shared.tallies().names_version()
    }

    fn scan(
        &self,
        mut scan: Scan,
        mut reader: Box<dyn Reader>,
    ) -> BoxFuture<'_, Result<Position, ReadError>> {
        let last = self.shared.bounds().last;
        let runs = self.shared.runs();
        drop_useless_narrowing(&mut scan, &self.shared);
        Box::pin(
            self.readers
                .run(move |connection| reader::scan(connection, &scan, last, &runs, &mut *reader)),
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
        Box::pin(self.seek(time))
    }

    fn describe(&self) -> BoxFuture<'_, Result<Description, ReadError>> {
        Box::pin(async move {
            let (size_bytes, oldest) = self.readers.run(reader::size_and_oldest).await?;
            let newest = self.shared.bounds().last_receive_time;
            let (retain_for, retain_bytes) = {
                let config = self.shared.config();
                (config.retain_for, config.retain_bytes)
            };
            Ok(Description {
                retain_for,
                retain_bytes,
                record_count: self.shared.record_count(),
                size_bytes,
                oldest_receive_time: oldest,
                newest_receive_time: oldest.map(|_| newest),
            })
        })
    }

    fn follow(&self) -> broadcast::Receiver<Arc<Batch>> {
        self.shared.batches.subscribe()
    }
}

impl Keep for SqliteLog {
    fn writability(&self) -> watch::Receiver<Writability> {
        self.shared.writability.subscribe()
    }

    fn set_retention(&self, retain_for: Option<Duration>, retain_bytes: Option<u64>) {
        let mut config = self.shared.config();
        config.retain_for = retain_for;
        config.retain_bytes = retain_bytes;
    }

    fn apply_retention(&self) -> BoxFuture<'_, Result<(), AppendError>> {
        Box::pin(async move {
            loop {
                let (answer, answered) = oneshot::channel();
                self.send(Command::Retain { answer })?;
                let step = answered.await.map_err(|_| AppendError::Closed)??;
                if step == retention::Step::Done {
                    return Ok(());
                }
            }
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let writer = self.writer.lock().take();
            let commands = self.commands.clone();
            let closing = tokio::task::spawn_blocking(move || {
                // Blocks while the queue is full: what is queued is committed first.
                let told = commands.send(Command::Close);
                if let (Ok(()), Some(writer)) = (told, writer) {
                    let _panicked = writer.join();
                }
            });
            let _panicked = closing.await;
        })
    }
}

/// Ends the threads. They would otherwise wait for each other.
impl Drop for SqliteLog {
    fn drop(&mut self) {
        let _closed_already = self.commands.try_send(Command::Close);
    }
}

/// An index over types pays only where it skips most of the log.
fn drop_useless_narrowing(scan: &mut Scan, shared: &Shared) {
    if let IndexHint::Types(types) = &scan.narrow {
        let tallies = shared.tallies();
        if tallies.count_of_types(types) > tallies.record_count() / 8 {
            scan.narrow = IndexHint::All;
        }
    }
}
