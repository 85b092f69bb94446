//! What the log reports of itself.

use rusqlite::Connection;

use super::shared::Shared;
use super::{reader, retention, tally};
use crate::log::record::Description;

/// Describes the log, as a connection sees it.
pub(super) fn describe(connection: &Connection, shared: &Shared) -> rusqlite::Result<Description> {
    let oldest = reader::oldest_receive_time(connection)?;
    let newest = shared.bounds().last_receive_time;
    let (retain_for, retain_bytes) = {
        let config = shared.config();
        (config.retain_for, config.retain_bytes)
    };
    let (record_count, tally_bytes) = {
        let counts = shared.published.counts();
        let rows = counts.iter().map(|(source, name, _)| (source, name));
        (counts.record_count(), tally::weight(rows))
    };
    Ok(Description {
        retain_for,
        retain_bytes,
        record_count,
        size_bytes: reader::used_bytes(connection)?,
        counted_bytes: retention::removable_bytes(connection, shared, tally_bytes)?,
        oldest_receive_time: oldest,
        newest_receive_time: oldest.map(|_| newest),
    })
}
