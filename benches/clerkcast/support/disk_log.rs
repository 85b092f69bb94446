//! The embedded log on a real disk, filled without HTTP.

use std::path::Path;
use std::sync::Arc;

use clerkcast::event::{Cursor, Position};
use clerkcast::log::sqlite::{self, SqliteLog};
use clerkcast::log::{Entry, Log, Metrics};
use futures_util::{StreamExt as _, stream};
use prometheus_client::registry::Registry;

/// Appends under way at once.
const CONCURRENCY: usize = 2_000;

pub(crate) fn open(data_dir: &Path) -> Arc<dyn Log> {
    let config = sqlite::Config {
        data_dir: data_dir.to_owned(),
        retain_for: None,
        retain_bytes: None,
        ..sqlite::Config::default()
    };
    let metrics = Metrics::register(&mut Registry::default());
    Arc::new(SqliteLog::open(config, metrics).expect("a log"))
}

/// Appends records, and waits until all are durable.
pub(crate) async fn fill(log: &dyn Log, records: impl Iterator<Item = Entry>) {
    let appends = stream::iter(records.map(|record| log.append(record)));
    let mut appends = appends.buffer_unordered(CONCURRENCY);
    while let Some(appended) = appends.next().await {
        appended.expect("durable");
    }
}

/// Cursors at so many places, spread evenly.
pub(crate) fn cursors(log: &dyn Log, places: usize) -> Vec<String> {
    let tail = log.bounds().last.number();
    let cursors = (0..places as u64).map(|place| {
        let position = Position::new(tail * place / places as u64);
        let cursor = Cursor {
            epoch: log.epoch(),
            run: log.run_at(position),
            position,
        };
        cursor.to_string()
    });
    cursors.collect()
}
