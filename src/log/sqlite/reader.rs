//! Reading: a few read-only connections, each used by one blocking thread at a time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rusqlite::types::ToSqlOutput;
use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, params_from_iter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::OpenError;
use super::runs::Runs;
use super::schema;
use super::times::BLOCK_POSITIONS;
use crate::event::numbers::saturating;
use crate::event::{Attributes, IndexHint, Position, Run, UnixMillis};
use crate::log::error::ReadError;
use crate::log::record::Record;
use crate::log::scan::{Payloads, Predicate, Reader, RecordRef, Scan};

/// Reads under way at once; more wait their turn.
const CONNECTIONS: usize = 4;
/// Rows judged for one page, so that a page of a rare filter comes to an end.
const ROWS_JUDGED_MAX: usize = 20_000;
/// With more values than this, an index costs more than it saves.
const NARROW_VALUES_MAX: usize = 64;

const COLUMNS: &str = "record.position, receive_time_ms, decoding, id, source, type, \
     instance_id, user_id, organization_id, session_id, event";

/// Follows [`COLUMNS`]. Looked up row by row, so that a row that needs none costs nothing.
const PAYLOAD: &str = "coalesce(\
     (SELECT body.payload FROM body WHERE body.position = record.position), record.payload)";

/// The read-only connections.
#[derive(Clone, Debug)]
pub(super) struct ReaderPool {
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
    reading: Arc<RwLock<()>>,
}

impl ReaderPool {
    pub(super) fn open(data_dir: &Path, reading: Arc<RwLock<()>>) -> Result<Self, OpenError> {
        let connections = (0..CONNECTIONS).map(|_| schema::open_for_reading(data_dir));
        Ok(Self {
            idle: Arc::new(Mutex::new(connections.collect::<Result<_, _>>()?)),
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
            reading,
        })
    }

    /// Runs `read` on a connection of its own.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Connection) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| ReadError::Closed)?;
        let idle = Arc::clone(&self.idle);
        let reading_lock = Arc::clone(&self.reading);
        let reading = tokio::task::spawn_blocking(move || {
            let mut borrowed = Borrowed::take(idle, permit).ok_or(ReadError::Closed)?;
            let _reading = reading_lock.read();
            read(borrowed.connection()?)
        });
        reading
            .await
            .map_err(|error| ReadError::Unreadable(error.to_string()))?
    }
}

/// A connection that goes back to the pool before its permit does, also where the
/// caller has gone or the read panics.
struct Borrowed {
    connection: Option<Connection>,
    idle: Arc<Mutex<Vec<Connection>>>,
    _permit: OwnedSemaphorePermit,
}

impl Borrowed {
    fn take(idle: Arc<Mutex<Vec<Connection>>>, permit: OwnedSemaphorePermit) -> Option<Self> {
        let taken = idle.lock().pop();
        Some(Self {
            connection: Some(taken?),
            idle,
            _permit: permit,
        })
    }

    fn connection(&mut self) -> Result<&mut Connection, ReadError> {
        self.connection.as_mut().ok_or(ReadError::Closed)
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let mut idle = self.idle.lock();
        idle.extend(self.connection.take());
    }
}

/// Shows `reader` the records in `(scan.after, last]`. Returns how far it came.
pub(super) fn scan(
    connection: &mut Connection,
    scan: &Scan,
    last: Position,
    runs: &Runs,
    reader: &mut dyn Reader,
) -> Result<Position, ReadError> {
    // One snapshot for both questions: what is gone, and what is there.
    let transaction = connection.transaction().map_err(unreadable)?;
    let trimmed_position: i64 = transaction
        .prepare_cached("SELECT trimmed FROM meta")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(unreadable)?;
    let trimmed = Position::new(trimmed_position.unsigned_abs());
    if trimmed > scan.after {
        return Err(ReadError::Expired { trimmed });
    }
    show(&transaction, scan, last, runs, reader).map_err(unreadable)
}

fn show(
    connection: &Connection,
    scan: &Scan,
    last: Position,
    runs: &Runs,
    reader: &mut dyn Reader,
) -> rusqlite::Result<Position> {
    let (sql, values) = select(scan);
    let mut statement = connection.prepare_cached(&sql)?;
    let bounds = [Sql::Position(scan.after), Sql::Position(last)];
    let limit = [Sql::Limit(ROWS_JUDGED_MAX)];
    let values = values.into_iter().map(Sql::Text);
    let mut rows = statement.query(params_from_iter(
        bounds.into_iter().chain(limit).chain(values),
    ))?;

    let mut through = scan.after;
    let mut judged = 0;
    let mut runs = runs.walk();
    while let Some(row) = rows.next()? {
        judged += 1;
        through = position(row)?;
        let attributes = attributes(row)?;
        if reader.wants(attributes) {
            let record = record(row, attributes, runs.at(through))?;
            if reader.take(record).is_break() {
                return Ok(through);
            }
        }
    }
    if judged < ROWS_JUDGED_MAX {
        through = last.max(scan.after);
    }
    Ok(through)
}

/// The statement for a scan, and the values that its index is asked for.
/// Parameters: ?1 after, ?2 last, ?3 limit, ?4… values.
fn select(scan: &Scan) -> (String, Vec<&str>) {
    let payload = match scan.payloads {
        Payloads::All => PAYLOAD.to_owned(),
        Payloads::UnlessDecodedBy(decoding) => {
            format!("CASE decoding WHEN {decoding} THEN '' ELSE {PAYLOAD} END")
        }
    };
    let (index, column, values) = match &scan.narrow {
        IndexHint::All => return (select_all(&payload), Vec::new()),
        IndexHint::Types(values) => ("record_type", "type", values),
        IndexHint::Users(values) => ("record_user", "user_id", values),
        IndexHint::Organizations(values) => ("record_organization", "organization_id", values),
        IndexHint::Sessions(values) => ("record_session", "session_id", values),
    };
    if values.is_empty() || values.len() > NARROW_VALUES_MAX {
        return (select_all(&payload), Vec::new());
    }
    // Each arm walks one value's positions in order, and SQLite merges the arms as
    // it goes; only the rows of the page are fetched.
    let arms = (4..4 + values.len()).map(|parameter| {
        format!(
            "SELECT position FROM record INDEXED BY {index} \
             WHERE {column} = ?{parameter} AND position > ?1 AND position <= ?2"
        )
    });
    let merged = arms.collect::<Vec<_>>().join(" UNION ALL ");
    let sql = format!(
        "SELECT {COLUMNS}, {payload} FROM ({merged} ORDER BY position LIMIT ?3) AS found \
         CROSS JOIN record ON record.position = found.position ORDER BY found.position"
    );
    (sql, values.iter().collect())
}

fn select_all(payload: &str) -> String {
    format!(
        "SELECT {COLUMNS}, {payload} FROM record WHERE position > ?1 AND position <= ?2 \
         ORDER BY position LIMIT ?3"
    )
}

/// The record; its run is for the caller to look up.
pub(super) fn find(
    connection: &Connection,
    id: &str,
    matches: &Predicate,
) -> Result<Option<Record>, ReadError> {
    find_first(connection, id, matches).map_err(unreadable)
}

/// Looks at one row per source that has the id.
fn find_first(
    connection: &Connection,
    id: &str,
    matches: &Predicate,
) -> rusqlite::Result<Option<Record>> {
    let sql = format!("SELECT {COLUMNS}, {PAYLOAD} FROM record WHERE id = ?1 ORDER BY position");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([id])?;
    while let Some(row) = rows.next()? {
        let attributes = attributes(row)?;
        if matches(attributes) {
            return Ok(Some(record(row, attributes, Run::NONE)?.to_record()));
        }
    }
    Ok(None)
}

/// The first record in a block of positions that was received at or after `time`.
pub(super) fn first_received_at_or_after(
    connection: &Connection,
    time: UnixMillis,
    (first, last): (Position, Position),
) -> Result<Option<Position>, ReadError> {
    let sql = "SELECT position FROM record NOT INDEXED \
               WHERE position BETWEEN ?1 AND ?2 AND receive_time_ms >= ?3 \
               ORDER BY position LIMIT 1";
    let [first, last] = [first, last].map(|position| position.number().cast_signed());
    let position: Option<i64> = connection
        .query_row(sql, [first, last, time.milliseconds()], |row| row.get(0))
        .optional()
        .map_err(unreadable)?;
    Ok(position.map(|position| Position::new(position.unsigned_abs())))
}

/// A page of the index on receive times. Parameters: ?1 and ?2 the entry before, ?3 limit.
pub(super) const LATEST_TIMES: &str = "SELECT receive_time_ms, position \
     FROM record INDEXED BY record_receive_time \
     WHERE (receive_time_ms, position) > (?1, ?2) \
     ORDER BY receive_time_ms, position LIMIT ?3";

/// A part of the index on receive times.
#[derive(Debug, Default)]
pub(super) struct TimesPage {
    /// The latest receive time of each block of positions that the part names, with the
    /// block's first position.
    pub(super) latest: Vec<(Position, UnixMillis)>,
    /// The last entry: the next page follows it. None at the end of the index.
    pub(super) last: Option<(i64, i64)>,
}

/// Reads at most `rows_max` entries of the index on receive times, in its order, after
/// `after`.
pub(super) fn latest_times(
    connection: &Connection,
    after: Option<(i64, i64)>,
    rows_max: usize,
) -> Result<TimesPage, ReadError> {
    let (time, position) = after.unwrap_or((i64::MIN, i64::MIN));
    let limit: i64 = saturating(rows_max);
    let gather = || -> rusqlite::Result<TimesPage> {
        let mut statement = connection.prepare_cached(LATEST_TIMES)?;
        let mut rows = statement.query([time, position, limit])?;
        let (mut blocks, mut last, mut count) = (BTreeMap::new(), None, 0);
        while let Some(row) = rows.next()? {
            let (time, position): (i64, i64) = (row.get(0)?, row.get(1)?);
            // Times ascend.
            blocks.insert(position.unsigned_abs() / BLOCK_POSITIONS, time);
            last = Some((time, position));
            count += 1;
        }
        let latest = blocks.into_iter().map(|(block, time)| {
            let first = Position::new(block * BLOCK_POSITIONS);
            (first, UnixMillis::new(time))
        });
        Ok(TimesPage {
            latest: latest.collect(),
            last: last.filter(|_| count == rows_max),
        })
    };
    gather().map_err(unreadable)
}

pub(super) fn size_and_oldest(
    connection: &mut Connection,
) -> Result<(u64, Option<UnixMillis>), ReadError> {
    let size = used_bytes(connection).map_err(unreadable)?;
    let oldest = oldest_receive_time(connection).map_err(unreadable)?;
    Ok((size, oldest))
}

/// When the oldest record was received, if there is one.
pub(super) fn oldest_receive_time(connection: &Connection) -> rusqlite::Result<Option<UnixMillis>> {
    let sql = "SELECT receive_time_ms FROM record ORDER BY position LIMIT 1";
    let oldest = connection.query_row(sql, [], |row| row.get(0)).optional()?;
    Ok(oldest.map(UnixMillis::new))
}

/// Bytes of the file that are in use.
pub(super) fn used_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let pages = |pragma: &str| -> rusqlite::Result<i64> {
        connection.pragma_query_value(None, pragma, |row| row.get(0))
    };
    let used = pages("page_count")? - pages("freelist_count")?;
    Ok(used.unsigned_abs() * page_bytes(connection)?)
}

pub(super) fn page_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let bytes: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    Ok(bytes.unsigned_abs())
}

fn position(row: &Row<'_>) -> rusqlite::Result<Position> {
    Ok(Position::new(row.get::<_, i64>(0)?.unsigned_abs()))
}

fn attributes<'row>(row: &'row Row<'_>) -> rusqlite::Result<Attributes<&'row str>> {
    let text = |column: usize| -> rusqlite::Result<&str> { Ok(row.get_ref(column)?.as_str()?) };
    let id = |column: usize| -> rusqlite::Result<Option<&str>> {
        Ok(row.get_ref(column)?.as_str_or_null()?)
    };
    Ok(Attributes {
        source: text(4)?,
        event_type: text(5)?,
        instance_id: id(6)?,
        user_id: id(7)?,
        organization_id: id(8)?,
        session_id: id(9)?,
    })
}

fn record<'row>(
    row: &'row Row<'_>,
    attributes: Attributes<&'row str>,
    run: Run,
) -> rusqlite::Result<RecordRef<'row>> {
    Ok(RecordRef {
        position: position(row)?,
        run,
        id: row.get_ref(3)?.as_str()?,
        attributes,
        receive_time: UnixMillis::new(row.get(1)?),
        event: row.get_ref(10)?.as_bytes()?,
        decoding: row.get(2)?,
        payload: row.get_ref(11)?.as_bytes()?,
    })
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err takes"
)]
fn unreadable(error: rusqlite::Error) -> ReadError {
    ReadError::Unreadable(error.to_string())
}

/// A parameter of the paging statements.
enum Sql<'a> {
    Position(Position),
    Limit(usize),
    Text(&'a str),
}

impl ToSql for Sql<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Position(position) => Ok(position.number().cast_signed().into()),
            Self::Limit(limit) => Ok(saturating::<i64>(*limit).into()),
            Self::Text(text) => text.to_sql(),
        }
    }
}
