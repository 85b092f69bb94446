//! The log for more than one machine: a stream of NATS JetStream, shared by any number of
//! gateways.
//!
//! ```text
//!   append ──► publish, acknowledged by the stream's leader once a majority has it
//!   follow ◄── one consumer per gateway, from the end on ──► batches
//!   scan   ◄── pages from any replica; the end is confirmed by the leader
//!   swap   ──► a KV bucket beside the stream, see `cells`
//! ```
//!
//! A position is a sequence number of the stream, and the epoch stands for the stream's name and
//! time of creation. A stream that `nats stream restore` made has another time of creation (seen
//! with 2.15), so the epoch refuses cursors of the history that was lost, and positions have no
//! run. Replication, retention and failover are JetStream's. The differences from the embedded
//! log:
//!
//! * **Unique** holds for the stream's duplicate window, which its servers keep in memory, and
//!   not for as long as the record is kept. A server that starts learns the ids from the
//!   records, so it forgets those of records that retention removed.
//! * **Counts** ([`Read::tallies`]) are the stream's of some seconds ago, plus the records seen
//!   since.
//! * **Found by id** ([`Read::find`]): the newest records that this gateway has seen, and else
//!   the result of a search through the stream. At most four searches run at once.
//! * **Times**: [`Read::position_before`] is as exact as the gateways' clocks agree.
//! * **Away**: while NATS cannot be reached, writes are refused, and reads fail with
//!   [`ReadError::Unreachable`]. Both recover by themselves, through another server if this one
//!   cannot serve the stream. A stream whose settings are not as configured accepts no writes. A
//!   stream that was deleted or created again is another log: [`Writability::Failed`].

mod account;
mod admission;
mod append;
mod bucket;
mod cells;
mod config;
mod connect;
mod feed;
mod find;
mod foreign;
mod mismatches;
mod monitor;
mod recent;
mod record;
mod room;
mod runs;
mod scan;
mod search;
mod seek;
mod servers;
mod shared;
mod stream;
mod subject;
mod turns;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::counts::{Counts, IsDeclared};
use super::error::{AppendError, ReadError};
use super::follower::Follower;
use super::metrics::Metrics;
use super::published::Published;
use super::record::{Appended, Bounds, Description, Entry, Lineage, Record, Tally, Writability};
use super::scan::{Predicate, Reader, Scan};
use super::traits::{Append, Keep, Read};
use crate::event::{Epoch, Position, Run, UnixMillis};
use bucket::Bucket;
use foreign::ForeignMessages;
use recent::RecentIds;
use runs::Runs;
use servers::ServerChoice;
use shared::{Shared, millis};
use turns::Searches;

pub use config::{Config, Login, Missing, Security, ServerUrl, check_prefix};
pub use connect::OpenError;
pub use mismatches::Mismatches;

/// Maximum time for the stream's leader to know the end.
const END_KNOWN_WITHIN: Duration = Duration::from_secs(5);
/// Delay between two requests for the end.
const END_DELAY: Duration = Duration::from_millis(100);

/// The log on a stream. Dropping it without [`Keep::close`] loses no acknowledged record.
#[derive(Debug)]
pub struct JetStreamLog {
    shared: Arc<Shared>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl JetStreamLog {
    /// Connects, and finds or creates the stream and the bucket of its cells.
    ///
    /// # Errors
    /// When NATS cannot be used within 10 s, or the stream has other settings than
    /// configured.
    pub async fn open(config: Config, metrics: Metrics) -> Result<Self, OpenError> {
        Self::open_declaring(config, metrics, |_| false).await
    }

    /// Opens the log, which always counts a declared type by its name.
    ///
    /// # Errors
    /// As [`JetStreamLog::open`].
    pub async fn open_declaring(
        config: Config,
        metrics: Metrics,
        is_declared: IsDeclared,
    ) -> Result<Self, OpenError> {
        let changed = Arc::new(Notify::new());
        let choice = Arc::new(ServerChoice::default());
        let connected = connect::connect(&config, &changed, &choice).await?;
        let info = connected.info;
        let shared = Arc::new(Shared {
            config,
            client: connected.client,
            context: connected.context,
            publisher: connected.publisher,
            epoch: stream::epoch(&info),
            published: Published::new(Bounds::default(), Counts::new(is_declared), metrics.clone()),
            bucket: connected.bucket.as_ref().map(Bucket::new),
            admission: Mutex::default(),
            refused_bytes: AtomicU64::new(0),
            unreachable: RwLock::default(),
            not_followed: RwLock::default(),
            foreign: ForeignMessages::default(),
            recent: RecentIds::default(),
            runs: Runs::default(),
            searches: Searches::default(),
            choice,
            changed,
            followed: watch::Sender::default(),
            closed: CancellationToken::new(),
            metrics,
        });
        let limits = &shared.config;
        shared
            .metrics
            .note_retention(limits.retain_for, limits.retain_bytes);
        shared.note_state(&info.state);
        let last = shared.read_last().await?;
        if let Err(error) = monitor::count(&shared).await {
            return Err(ReadError::Unreachable(error).into());
        }
        #[expect(clippy::disallowed_methods, reason = "`close` waits for all")]
        let tasks = vec![
            tokio::spawn(monitor::run(Arc::clone(&shared))),
            tokio::spawn(feed::run(Arc::clone(&shared), last)),
            tokio::spawn(cells::watch(Arc::clone(&shared))),
            tokio::spawn(cells::remove_markers(Arc::clone(&shared))),
        ];
        Ok(Self {
            shared,
            tasks: Mutex::new(tasks),
        })
    }
}

impl Append for JetStreamLog {
    fn append(&self, record: Entry) -> BoxFuture<'static, Result<Appended, AppendError>> {
        Box::pin(append::append(Arc::clone(&self.shared), record))
    }
}

impl Read for JetStreamLog {
    fn epoch(&self) -> Epoch {
        self.shared.epoch
    }

    fn bounds(&self) -> Bounds {
        self.shared.bounds()
    }

    fn confirmed_bounds(&self, at_least: Position) -> BoxFuture<'_, Result<Bounds, ReadError>> {
        Box::pin(async move {
            let deadline = Instant::now() + END_KNOWN_WITHIN;
            // A leader that was elected a moment ago may not have applied all that it has.
            while self.shared.refresh().await? < at_least && Instant::now() < deadline {
                sleep(END_DELAY).await;
            }
            Ok(self.shared.bounds())
        })
    }

    fn run_at(&self, position: Position) -> Run {
        self.shared.runs.at(position)
    }

    fn lineage(&self, position: Position, run: Run) -> BoxFuture<'_, Result<Lineage, ReadError>> {
        Box::pin(async move {
            if run == Run::NONE {
                return Ok(Lineage::Same);
            }
            Ok(match self.shared.run_at(position).await? {
                stored if stored == run || stored == Run::NONE => Lineage::Same,
                _another => Lineage::Replaced,
            })
        })
    }

    fn tallies(&self) -> Vec<Tally> {
        self.shared.published.tallies()
    }

    fn names_version(&self) -> u64 {
        self.shared.published.counts().names_version()
    }

    fn scan(
        &self,
        scan: Scan,
        reader: Box<dyn Reader>,
    ) -> BoxFuture<'_, Result<Position, ReadError>> {
        Box::pin(scan::scan(&self.shared, scan, reader))
    }

    fn find(
        &self,
        id: String,
        matches: Predicate,
    ) -> BoxFuture<'_, Result<Option<Record>, ReadError>> {
        Box::pin(async move { find::find(&self.shared, &id, &matches).await })
    }

    fn position_before(&self, time: UnixMillis) -> BoxFuture<'_, Result<Position, ReadError>> {
        Box::pin(seek::position_before(&self.shared, time))
    }

    fn describe(&self) -> BoxFuture<'_, Result<Description, ReadError>> {
        Box::pin(async move {
            let state = self.shared.info().await?.state;
            self.shared.note_state(&state);
            let oldest = millis(state.first_timestamp.unix_timestamp_nanos());
            let has_records = state.messages > 0;
            let newest = self.shared.bounds().last_receive_time;
            Ok(Description {
                retain_for: self.shared.config.retain_for,
                retain_bytes: self.shared.config.retain_bytes,
                record_count: state.messages,
                size_bytes: state.bytes,
                // Cells are in a bucket of their own, which the stream's limit does not concern.
                counted_bytes: state.bytes,
                oldest_receive_time: has_records.then_some(oldest),
                newest_receive_time: has_records.then_some(newest),
            })
        })
    }

    fn follow(&self) -> Follower {
        self.shared.published.follow()
    }
}

impl Keep for JetStreamLog {
    fn writability(&self) -> watch::Receiver<Writability> {
        self.shared.published.writability()
    }

    /// Only reads how far the servers have come, because they remove records themselves.
    fn apply_retention(&self) -> BoxFuture<'_, Result<(), AppendError>> {
        Box::pin(async move {
            self.shared.refresh().await?;
            Ok(())
        })
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), AppendError>> {
        Box::pin(async move {
            let mut followed = self.shared.followed.subscribe();
            tokio::select! {
                biased;
                () = self.shared.closed.cancelled() => Err(AppendError::Closed),
                turned = followed.changed() => turned.map_err(|_| AppendError::Closed),
            }
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.shared.closed.cancel();
            let tasks = std::mem::take(&mut *self.tasks.lock());
            for task in tasks {
                let _panicked = task.await;
            }
        })
    }
}

/// Ends the tasks, which would otherwise keep the connection.
impl Drop for JetStreamLog {
    fn drop(&mut self) {
        self.shared.closed.cancel();
    }
}
