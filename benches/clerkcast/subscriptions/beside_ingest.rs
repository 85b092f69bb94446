//! Webhooks accepted beside ten subscriptions that work off a backlog; the baseline is the same
//! without them.

use clerkcast::proto::{OrderBy, StartPosition};
use tempfile::TempDir;

use super::workers::{Created, ignore};
use super::{Crew, backlog};
use crate::support::posts::{post_all, signed, user_created};
use crate::support::process::Server;
use crate::support::{Row, count, median, table};

const ROUNDS: usize = 5;
const BACKLOG: usize = 50_000;
const SUBSCRIPTIONS: usize = 10;
const CREW: Crew = Crew {
    workers: 1,
    outstanding: 64,
    calls: 1,
};
const CONNECTIONS: usize = 128;
const REQUESTS: usize = 30_000;

pub(super) async fn run() {
    let directory = TempDir::new().expect("a directory");
    backlog::fill(directory.path(), BACKLOG).await;
    let gateway = Server::gateway(directory.path());
    let body = user_created();
    let mut row = Row::new("webhooks/s, 128 connections");
    let mut acknowledged = Vec::new();
    for _ in 0..ROUNDS {
        let alone = ingest(&gateway, &body).await;
        let beside = Beside::start(&gateway).await;
        let before = beside.acknowledged();
        let accepted = ingest(&gateway, &body).await;
        let meanwhile = count(beside.acknowledged() - before);
        acknowledged.push(meanwhile * accepted / count(REQUESTS));
        row.push(accepted, alone);
        beside.end().await;
    }
    table(
        "subscriptions: ingest beside 10 subscriptions that drain a backlog (goal: 0.8 or more)",
        "alone",
        &[row],
    );
    println!(
        "\nthe subscriptions acknowledged {:.0} deliveries/s meanwhile",
        median(&acknowledged)
    );
}

/// Webhooks accepted a second.
async fn ingest(gateway: &Server, body: &str) -> f64 {
    let requests = signed(REQUESTS, body);
    let elapsed = post_all(gateway.http, CONNECTIONS, &requests).await;
    count(REQUESTS) / elapsed.as_secs_f64()
}

/// The subscriptions of a round, each with its worker.
struct Beside(Vec<(Created, super::workers::Workers)>);

impl Beside {
    /// Returns once all of them are at work.
    async fn start(gateway: &Server) -> Self {
        let mut subscriptions = Vec::new();
        for _ in 0..SUBSCRIPTIONS {
            let created = Created::new(gateway, OrderBy::User, StartPosition::Earliest).await;
            let workers = created.work(&[gateway], CREW, ignore()).await;
            subscriptions.push((created, workers));
        }
        for (_, workers) in &subscriptions {
            workers.reach(1).await;
        }
        Self(subscriptions)
    }

    fn acknowledged(&self) -> usize {
        let each = self.0.iter().map(|(_, workers)| workers.acknowledged());
        each.sum()
    }

    async fn end(self) {
        for (created, workers) in self.0 {
            let acknowledged = workers.acknowledged();
            assert!(acknowledged < BACKLOG, "a backlog that lasts");
            workers.close().await;
            created.delete().await;
        }
    }
}
