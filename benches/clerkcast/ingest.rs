//! Fsynced, deduplicated, typed webhooks a second, over real loopback HTTP, into the real
//! binary; the baseline is an axum route that verifies with svix, parses to a
//! `serde_json::Value` and stores nothing.
//!
//! One connection waits for the disk each time, and that is what it is compared with: one
//! `fdatasync` of the same bytes, and the baseline's own time.
//!
//! Many connections keep the processors busy. What of, and how much more than the baseline
//! does, is in the last table, by the gateway's threads.

use std::collections::BTreeMap;
use std::time::Duration;

use tempfile::TempDir;

use crate::support::disk_log::fdatasyncs;
use crate::support::posts::{post_all, signed, user_created};
use crate::support::process::{BARE_WEBHOOK, Server};
use crate::support::{Row, count, table};

const ROUNDS: usize = 7;
/// Connections, and requests in a round.
const CASES: [(usize, usize); 3] = [(1, 2_000), (16, 12_000), (BUSY_CONNECTIONS, 40_000)];
const BUSY_CONNECTIONS: usize = 128;
/// What the gateway's threads are for, and how their names begin.
const THREADS: [(&str, &str); 4] = [
    ("all threads", ""),
    ("receiving, verifying, typing, answering", "tokio"),
    ("writing the log", "log-writer"),
    ("checkpoints", "log-checkpoint"),
];

pub(crate) async fn run() {
    let body = user_created();
    let directory = TempDir::new().expect("a directory");
    let gateway = Server::gateway(directory.path());
    let baseline = Server::baseline(BARE_WEBHOOK);
    let mut rates = Vec::new();
    let mut alone = Row::new("1 connection, µs a request");
    let mut busy = THREADS.map(|(name, _)| Row::new(name));
    for (connections, requests) in CASES {
        let mut row = Row::new(format!("{connections} connections"));
        for _ in 0..ROUNDS {
            let before = [&baseline, &gateway].map(Server::processor_seconds);
            let base = post_all(baseline.http, connections, &signed(requests, &body)).await;
            let ours = post_all(gateway.http, connections, &signed(requests, &body)).await;
            if connections == BUSY_CONNECTIONS {
                let after = [&baseline, &gateway].map(Server::processor_seconds);
                let used = |server: usize, thread: &str| {
                    let of = |seconds: &[BTreeMap<String, f64>]| -> f64 {
                        let threads = seconds[server].iter();
                        let threads = threads.filter(|(name, _)| name.starts_with(thread));
                        threads.map(|(_, seconds)| seconds).sum()
                    };
                    1e6 * (of(&after) - of(&before)) / count(requests)
                };
                for (row, (_, thread)) in busy.iter_mut().zip(THREADS) {
                    row.push(used(1, thread), used(0, ""));
                }
            }
            let rate = |elapsed: Duration| count(requests) / elapsed.as_secs_f64();
            row.push(rate(ours), rate(base));
            if connections == 1 {
                let floor = base + fdatasyncs(directory.path(), requests, body.len());
                let each = |elapsed: Duration| 1e6 * elapsed.as_secs_f64() / count(requests);
                alone.push(each(ours), each(floor));
            }
        }
        rates.push(row);
    }
    table(
        "ingest, webhooks/s (goal at 128: 0.75 or more)",
        "verify and parse alone",
        &rates,
    );
    table(
        "ingest without company (goal: 1.3 or less)",
        "fdatasync + verify and parse",
        &[alone],
    );
    table(
        "ingest at 128 connections, µs of the processors a webhook",
        "verify and parse alone",
        &busy,
    );
}
