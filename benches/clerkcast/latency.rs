//! From the start of a POST to the frame at a subscriber, at 1,000 events a second with
//! 100 subscribers; the baseline is a POST that is verified and parsed, then an
//! `fdatasync` of the same bytes, at the same pace.

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::support::bare::{self, BareService};
use crate::support::paced::{Stopwatch, deliver};
use crate::support::posts::{Connection, signed, user_created};
use crate::support::process::{BARE_WEBHOOK, Server};
use crate::support::{Row, percentile, table};

const ROUNDS: usize = 5;
const SUBSCRIBERS: usize = 100;
const EVENTS: usize = 3_000;
const FRAME_BYTES: usize = 700;
const INTERVAL: Duration = Duration::from_millis(1);
const RANKS: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

pub(crate) async fn run() {
    let body = user_created();
    let directory = TempDir::new().expect("a directory");
    let gateway = Server::gateway(directory.path());
    let webhook = Server::baseline(BARE_WEBHOOK);
    let mut beside_disk = RANKS.map(|(name, _)| Row::new(format!("{name}, µs")));
    let mut beside_all = beside_disk.clone();
    for _ in 0..ROUNDS {
        let (disk, all) = floor(&webhook, &directory, &body).await;
        let ours = deliver(&gateway, SUBSCRIBERS, &body, EVENTS, 1_000.0).await;
        for (index, (_, rank)) in RANKS.into_iter().enumerate() {
            let ours = percentile(&ours.latencies, rank);
            beside_disk[index].push(ours, percentile(&disk, rank));
            beside_all[index].push(ours, percentile(&all, rank));
        }
    }
    table(
        "latency at 1,000 events/s, 100 subscribers (goal: p50 1.3, p99 2, or less)",
        "verify, parse, fdatasync",
        &beside_disk,
    );
    table(
        "the same, beside a baseline that has the 100 subscribers too",
        "verify, parse, fdatasync, bare tonic",
        &beside_all,
    );
}

/// Of each request: until it was parsed and the disk had it, and from there on until each
/// subscriber of a bare tonic stream had a frame. In µs.
async fn floor(webhook: &Server, directory: &TempDir, body: &str) -> (Vec<f64>, Vec<f64>) {
    let service = BareService::new(EVENTS);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let server = tokio::spawn(bare::serve(listener, service.clone()));
    let stopwatch = Stopwatch::default();
    let clients = stopwatch
        .subscribers(address, bare::PATH, SUBSCRIBERS, 1)
        .await;
    let requests = signed(EVENTS, body);
    let mut connection = Connection::open(webhook.http).await;
    let mut file = File::create(directory.path().join("floor")).expect("a file");
    let mut latencies = Vec::new();
    let mut ticks = tokio::time::interval(INTERVAL);
    for request in requests.iter() {
        ticks.tick().await;
        let started = Instant::now();
        stopwatch.start(request);
        assert_eq!(connection.exchange(request).await, 200);
        file.write_all(body.as_bytes()).expect("written");
        file.sync_data().expect("synced");
        latencies.push(1e6 * started.elapsed().as_secs_f64());
        // As long as a frame of ours, and with the id.
        service.publish(Bytes::copy_from_slice(request).slice(..FRAME_BYTES));
    }
    clients.slowest_has(EVENTS).await;
    clients.close().await;
    server.abort();
    (latencies, stopwatch.latencies())
}
