//! Copying a log: from one kind to another, into a file, or from one.
//!
//! ```text
//!   data directory ─┐                        ┌─► data directory
//!   stream ─────────┼─► records, in order ───┼─► stream
//!   file ───────────┘                        └─► file
//! ```
//!
//! Ids, bodies and times are kept, and the order. Positions are the new log's own: it is
//! another log with another epoch, and subscribers say from when they go on. What is in
//! the target already stays as it is, so that a copy that broke off can be begun again;
//! into a stream, within its duplicate window. From data directory to data directory, the
//! ids of events that retention removed are copied too; a stream or a file has none.

mod archive;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, ensure};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use prometheus_client::registry::Registry;

use crate::app::{LogConfig, open_embedded, open_log};
use crate::event::{IndexHint, Position};
use crate::log::jetstream::{self, Missing};
use crate::log::sqlite::{self, SqliteLog};
use crate::log::{AppendError, Appended, Entry, Log, Metrics, Query, Read, ReadError};
pub use archive::Format;

/// Records read from a log at once.
const PAGE_RECORDS_MAX: usize = 1000;
const PAGE_BYTES_MAX: usize = 4 << 20;
/// Appends under way at once, where the log keeps the order in which they were made.
const APPENDS_MAX: usize = 1024;
/// A stream keeps the order in which they are acknowledged.
const APPENDS_MAX_OF_STREAM: usize = 1;

/// Where to copy from, or to.
#[derive(Clone, Debug)]
pub enum Place {
    /// The embedded log of a gateway that is not running.
    DataDir(PathBuf),
    /// A stream, which gateways may be using.
    Stream(Box<jetstream::Config>),
    /// A file; standard input or output where it is called `-`.
    File(PathBuf, Format),
}

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

/// Copies everything that is in `from` to `to`. Calls `progress` now and then.
///
/// # Errors
/// When one of them cannot be used, or what is read is no event.
pub async fn copy(
    from: Place,
    to: Place,
    mut progress: impl FnMut(CopyReport),
) -> anyhow::Result<CopyReport> {
    let mut source = Source::open(from).await?;
    let mut target = Target::open(to).await?;
    let mut copied = CopyReport::default();
    loop {
        let records = source.next().await?;
        if records.is_empty() {
            if let (Some(from), Some(to)) = (source.embedded(), target.embedded()) {
                copied.retired_ids = copy_retired_ids(from, to).await?;
            }
            source.finish().await;
            target.finish().await?;
            return Ok(copied);
        }
        target.take(records, &mut copied).await?;
        progress(copied);
    }
}

async fn copy_retired_ids(from: &SqliteLog, to: &SqliteLog) -> anyhow::Result<u64> {
    let mut copied = 0;
    let mut last = None;
    loop {
        let retired = from.retired_ids(last).await.context("reading the log")?;
        let Some(newest) = retired.last() else {
            return Ok(copied);
        };
        last = Some(newest.clone());
        let repeat = "the ids of removed events were not all copied: repeat the command";
        copied += to.remember(retired).await.context(repeat)?;
    }
}

enum Source {
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
    async fn open(place: Place) -> anyhow::Result<Self> {
        let (log, embedded) = match place {
            Place::File(path, format) => {
                return Ok(Self::File(archive::Reader::open(path, format)?));
            }
            Place::DataDir(data_dir) => {
                ensure!(
                    sqlite::exists(&data_dir),
                    "{}: there is no log in this directory",
                    data_dir.display()
                );
                let log = open_directory(data_dir)?;
                (Arc::clone(&log) as Arc<dyn Log>, Some(log))
            }
            Place::Stream(config) => {
                let config = jetstream::Config {
                    missing: Missing::Refuse,
                    ..*config
                };
                (open_stream(config).await?, None)
            }
        };
        let bounds = log.bounds();
        Ok(Self::Log {
            after: bounds.trimmed,
            last: bounds.last,
            has_begun: false,
            log,
            embedded,
        })
    }

    /// The next records, in order; none at the end.
    async fn next(&mut self) -> anyhow::Result<Vec<Entry>> {
        let (log, after, last, has_begun) = match self {
            Self::File(reader) => return reader.next_records(PAGE_RECORDS_MAX, PAGE_BYTES_MAX),
            Self::Log {
                log,
                after,
                last,
                has_begun,
                embedded: _,
            } => (log, after, last, has_begun),
        };
        while *after < *last {
            let log: &dyn Read = &**log;
            let page = log.read(Query {
                after: *after,
                narrow: IndexHint::All,
                matches: Arc::new(|_| true),
                records_max: PAGE_RECORDS_MAX,
                bytes_max: PAGE_BYTES_MAX,
            });
            let page = match page.await {
                // Retention moved the oldest event, which is where a copy begins.
                Err(ReadError::Expired { trimmed }) if !*has_begun => {
                    *after = trimmed;
                    continue;
                }
                page => page.context("reading the log")?,
            };
            *has_begun = true;
            *after = page.through;
            if !page.records.is_empty() {
                let records = page.records.into_iter();
                return Ok(records.map(|record| record.entry).collect());
            }
        }
        Ok(Vec::new())
    }

    fn embedded(&self) -> Option<&SqliteLog> {
        match self {
            Self::Log { embedded, .. } => embedded.as_deref(),
            Self::File(_) => None,
        }
    }

    async fn finish(self) {
        if let Self::Log { log, .. } = self {
            log.close().await;
        }
    }
}

enum Target {
    Log {
        log: Arc<dyn Log>,
        embedded: Option<Arc<SqliteLog>>,
        appends_max: usize,
    },
    File(archive::Writer),
}

impl Target {
    async fn open(place: Place) -> anyhow::Result<Self> {
        Ok(match place {
            Place::File(path, format) => Self::File(archive::Writer::create(path, format)?),
            Place::DataDir(data_dir) => {
                let log = open_directory(data_dir)?;
                Self::Log {
                    log: Arc::clone(&log) as Arc<dyn Log>,
                    embedded: Some(log),
                    appends_max: APPENDS_MAX,
                }
            }
            Place::Stream(config) => Self::Log {
                log: open_stream(*config).await?,
                embedded: None,
                appends_max: APPENDS_MAX_OF_STREAM,
            },
        })
    }

    async fn take(&mut self, records: Vec<Entry>, copied: &mut CopyReport) -> anyhow::Result<()> {
        let (log, appends_max) = match self {
            Self::File(writer) => {
                copied.events += records.len() as u64;
                return writer.write(&records);
            }
            Self::Log {
                log, appends_max, ..
            } => (log, *appends_max),
        };
        let mut records = records.into_iter();
        let mut under_way = FuturesOrdered::new();
        loop {
            while under_way.len() < appends_max
                && let Some(record) = records.next()
            {
                under_way.push_back(log.append(record));
            }
            match under_way.next().await {
                None => return Ok(()),
                Some(Ok(Appended::Committed(_))) => copied.events += 1,
                Some(Ok(Appended::Duplicate)) => copied.duplicates += 1,
                Some(Err(error)) => return Err(broken_off(error, under_way, copied.events).await),
            }
        }
    }

    fn embedded(&self) -> Option<&SqliteLog> {
        match self {
            Self::Log { embedded, .. } => embedded.as_deref(),
            Self::File(_) => None,
        }
    }

    async fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::File(writer) => writer.finish(),
            Self::Log { log, .. } => {
                log.close().await;
                Ok(())
            }
        }
    }
}

/// What to do about a copy that broke off. Of the appends that were under way, a log takes
/// those that it can: where it took one after the one that failed, the order is lost.
async fn broken_off(
    error: AppendError,
    under_way: FuturesOrdered<BoxFuture<'static, Result<Appended, AppendError>>>,
    copied: u64,
) -> anyhow::Error {
    let rest: Vec<_> = under_way.collect().await;
    let has_taken = |answer: &Result<_, _>| matches!(answer, Ok(Appended::Committed(_)));
    if rest.iter().any(has_taken) {
        anyhow!("{error}; later events were taken nevertheless: remove the target and copy anew")
    } else {
        anyhow!("{error}; {copied} events were copied: repeat the command to go on")
    }
}

/// Retention is the gateway's: it decides when it runs.
fn open_directory(data_dir: PathBuf) -> anyhow::Result<Arc<SqliteLog>> {
    let config = sqlite::Config {
        data_dir,
        retain_for: None,
        retain_bytes: None,
    };
    open_embedded(config, Metrics::register(&mut Registry::default()))
}

async fn open_stream(config: jetstream::Config) -> anyhow::Result<Arc<dyn Log>> {
    let metrics = Metrics::register(&mut Registry::default());
    open_log(LogConfig::Nats(config), metrics).await
}
