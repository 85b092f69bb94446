//! Cells in the file: one row each.
//!
//! They are read on reader connections. The writer decides swaps within the transaction of a
//! batch, where it sees the swaps before them.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Row, params};
use tokio::sync::broadcast;

use crate::event::numbers::saturating;
use crate::log::cells::{
    Cell, Change, Changed, LIST_BYTES_MAX, Revision, Swapped, WATCHED_CHANGES_MAX,
};

/// What a row has beside name and value: the revision, and the lengths.
const ROW_BYTES: u64 = 24;
/// The least and the most of a row that lies in a page of its table, of 4 KiB. A longer row has
/// its end in pages of its own (SQLite, "Database File Format").
const BYTES_IN_PAGE: RangeInclusive<u64> = 489..=4_061;
const OVERFLOW_PAGE_BYTES: u64 = 4_092;
const PAGE_BYTES: u64 = 4_096;

const READ: &str = "SELECT name, revision, value FROM cell WHERE name = ?1";
const LIST: &str = "SELECT name, revision, value FROM cell WHERE name > ?1 AND name < ?2 \
     ORDER BY name LIMIT ?3";
const CURRENT: &str = "SELECT revision, octet_length(value) FROM cell WHERE name = ?1";
/// The first revision is drawn at random, so that none comes again where the cell was deleted
/// before, and leaves room for more of them than there will ever be.
const INSERT: &str = "INSERT INTO cell (name, revision, value) \
     VALUES (?1, 1 + (random() & 0x3fffffffffffffff), ?2) RETURNING revision";
const UPDATE: &str = "UPDATE cell SET revision = ?2, value = ?3 WHERE name = ?1";
const DELETE: &str = "DELETE FROM cell WHERE name = ?1";

/// What is known of the cells without reading them.
#[derive(Debug)]
pub(super) struct StoredCells {
    /// About what they take up in the file.
    bytes: AtomicI64,
    changes: broadcast::Sender<Changed>,
}

impl StoredCells {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let sql = "SELECT octet_length(name), octet_length(value) FROM cell";
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        let mut bytes = 0;
        while let Some(row) = rows.next()? {
            let [name, value] = [row.get::<_, i64>(0)?, row.get(1)?];
            bytes += weight(name.unsigned_abs(), value.unsigned_abs());
        }
        Ok(Self {
            bytes: AtomicI64::new(bytes),
            changes: broadcast::Sender::new(WATCHED_CHANGES_MAX),
        })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed).unsigned_abs()
    }

    pub(super) fn watch(&self) -> broadcast::Receiver<Changed> {
        self.changes.subscribe()
    }

    /// Notes how much more the cells take up.
    pub(super) fn note_growth(&self, bytes: i64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Publishes changes that are durable.
    pub(super) fn publish(&self, changes: &[Change], revisions: &[Option<Revision>]) {
        // To expect no cell and to store none changes nothing.
        let is_made =
            |(change, _): &(&Change, _)| change.expected.is_some() || change.value.is_some();
        for (change, revision) in changes.iter().zip(revisions).filter(is_made) {
            let _no_watcher = self.changes.send(Changed {
                name: change.name.as_str().into(),
                revision: *revision,
            });
        }
    }
}

/// About what a cell takes up in the file. The name lies there twice.
fn weight(name_bytes: u64, value_bytes: u64) -> i64 {
    let row = name_bytes + value_bytes + ROW_BYTES;
    let (least, most) = (BYTES_IN_PAGE.start(), BYTES_IN_PAGE.end());
    let mut in_page = row;
    if row > *most {
        in_page = least + (row - least) % OVERFLOW_PAGE_BYTES;
        if in_page > *most {
            in_page = *least;
        }
    }
    let overflow_pages = (row - in_page).div_ceil(OVERFLOW_PAGE_BYTES);
    // A page that has one row has room for no other where that is large; others are filled to
    // about three quarters.
    let share = if in_page > PAGE_BYTES / 2 {
        PAGE_BYTES
    } else {
        in_page * 4 / 3
    };
    let of_name = (name_bytes + ROW_BYTES / 2) * 4 / 3;
    saturating(share + of_name + overflow_pages * PAGE_BYTES)
}

pub(super) fn read(connection: &Connection, name: &str) -> rusqlite::Result<Option<Cell>> {
    let mut statement = connection.prepare_cached(READ)?;
    statement.query_row([name], cell).optional()
}

/// Reads the cells of a prefix after a name, as many as are asked for and fit in a page.
pub(super) fn list(
    connection: &Connection,
    prefix: &str,
    after: &str,
    max: usize,
) -> rusqlite::Result<Vec<Cell>> {
    // The least text after all that begin with the prefix; `~` comes after all names.
    let end = match prefix.strip_suffix('/') {
        Some(words) => format!("{words}0"),
        None => "~".to_owned(),
    };
    let mut statement = connection.prepare_cached(LIST)?;
    let limit: i64 = saturating(max);
    let mut rows = statement.query(params![after.max(prefix), end, limit])?;
    let mut cells = Vec::new();
    let mut bytes = 0;
    while bytes < LIST_BYTES_MAX
        && let Some(row) = rows.next()?
    {
        let cell = cell(row)?;
        bytes += cell.name.len() + cell.value.len();
        cells.push(cell);
    }
    Ok(cells)
}

fn cell(row: &Row<'_>) -> rusqlite::Result<Cell> {
    Ok(Cell {
        name: row.get(0)?,
        revision: Revision::new(row.get::<_, i64>(1)?.unsigned_abs()),
        value: Bytes::copy_from_slice(row.get_ref(2)?.as_blob()?),
    })
}

/// What became of a swap within a transaction.
pub(super) struct Decision {
    pub(super) swapped: Swapped,
    /// How much more the cells take up.
    pub(super) growth: i64,
}

/// The current revision of a cell, and the bytes of its value.
type Current = Option<(i64, u64)>;

/// Makes the changes, if each finds the revision that it expects; else makes none.
pub(super) fn swap(transaction: &Connection, changes: &[Change]) -> rusqlite::Result<Decision> {
    let mut current = transaction.prepare_cached(CURRENT)?;
    let mut found = Vec::with_capacity(changes.len());
    for change in changes {
        let current = find(&mut current, &change.name)?;
        let revision = current.map(|(revision, _)| Revision::new(revision.unsigned_abs()));
        if revision != change.expected {
            return Ok(Decision {
                swapped: Swapped::Conflict(change.name.clone()),
                growth: 0,
            });
        }
        found.push(current);
    }
    let mut revisions = Vec::with_capacity(changes.len());
    let mut growth = 0;
    for (change, current) in changes.iter().zip(found) {
        let revision = store(transaction, change, current)?;
        revisions.push(revision.map(|revision| Revision::new(revision.unsigned_abs())));
        let weigh = |bytes| weight(change.name.len() as u64, bytes);
        let value = change.value.as_ref();
        growth += value.map_or(0, |value| weigh(value.len() as u64));
        growth -= current.map_or(0, |(_, bytes)| weigh(bytes));
    }
    Ok(Decision {
        swapped: Swapped::Stored(revisions),
        growth,
    })
}

fn find(current: &mut CachedStatement<'_>, name: &str) -> rusqlite::Result<Current> {
    let found = current.query_row([name], |row| {
        Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs()))
    });
    found.optional()
}

/// Makes a change that finds what it expects. Returns the new revision, if there is one.
fn store(
    transaction: &Connection,
    Change { name, value, .. }: &Change,
    current: Current,
) -> rusqlite::Result<Option<i64>> {
    let value = value.as_deref();
    match (current, value) {
        (None, None) => Ok(None),
        (None, Some(value)) => {
            let mut insert = transaction.prepare_cached(INSERT)?;
            insert.query_row(params![name, value], |row| row.get(0))
        }
        (Some((revision, _)), Some(value)) => {
            let next = revision + 1;
            let mut update = transaction.prepare_cached(UPDATE)?;
            update.execute(params![name, next, value])?;
            Ok(Some(next))
        }
        (Some(_), None) => {
            transaction.prepare_cached(DELETE)?.execute([name])?;
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::log::cells::Cells as _;
    use crate::log::sqlite::{Config, SqliteLog};
    use crate::log::{Keep as _, Metrics};

    fn open(data_dir: &std::path::Path) -> SqliteLog {
        let config = Config {
            data_dir: data_dir.to_owned(),
            ..Config::default()
        };
        SqliteLog::open(config, Metrics::register(&mut Registry::default())).expect("opens")
    }

    #[tokio::test]
    async fn the_estimated_size_of_cells_is_within_a_quarter_of_the_measured() {
        for value_bytes in [60, 300, 1_000, 2_300, 6_000, 23_000, 230_000] {
            let directory = tempfile::TempDir::new().expect("a temporary directory");
            let log = open(directory.path());
            let cells = (8_000_000 / (value_bytes + 8_000)).min(1_000) as u64;
            // In no order, and each replaced once by a value of another size.
            let names = (0..cells).map(|number| {
                let number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                format!("dead/crm/{number:016x}")
            });
            let names: Vec<String> = names.collect();
            let mut current = vec![None; names.len()];
            for bytes in [value_bytes / 2, value_bytes] {
                let swaps = names.iter().zip(current).map(|(name, expected)| {
                    log.swap(vec![Change {
                        name: name.clone(),
                        expected,
                        value: Some(vec![7; bytes].into()),
                    }])
                });
                let swaps: Vec<_> = swaps.collect();
                let swapped = futures_util::future::join_all(swaps).await.into_iter();
                let revision = |swapped| match swapped {
                    Ok(Swapped::Stored(revisions)) => revisions.first().copied().flatten(),
                    swapped => panic!("{swapped:?}"),
                };
                current = swapped.map(revision).collect();
            }
            let tenth = names.iter().zip(current).take(names.len() / 10);
            let gone = tenth.map(|(name, expected)| Change {
                name: name.clone(),
                expected,
                value: None,
            });
            let swapped = log.swap(gone.collect()).await;
            assert!(matches!(swapped, Ok(Swapped::Stored(_))), "{swapped:?}");
            let reckoned = log.shared.cells.bytes();
            let sql = "SELECT sum(pgsize) FROM dbstat \
                       WHERE name IN ('cell', 'sqlite_autoindex_cell_1')";
            let database = Connection::open(directory.path().join("clerkcast.db"));
            let measured: i64 = database
                .expect("opens")
                .query_row(sql, [], |row| row.get(0))
                .expect("measured");
            let found = measured.unsigned_abs();
            assert!(
                reckoned.abs_diff(found) * 4 <= found,
                "{reckoned} for {found}, {value_bytes} bytes each"
            );
            log.close().await;
            let database = Connection::open(directory.path().join("clerkcast.db"));
            let loaded = StoredCells::load(&database.expect("opens")).expect("read");
            assert_eq!(loaded.bytes(), reckoned, "after a start");
        }
    }
}
