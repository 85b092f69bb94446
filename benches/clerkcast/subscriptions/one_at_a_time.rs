//! `ORDER_BY_LOG`: one event at a time for the whole subscription. The baseline waits for the
//! disk twice for each event: for its lease, and for its acknowledgement.

use clerkcast::proto::OrderBy;
use tempfile::TempDir;

use super::workers::drain;
use super::{Crew, backlog};
use crate::support::disk_log::fdatasyncs;
use crate::support::process::Server;
use crate::support::{Row, count, table};

const ROUNDS: usize = 5;
const EVENTS: usize = 2_000;
const CREW: Crew = Crew {
    workers: 1,
    outstanding: 16,
    calls: 1,
};
const SYNCS: usize = 1_000;
/// A page of the log.
const SYNCED_BYTES: usize = 4_096;

pub(super) async fn run() {
    let directory = TempDir::new().expect("a directory");
    backlog::fill(directory.path(), EVENTS).await;
    let gateway = Server::gateway(directory.path());
    let mut row = Row::new("one worker");
    for _ in 0..ROUNDS {
        let elapsed = fdatasyncs(directory.path(), SYNCS, SYNCED_BYTES);
        let base = count(SYNCS) / (2.0 * elapsed.as_secs_f64());
        row.push(drain(&[&gateway], OrderBy::Log, CREW, EVENTS).await, base);
    }
    table(
        "subscriptions: ORDER_BY_LOG, acknowledged deliveries/s (goal: 0.5 or more)",
        "1 / (2 × fdatasync)",
        &[row],
    );
}
