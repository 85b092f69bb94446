//! How many records there are of each source and type.
//!
//! They are counted in memory. Writing the counts with each commit would cost it a page;
//! they are written now and then, and what came after is counted anew at a start.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use crate::event::Position;
use crate::log::{Record, Tally};

/// So many records, and a batch, are counted anew at a start at the most.
const SAVE_INTERVAL: u64 = 4_096;

const SAVE: &str = "INSERT OR REPLACE INTO tally (source, type, count) VALUES (?1, ?2, ?3)";

/// Records per (source, type).
pub(super) type Counts = BTreeMap<(String, String), u64>;

/// The counts, and up to where the file has them.
#[derive(Debug)]
pub(super) struct Tallies {
    counts: Counts,
    saved_through: Position,
    names_version: u64,
}

impl Tallies {
    /// As of the end of the log.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let tallied = "SELECT tallied FROM meta";
        let saved_through: i64 = connection.query_row(tallied, [], |row| row.get(0))?;
        let mut counts = Counts::new();
        let mut statement = connection.prepare(
            "SELECT source, type, count FROM tally UNION ALL \
             SELECT source, type, count(*) FROM record WHERE position > ?1 GROUP BY source, type",
        )?;
        let mut rows = statement.query([saved_through])?;
        while let Some(row) = rows.next()? {
            let count: i64 = row.get(2)?;
            *counts.entry((row.get(0)?, row.get(1)?)).or_default() += count.unsigned_abs();
        }
        Ok(Self {
            counts,
            saved_through: Position::new(saved_through.unsigned_abs()),
            names_version: 0,
        })
    }

    /// Writes the counts, which are those up to `tail`, if that is due. Returns up to where
    /// the file has them once the transaction is committed.
    pub(super) fn save_if_due(
        &self,
        transaction: &Connection,
        tail: Position,
    ) -> rusqlite::Result<Position> {
        if tail.number().saturating_sub(self.saved_through.number()) < SAVE_INTERVAL {
            return Ok(self.saved_through);
        }
        self.save(transaction, tail)
    }

    fn save(&self, transaction: &Connection, tail: Position) -> rusqlite::Result<Position> {
        let mut save = transaction.prepare_cached(SAVE)?;
        for ((source, event_type), count) in &self.counts {
            save.execute(params![source, event_type, count.cast_signed()])?;
        }
        let tallied = tail.number().cast_signed();
        transaction.execute("UPDATE meta SET tallied = ?1", [tallied])?;
        Ok(tail)
    }

    /// The same without `removed`, written.
    pub(super) fn save_without(
        &self,
        removed: &Counts,
        transaction: &Connection,
        tail: Position,
    ) -> rusqlite::Result<Self> {
        let mut left = Self {
            counts: self.counts.clone(),
            saved_through: tail,
            names_version: self.names_version,
        };
        for (pair, count) in removed {
            let kept = left.counts.entry(pair.clone()).or_default();
            *kept = kept.saturating_sub(*count);
        }
        left.save(transaction, tail)?;
        Ok(left)
    }

    /// After the commit.
    pub(super) fn note_saved(&mut self, through: Position) {
        self.saved_through = through;
    }

    pub(super) fn add(&mut self, records: &[Record]) {
        let mut added: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for Record { content, .. } in records {
            let attributes = &content.attributes;
            *added
                .entry((&attributes.source, &attributes.event_type))
                .or_default() += 1;
        }
        for ((source, event_type), count) in added {
            let pair = (source.to_owned(), event_type.to_owned());
            let names = self.counts.len();
            *self.counts.entry(pair).or_default() += count;
            self.names_version += u64::from(self.counts.len() > names);
        }
    }

    pub(super) fn names_version(&self) -> u64 {
        self.names_version
    }

    pub(super) fn record_count(&self) -> u64 {
        self.counts.values().sum()
    }

    pub(super) fn count_of_types(&self, types: &[String]) -> u64 {
        let of_types = self
            .counts
            .iter()
            .filter(|((_, event_type), _)| types.contains(event_type));
        of_types.map(|(_, count)| count).sum()
    }

    pub(super) fn list(&self) -> Vec<Tally> {
        let tallies = self
            .counts
            .iter()
            .map(|((source, event_type), count)| Tally {
                source: source.clone(),
                event_type: event_type.clone(),
                count: *count,
            });
        tallies.collect()
    }
}
