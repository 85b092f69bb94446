//! How many records there are of each source and type.
//!
//! They are counted in memory. Writing the counts with each commit would cost it a page;
//! they are written now and then, and what came after is counted again at a start.

use std::collections::BTreeMap;

use rusqlite::{Connection, Params, params};

use crate::event::{Position, Values};
use crate::log::counts::{Counts, IsDeclared};
use crate::log::{Record, Tally};

/// At most this many records, and a batch, are counted again at a start.
const SAVE_INTERVAL: u64 = 4_096;
/// What a row weighs beside its names, on pages that are about two thirds filled.
const ROW_BYTES: usize = 16;

const SAVE: &str = "INSERT OR REPLACE INTO tally (source, type, count) VALUES (?1, ?2, ?3)";
const FORGET: &str = "DELETE FROM tally WHERE source = ?1 AND type = ?2";

/// Records per (source, type), as they lie in the log.
pub(super) type Found = BTreeMap<(String, String), u64>;

/// The counts, and what the file has of them.
#[derive(Clone, Debug)]
pub(super) struct Tallies {
    counts: Counts,
    saved: Found,
    saved_through: Position,
}

impl Tallies {
    /// As of `last`, the end of the log. What the file should no longer have goes from it.
    pub(super) fn load(
        connection: &Connection,
        is_declared: IsDeclared,
        last: Position,
    ) -> rusqlite::Result<Self> {
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
        let mut tallies = Self {
            counts,
            saved,
            saved_through: Position::new(saved_through.unsigned_abs()),
        };
        let mut saved = tallies.saved.keys();
        if saved.any(|(source, name)| tallies.counts.get(source, name).is_none()) {
            let transaction = connection.unchecked_transaction()?;
            let through = tallies.save(&transaction, last)?;
            transaction.commit()?;
            tallies.take_over(through);
        }
        Ok(tallies)
    }

    /// Writes the counts, which are those up to `last`, if that is due. Returns up to where
    /// the file has them once the transaction is committed.
    pub(super) fn save_if_due(
        &self,
        transaction: &Connection,
        last: Position,
    ) -> rusqlite::Result<Position> {
        if last.number().saturating_sub(self.saved_through.number()) < SAVE_INTERVAL {
            return Ok(self.saved_through);
        }
        self.save(transaction, last)
    }

    /// Writes what differs from the file.
    fn save(&self, transaction: &Connection, last: Position) -> rusqlite::Result<Position> {
        let mut save = transaction.prepare_cached(SAVE)?;
        let mut saved = self.saved.iter().peekable();
        let mut forget = transaction.prepare_cached(FORGET)?;
        for (source, name, count) in self.counts.iter() {
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

    /// The same without `removed`, written.
    pub(super) fn save_without(
        &self,
        removed: &Found,
        transaction: &Connection,
        last: Position,
    ) -> rusqlite::Result<Self> {
        let mut left = self.clone();
        for ((source, event_type), count) in removed {
            left.counts.remove(source, event_type, *count);
        }
        left.counts.forget_empty();
        let through = left.save(transaction, last)?;
        left.take_over(through);
        Ok(left)
    }

    /// After the commit, and before anything else is counted.
    pub(super) fn note_saved(&mut self, through: Position) {
        if through != self.saved_through {
            self.take_over(through);
        }
    }

    /// The file has the counts as they are.
    fn take_over(&mut self, through: Position) {
        self.saved_through = through;
        let counts = self.counts.iter();
        let counts = counts.map(|(source, name, count)| {
            let pair = (source.to_owned(), name.to_owned());
            (pair, count)
        });
        self.saved = counts.collect();
    }

    pub(super) fn add(&mut self, records: &[Record]) {
        let mut added: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for Record { entry, .. } in records {
            let attributes = &entry.attributes;
            *added
                .entry((&attributes.source, &attributes.event_type))
                .or_default() += 1;
        }
        for ((source, event_type), count) in added {
            self.counts.add(source, event_type, count);
        }
    }

    /// About what the rows take up in the file.
    pub(super) fn bytes(&self) -> u64 {
        let rows = self.saved.keys();
        let bytes = rows.map(|(source, name)| (source.len() + name.len() + ROW_BYTES) * 3 / 2);
        bytes.sum::<usize>() as u64
    }

    pub(super) fn names_version(&self) -> u64 {
        self.counts.names_version()
    }

    pub(super) fn record_count(&self) -> u64 {
        self.counts.record_count()
    }

    pub(super) fn count_of_types(&self, types: &Values) -> u64 {
        let counts = types.iter().map(|name| self.counts.count_of(name));
        counts.sum()
    }

    pub(super) fn list(&self) -> Vec<Tally> {
        self.counts.list()
    }
}

/// Reads rows of source, type and count.
pub(super) fn find(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
) -> rusqlite::Result<Found> {
    let mut found = Found::new();
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    while let Some(row) = rows.next()? {
        let count: i64 = row.get(2)?;
        found.insert((row.get(0)?, row.get(1)?), count.unsigned_abs());
    }
    Ok(found)
}
