//! Three times as many webhooks as the gateway can take: how many it takes nevertheless,
//! and how many again as soon as the rush is over; the baseline is what it takes from 128
//! senders that wait for their answers.
//!
//! The gateway has one processor and the senders another, so that it is the gateway that
//! is overrun.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::support::posts::{Connection, post_all, signed, user_created};
use crate::support::process::{Server, confine};
use crate::support::{Row, count, percentile, table};

const ROUNDS: usize = 5;
const PEAK_CONNECTIONS: usize = 128;
const PEAK_REQUESTS: usize = 15_000;
const RUSH_CONNECTIONS: usize = 2_000;
const RUSH: Duration = Duration::from_secs(4);
const TIMES_CAPACITY: f64 = 3.0;
/// For some fifty of these bodies at once; all others wait, or are refused.
const SMALL_BUDGET: [&str; 4] = ["--body-limit", "64KiB", "--in-flight-limit", "64KiB"];

pub(crate) async fn run() {
    confine(std::process::id(), 1);
    let body = user_created();
    let mut rows = Vec::new();
    let mut notes = Vec::new();
    for (name, args) in [
        ("as it comes", &[][..]),
        ("--in-flight-limit 64KiB", &SMALL_BUDGET[..]),
    ] {
        let directory = TempDir::new().expect("a directory");
        let gateway = Server::gateway_with(directory.path(), args);
        confine(gateway.id(), 0);
        let mut during = Row::new(format!("during, {name}"));
        let mut after = Row::new(format!("at once after, {name}"));
        let mut waits = Vec::new();
        let mut refused = 0;
        for _ in 0..ROUNDS {
            let peak = peak(&gateway, &body).await;
            let rush = rush(&gateway, &body, TIMES_CAPACITY * peak).await;
            during.push(rush.accepted_per_second, peak);
            after.push(self::peak(&gateway, &body).await, peak);
            waits.extend(rush.waits_ms);
            refused += rush.refused;
        }
        notes.push(format!(
            "{name}: {refused} refused with 503, {} accepted after {:.0} ms (p50), {:.0} ms (p99)",
            waits.len(),
            percentile(&waits, 0.5),
            percentile(&waits, 0.99),
        ));
        rows.extend([during, after]);
    }
    table(
        "overload: accepted webhooks/s while three times as many are offered (goal: 0.9 or more)",
        "the most",
        &rows,
    );
    println!("\n{}", notes.join("\n"));
}

async fn peak(gateway: &Server, body: &str) -> f64 {
    let requests = signed(PEAK_REQUESTS, body);
    let elapsed = post_all(gateway.http, PEAK_CONNECTIONS, &requests).await;
    count(PEAK_REQUESTS) / elapsed.as_secs_f64()
}

struct Rush {
    accepted_per_second: f64,
    refused: usize,
    /// Of those that were accepted, from sending to the answer.
    waits_ms: Vec<f64>,
}

/// Sends each request when it is due, if one of the connections is free by then.
async fn rush(gateway: &Server, body: &str, per_second: f64) -> Rush {
    let mut opened = Vec::new();
    for _ in 0..RUSH_CONNECTIONS {
        opened.push(Connection::open(gateway.http).await);
    }
    let requests = signed(requests_enough(per_second), body);
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let mut sending = JoinSet::new();
    for mut connection in opened {
        let (requests, next) = (Arc::clone(&requests), Arc::clone(&next));
        sending.spawn(async move {
            let mut refused = 0;
            let mut waits_ms = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let due = started + Duration::from_secs_f64(count(number) / per_second);
                if due >= started + RUSH || started.elapsed() >= RUSH {
                    return (refused, waits_ms);
                }
                tokio::time::sleep_until(due.into()).await;
                let sent = Instant::now();
                match connection.exchange(&requests[number]).await {
                    200 => waits_ms.push(1e3 * sent.elapsed().as_secs_f64()),
                    503 => refused += 1,
                    other => panic!("answered {other}"),
                }
            }
        });
    }
    let answered = sending.join_all().await;
    let elapsed = started.elapsed();
    let refused = answered.iter().map(|(refused, _)| refused).sum();
    let waits_ms: Vec<f64> = answered.into_iter().flat_map(|(_, waits)| waits).collect();
    Rush {
        accepted_per_second: count(waits_ms.len()) / elapsed.as_secs_f64(),
        refused,
        waits_ms,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of requests"
)]
fn requests_enough(per_second: f64) -> usize {
    (per_second * RUSH.as_secs_f64()) as usize + RUSH_CONNECTIONS
}
