//! Keeping up with the stream: where it begins and ends, what it holds, and whether it
//! takes records.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use tokio::time::{Instant, sleep};

use super::shared::{Refreshed, Shared, Tallies};
use super::subject;
use crate::event::Position;
use crate::log::Writability;

/// How often the stream is asked for its state.
const INTERVAL: Duration = Duration::from_secs(1);
/// The same, while it takes no records.
const INTERVAL_WHILE_REFUSING: Duration = Duration::from_millis(250);
/// How often records are counted anew; between, those that come by are added.
const TALLIES_INTERVAL: Duration = Duration::from_secs(5);
/// A stream that is said not to exist so often in a row is gone: a cluster that is
/// starting can say so of one that it has not read yet.
const MISSING_MAX: u32 = 8;

/// Watches the stream until the log is closed.
pub(super) async fn run(shared: Arc<Shared>) {
    let keeping = async {
        let mut missing = 0;
        let mut counted = Instant::now();
        loop {
            let is_writable = *shared.writability.borrow() == Writability::Writable;
            let pause = if is_writable {
                INTERVAL
            } else {
                INTERVAL_WHILE_REFUSING
            };
            tokio::select! {
                () = shared.changed.notified() => {}
                () = sleep(pause) => {}
            }
            look(&shared, &mut missing).await;
            if counted.elapsed() >= TALLIES_INTERVAL {
                if let Err(error) = count(&shared).await {
                    tracing::debug!(%error, "the records of the stream could not be counted");
                }
                counted = Instant::now();
            }
        }
    };
    tokio::select! {
        () = keeping => {}
        () = shared.closed.cancelled() => {}
    }
}

async fn look(shared: &Shared, missing: &mut u32) {
    let refreshed = shared.refresh().await;
    *missing = match refreshed {
        Err(Refreshed::Missing) => *missing + 1,
        _ => 0,
    };
    let unreachable = refreshed.as_ref().err().map(ToString::to_string);
    *shared
        .unreachable
        .write()
        .unwrap_or_else(PoisonError::into_inner) = unreachable;
    let not_followed = shared
        .not_followed
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    match refreshed {
        Ok(_) if shared.is_paused() => {}
        Ok(_) => shared.set_writability(match not_followed {
            None => Writability::Writable,
            Some(reason) => Writability::Refusing(reason),
        }),
        Err(Refreshed::Missing) if *missing >= MISSING_MAX => {
            shared.set_writability(Writability::Failed(format!(
                "the stream {} is gone; a new one is another log",
                shared.config.stream
            )));
        }
        Err(error) => shared.set_writability(Writability::Refusing(error.to_string())),
    }
}

/// Counts the records per source and type.
pub(super) async fn count(shared: &Shared) -> Result<(), String> {
    let Shared {
        context, config, ..
    } = shared;
    let stream = context.get_stream_no_info(&config.stream).await;
    let stream = stream.map_err(|error| error.to_string())?;
    let all = subject::all(&config.subject_prefix);
    let subjects = stream.info_with_subjects(all).await;
    let subjects = subjects.map_err(|error| error.to_string())?;
    let through = Position::new(subjects.info.state.last_sequence);
    let found: Vec<(String, usize)> = subjects
        .try_collect()
        .await
        .map_err(|error| error.to_string())?;
    let counts = found.into_iter().filter_map(|(subject, count)| {
        let parsed = subject::parse(&config.subject_prefix, &subject)?;
        Some((parsed, count as u64))
    });
    shared.replace_tallies(Tallies {
        counts: counts.collect(),
        through,
        names_version: 0,
    });
    Ok(())
}
