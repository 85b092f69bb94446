//! How many records there are of each source and type.
//!
//! They are counted in memory. Writing the counts with each commit would cost it a page;
//! they are written now and then, and what came after is counted again at a start.

use std::collections::BTreeMap;

use rusqlite::{Connection, Params, params};

use crate::event::Position;
use crate::log::counts::{Counts, IsDeclared};
use crate::log::record::Tally;

/// At most this many records, and a batch, are counted again at a start.
const SAVE_INTERVAL: u64 = 4_096;
/// What a row weighs beside its names, on pages that are about two thirds filled.
const ROW_BYTES: usize = 16;

const SAVE: &str = "INSERT OR REPLACE INTO tally (source, type, count) VALUES (?1, ?2, ?3)";
const FORGET: &str = "DELETE FROM tally WHERE source = ?1 AND type = ?2";

/// Records per (source, type), as they lie in the log.
type Found = BTreeMap<(String, String), u64>;

/// What the file has of the counts.
#[derive(Debug)]
pub(super) struct SavedTallies {
    saved: Found,
    through: Position,
}

/// Loads the counts as of `last`, the end of the log, and what the file has of them. What it
/// should no longer have goes from it.
pub(super) fn load(
    connection: &Connection,
    is_declared: IsDeclared,
    last: Position,
) -> rusqlite::Result<(Counts, SavedTallies)> {
    let tallied = "SELECT tallied FROM meta";
    let saved_through: i64 = connection.query_row(tallied, [], |row| row.get(0))?;
    let saved = find(connection, "SELECT source, type, count FROM tally", [])?;
    let later = "SELECT source, type, count(*) FROM record WHERE position > ?1 \
                 GROUP BY source, type";
    let mut counts = Counts::new(is_declared);
    for ((source, name), count) in &saved {
        counts.restore(source, name, *count);
    }
    counts.mend();
    for ((source, event_type), count) in find(connection, later, [saved_through])? {
        counts.add(&source, &event_type, count);
    }
    counts.forget_empty();
    let mut tallies = SavedTallies {
        saved,
        through: Position::new(saved_through.unsigned_abs()),
    };
    let mut saved = tallies.saved.keys();
    if saved.any(|(source, name)| counts.get(source, name).is_none()) {
        let transaction = connection.unchecked_transaction()?;
        let through = tallies.save(&counts, &transaction, last)?;
        transaction.commit()?;
        tallies.take_over(&counts, through);
    }
    Ok((counts, tallies))
}

impl SavedTallies {
    /// Writes the counts, which are those up to `last`, if that is due. Returns up to where
    /// the file has them once the transaction is committed.
    pub(super) fn save_if_due(
        &self,
        counts: &Counts,
        transaction: &Connection,
        last: Position,
    ) -> rusqlite::Result<Position> {
        if last.number().saturating_sub(self.through.number()) < SAVE_INTERVAL {
            return Ok(self.through);
        }
        self.save(counts, transaction, last)
    }

    /// Writes what differs from the file.
    fn save(
        &self,
        counts: &Counts,
        transaction: &Connection,
        last: Position,
    ) -> rusqlite::Result<Position> {
        let mut save = transaction.prepare_cached(SAVE)?;
        let mut saved = self.saved.iter().peekable();
        let mut forget = transaction.prepare_cached(FORGET)?;
        for (source, name, count) in counts.iter() {
            let mut written = None;
            // Both are in one order.
            while let Some((pair, count)) = saved.peek()
                && (pair.0.as_str(), pair.1.as_str()) <= (source, name)
            {
                if (pair.0.as_str(), pair.1.as_str()) == (source, name) {
                    written = Some(**count);
                } else {
                    forget.execute(params![pair.0, pair.1])?;
                }
                saved.next();
            }
            if written != Some(count) {
                save.execute(params![source, name, count.cast_signed()])?;
            }
        }
        for ((source, name), _) in saved {
            forget.execute(params![source, name])?;
        }
        let tallied = last.number().cast_signed();
        transaction.execute("UPDATE meta SET tallied = ?1", [tallied])?;
        Ok(last)
    }

    /// Writes the counts without `removed`. Returns up to where the file has them once the
    /// transaction is committed.
    pub(super) fn save_without(
        &self,
        removed: &[Tally],
        mut counts: Counts,
        transaction: &Connection,
        last: Position,
    ) -> rusqlite::Result<Position> {
        for tally in removed {
            counts.remove(&tally.source, &tally.event_type, tally.count);
        }
        counts.forget_empty();
        self.save(&counts, transaction, last)
    }

    /// After the commit, and before anything else is counted.
    pub(super) fn note_saved(&mut self, counts: &Counts, through: Position) {
        if through != self.through {
            self.take_over(counts, through);
        }
    }

    /// The file has the counts as they are.
    pub(super) fn take_over(&mut self, counts: &Counts, through: Position) {
        self.through = through;
        let counts = counts.iter().map(|(source, name, count)| {
            let pair = (source.to_owned(), name.to_owned());
            (pair, count)
        });
        self.saved = counts.collect();
    }

    /// About what the rows take up in the file.
    pub(super) fn bytes(&self) -> u64 {
        let rows = self.saved.keys();
        weight(rows.map(|(source, name)| (source.as_str(), name.as_str())))
    }
}

/// About what rows of these sources and names take up in the file.
pub(super) fn weight<'a>(rows: impl Iterator<Item = (&'a str, &'a str)>) -> u64 {
    let bytes = rows.map(|(source, name)| (source.len() + name.len() + ROW_BYTES) * 3 / 2);
    bytes.sum::<usize>() as u64
}

/// How many records of each source and type a statement finds, which selects source, type
/// and count.
pub(super) fn count(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
) -> rusqlite::Result<Vec<Tally>> {
    let found = find(connection, sql, parameters)?;
    let tallies = found
        .into_iter()
        .map(|((source, event_type), count)| Tally {
            source,
            event_type,
            count,
        });
    Ok(tallies.collect())
}

/// Reads rows of source, type and count.
fn find(connection: &Connection, sql: &str, parameters: impl Params) -> rusqlite::Result<Found> {
    let mut found = Found::new();
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    while let Some(row) = rows.next()? {
        let count: i64 = row.get(2)?;
        found.insert((row.get(0)?, row.get(1)?), count.unsigned_abs());
    }
    Ok(found)
}
