//! Subscriptions as callers and metrics see them.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::timeout;

use super::directory::Entry;
use super::error::Error;
use super::handle::{Subscriptions, is_visible};
use super::metrics::Observed;
use super::name::Name;
use super::settings::Definition;
use super::status::Status;
use crate::access::Principal;
use crate::clerk;
use crate::event::numbers::saturating;
use crate::event::{Attributes, Cursor, IndexHint, Position, Run, UnixMillis};
use crate::fanout::Lag;
use crate::log::{Bounds, Description, Payloads, Read, ReadError, Reader, RecordRef, Scan};

/// Subscriptions that are looked up at once.
const LOOKED_UP_AT_ONCE: usize = 8;
/// For the log to answer what a scrape shows.
const OBSERVED_WITHIN: Duration = Duration::from_secs(2);

/// A subscription, and where it is.
#[derive(Clone, Debug)]
pub struct Overview {
    /// Its name.
    pub name: Name,
    /// What it was created with, and how it was changed.
    pub definition: Arc<Definition>,
    /// Where it is, and what its events wait for.
    pub status: Status,
    /// Everything that matches up to here is handled.
    pub cursor: Cursor,
    /// From there to the end of the log.
    pub lag: Lag,
    /// Workers connected to this gateway.
    pub worker_count: usize,
    /// When retention by age removes the oldest event that is not handled.
    pub expire_time: Option<UnixMillis>,
    /// About how many bytes the log may take in before retention by bytes removes that event, or
    /// the next that comes where every event is handled.
    pub headroom_bytes: Option<u64>,
}

impl Subscriptions {
    /// Lists the caller's subscriptions, by name: all that it may see, or those with these names.
    ///
    /// # Errors
    /// When the caller sees none with one of the names.
    pub async fn list(&self, caller: &Principal, names: &[Name]) -> Result<Vec<Overview>, Error> {
        let mut entries = self.shared.directory.list().await?;
        entries.retain(|entry| is_visible(caller, &entry.definition));
        let is_missing = |name: &&Name| !entries.iter().any(|entry| entry.name == **name);
        if let Some(missing) = names.iter().find(is_missing) {
            return Err(self.not_found(caller, missing).await?);
        }
        entries.retain(|entry| names.is_empty() || names.contains(&entry.name));
        self.overviews(&entries).await
    }

    async fn overviews(&self, entries: &[Entry]) -> Result<Vec<Overview>, Error> {
        let described = &self.log().describe().await?;
        let mut overviews = Vec::with_capacity(entries.len());
        for some in entries.chunks(LOOKED_UP_AT_ONCE) {
            let looked_up = some.iter().map(|entry| async move {
                let status = self.status(entry).await?;
                self.overview_of(entry, status, described).await
            });
            overviews.extend(try_join_all(looked_up).await?);
        }
        Ok(overviews)
    }

    /// A subscription, and where it is now.
    pub(super) async fn overview(&self, entry: &Entry) -> Result<Overview, Error> {
        let status = self.status(entry).await?;
        self.overview_at(entry, status).await
    }

    /// A subscription of this status.
    pub(super) async fn overview_at(
        &self,
        entry: &Entry,
        status: Status,
    ) -> Result<Overview, Error> {
        let described = self.log().describe().await?;
        self.overview_of(entry, status, &described).await
    }

    async fn status(&self, entry: &Entry) -> Result<Status, Error> {
        let status = Status::read(
            self.log(),
            &entry.name,
            &entry.definition,
            self.shared.surroundings.limits,
            self.shared.directory.now(),
        );
        let status = status.await;
        status.map_err(|error| Error::of_step(&entry.name, error))
    }

    async fn overview_of(
        &self,
        entry: &Entry,
        status: Status,
        described: &Description,
    ) -> Result<Overview, Error> {
        let fanout = &self.shared.surroundings.fanout;
        let log: &dyn Read = fanout.log();
        let is_of_this_log = status.epoch == log.epoch();
        let bounds = log.bounds();
        // Of another log, nothing of this one is handled.
        let handled = if is_of_this_log {
            status.cursor
        } else {
            bounds.trimmed
        };
        let oldest = first_received_after(log, handled).await?;
        let lag = lag(bounds, handled, oldest);
        Ok(Overview {
            name: entry.name.clone(),
            definition: Arc::clone(&entry.definition),
            cursor: if is_of_this_log {
                fanout.cursor_at(status.cursor)
            } else {
                Cursor {
                    epoch: status.epoch,
                    run: Run::NONE,
                    position: status.cursor,
                }
            },
            lag,
            worker_count: entry.running.worker_count(),
            expire_time: oldest
                .zip(described.retain_for)
                .map(|(oldest, retain_for)| oldest.after(retain_for)),
            headroom_bytes: described.headroom_bytes(lag.events),
            status,
        })
    }

    /// From a position to the end of the log; without the time if the log cannot be read.
    pub(super) async fn lag_after(&self, position: Position) -> Lag {
        let log: &dyn Read = self.shared.surroundings.fanout.log();
        let oldest = first_received_after(log, position).await;
        lag(log.bounds(), position, oldest.unwrap_or(None))
    }

    /// Brings the gauges up to date, with those of all subscriptions in the log. They stay as they
    /// were if the log does not answer within 2 s, so that a scrape never waits for long.
    pub async fn observe(&self) {
        let metrics = &self.shared.surroundings.metrics;
        let before = metrics.shown();
        let observed = async {
            let entries = self.shared.directory.list().await?;
            self.overviews(&entries).await
        };
        let overviews = match timeout(OBSERVED_WITHIN, observed).await {
            Ok(Ok(overviews)) => overviews,
            Ok(Err(error)) => {
                tracing::debug!(%error, "the gauges of subscriptions stay as they were");
                return;
            }
            Err(_elapsed) => {
                tracing::debug!("the gauges of subscriptions stay as they were: no answer in time");
                return;
            }
        };
        let now = self.shared.directory.now();
        let observed = overviews
            .iter()
            .map(|overview| (overview.name.clone(), overview.observed(now)));
        metrics.observe(&before, &observed.collect::<Vec<_>>());
    }
}

impl Overview {
    fn observed(&self, now: UnixMillis) -> Observed {
        let counts = self.status.counts;
        let until = |time: UnixMillis| saturating(time.since(now).as_secs());
        Observed {
            lag_events: saturating(self.lag.events),
            lag_seconds: saturating(self.lag.time.as_secs()),
            outstanding: saturating(counts.outstanding),
            retrying: saturating(counts.retrying),
            blocked: saturating(counts.blocked),
            dead_letters: saturating(counts.dead),
            is_stalled: self.status.stall.is_some(),
            workers: saturating(self.worker_count),
            headroom_seconds: self.expire_time.map(until),
            headroom_bytes: self.headroom_bytes.map(saturating),
        }
    }
}

/// `oldest` is the receive time of the first record after the position.
fn lag(bounds: Bounds, position: Position, oldest: Option<UnixMillis>) -> Lag {
    let age = |oldest| bounds.last_receive_time.since(oldest);
    Lag {
        events: bounds.last.distance_from(position),
        time: oldest.map_or(Duration::ZERO, age),
    }
}

/// When the first record after a position was received, if there is one.
async fn first_received_after(
    log: &dyn Read,
    position: Position,
) -> Result<Option<UnixMillis>, ReadError> {
    let mut after = position;
    while after < log.bounds().last {
        let scan = Scan {
            after,
            narrow: IndexHint::All,
            payloads: Payloads::UnlessDecodedBy(clerk::decoding()),
        };
        match log.scan_with(scan, FirstReceived(None)).await {
            Ok((FirstReceived(Some(time)), _)) => return Ok(Some(time)),
            Ok((FirstReceived(None), through)) if through <= after => return Ok(None),
            Ok((FirstReceived(None), through)) => after = through,
            Err(ReadError::Expired { trimmed }) if trimmed > after => after = trimmed,
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

struct FirstReceived(Option<UnixMillis>);

impl Reader for FirstReceived {
    fn wants(&self, _: Attributes<&str>) -> bool {
        true
    }

    fn take(&mut self, record: RecordRef<'_>) -> ControlFlow<()> {
        self.0 = Some(record.receive_time);
        ControlFlow::Break(())
    }
}
