//! Records, as they are added to the file.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, params};

use crate::event::Position;
use crate::log::record::{Appended, Entry};
use crate::log::sqlite::retired::RetiredIds;

const IS_RETIRED: &str = "SELECT 1 FROM retired_id WHERE id = ?1 AND source = ?2";

/// Of one row of values, for which SQLite keeps no statement journal.
const INSERT: &str = "
INSERT INTO record (position, receive_time_ms, decoding, id, source, type, instance_id,
                    user_id, organization_id, session_id, object_id, event)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
ON CONFLICT (id, source) DO NOTHING";

const INSERT_BODY: &str = "INSERT INTO body (position, payload) VALUES (?1, ?2)";

/// Adds records after `last`. A duplicate among them is one too, and is answered by the same
/// commit. Returns what became of each, and the last position that they took.
pub(super) fn insert(
    transaction: &Connection,
    records: &[Entry],
    mut last: Position,
    retired_ids: &RetiredIds,
) -> rusqlite::Result<(Vec<Appended>, Position)> {
    let mut appended = Vec::with_capacity(records.len());
    let mut is_retired = transaction.prepare_cached(IS_RETIRED)?;
    let has_retired_ids = !retired_ids.is_empty();
    let mut insert = transaction.prepare_cached(INSERT)?;
    let mut insert_body = transaction.prepare_cached(INSERT_BODY)?;
    for record in records {
        let attributes = &record.attributes;
        if has_retired_ids && is_retired.exists(params![record.id, attributes.source])? {
            appended.push(Appended::Duplicate);
            continue;
        }
        let position = last.next().number().cast_signed();
        let inserted = insert.execute(params![
            position,
            record.receive_time.milliseconds(),
            record.decoding,
            record.id,
            attributes.source,
            attributes.event_type,
            attributes.instance_id,
            attributes.user_id,
            attributes.organization_id,
            attributes.session_id,
            attributes.object_id,
            &record.event[..],
        ])?;
        if inserted == 0 {
            appended.push(Appended::Duplicate);
            continue;
        }
        insert_body.execute(params![position, text(&record.payload)])?;
        last = last.next();
        appended.push(Appended::Committed(last));
    }
    Ok((appended, last))
}

/// As TEXT, for an operator who opens the file with `sqlite3`; verified bodies are UTF-8.
fn text(payload: &[u8]) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(ValueRef::Text(payload))
}
