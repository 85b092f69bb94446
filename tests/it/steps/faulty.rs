//! A log in memory whose cells fail at random, by a seed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clerkcast::event::{Epoch, Position, Run, UnixMillis};
use clerkcast::log::{
    Append, AppendError, Appended, Bounds, Cell, Cells, Change, Changed, Description, Entry,
    Follower, Keep, Lineage, Predicate, Read, ReadError, Reader, Record, Scan, Swapped, Tally,
    Writability,
};
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, broadcast, watch};

use super::random::Random;
use crate::memory_log::MemoryLog;

/// Cells that are read at once, as from a database; other reads wait their turn.
const READS_AT_ONCE: usize = 4;

/// How often a swap fails, in percent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// An error is answered.
    pub(super) lost_answers: u64,
    /// A conflict is answered that is none.
    pub(super) refusals: u64,
    /// No answer comes.
    pub(super) silences: u64,
    /// Only the first changes are stored.
    pub(super) cuts: u64,
    /// A read fails.
    pub(super) failed_reads: u64,
    /// An error is answered, and nothing is stored.
    pub(super) rejections: u64,
    /// How many of the first three are stored all the same.
    pub(super) stored: u64,
}

impl Faults {
    pub(super) const MANY: Self = Self {
        lost_answers: 6,
        refusals: 6,
        silences: 1,
        cuts: 6,
        failed_reads: 3,
        rejections: 3,
        stored: 50,
    };

    /// Nothing is stored.
    pub(super) const FULL: Self = Self {
        lost_answers: 0,
        refusals: 0,
        silences: 0,
        cuts: 0,
        failed_reads: 0,
        rejections: 100,
        stored: 0,
    };

    /// Everything is stored, and refused.
    pub(super) const REFUSED: Self = Self {
        lost_answers: 0,
        refusals: 100,
        silences: 0,
        cuts: 0,
        failed_reads: 0,
        rejections: 0,
        stored: 100,
    };

    /// Nothing is answered any more, as after a crash.
    pub(super) const DEAD: Self = Self {
        lost_answers: 0,
        refusals: 0,
        silences: 100,
        cuts: 0,
        failed_reads: 100,
        rejections: 0,
        stored: 50,
    };
}

/// One gateway's way to a log that several share.
#[derive(Debug)]
pub(crate) struct FaultyLog {
    log: Arc<MemoryLog>,
    /// Up to here, retention has removed records.
    trimmed: Arc<AtomicU64>,
    faults: Mutex<Faults>,
    scan_delay: Mutex<Duration>,
    random: Mutex<Random>,
    turns: Semaphore,
    swaps: AtomicU64,
    reads: AtomicU64,
    scans: AtomicU64,
    watches: AtomicU64,
}

impl FaultyLog {
    pub(crate) fn new(
        (log, trimmed): (Arc<MemoryLog>, Arc<AtomicU64>),
        faults: Faults,
        seed: u64,
    ) -> Self {
        Self {
            log,
            trimmed,
            faults: Mutex::new(faults),
            scan_delay: Mutex::default(),
            random: Mutex::new(Random::new(seed)),
            turns: Semaphore::new(READS_AT_ONCE),
            swaps: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            scans: AtomicU64::new(0),
            watches: AtomicU64::new(0),
        }
    }

    pub(super) fn set_faults(&self, faults: Faults) {
        *self.faults.lock() = faults;
    }

    /// Has each scan take this long.
    pub(super) fn slow_scans(&self, delay: Duration) {
        *self.scan_delay.lock() = delay;
    }

    /// How often cells were swapped.
    pub(super) fn swaps(&self) -> u64 {
        self.swaps.load(Ordering::Relaxed)
    }

    /// How often a cell was read.
    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// How often the log was scanned.
    pub(super) fn scans(&self) -> u64 {
        self.scans.load(Ordering::Relaxed)
    }

    /// How often changes of cells were watched.
    pub(crate) fn watches(&self) -> u64 {
        self.watches.load(Ordering::Relaxed)
    }

    fn trimmed(&self) -> Position {
        Position::new(self.trimmed.load(Ordering::Relaxed))
    }

    fn happens(&self, percent: u64) -> bool {
        self.random.lock().happens(percent)
    }

    /// How long an answer takes.
    fn delay(&self) -> Duration {
        Duration::from_micros(self.random.lock().below(3_000))
    }
}

fn away() -> AppendError {
    AppendError::Refusing("no answer".to_owned())
}

impl Cells for FaultyLog {
    fn read(&self, name: &str) -> BoxFuture<'_, Result<Option<Cell>, ReadError>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let fails = self.happens(self.faults.lock().failed_reads);
        let delay = self.delay();
        let name = name.to_owned();
        Box::pin(async move {
            let _turn = self.turns.acquire().await.expect("never closed");
            tokio::time::sleep(delay).await;
            if fails {
                return Err(ReadError::Unreachable("away".to_owned()));
            }
            Cells::read(&*self.log, &name).await
        })
    }

    fn list(
        &self,
        prefix: &str,
        after: &str,
        max: usize,
    ) -> BoxFuture<'_, Result<Vec<Cell>, ReadError>> {
        self.log.list(prefix, after, max)
    }

    fn swap(&self, mut changes: Vec<Change>) -> BoxFuture<'static, Result<Swapped, AppendError>> {
        self.swaps.fetch_add(1, Ordering::Relaxed);
        let faults = *self.faults.lock();
        let (before, after) = (self.delay(), self.delay());
        let is_stored = self.happens(faults.stored);
        let is_late = self.happens(50);
        let is_lost = self.happens(faults.lost_answers);
        let is_refused = self.happens(faults.refusals);
        let is_silent = self.happens(faults.silences);
        if self.happens(faults.rejections) {
            return Box::pin(ready(Err(AppendError::Refusing("disk full".to_owned()))));
        }
        if changes.len() > 1 && self.happens(faults.cuts) {
            let count = 1 + self.random.lock().below(changes.len() as u64 - 1);
            changes.truncate(usize::try_from(count).expect("few changes"));
            let log = Arc::clone(&self.log);
            return Box::pin(async move {
                tokio::time::sleep(before).await;
                let _stored_in_part = log.swap(changes).await;
                Err(away())
            });
        }
        let name = changes.first().map(|change| change.name.clone());
        let log = Arc::clone(&self.log);
        // It begins when it is called, and does not end with its future.
        let swap = tokio::spawn(async move {
            let fails = is_lost || is_refused || is_silent;
            if fails && !is_stored {
                return Err(away());
            }
            if is_late {
                tokio::time::sleep(before).await;
            }
            log.swap(changes).await
        });
        Box::pin(async move {
            let swapped = swap.await.expect("no panic");
            tokio::time::sleep(after).await;
            if is_silent {
                std::future::pending::<()>().await;
            }
            if is_lost {
                return Err(away());
            }
            if is_refused {
                return Ok(Swapped::Conflict(name.unwrap_or_default()));
            }
            swapped
        })
    }

    fn watch(&self) -> broadcast::Receiver<Changed> {
        self.watches.fetch_add(1, Ordering::Relaxed);
        self.log.watch()
    }
}

impl Append for FaultyLog {
    fn append(&self, entry: Entry) -> BoxFuture<'static, Result<Appended, AppendError>> {
        self.log.append(entry)
    }
}

impl Read for FaultyLog {
    fn epoch(&self) -> Epoch {
        self.log.epoch()
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            trimmed: self.trimmed(),
            ..self.log.bounds()
        }
    }

    fn confirmed_bounds(&self, _: Position) -> BoxFuture<'_, Result<Bounds, ReadError>> {
        Box::pin(ready(Ok(self.bounds())))
    }

    fn run_at(&self, position: Position) -> Run {
        self.log.run_at(position)
    }

    fn lineage(&self, position: Position, run: Run) -> BoxFuture<'_, Result<Lineage, ReadError>> {
        self.log.lineage(position, run)
    }

    fn tallies(&self) -> Vec<Tally> {
        self.log.tallies()
    }

    fn names_version(&self) -> u64 {
        self.log.names_version()
    }

    fn scan(
        &self,
        scan: Scan,
        reader: Box<dyn Reader>,
    ) -> BoxFuture<'_, Result<Position, ReadError>> {
        let scans = self.scans.fetch_add(1, Ordering::Relaxed);
        assert!(scans < 100_000, "the log is scanned without an end");
        let trimmed = self.trimmed();
        if trimmed > scan.after {
            return Box::pin(ready(Err(ReadError::Expired { trimmed })));
        }
        let delay = *self.scan_delay.lock();
        Box::pin(async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            self.log.scan(scan, reader).await
        })
    }

    fn find(
        &self,
        id: String,
        matches: Predicate,
    ) -> BoxFuture<'_, Result<Option<Record>, ReadError>> {
        self.log.find(id, matches)
    }

    fn position_before(&self, time: UnixMillis) -> BoxFuture<'_, Result<Position, ReadError>> {
        self.log.position_before(time)
    }

    fn describe(&self) -> BoxFuture<'_, Result<Description, ReadError>> {
        self.log.describe()
    }

    fn follow(&self) -> Follower {
        self.log.follow()
    }
}

impl Keep for FaultyLog {
    fn writability(&self) -> watch::Receiver<Writability> {
        self.log.writability()
    }

    fn apply_retention(&self) -> BoxFuture<'_, Result<(), AppendError>> {
        self.log.apply_retention()
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), AppendError>> {
        self.log.ping()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.log.close()
    }
}
