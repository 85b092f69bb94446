//! Live fan-out: frames a second delivered to all subscribers together, over real
//! loopback connections, as a ratio to a bare tonic service that streams pre-encoded
//! bytes from a broadcast channel. Both run in this process, one after the other, several
//! times; the table shows medians.
//!
//! Run with `cargo bench --bench fanout`. Frames have 1.5 kB.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use support::bare::{self, BareService};
use support::clients::Clients;
use support::memory_log::{MemoryLog, record};
use support::{Pair, median, table};

use clerkcast::fanout::{Config, Fanout, Metrics};
use clerkcast::grpc;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

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

#[tokio::main]
async fn main() {
    let mut pairs = Vec::new();
    for (subscribers, connections, events) in CASES {
        let mut ours = Vec::new();
        let mut baseline = Vec::new();
        for _ in 0..ROUNDS {
            baseline.push(bare_run(subscribers, connections, events).await);
            ours.push(clerkcast_run(subscribers, connections, events).await);
        }
        pairs.push(Pair {
            name: format!("{subscribers} subscribers on {connections} connections"),
            ours,
            baseline,
        });
    }
    table("fan-out, frames/s", "bare tonic", &pairs);
    let worst = pairs.iter().map(|pair| median(&pair.ratios()));
    println!("worst median ratio: {:.2}", worst.fold(f64::MAX, f64::min));
}

async fn clerkcast_run(subscribers: usize, connections: usize, events: usize) -> f64 {
    let log = Arc::new(MemoryLog::new());
    let config = Config {
        ring_bytes_max: 64 << 20,
        subscribers_max: 100_000,
        sources: Vec::new(),
    };
    let drain = CancellationToken::new();
    let metrics = Metrics::register(&mut Registry::default());
    let (fanout, feed) = Fanout::start(log.clone(), config, metrics, drain.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let server = tokio::spawn(grpc::serve(listener, fanout, drain.clone()));
    let path = "/clerkcast.v1.EventService/Subscribe";
    // Started and CaughtUp come first.
    let clients = Clients::connect(address, path, subscribers, connections, 2).await;

    let batches = MemoryLog::prepare(&record(1_400), BATCH, events + BATCH);
    let publish = |published: usize| log.publish(&batches[published / BATCH]);
    let elapsed = publish_and_wait(&clients, events, publish).await;
    clients.close();
    drain.cancel();
    server.abort();
    feed.abort();
    rate(subscribers * events, elapsed)
}

async fn bare_run(subscribers: usize, connections: usize, events: usize) -> f64 {
    let service = BareService::new(2 * WINDOW);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let server = tokio::spawn(bare::serve(listener, service.clone()));
    let clients = Clients::connect(address, bare::PATH, subscribers, connections, 1).await;
    let frame = bare::frame(1_500);
    let publish = |_number: usize| {
        for _ in 0..BATCH {
            service.publish(frame.clone());
        }
    };
    let elapsed = publish_and_wait(&clients, events, publish).await;
    clients.close();
    server.abort();
    rate(subscribers * events, elapsed)
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

fn rate(frames: usize, elapsed: Duration) -> f64 {
    f64::from(u32::try_from(frames).expect("few enough")) / elapsed.as_secs_f64()
}
