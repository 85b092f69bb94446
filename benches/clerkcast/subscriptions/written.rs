//! What the gateway writes to its disk for an acknowledged event: the state of the subscription,
//! as often as a step stores it.

use clerkcast::proto::OrderBy;
use tempfile::TempDir;

use super::workers::drain;
use super::{Crew, backlog};
use crate::support::process::Server;
use crate::support::{count, median, percentile};

const ROUNDS: usize = 5;
const EVENTS: usize = 10_000;
const CREW: Crew = Crew {
    workers: 1,
    outstanding: 64,
    calls: 1,
};

pub(super) async fn run() {
    let directory = TempDir::new().expect("a directory");
    backlog::fill(directory.path(), EVENTS).await;
    let gateway = Server::gateway(directory.path());
    let mut bytes = Vec::new();
    for _ in 0..ROUNDS {
        let before = gateway.written_bytes();
        drain(&[&gateway], OrderBy::User, CREW, EVENTS).await;
        let written = gateway.written_bytes() - before;
        bytes.push(count(written) / count(EVENTS));
    }
    println!(
        "\nsubscriptions: bytes written per acknowledged event, 1 worker × 64 (goal: 150 or less): {:.0}, from {:.0} to {:.0}",
        median(&bytes),
        percentile(&bytes, 0.0),
        percentile(&bytes, 1.0),
    );
}
