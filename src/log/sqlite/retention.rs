//! Retention: the oldest records go, a few at a time, so that no webhook waits long.
//!
//! It looks once a minute, and whenever a sixteenth of the bytes that may stay were
//! committed: from then on, more goes with each batch than comes with it, until what is
//! left may stay.

use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::config::Config;
use super::reader;
use super::retired::{self, Ids};
use super::shared::Shared;
use super::tally::{self, SavedTallies};
use crate::event::{Position, UnixMillis};
use crate::log::record::{DEDUPE_WINDOW, Entry, Tally};

/// Records removed in one transaction.
const STEP_RECORDS_MAX: u32 = 500;
/// What a record takes up beside its texts and bodies: numbers, lengths, its terms, part of
/// a page.
const RECORD_BYTES: u64 = 256;
/// After this part of the bytes that may stay, retention looks again.
const LOOKS_PER_LIMIT: u64 = 16;
/// Once retention is due, each commit removes this many times the bytes that it adds.
const GOES_PER_COMMIT: u64 = 2;
/// A run of steps ends once it has removed this many times the excess that it began with, by
/// weight. Weights are estimates, and records that free no page must not empty the log.
const REMOVED_PER_EXCESS_MAX: u64 = 4;
/// Time between lines that report what was removed.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

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

/// What a step removed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Removed {
    pub(super) step: Step,
    pub(super) records: u64,
    pub(super) bytes: u64,
}

/// Steps that follow one another, until what is left may stay.
#[derive(Debug, Default)]
struct Sweep {
    /// Bytes beyond the limit when it began, and what was committed since.
    excess_bytes: Option<u64>,
    removed_bytes: u64,
}

impl Sweep {
    /// How much of what is measured the next step may remove. A run may always remove what
    /// may come before the next.
    fn allows(&mut self, excess_bytes: u64, bytes_max: u64) -> u64 {
        let began_with = *self.excess_bytes.get_or_insert(excess_bytes);
        let most = began_with
            .saturating_mul(REMOVED_PER_EXCESS_MAX)
            .saturating_add(bytes_max / LOOKS_PER_LIMIT);
        excess_bytes.min(most.saturating_sub(self.removed_bytes))
    }
}

/// When the writer takes a step of its own, and what there is to say of those that it took.
#[derive(Debug, Default)]
pub(super) struct Retention {
    sweep: Sweep,
    committed_bytes: u64,
    is_due: bool,
    records: u64,
    bytes: u64,
    unreported_since: Option<Instant>,
    reported: Option<Instant>,
}

impl Retention {
    /// After a commit. Returns how many bytes should go before the next.
    pub(super) fn note_commit(&mut self, bytes: u64, bytes_max: Option<u64>) -> u64 {
        let Some(bytes_max) = bytes_max else {
            return 0;
        };
        self.committed_bytes += bytes;
        if let Some(excess_bytes) = &mut self.sweep.excess_bytes {
            *excess_bytes += bytes;
        }
        self.is_due |= self.committed_bytes >= bytes_max / LOOKS_PER_LIMIT;
        if self.is_due {
            GOES_PER_COMMIT * bytes
        } else {
            0
        }
    }

    pub(super) fn is_due(&self) -> bool {
        self.is_due
    }

    /// After a step.
    pub(super) fn note_step(&mut self, removed: Removed, now: Instant) {
        self.is_due = removed.step == Step::More;
        self.sweep.removed_bytes += removed.bytes;
        if !self.is_due {
            self.committed_bytes = 0;
            self.sweep = Sweep::default();
        }
        if removed.records > 0 {
            self.records += removed.records;
            self.bytes += removed.bytes;
            self.unreported_since.get_or_insert(now);
        }
    }

    /// A step failed: the next look tries again.
    pub(super) fn note_failure(&mut self) {
        self.is_due = false;
        self.sweep = Sweep::default();
    }

    /// When to look again without a command, if ever.
    pub(super) fn next_look(&self, now: Instant) -> Option<Duration> {
        if self.is_due {
            return Some(Duration::ZERO);
        }
        self.unreported_since?;
        let due = self
            .reported
            .map_or(now, |reported| reported + REPORT_INTERVAL);
        Some(due.saturating_duration_since(now))
    }

    /// Records and bytes that were removed, when a report is due: once a minute, and not in the
    /// middle of a run unless that takes longer.
    pub(super) fn take_report(&mut self, now: Instant) -> Option<(u64, u64)> {
        let since = self.unreported_since?;
        let is_long_ago = |then: Instant| now.saturating_duration_since(then) >= REPORT_INTERVAL;
        let is_due = self.reported.is_none_or(is_long_ago) && (!self.is_due || is_long_ago(since));
        if !is_due {
            return None;
        }
        self.reported = Some(now);
        self.unreported_since = None;
        let report = (self.records, self.bytes);
        (self.records, self.bytes) = (0, 0);
        Some(report)
    }
}

/// About what a record takes up in the file.
pub(super) fn weight(record: &Entry) -> u64 {
    let attributes = record.attributes.as_ref();
    let ids = [
        attributes.user_id,
        attributes.organization_id,
        attributes.session_id,
        attributes.object_id,
    ]
    .into_iter()
    .flatten()
    .map(str::len)
    .sum::<usize>();
    let unique = record.id.len() + attributes.source.len();
    let others = attributes.event_type.len() + ids;
    weight_of(record.bytes() as u64, unique as u64, others as u64)
}

/// The id and its source lie there twice.
fn weight_of(content_bytes: u64, unique_bytes: u64, other_bytes: u64) -> u64 {
    content_bytes + 2 * unique_bytes + other_bytes + RECORD_BYTES
}

/// Logs what was removed, and what is left.
pub(super) fn report(connection: &Connection, records: u64, bytes: u64) {
    let oldest = reader::oldest_receive_time(connection)
        .ok()
        .flatten()
        .map(|oldest| prost_types::Timestamp::from(oldest).to_string());
    tracing::info!(
        events = records,
        bytes,
        oldest = oldest.as_deref(),
        "retention removed the oldest events"
    );
}

/// Bytes in use that can be had by removing records.
pub(super) fn removable_bytes(
    connection: &Connection,
    shared: &Shared,
    tally_bytes: u64,
) -> rusqlite::Result<u64> {
    // Each tree has a page, however empty it is.
    let trees: i64 = connection
        .prepare_cached("SELECT count(*) FROM sqlite_schema WHERE rootpage > 0")?
        .query_row([], |row| row.get(0))?;
    let empty = trees.unsigned_abs() * reader::page_bytes(connection)?;
    let stays = empty + shared.retired_ids.bytes() + tally_bytes + shared.cells.bytes();
    Ok(reader::used_bytes(connection)?.saturating_sub(stays))
}

/// Those of them beyond `bytes_max`.
fn excess_bytes(
    connection: &Connection,
    bytes_max: Option<u64>,
    shared: &Shared,
    saved: &SavedTallies,
) -> rusqlite::Result<u64> {
    let Some(bytes_max) = bytes_max else {
        return Ok(0);
    };
    let removable = removable_bytes(connection, shared, saved.bytes())?;
    Ok(removable.saturating_sub(bytes_max))
}

/// Removes the oldest records that `limits` no longer allows, at most
/// [`STEP_RECORDS_MAX`]. Always a prefix of the log.
pub(super) fn remove_oldest(
    connection: &mut Connection,
    limits: &Limits,
    shared: &Shared,
    retention: &mut Retention,
    saved: &mut SavedTallies,
) -> rusqlite::Result<Removed> {
    let excess_bytes = excess_bytes(connection, limits.bytes_max, shared, saved)?;
    let removable_bytes = match limits.bytes_max {
        Some(bytes_max) => retention.sweep.allows(excess_bytes, bytes_max),
        None => 0,
    };
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (oldest, bytes) = oldest_to_remove(&transaction, limits, removable_bytes)?;
    let forgotten = retired::forget(&transaction, limits.dedupe_since, STEP_RECORDS_MAX)?;
    let Some(through) = oldest else {
        transaction.commit()?;
        shared.retired_ids.note(Ids::default(), forgotten);
        let has_more = forgotten.count == u64::from(STEP_RECORDS_MAX);
        return Ok(Removed {
            step: if has_more { Step::More } else { Step::Done },
            records: 0,
            bytes: 0,
        });
    };
    let removed = count_through(&transaction, through)?;
    let published = &shared.published;
    let counts = published.counts().clone();
    let saved_through =
        saved.save_without(&removed, counts, &transaction, published.bounds().last)?;
    let retired = retired::retire_through(&transaction, through, limits.dedupe_since)?;
    remove_through(&transaction, through)?;
    transaction.commit()?;
    shared.retired_ids.note(retired, forgotten);

    let records = removed.iter().map(|tally| tally.count).sum();
    shared.metrics.retired.inc_by(records);
    published.trim(through, &removed);
    saved.take_over(&published.counts(), saved_through);
    // After the bounds: a reader that finds a run missing finds its positions trimmed.
    shared.change_runs(|runs| runs.forget_before(through));
    shared.times(|times| times.forget_through(through));
    Ok(Removed {
        step: Step::More,
        records,
        bytes,
    })
}

/// The last position that may go, and what the records up to there weigh.
fn oldest_to_remove(
    transaction: &Transaction<'_>,
    limits: &Limits,
    excess_bytes: u64,
) -> rusqlite::Result<(Option<Position>, u64)> {
    let mut last = None;
    let mut bytes = 0;
    let mut statement = transaction.prepare_cached(
        "SELECT record.position, receive_time_ms, \
         octet_length(event) + coalesce(octet_length(body.payload), octet_length(record.payload)), \
         octet_length(id) + octet_length(source), \
         octet_length(type) + coalesce(octet_length(user_id), 0) \
         + coalesce(octet_length(organization_id), 0) + coalesce(octet_length(session_id), 0) \
         + coalesce(octet_length(object_id), 0) \
         FROM record LEFT JOIN body ON body.position = record.position \
         ORDER BY record.position LIMIT ?1",
    )?;
    let mut rows = statement.query([STEP_RECORDS_MAX])?;
    while let Some(row) = rows.next()? {
        let received = UnixMillis::new(row.get(1)?);
        let too_old = limits.received_since.is_some_and(|since| received < since);
        if !too_old && bytes >= excess_bytes {
            break;
        }
        last = Some(Position::new(row.get::<_, i64>(0)?.unsigned_abs()));
        let number = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
        bytes += weight_of(number(2)?, number(3)?, number(4)?);
    }
    Ok((last, bytes))
}

/// How many records up to `through` there are of each source and type.
fn count_through(transaction: &Transaction<'_>, through: Position) -> rusqlite::Result<Vec<Tally>> {
    let sql = "SELECT source, type, count(*) FROM record WHERE position <= ?1 \
               GROUP BY source, type";
    tally::count(transaction, sql, [through.number().cast_signed()])
}

/// Removes the records up to `through`.
fn remove_through(transaction: &Transaction<'_>, through: Position) -> rusqlite::Result<()> {
    let through = through.number().cast_signed();
    transaction.execute("DELETE FROM record WHERE position <= ?1", [through])?;
    transaction.execute("DELETE FROM body WHERE position <= ?1", [through])?;
    transaction.execute("UPDATE meta SET trimmed = ?1", [through])?;
    // A run goes once its successor begins at or before what is trimmed.
    transaction.execute(
        "DELETE FROM run WHERE first_position < \
         (SELECT max(first_position) FROM run WHERE first_position <= ?1)",
        [through],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_frees_nothing_ends_before_the_log_is_empty() {
        const MIB: u64 = 1 << 20;
        let mut retention = Retention::default();
        let removed = |step, bytes| Removed {
            step,
            records: 1,
            bytes,
        };
        let mut run = |committed: u64| {
            let mut sum = 0;
            loop {
                // The measure never falls, whatever goes.
                let allowed = retention.sweep.allows(10 * MIB, 160 * MIB);
                if allowed == 0 {
                    retention.note_step(removed(Step::Done, 0), Instant::now());
                    return sum;
                }
                if sum == 0 {
                    retention.note_commit(committed, Some(160 * MIB));
                }
                let bytes = allowed.min(MIB);
                sum += bytes;
                retention.note_step(removed(Step::More, bytes), Instant::now());
            }
        };
        assert_eq!(run(0), 50 * MIB);
        assert_eq!(run(0), 50 * MIB, "the next look begins another");
        assert_eq!(run(5 * MIB), 70 * MIB, "what comes may go too");
    }

    #[test]
    fn removals_are_reported_at_most_once_a_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let removed = |step| Removed {
            step,
            records: 10,
            bytes: 1_000,
        };
        let mut retention = Retention::default();
        assert_eq!(retention.next_look(at(0)), None);
        retention.note_step(removed(Step::More), at(0));
        assert_eq!(retention.take_report(at(0)), None, "there is more to go");
        retention.note_step(removed(Step::Done), at(1));
        assert_eq!(retention.take_report(at(1)), Some((20, 2_000)));
        assert_eq!(retention.next_look(at(1)), None);
        retention.note_step(removed(Step::Done), at(2));
        assert_eq!(retention.take_report(at(2)), None);
        assert_eq!(retention.next_look(at(2)), Some(Duration::from_secs(59)));
        retention.note_step(removed(Step::Done), at(3));
        assert_eq!(retention.take_report(at(61)), Some((20, 2_000)));
        // A run that does not come to an end is reported all the same.
        for seconds in 100..160 {
            retention.note_step(removed(Step::More), at(seconds));
            assert_eq!(retention.take_report(at(seconds)), None);
        }
        retention.note_step(removed(Step::More), at(160));
        assert_eq!(retention.take_report(at(160)), Some((610, 61_000)));
    }
}
