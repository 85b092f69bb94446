//! Ids that are remembered beyond their records, so that a delivery that is repeated after
//! retention is still known.

use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use crate::event::{Position, UnixMillis};

/// Ids in one page.
pub(super) const PAGE_IDS_MAX: u32 = 4_096;

/// An id whose record has been removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetiredId {
    /// The `svix-id`.
    pub id: String,
    /// The configured source.
    pub source: String,
    /// When its record was received.
    pub receive_time: UnixMillis,
}

/// How many there are, and what they weigh.
#[derive(Debug, Default)]
pub(super) struct RetiredIds {
    count: AtomicU64,
    /// Of ids and their sources.
    text_bytes: AtomicU64,
}

impl RetiredIds {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let sql = "SELECT count(*), coalesce(sum(octet_length(id) + octet_length(source)), 0) \
                   FROM retired_id";
        let (count, text_bytes) = connection.query_row(sql, [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        })?;
        Ok(Self {
            count: AtomicU64::new(count.unsigned_abs()),
            text_bytes: AtomicU64::new(text_bytes.unsigned_abs()),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// What they take up in the file: each lies in the table and in its index, with about
    /// 13 bytes for the time and the lengths, on pages that are filled to about 85 %.
    pub(super) fn bytes(&self) -> u64 {
        let text_bytes = self.text_bytes.load(Ordering::Relaxed);
        let entries = text_bytes + 13 * self.count.load(Ordering::Relaxed);
        2 * entries * 118 / 100
    }

    pub(super) fn note(&self, retired: Ids, forgotten: Ids) {
        for (total, more, less) in [
            (&self.count, retired.count, forgotten.count),
            (&self.text_bytes, retired.text_bytes, forgotten.text_bytes),
        ] {
            total.fetch_add(more, Ordering::Relaxed);
            total.fetch_sub(less, Ordering::Relaxed);
        }
    }
}

/// Ids that a statement retired or forgot.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ids {
    pub(super) count: u64,
    text_bytes: u64,
}

/// Retires the ids of the records up to `through` that were received since `since`.
pub(super) fn retire_through(
    transaction: &Transaction<'_>,
    through: Position,
    since: UnixMillis,
) -> rusqlite::Result<Ids> {
    ids(
        transaction,
        "INSERT OR IGNORE INTO retired_id (id, source, receive_time_ms) \
         SELECT id, source, receive_time_ms FROM record \
         WHERE position <= ?1 AND receive_time_ms >= ?2 \
         RETURNING octet_length(id) + octet_length(source)",
        [through.number().cast_signed(), since.milliseconds()],
    )
}

/// Forgets ids that were received before `since`.
pub(super) fn forget(
    transaction: &Transaction<'_>,
    since: UnixMillis,
    ids_max: u32,
) -> rusqlite::Result<Ids> {
    ids(
        transaction,
        "DELETE FROM retired_id WHERE (id, source) IN \
         (SELECT id, source FROM retired_id WHERE receive_time_ms < ?1 LIMIT ?2) \
         RETURNING octet_length(id) + octet_length(source)",
        [since.milliseconds(), ids_max.into()],
    )
}

/// Runs a statement that returns the bytes of each id that it changed.
fn ids(transaction: &Transaction<'_>, sql: &str, parameters: [i64; 2]) -> rusqlite::Result<Ids> {
    let mut changed = Ids::default();
    let mut statement = transaction.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    while let Some(row) = rows.next()? {
        changed.count += 1;
        changed.text_bytes += row.get::<_, i64>(0)?.unsigned_abs();
    }
    Ok(changed)
}

/// The ids after `after` in the order of the table that were received since `since`.
pub(super) fn list(
    connection: &Connection,
    after: Option<&RetiredId>,
    since: UnixMillis,
    ids_max: u32,
) -> rusqlite::Result<Vec<RetiredId>> {
    let (id, source) = after.map_or(("", ""), |retired| (&retired.id, &retired.source));
    let mut statement = connection.prepare_cached(
        "SELECT id, source, receive_time_ms FROM retired_id \
         WHERE (id, source) > (?1, ?2) AND receive_time_ms >= ?3 ORDER BY id, source LIMIT ?4",
    )?;
    let rows = statement.query_map(params![id, source, since.milliseconds(), ids_max], |row| {
        Ok(RetiredId {
            id: row.get(0)?,
            source: row.get(1)?,
            receive_time: UnixMillis::new(row.get(2)?),
        })
    })?;
    rows.collect()
}

/// Remembers ids that another log has removed; those of records that are here are known.
/// Returns how many it did not know.
pub(super) fn remember(
    connection: &mut Connection,
    retired: &[RetiredId],
    known: &RetiredIds,
) -> rusqlite::Result<u64> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut remembered = Ids::default();
    {
        let mut insert = transaction.prepare_cached(
            "INSERT OR IGNORE INTO retired_id (id, source, receive_time_ms) \
             SELECT ?1, ?2, ?3 \
             WHERE NOT EXISTS (SELECT 1 FROM record WHERE id = ?1 AND source = ?2)",
        )?;
        for RetiredId {
            id,
            source,
            receive_time,
        } in retired
        {
            let inserted = insert.execute(params![id, source, receive_time.milliseconds()])?;
            remembered.count += inserted as u64;
            remembered.text_bytes += (inserted * (id.len() + source.len())) as u64;
        }
    }
    transaction.commit()?;
    known.note(remembered, Ids::default());
    Ok(remembered.count)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::event::Attributes;
    use crate::log::sqlite::{Config, SqliteLog};
    use crate::log::{Append as _, Entry, Keep as _, Metrics};

    fn record(id: String, age: Duration) -> Entry {
        Entry {
            id,
            attributes: Attributes {
                source: "default".to_owned(),
                ..Attributes::default()
            },
            receive_time: UnixMillis::now().before(age),
            event: Bytes::new(),
            decoding: 1,
            payload: Bytes::from_static(b"{}"),
        }
    }

    #[tokio::test]
    async fn remembered_ids_weigh_what_they_weigh() {
        let hour = Duration::from_secs(3600);
        for length in [8, 31, 100, 256] {
            let directory = tempfile::TempDir::new().expect("a temporary directory");
            let config = Config {
                data_dir: directory.path().to_owned(),
                retain_for: Some(hour),
                retain_bytes: None,
                ..Config::default()
            };
            let metrics = Metrics::register(&mut Registry::default());
            let log = SqliteLog::open(config, metrics).expect("opens");
            // In no order, because ids need not come in one.
            let ids = (0..6_000_u64).map(|number| {
                let id = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) & 0xffff_ffff;
                format!("{id:08x}{}", "-".repeat(length - 8))
            });
            // The first third is no longer remembered.
            let appends = ids.enumerate().map(|(index, id)| {
                let age = if index < 2_000 { 30 * hour } else { 2 * hour };
                log.append(record(id, age))
            });
            for answer in futures_util::future::join_all(appends).await {
                answer.expect("durable");
            }
            log.apply_retention().await.expect("applied");
            assert_eq!(log.shared.retired_ids.count.load(Ordering::Relaxed), 4_000);
            let reckoned = log.shared.retired_ids.bytes();
            let sql = "SELECT sum(pgsize) FROM dbstat \
                       WHERE name IN ('retired_id', 'retired_id_receive_time')";
            let database = Connection::open(directory.path().join("clerkcast.db"));
            let measured: i64 = database
                .expect("opens")
                .query_row(sql, [], |row| row.get(0))
                .expect("measured");
            let found = measured.unsigned_abs();
            assert!(
                reckoned.abs_diff(found) * 5 <= found,
                "{reckoned} for {found}, {length} bytes each"
            );
            log.close().await;
            let database = Connection::open(directory.path().join("clerkcast.db"));
            let loaded = RetiredIds::load(&database.expect("opens")).expect("read");
            assert_eq!(loaded.bytes(), reckoned, "after a start");
        }
    }
}
