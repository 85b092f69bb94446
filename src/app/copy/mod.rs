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
//! into a stream, within its duplicate window.

mod archive;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, ensure};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use prometheus_client::registry::Registry;

use super::{LogConfig, open_log};
use crate::event::Position;
use crate::log::jetstream::{self, Missing};
use crate::log::{Appended, Error, Log, Metrics, Narrow, NewRecord, Query, sqlite};
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
pub struct Copied {
    /// Events that the target did not have.
    pub events: u64,
    /// Events that it had.
    pub duplicates: u64,
}

/// Copies everything that is in `from` to `to`. Calls `progress` now and then.
///
/// # Errors
/// When one of them cannot be used, or what is read is no event.
pub async fn copy(
    from: Place,
    to: Place,
    mut progress: impl FnMut(Copied),
) -> anyhow::Result<Copied> {
    let mut source = Source::open(from).await?;
    let mut target = Target::open(to).await?;
    let mut copied = Copied::default();
    loop {
        let records = source.next().await?;
        if records.is_empty() {
            target.finish().await?;
            return Ok(copied);
        }
        target.take(records, &mut copied).await?;
        progress(copied);
    }
}

enum Source {
    Log {
        log: Arc<dyn Log>,
        after: Position,
        tail: Position,
        has_begun: bool,
    },
    File(archive::Reader),
}

impl Source {
    async fn open(place: Place) -> anyhow::Result<Self> {
        let log = match place {
            Place::File(path, format) => {
                return Ok(Self::File(archive::Reader::open(path, format)?));
            }
            Place::DataDir(data_dir) => {
                ensure!(
                    sqlite::exists(&data_dir),
                    "{}: there is no log in this directory",
                    data_dir.display()
                );
                open(LogConfig::Embedded(everything(data_dir))).await?
            }
            Place::Stream(config) => {
                let config = jetstream::Config {
                    missing: Missing::Refuse,
                    ..*config
                };
                open(LogConfig::Nats(config)).await?
            }
        };
        let bounds = log.bounds();
        Ok(Self::Log {
            after: bounds.trimmed,
            tail: bounds.tail,
            has_begun: false,
            log,
        })
    }

    /// The next records, in order; none at the end.
    async fn next(&mut self) -> anyhow::Result<Vec<NewRecord>> {
        let (log, after, tail, has_begun) = match self {
            Self::File(reader) => return reader.next_records(PAGE_RECORDS_MAX, PAGE_BYTES_MAX),
            Self::Log {
                log,
                after,
                tail,
                has_begun,
            } => (log, after, tail, has_begun),
        };
        while *after < *tail {
            let page = log.read(Query {
                after: *after,
                narrow: Narrow::All,
                matches: Arc::new(|_| true),
                records_max: PAGE_RECORDS_MAX,
                bytes_max: PAGE_BYTES_MAX,
            });
            let page = match page.await {
                // Retention moved the oldest event, which is where a copy begins.
                Err(Error::Expired { trimmed }) if !*has_begun => {
                    *after = trimmed;
                    continue;
                }
                page => page.context("reading the log")?,
            };
            *has_begun = true;
            *after = page.through;
            if !page.records.is_empty() {
                let records = page.records.into_iter();
                return Ok(records.map(|record| record.content).collect());
            }
        }
        log.close().await;
        Ok(Vec::new())
    }
}

enum Target {
    Log {
        log: Arc<dyn Log>,
        appends_max: usize,
    },
    File(archive::Writer),
}

impl Target {
    async fn open(place: Place) -> anyhow::Result<Self> {
        Ok(match place {
            Place::File(path, format) => Self::File(archive::Writer::create(path, format)?),
            Place::DataDir(data_dir) => Self::Log {
                log: open(LogConfig::Embedded(everything(data_dir))).await?,
                appends_max: APPENDS_MAX,
            },
            Place::Stream(config) => Self::Log {
                log: open(LogConfig::Nats(*config)).await?,
                appends_max: APPENDS_MAX_OF_STREAM,
            },
        })
    }

    async fn take(&mut self, records: Vec<NewRecord>, copied: &mut Copied) -> anyhow::Result<()> {
        let (log, appends_max) = match self {
            Self::File(writer) => {
                copied.events += records.len() as u64;
                return writer.write(&records);
            }
            Self::Log { log, appends_max } => (log, *appends_max),
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
    error: Error,
    under_way: FuturesOrdered<BoxFuture<'static, Result<Appended, Error>>>,
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
fn everything(data_dir: PathBuf) -> sqlite::Config {
    sqlite::Config {
        data_dir,
        retain_for: None,
        retain_bytes: None,
    }
}

async fn open(config: LogConfig) -> anyhow::Result<Arc<dyn Log>> {
    open_log(config, Metrics::register(&mut Registry::default())).await
}
