//! The file: where it lies, what is in it, and what is refused on opening.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::cells::StoredCells;
use super::error::OpenError;
use super::files::{self, create_file_for_owner, sync_directory};
use super::index::Loaded;
use super::retired::RetiredIds;
use super::runs::Runs;
use super::tally::{self, SavedTallies};
use crate::event::{Epoch, Position, Run, UnixMillis};
use crate::log::counts::{Counts, IsDeclared};
use crate::log::record::Bounds;

/// "Clkc": SQLite's `application_id`, which `file(1)` shows.
const APPLICATION_ID: i32 = 0x436c_6b63;
const VERSION: i32 = 5;
/// Extended codes for a failed fsync. What such a write left on disk is unknown, and a
/// second fsync may succeed without having written anything.
const FSYNC_FAILURES: [i32; 3] = [
    rusqlite::ffi::SQLITE_IOERR_FSYNC,
    rusqlite::ffi::SQLITE_IOERR_DIR_FSYNC,
    rusqlite::ffi::SQLITE_IOERR_CLOSE,
];
/// How long the connection waits for another writer's lock, such as that of an operator's
/// `sqlite3`.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The WAL's file keeps at most this size once it starts from its beginning. Without a reader
/// outside, it stays below.
pub(super) const WAL_BYTES_MAX: i64 = 64 << 20;

/// What the writer keeps of the file in memory.
const CACHE_KIB: i64 = 16 << 10;

/// Positions are row ids and never reused: `meta.trimmed` keeps the last one even
/// when every record is gone. What is long comes last: a row is judged by
/// its first columns without touching the pages that hold the rest. Verified bodies lie
/// apart, since most subscribers do not ask for them, and several events to a page are
/// read faster than one event with its body.
const SCHEMA: &str = "
CREATE TABLE meta (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    epoch INTEGER NOT NULL,
    trimmed INTEGER NOT NULL
) STRICT;
CREATE TABLE record (
    position INTEGER PRIMARY KEY,
    receive_time_ms INTEGER NOT NULL,
    decoding INTEGER NOT NULL,
    id TEXT NOT NULL,
    source TEXT NOT NULL,
    type TEXT NOT NULL,
    instance_id TEXT,
    user_id TEXT,
    organization_id TEXT,
    session_id TEXT,
    object_id TEXT,
    event BLOB NOT NULL,
    payload TEXT
) STRICT;
CREATE UNIQUE INDEX record_id ON record (id, source);
CREATE TABLE retired_id (
    id TEXT NOT NULL,
    source TEXT NOT NULL,
    receive_time_ms INTEGER NOT NULL,
    PRIMARY KEY (id, source)
) STRICT, WITHOUT ROWID;
CREATE INDEX retired_id_receive_time ON retired_id (receive_time_ms);
CREATE TABLE probe (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    filler BLOB NOT NULL
) STRICT;
CREATE TABLE tally (
    source TEXT NOT NULL,
    type TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (source, type)
) STRICT, WITHOUT ROWID;
";

/// What schema 1 did not have. Its records keep their bodies in `record.payload`, which
/// is NULL in later ones, so that the largest log is opened as fast as before. The view
/// is for people.
const SINCE_VERSION_2: &str = "
ALTER TABLE meta ADD COLUMN tallied INTEGER NOT NULL DEFAULT 0;
CREATE TABLE body (
    position INTEGER PRIMARY KEY,
    payload TEXT NOT NULL
) STRICT;
CREATE VIEW webhook AS
SELECT record.position, strftime('%Y-%m-%dT%H:%M:%fZ', receive_time_ms / 1000.0, 'unixepoch') AS received,
       id, source, type, instance_id, user_id, organization_id, session_id,
       coalesce(body.payload, record.payload) AS payload
FROM record LEFT JOIN body ON body.position = record.position;
";
/// Its tallies were those of the whole log.
const FROM_VERSION_1: &str = "
ALTER TABLE record ALTER COLUMN payload DROP NOT NULL;
UPDATE meta SET tallied = (SELECT coalesce(max(position), trimmed) FROM record);
";

/// What schema 2 did not have. Positions from before have no row.
const SINCE_VERSION_3: &str = "
CREATE TABLE run (
    first_position INTEGER PRIMARY KEY,
    number INTEGER NOT NULL
) STRICT;
";

/// What schema 3 did not have. Logs from before have B-trees on types, users, organizations,
/// sessions and times instead, which the indexer drops once their records are in segments.
/// A part fills a page, and its number says nothing.
const SINCE_VERSION_4: &str = "
CREATE TABLE segment (
    first_position INTEGER PRIMARY KEY,
    last_position INTEGER NOT NULL,
    latest_receive_time_ms INTEGER NOT NULL,
    terms BLOB NOT NULL
) STRICT;
CREATE TABLE segment_part (
    number INTEGER PRIMARY KEY,
    bytes BLOB NOT NULL
) STRICT;
";

/// What schema 4 did not have.
const SINCE_VERSION_5: &str = "
CREATE TABLE cell (
    name TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    value BLOB NOT NULL
) STRICT;
";
/// Records of schema 4 and before have no `object_id`.
const FROM_VERSION_4: &str = "ALTER TABLE record ADD COLUMN object_id TEXT;";

/// What the writer starts from.
pub(super) struct State {
    pub(super) epoch: Epoch,
    pub(super) bounds: Bounds,
    pub(super) counts: Counts,
    pub(super) saved_tallies: SavedTallies,
    pub(super) runs: Runs,
    /// The one that begins with this start.
    pub(super) run: Run,
    pub(super) retired_ids: RetiredIds,
    pub(super) cells: StoredCells,
    pub(super) loaded: Loaded,
}

/// Whether there is a log in this directory.
#[must_use]
pub fn exists(data_dir: &Path) -> bool {
    data_dir.join(files::DATABASE).is_file()
}

/// The same file by a name that SQLite takes as it is: what begins with `file:` is a URI to it,
/// and another file.
pub(super) fn no_uri(path: &Path) -> PathBuf {
    Path::new(".").join(path)
}

pub(super) fn open_for_writing(
    data_dir: &Path,
    is_declared: IsDeclared,
) -> Result<(Connection, State), OpenError> {
    let path = data_dir.join(files::DATABASE);
    let sqlite_error = |source| OpenError::of_file(&path, source);
    let directory_error = |source| OpenError::Directory {
        path: data_dir.to_owned(),
        source,
    };
    create_file_for_owner(&path).map_err(directory_error)?;
    let mut connection = Connection::open(no_uri(&path)).map_err(sqlite_error)?;
    check_owner(&connection, &path)?;
    configure_writer(&connection).map_err(sqlite_error)?;
    bring_up_to_date(&mut connection).map_err(sqlite_error)?;
    sync_directory(data_dir).map_err(directory_error)?;
    let state = load_state(&connection, is_declared).map_err(sqlite_error)?;
    Ok((connection, state))
}

pub(super) fn open_for_reading(data_dir: &Path) -> Result<Connection, OpenError> {
    let path = data_dir.join(files::DATABASE);
    let open = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(no_uri(&path), flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // Otherwise SQLite plans a scan again for each range that it is asked for.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        Ok(connection)
    };
    open().map_err(|source| OpenError::of_file(&path, source))
}

/// A connection for WAL checkpoints, which write the file but no record.
pub(super) fn open_for_checkpoints(data_dir: &Path) -> Result<Connection, OpenError> {
    let path = data_dir.join(files::DATABASE);
    let open = || {
        let connection = Connection::open(no_uri(&path))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        Ok(connection)
    };
    open().map_err(|source| OpenError::of_file(&path, source))
}

/// Reads before anything is written, so that a foreign file stays untouched.
pub(super) fn check_owner(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let sqlite_error = |source| OpenError::of_file(path, source);
    let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get(0));
    let is_empty = number("schema_version").map_err(sqlite_error)? == 0;
    if is_empty {
        return Ok(());
    }
    if number("application_id").map_err(sqlite_error)? != APPLICATION_ID {
        return Err(OpenError::Foreign {
            path: path.to_owned(),
        });
    }
    let found = number("user_version").map_err(sqlite_error)?;
    if found > VERSION {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            found,
            known: VERSION,
        });
    }
    Ok(())
}

fn configure_writer(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // The checkpoint thread does it, off the commit path.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES_MAX)?;
    // The pages of the indexes that events fall into at random.
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

/// Creates what is not there yet.
fn bring_up_to_date(connection: &mut Connection) -> rusqlite::Result<()> {
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == VERSION {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    if version == 0 {
        transaction.execute_batch(SCHEMA)?;
        transaction.execute("INSERT INTO meta VALUES (1, random(), 0)", [])?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    if version < 2 {
        transaction.execute_batch(SINCE_VERSION_2)?;
    }
    if version == 1 {
        transaction.execute_batch(FROM_VERSION_1)?;
    }
    if version < 3 {
        transaction.execute_batch(SINCE_VERSION_3)?;
    }
    if version < 4 {
        transaction.execute_batch(SINCE_VERSION_4)?;
    }
    transaction.execute_batch(SINCE_VERSION_5)?;
    if version > 0 {
        transaction.execute_batch(FROM_VERSION_4)?;
        tracing::info!(from = version, to = VERSION, "updating the log's file");
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

fn load_state(connection: &Connection, is_declared: IsDeclared) -> rusqlite::Result<State> {
    let (epoch, trimmed) = connection.query_row("SELECT epoch, trimmed FROM meta", [], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
    })?;
    let newest = connection.query_row(
        "SELECT position, receive_time_ms FROM record ORDER BY position DESC LIMIT 1",
        [],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
    );
    let (last, last_receive_time_ms) = match newest {
        Err(rusqlite::Error::QueryReturnedNoRows) => (trimmed, 0),
        newest => newest?,
    };
    let trimmed = Position::new(trimmed.unsigned_abs());
    let runs = Runs::load(connection, trimmed)?;
    let last = Position::new(last.unsigned_abs());
    let (counts, saved_tallies) = tally::load(connection, is_declared, last)?;
    Ok(State {
        retired_ids: RetiredIds::load(connection)?,
        cells: StoredCells::load(connection)?,
        loaded: Loaded::load(connection)?,
        epoch: Epoch::new(epoch.cast_unsigned()),
        bounds: Bounds {
            trimmed,
            last,
            last_receive_time: UnixMillis::new(last_receive_time_ms),
        },
        counts,
        saved_tallies,
        run: draw_run(connection, &runs)?,
        runs,
    })
}

/// A number that no run of this log has, so that none is taken for another.
fn draw_run(connection: &Connection, runs: &Runs) -> rusqlite::Result<Run> {
    loop {
        let drawn = connection.query_row("SELECT random() & 0xffffffff", [], |row| row.get(0))?;
        let run = Run::new(drawn);
        if run != Run::NONE && !runs.knows(run) {
            return Ok(run);
        }
    }
}

/// Where another process has used the position that this one was about to use.
pub(super) fn is_position_taken(error: &rusqlite::Error) -> bool {
    error
        .sqlite_error()
        .is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY)
}

pub(super) fn is_failed_fsync(error: &rusqlite::Error) -> bool {
    error
        .sqlite_error()
        .is_some_and(|error| FSYNC_FAILURES.contains(&error.extended_code))
}

/// In an operator's words where SQLite's are not.
pub(super) fn explain(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "the disk is full".to_owned(),
        _ => error.to_string(),
    }
}
