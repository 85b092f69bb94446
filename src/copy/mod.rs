//! Copies a log into another one, into a file, or from a file.
//!
//! ```text
//!   data directory ─┐                        ┌─► data directory
//!   stream ─────────┼─► records, in order ───┼─► stream
//!   file ───────────┘                        └─► file
//! ```
//!
//! Ids, bodies, times and the order are kept. Positions are the new log's own: it is another log
//! with another epoch, and subscribers resume by time. Events that the target has already stay
//! as they are, so that an interrupted copy can be repeated; into a stream, within its duplicate
//! window. From data directory to data directory, the ids of events that retention removed are
//! copied too; a stream or a file has none.

mod archive;
mod error;

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;

use crate::event::{IndexHint, Position};
use crate::intake::{self, Intake, Pins, Submission};
use crate::log::sqlite::SqliteLog;
use crate::log::{Appended, Entry, Log, Query, Read, ReadError};

pub use archive::Format;
pub use error::{Error, InvalidEvent};

/// Records read from a log at once.
const PAGE_RECORDS_MAX: usize = 1000;
const PAGE_BYTES_MAX: usize = 4 << 20;
/// Appends under way at once, where the log keeps the order in which they were made.
const APPENDS_MAX: usize = 1024;
/// A stream keeps the order in which they are acknowledged.
const APPENDS_MAX_OF_STREAM: usize = 1;

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyReport {
    /// Events that the target did not have.
    pub events: u64,
    /// Events that it had.
    pub duplicates: u64,
    /// Ids of removed events that it did not know.
    pub retired_ids: u64,
}

/// Copies everything that is in `source` to `target`, and closes both. Calls `progress` now
/// and then.
///
/// # Errors
/// When one of them cannot be used, or holds something that is not an event.
pub async fn copy(
    mut source: Source,
    mut target: Target,
    mut progress: impl FnMut(CopyReport),
) -> Result<CopyReport, Error> {
    let mut report = CopyReport::default();
    while let Some(page) = source.next().await? {
        target.take(page, &mut report).await?;
        progress(report);
    }
    if let (Some(from), Some(to)) = (source.embedded(), target.embedded()) {
        report.retired_ids = copy_retired_ids(from, to).await?;
    }
    source.finish().await;
    target.finish().await?;
    Ok(report)
}

async fn copy_retired_ids(from: &SqliteLog, to: &SqliteLog) -> Result<u64, Error> {
    let mut copied = 0;
    let mut last = None;
    loop {
        let retired = from.retired_ids(last).await?;
        let Some(newest) = retired.last() else {
            return Ok(copied);
        };
        last = Some(newest.clone());
        copied += to.remember(retired).await.map_err(Error::RetiredIds)?;
    }
}

/// What is read at once, never empty.
#[derive(Debug)]
enum Page {
    /// Of a log: they stay as they are, with the version of their decoding.
    Entries(Vec<Entry>),
    /// Of an archive: they are decoded as those of a webhook.
    Events(Vec<Submission>),
}

/// Where to copy from.
#[derive(Debug)]
pub struct Source(SourceKind);

#[derive(Debug)]
enum SourceKind {
    Log {
        log: Arc<dyn Log>,
        embedded: Option<Arc<SqliteLog>>,
        after: Position,
        last: Position,
        has_begun: bool,
    },
    File(archive::Reader),
}

impl Source {
    /// The embedded log of a gateway that is not running.
    #[must_use]
    pub fn embedded_log(log: Arc<SqliteLog>) -> Self {
        Self::log(log.clone(), Some(log))
    }

    /// A stream, which gateways may be using.
    #[must_use]
    pub fn stream(log: Arc<dyn Log>) -> Self {
        Self::log(log, None)
    }

    fn log(log: Arc<dyn Log>, embedded: Option<Arc<SqliteLog>>) -> Self {
        let bounds = log.bounds();
        Self(SourceKind::Log {
            after: bounds.trimmed,
            last: bounds.last,
            has_begun: false,
            log,
            embedded,
        })
    }

    /// A file; standard input where it is called `-`.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn file(path: PathBuf, format: Format) -> Result<Self, Error> {
        let reader = archive::Reader::open(path, format)?;
        Ok(Self(SourceKind::File(reader)))
    }

    /// The next events, in order; none at the end.
    async fn next(&mut self) -> Result<Option<Page>, Error> {
        let (log, after, last, has_begun) = match &mut self.0 {
            SourceKind::File(reader) => {
                let events = reader.next_events(PAGE_RECORDS_MAX, PAGE_BYTES_MAX)?;
                return Ok((!events.is_empty()).then_some(Page::Events(events)));
            }
            SourceKind::Log {
                log,
                after,
                last,
                has_begun,
                embedded: _,
            } => (log, after, last, has_begun),
        };
        while *after < *last {
            let log: &dyn Read = &**log;
            let reading = log.read(Query {
                after: *after,
                narrow: IndexHint::All,
                matches: Arc::new(|_| true),
                records_max: PAGE_RECORDS_MAX,
                bytes_max: PAGE_BYTES_MAX,
            });
            let page = match reading.await {
                // Retention moved the oldest event, which is where a copy begins.
                Err(ReadError::Expired { trimmed }) if !*has_begun => {
                    *after = trimmed;
                    continue;
                }
                page => page?,
            };
            *has_begun = true;
            *after = page.through;
            if !page.records.is_empty() {
                let records = page.records.into_iter();
                let entries = records.map(|record| record.entry).collect();
                return Ok(Some(Page::Entries(entries)));
            }
        }
        Ok(None)
    }

    fn embedded(&self) -> Option<&SqliteLog> {
        match &self.0 {
            SourceKind::Log { embedded, .. } => embedded.as_deref(),
            SourceKind::File(_) => None,
        }
    }

    async fn finish(self) {
        if let SourceKind::Log { log, .. } = self.0 {
            log.close().await;
        }
    }
}

/// Where to copy to.
#[derive(Debug)]
pub struct Target(TargetKind);

#[derive(Debug)]
enum TargetKind {
    Log {
        log: Arc<dyn Log>,
        embedded: Option<Arc<SqliteLog>>,
        /// Of events that are decoded first, which no pin refuses.
        intake: Intake,
        appends_max: usize,
    },
    File(archive::Writer),
}

impl Target {
    /// The embedded log of a gateway that is not running.
    #[must_use]
    pub fn embedded_log(log: Arc<SqliteLog>) -> Self {
        Self::log(log.clone(), Some(log), APPENDS_MAX)
    }

    /// A stream, which gateways may be using.
    #[must_use]
    pub fn stream(log: Arc<dyn Log>) -> Self {
        Self::log(log, None, APPENDS_MAX_OF_STREAM)
    }

    fn log(log: Arc<dyn Log>, embedded: Option<Arc<SqliteLog>>, appends_max: usize) -> Self {
        let intake = Intake::new(log.clone(), Pins::default(), intake::Metrics::default());
        Self(TargetKind::Log {
            log,
            embedded,
            intake,
            appends_max,
        })
    }

    /// A file that does not exist; standard output where it is called `-`.
    ///
    /// # Errors
    /// When it exists or cannot be created.
    pub fn file(path: PathBuf, format: Format) -> Result<Self, Error> {
        let writer = archive::Writer::create(path, format)?;
        Ok(Self(TargetKind::File(writer)))
    }

    async fn take(&mut self, page: Page, report: &mut CopyReport) -> Result<(), Error> {
        match (&mut self.0, page) {
            (TargetKind::File(writer), page) => write(writer, page, report),
            (
                TargetKind::Log {
                    log, appends_max, ..
                },
                Page::Entries(entries),
            ) => {
                let appends = entries.into_iter().map(|entry| {
                    let appending = log.append(entry);
                    let append: Append<'_> = Box::pin(async { Ok(appending.await?) });
                    append
                });
                append_all(appends, *appends_max, report).await
            }
            (
                TargetKind::Log {
                    intake,
                    appends_max,
                    ..
                },
                Page::Events(events),
            ) => {
                let appends = events.into_iter().map(|event| {
                    let submitting = intake.submit(event);
                    let append: Append<'_> = Box::pin(async { Ok(submitting.await?.appended) });
                    append
                });
                append_all(appends, *appends_max, report).await
            }
        }
    }

    fn embedded(&self) -> Option<&SqliteLog> {
        match &self.0 {
            TargetKind::Log { embedded, .. } => embedded.as_deref(),
            TargetKind::File(_) => None,
        }
    }

    async fn finish(self) -> Result<(), Error> {
        match self.0 {
            TargetKind::File(writer) => writer.finish(),
            TargetKind::Log { log, .. } => {
                log.close().await;
                Ok(())
            }
        }
    }
}

fn write(writer: &mut archive::Writer, page: Page, report: &mut CopyReport) -> Result<(), Error> {
    let mut write = |event| {
        report.events += 1;
        writer.write(&event)
    };
    match page {
        Page::Entries(entries) => entries
            .iter()
            .try_for_each(|entry| write(archive::archived(entry)?)),
        Page::Events(events) => events
            .into_iter()
            .try_for_each(|event| write(archive::archived_again(event)?)),
    }
}

/// An append that has begun.
type Append<'a> = BoxFuture<'a, Result<Appended, intake::Error>>;

/// Begins appends in their order, with a bound on how many are under way.
async fn append_all<'a>(
    mut appends: impl Iterator<Item = Append<'a>>,
    under_way_max: usize,
    report: &mut CopyReport,
) -> Result<(), Error> {
    let mut under_way = FuturesOrdered::new();
    loop {
        while under_way.len() < under_way_max
            && let Some(append) = appends.next()
        {
            under_way.push_back(append);
        }
        match under_way.next().await {
            None => return Ok(()),
            Some(Ok(Appended::Committed(_))) => report.events += 1,
            Some(Ok(Appended::Duplicate)) => report.duplicates += 1,
            Some(Err(cause)) => return Err(broken_off(cause, under_way, report.events).await),
        }
    }
}

/// What to do about a copy that broke off. Of the appends that were under way, a log takes
/// those that it can: where it took one after the one that failed, the order is lost.
async fn broken_off(
    cause: intake::Error,
    under_way: FuturesOrdered<Append<'_>>,
    copied: u64,
) -> Error {
    let rest: Vec<_> = under_way.collect().await;
    let has_taken = |answer: &Result<_, _>| matches!(answer, Ok(Appended::Committed(_)));
    if rest.iter().any(has_taken) {
        Error::OrderLost(cause)
    } else {
        Error::Append { cause, copied }
    }
}
