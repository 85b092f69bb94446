//! Live fan-out: frames a second delivered to all subscribers together, over real
//! loopback connections; the baseline is a bare tonic service that streams pre-encoded
//! bytes from a broadcast channel. Frames have 1.5 kB. The log is in memory, so that the
//! fan-out is measured and not the disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpListener;

use crate::support::bare::{self, BareService};
use crate::support::clients::Clients;
use crate::support::memory_log::{Memory, MemoryLog};
use crate::support::records::{batches, record};
use crate::support::served::{SUBSCRIBE, Served};
use crate::support::{Row, count, table};

const ROUNDS: usize = 5;
/// Events that go out at once, as a group commit would hand them over.
const BATCH: usize = 64;
/// The publisher waits for the slowest subscriber once it is so far ahead.
const WINDOW: usize = 8 * BATCH;

/// Subscribers, connections they share, events that each of them receives.
const CASES: [(usize, usize, usize); 5] = [
    (1, 1, 200_000),
    (10, 10, 60_000),
    (100, 100, 6_400),
    (1_000, 1_000, 640),
    (1_000, 10, 640),
];

pub(crate) async fn run() {
    let mut rows = Vec::new();
    for (subscribers, connections, events) in CASES {
        let mut row = Row::new(format!(
            "{subscribers} subscribers on {connections} connections"
        ));
        for _ in 0..ROUNDS {
            let base = bare_run(subscribers, connections, events).await;
            let ours = clerkcast_run(subscribers, connections, events).await;
            row.push(ours, base);
        }
        rows.push(row);
    }
    table(
        "fan-out, frames/s (goal: 1.0, at 10 and 100 1.3, or more)",
        "bare tonic",
        &rows,
    );
}

async fn clerkcast_run(subscribers: usize, connections: usize, events: usize) -> f64 {
    let log = Arc::new(MemoryLog::open(Memory::default(), None, None));
    let served = Served::start(log.clone()).await;
    let requests = vec![Bytes::new(); subscribers];
    // Started and CaughtUp come first.
    let clients = Clients::connect(served.address, SUBSCRIBE, connections, requests, 2).await;

    let batches = batches(&record(1_400), BATCH, events + BATCH);
    let publish = |published: usize| log.publish(&batches[published / BATCH]);
    let elapsed = publish_and_wait(&clients, events, publish).await;
    clients.close().await;
    count(subscribers * events) / elapsed.as_secs_f64()
}

async fn bare_run(subscribers: usize, connections: usize, events: usize) -> f64 {
    let service = BareService::new(2 * WINDOW);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let server = tokio::spawn(bare::serve(listener, service.clone()));
    let requests = vec![Bytes::new(); subscribers];
    let clients = Clients::connect(address, bare::PATH, connections, requests, 1).await;
    let frame = bare::frame(1_500);
    let publish = |_number: usize| {
        for _ in 0..BATCH {
            service.publish(frame.clone());
        }
    };
    let elapsed = publish_and_wait(&clients, events, publish).await;
    clients.close().await;
    server.abort();
    count(subscribers * events) / elapsed.as_secs_f64()
}

async fn publish_and_wait(clients: &Clients, events: usize, publish: impl Fn(usize)) -> Duration {
    let started = Instant::now();
    let mut published = 0;
    while published < events {
        clients.slowest_has(published.saturating_sub(WINDOW)).await;
        publish(published);
        published += BATCH;
    }
    clients.slowest_has(published.min(events)).await;
    started.elapsed()
}
