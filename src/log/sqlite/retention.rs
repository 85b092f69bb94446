//! Retention: the oldest records go, a few at a time, so that no webhook waits long.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::tally::Counts;
use super::{Config, Shared, reader};
use crate::event::{Position, UnixMillis};
use crate::log::DEDUPE_WINDOW;

/// Records removed in one transaction.
const STEP_RECORDS_MAX: usize = 500;
/// What a remembered id takes up: 31 bytes, twice indexed, about two thirds filled pages.
const RETIRED_ID_BYTES: u64 = 160;

/// What may stay, as of one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Records received earlier go.
    received_since: Option<UnixMillis>,
    /// The oldest go while more bytes are in use.
    bytes_max: Option<u64>,
    /// Ids received earlier need not be remembered.
    dedupe_since: UnixMillis,
}

impl Limits {
    pub(super) fn new(config: &Config, now: UnixMillis) -> Self {
        Self {
            received_since: config.retain_for.map(|age| now.before(age)),
            bytes_max: config.retain_bytes,
            dedupe_since: now.before(DEDUPE_WINDOW),
        }
    }
}

/// Whether to take another step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Records were removed, and there may be more.
    More,
    /// What is left may stay.
    Done,
}

/// Removes the oldest records that `limits` no longer allows, at most
/// [`STEP_RECORDS_MAX`]. Always a prefix of the log.
pub(super) fn remove_oldest(
    connection: &mut Connection,
    limits: &Limits,
    shared: &Shared,
) -> rusqlite::Result<Step> {
    let excess_bytes = match limits.bytes_max {
        Some(bytes_max) => {
            // Remembered ids must stay, so removing records for their sake is in vain.
            let ids = shared.retired_ids.load(Ordering::Relaxed) * RETIRED_ID_BYTES;
            let used = reader::used_bytes(connection)?.saturating_sub(ids);
            used.saturating_sub(bytes_max)
        }
        None => 0,
    };
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let oldest = oldest_to_remove(&transaction, limits, excess_bytes)?;
    let forgotten = transaction.execute(
        "DELETE FROM retired_id WHERE (id, source) IN \
         (SELECT id, source FROM retired_id WHERE receive_time_ms < ?1 LIMIT ?2)",
        params![
            limits.dedupe_since.milliseconds(),
            STEP_RECORDS_MAX.cast_signed()
        ],
    )?;
    let Some(through) = oldest.last().copied() else {
        transaction.commit()?;
        shared
            .retired_ids
            .fetch_sub(forgotten as u64, Ordering::Relaxed);
        let more = forgotten == STEP_RECORDS_MAX;
        return Ok(if more { Step::More } else { Step::Done });
    };
    let removed = count_through(&transaction, through)?;
    let left = shared
        .tallies()
        .save_without(&removed, &transaction, shared.bounds().tail)?;
    let retired = remove_through(&transaction, through, limits.dedupe_since)?;
    transaction.commit()?;
    shared
        .retired_ids
        .fetch_add(retired as u64, Ordering::Relaxed);
    shared
        .retired_ids
        .fetch_sub(forgotten as u64, Ordering::Relaxed);

    shared.metrics.retired.inc_by(removed.values().sum());
    *shared.tallies_mut() = left;
    let mut bounds = shared
        .bounds
        .write()
        .unwrap_or_else(PoisonError::into_inner);
    bounds.trimmed = through;
    drop(bounds);
    // After the bounds: whoever finds a run missing finds its positions trimmed.
    shared.change_runs(|runs| runs.forget_before(through));
    shared.note_record_count();
    Ok(Step::More)
}

fn oldest_to_remove(
    transaction: &Transaction<'_>,
    limits: &Limits,
    mut excess_bytes: u64,
) -> rusqlite::Result<Vec<Position>> {
    let mut oldest = Vec::new();
    let mut statement = transaction.prepare_cached(
        "SELECT record.position, receive_time_ms, \
         octet_length(event) + coalesce(octet_length(body.payload), octet_length(record.payload)) \
         FROM record LEFT JOIN body ON body.position = record.position \
         ORDER BY record.position LIMIT ?1",
    )?;
    let mut rows = statement.query([i64::try_from(STEP_RECORDS_MAX).unwrap_or(i64::MAX)])?;
    while let Some(row) = rows.next()? {
        let received = UnixMillis::new(row.get(1)?);
        let too_old = limits.received_since.is_some_and(|since| received < since);
        if !too_old && excess_bytes == 0 {
            break;
        }
        oldest.push(Position::new(row.get::<_, i64>(0)?.unsigned_abs()));
        excess_bytes = excess_bytes.saturating_sub(row.get::<_, i64>(2)?.unsigned_abs());
    }
    Ok(oldest)
}

/// How many records up to `through` there are of each source and type.
fn count_through(transaction: &Transaction<'_>, through: Position) -> rusqlite::Result<Counts> {
    let mut counts = Counts::new();
    let mut statement = transaction.prepare_cached(
        "SELECT source, type, count(*) FROM record WHERE position <= ?1 GROUP BY source, type",
    )?;
    let mut rows = statement.query([through.number().cast_signed()])?;
    while let Some(row) = rows.next()? {
        let count: i64 = row.get(2)?;
        counts.insert((row.get(0)?, row.get(1)?), count.unsigned_abs());
    }
    Ok(counts)
}

/// Removes the records up to `through`. Says how many of their ids are remembered.
fn remove_through(
    transaction: &Transaction<'_>,
    through: Position,
    dedupe_since: UnixMillis,
) -> rusqlite::Result<usize> {
    let through = through.number().cast_signed();
    let retired = transaction.execute(
        "INSERT OR IGNORE INTO retired_id (id, source, receive_time_ms) \
         SELECT id, source, receive_time_ms FROM record \
         WHERE position <= ?1 AND receive_time_ms >= ?2",
        params![through, dedupe_since.milliseconds()],
    )?;
    transaction.execute("DELETE FROM record WHERE position <= ?1", [through])?;
    transaction.execute("DELETE FROM body WHERE position <= ?1", [through])?;
    transaction.execute("UPDATE meta SET trimmed = ?1", [through])?;
    // A run goes once its successor begins at or before what is trimmed.
    transaction.execute(
        "DELETE FROM run WHERE first_position < \
         (SELECT max(first_position) FROM run WHERE first_position <= ?1)",
        [through],
    )?;
    Ok(retired)
}
