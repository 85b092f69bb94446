//! Monitors the stream: its beginning and end, its counts, whether its settings are still as
//! configured, and whether the connected server reaches it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use tokio::time::{Instant, sleep};

use super::admission::Look;
use super::shared::{Shared, StateError};
use super::{account, stream, subject};
use crate::event::Position;
use crate::log::record::{Tally, Writability};

/// How often the stream is asked for its state.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often the stream is asked for its state while it accepts no records.
const INTERVAL_WHILE_REFUSING: Duration = Duration::from_millis(250);
/// How often records are counted again; in between, new ones are added.
const TALLIES_INTERVAL: Duration = Duration::from_secs(5);
/// After this long without the stream, the client moves to another server. JetStream waits as
/// long before it elects a leader.
const MOVED_AFTER: Duration = Duration::from_secs(4);
/// A stream that is reported missing this often in a row is gone. A starting cluster reports a
/// stream as missing until it has read it.
const MISSING_MAX: u32 = 8;

/// Monitors the stream until the log is closed.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut watcher = Monitor {
        shared: &shared,
        missing: 0,
        lost_since: None,
    };
    let watching = async {
        let mut counted = Instant::now();
        loop {
            let is_writable = shared.published.refusal().is_none();
            let pause = if is_writable {
                INTERVAL
            } else {
                INTERVAL_WHILE_REFUSING
            };
            tokio::select! {
                () = shared.changed.notified() => {}
                () = sleep(pause) => {}
            }
            watcher.look().await;
            if counted.elapsed() >= TALLIES_INTERVAL {
                if let Err(error) = count(&shared).await {
                    tracing::debug!(%error, "the records of the stream could not be counted");
                }
                counted = Instant::now();
            }
        }
    };
    tokio::select! {
        () = watching => {}
        () = shared.closed.cancelled() => {}
    }
}

struct Monitor<'a> {
    shared: &'a Shared,
    /// Looks in a row that found no stream.
    missing: u32,
    /// Since when the connected server has not reached the stream.
    lost_since: Option<Instant>,
}

impl Monitor<'_> {
    /// Takes a look: asks the stream for its state and its settings, and after a refusal for the
    /// room of the account. Decides by them whether records can be stored.
    async fn look(&mut self) {
        let shared = self.shared;
        let asked = Instant::now();
        let info = shared.info().await;
        self.missing = match info {
            Err(StateError::Missing) => self.missing + 1,
            _ => 0,
        };
        if self.missing >= MISSING_MAX {
            shared.set_writability(Writability::Failed(format!(
                "the stream {} is gone; a new one is another log",
                shared.config.stream
            )));
        }
        let unreachable = info.as_ref().err().map(ToString::to_string);
        *shared.unreachable.write() = unreachable.clone();
        let not_followed = shared.not_followed.read().clone();
        let mismatches = info.ok().and_then(|info| {
            shared.note_state(&info.state);
            stream::check(&shared.config, &info.config).err()
        });
        self.move_if_lost(unreachable.is_some() || not_followed.is_some())
            .await;
        let mismatches = mismatches.map(|mismatches| mismatches.to_string());
        let finding = unreachable.or(mismatches).or(not_followed);
        let refused_bytes = shared.refused_bytes.load(Ordering::Relaxed);
        let finding = match finding {
            None if refused_bytes > 0 => account::find_lack(shared, refused_bytes).await,
            finding => finding,
        };
        let look = Look {
            asked: asked.into_std(),
            finding,
            last: shared.bounds().last,
        };
        shared.judge(|admission| admission.note_look(look));
    }

    /// Moves to another server if the connected one has not reached the stream for some time. If
    /// that server is cut off from the others, these may elect a leader without it.
    async fn move_if_lost(&mut self, is_lost: bool) {
        let is_connected = self.shared.check_connection().is_ok();
        if !is_lost || !is_connected {
            self.lost_since = None;
            return;
        }
        let lost_since = *self.lost_since.get_or_insert_with(Instant::now);
        if lost_since.elapsed() < MOVED_AFTER {
            return;
        }
        self.lost_since = None;
        self.shared.choice.note_move();
        let _closed = self.shared.client.force_reconnect().await;
    }
}

/// Counts the records per source and type.
pub(super) async fn count(shared: &Shared) -> Result<(), String> {
    let Shared {
        context, config, ..
    } = shared;
    let stream = context
        .get_stream_no_info(&config.stream)
        .await
        .map_err(|error| error.to_string())?;
    let all = subject::all(&config.subject_prefix);
    let subjects = stream
        .info_with_subjects(all)
        .await
        .map_err(|error| error.to_string())?;
    let through = Position::new(subjects.info.state.last_sequence);
    let found: Vec<(String, usize)> = subjects
        .try_collect()
        .await
        .map_err(|error| error.to_string())?;
    let counts = found.into_iter().filter_map(|(subject, count)| {
        let prefix = &config.subject_prefix;
        // A subject with a hashed type shows only the source.
        let of_hashed = |source| (source, Tally::LONG.to_owned());
        let (source, event_type) = subject::parse(prefix, &subject)
            .or_else(|| subject::source_of_hashed(prefix, &subject).map(of_hashed))?;
        Some(Tally {
            source,
            event_type,
            count: count as u64,
        })
    });
    shared.published.recount(counts.collect(), through);
    Ok(())
}
