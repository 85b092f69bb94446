//! Reading: a few read-only connections, each used by one blocking thread at a time.

use std::path::Path;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rusqlite::types::ToSqlOutput;
use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, params_from_iter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::OpenError;
use super::schema;
use super::times::block_of;
use crate::event::numbers::saturating;
use crate::event::{Attributes, Position, Run, UnixMillis};
use crate::log::error::ReadError;
use crate::log::record::Record;
use crate::log::scan::{Predicate, RecordRef};

/// Reads under way at once; more wait their turn.
const CONNECTIONS: usize = 4;

pub(super) const COLUMNS: &str = "record.position, receive_time_ms, decoding, id, source, type, \
     instance_id, user_id, organization_id, session_id, object_id, event";

/// Follows [`COLUMNS`]. Looked up row by row, so that a row that needs none costs nothing.
pub(super) const PAYLOAD: &str = "coalesce(\
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

/// The receive times of some records.
#[derive(Debug, Default)]
pub(super) struct TimesPage {
    /// The latest of each block of positions, with a position of the block.
    pub(super) latest: Vec<(Position, UnixMillis)>,
    /// The last record of the page.
    pub(super) through: Option<Position>,
}

/// Reads the receive times of at most `rows_max` records in `(after, last]`.
pub(super) fn latest_times(
    connection: &Connection,
    (after, last): (Position, Position),
    rows_max: usize,
) -> Result<TimesPage, ReadError> {
    let sql = "SELECT position, receive_time_ms FROM record \
               WHERE position > ?1 AND position <= ?2 ORDER BY position LIMIT ?3";
    let parameters = [
        Sql::Position(after),
        Sql::Position(last),
        Sql::Limit(rows_max),
    ];
    let gather = || -> rusqlite::Result<TimesPage> {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(params_from_iter(parameters))?;
        let mut page = TimesPage::default();
        while let Some(row) = rows.next()? {
            let position = position(row)?;
            let received = UnixMillis::new(row.get(1)?);
            match page.latest.last_mut() {
                Some((first, latest)) if block_of(*first) == block_of(position) => {
                    *latest = (*latest).max(received);
                }
                _ => page.latest.push((position, received)),
            }
            page.through = Some(position);
        }
        Ok(page)
    };
    gather().map_err(unreadable)
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

pub(super) fn position(row: &Row<'_>) -> rusqlite::Result<Position> {
    Ok(Position::new(row.get::<_, i64>(0)?.unsigned_abs()))
}

pub(super) fn attributes<'row>(row: &'row Row<'_>) -> rusqlite::Result<Attributes<&'row str>> {
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
        object_id: id(10)?,
    })
}

pub(super) fn record<'row>(
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
        event: row.get_ref(11)?.as_bytes()?,
        decoding: row.get(2)?,
        payload: row.get_ref(12)?.as_bytes()?,
    })
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err takes"
)]
pub(super) fn unreadable(error: rusqlite::Error) -> ReadError {
    ReadError::Unreadable(error.to_string())
}

/// A parameter of the paging statements.
pub(super) enum Sql<'a> {
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
