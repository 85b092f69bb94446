//! From the start of a POST to the delivery at a worker, beside a subscriber of the same gateway.
//!
//! All of the events are of one user, so the subscription has no order: an event does not wait
//! until the one before it is acknowledged.

use std::sync::Arc;

use clerkcast::proto::{OrderBy, StartPosition};
use tempfile::TempDir;

use super::Crew;
use super::workers::Created;
use crate::support::paced::{Stopwatch, deliver, post};
use crate::support::posts::{signed, user_created};
use crate::support::process::Server;
use crate::support::{Row, percentile, table};

const ROUNDS: usize = 5;
const EVENTS: usize = 600;
const EVENTS_PER_SECOND: f64 = 200.0;
const CREW: Crew = Crew {
    workers: 1,
    outstanding: 64,
    calls: 1,
};
const RANKS: [(&str, f64); 2] = [("p50, µs", 0.5), ("p99, µs", 0.99)];

pub(super) async fn run() {
    let directory = TempDir::new().expect("a directory");
    let gateway = Server::gateway(directory.path());
    let body = user_created();
    let mut rows = RANKS.map(|(name, _)| Row::new(name));
    for _ in 0..ROUNDS {
        let base = deliver(&gateway, 1, &body, EVENTS, EVENTS_PER_SECOND).await;
        let ours = to_worker(&gateway, &body).await;
        for (row, (_, rank)) in rows.iter_mut().zip(RANKS) {
            let base = percentile(&base.latencies, rank);
            row.push(percentile(&ours, rank), base);
        }
    }
    table(
        "subscriptions: POST to delivery at 200 events/s (goal: p50 2.5 or less)",
        "POST to frame of Subscribe",
        &rows,
    );
}

/// The time of each event, in µs.
async fn to_worker(gateway: &Server, body: &str) -> Vec<f64> {
    let subscription = Created::new(gateway, OrderBy::None, StartPosition::Latest).await;
    let stopwatch = Stopwatch::default();
    let observe = {
        let stopwatch = stopwatch.clone();
        Arc::new(move |frame: &[u8]| stopwatch.stop(frame))
    };
    let workers = subscription.work(&[gateway], CREW, observe).await;
    let requests = signed(EVENTS, body);
    let start = |request: &[u8]| stopwatch.start(request);
    post(gateway, &requests, EVENTS_PER_SECOND, start).await;
    workers.reach(EVENTS).await;
    workers.close().await;
    subscription.delete().await;
    stopwatch.latencies()
}
