//! What a backup costs the webhooks meanwhile, and how much longer it takes for them; the
//! baselines are webhooks without a backup, and a backup of an idle gateway.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clerkcast::log::Entry;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::support::posts::{Connection, signed, user_created};
use crate::support::process::Server;
use crate::support::records::record;
use crate::support::{Row, count, disk_log, percentile, table};

const ROUNDS: usize = 3;
const HISTORY: usize = 300_000;
const CONNECTIONS: usize = 128;
/// How long webhooks are posted without a backup.
const ALONE: Duration = Duration::from_secs(5);
/// Requests that a connection signs at once.
const SIGNED: usize = 64;

pub(crate) async fn run() {
    let body = user_created();
    let mut rates = Row::new("webhooks/s, 128 connections");
    let mut p99 = Row::new("webhook p99 at half of that, ms");
    let mut times = Row::new("seconds of a backup meanwhile");
    for _ in 0..ROUNDS {
        // A log of its own: what one round appends would make the backups of the next longer.
        let directory = TempDir::new().expect("a directory");
        let log = disk_log::open(directory.path());
        log.fill(history()).await;
        log.close().await;
        let gateway = Server::gateway(directory.path());
        let load = Load {
            gateway: &gateway,
            data_dir: directory.path(),
            body: &body,
        };
        let idle = load.back_up().await;
        let alone = load.alone(None).await;
        let (beside, busy) = load.beside_a_backup(None).await;
        rates.push(beside.per_second, alone.per_second);
        times.push(busy.as_secs_f64(), idle.as_secs_f64());
        let pace = Some(alone.per_second / 2.0);
        let alone = load.alone(pace).await;
        let (beside, _) = load.beside_a_backup(pace).await;
        let of = |posted: &Posted| percentile(&posted.latencies_ms, 0.99);
        p99.push(of(&beside), of(&alone));
    }
    table(
        "backup, beside webhooks (goal: webhooks/s 0.7 or more, p99 3 or less)",
        "without a backup",
        &[rates, p99],
    );
    table(
        "the time that a backup takes (goal: 10 or less)",
        "of an idle gateway",
        &[times],
    );
}

fn history() -> impl Iterator<Item = Entry> {
    let common = record(1_400);
    (0..HISTORY).map(move |number| {
        let mut record = common.clone();
        record.id = format!("msg_history_{number:020}");
        record
    })
}

struct Load<'a> {
    gateway: &'a Server,
    data_dir: &'a Path,
    body: &'a str,
}

struct Posted {
    per_second: f64,
    latencies_ms: Vec<f64>,
}

impl Load<'_> {
    async fn alone(&self, per_second: Option<f64>) -> Posted {
        let wait = tokio::time::sleep(ALONE);
        self.post_during(per_second, wait).await.0
    }

    async fn beside_a_backup(&self, per_second: Option<f64>) -> (Posted, Duration) {
        self.post_during(per_second, self.back_up()).await
    }

    /// Runs the command, and returns how long it took.
    async fn back_up(&self) -> Duration {
        let directory = TempDir::new().expect("a directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_clerkcast"));
        command
            .arg("backup")
            .arg(self.data_dir)
            .arg(directory.path().join("copy.db"))
            .stdout(Stdio::null());
        let started = Instant::now();
        let status = tokio::task::spawn_blocking(move || command.status()).await;
        let elapsed = started.elapsed();
        let status = status.expect("no panic").expect("it runs");
        assert!(status.success(), "a backup is made");
        elapsed
    }

    /// Posts for as long as `other` takes, at a pace or as fast as is answered.
    async fn post_during<T>(
        &self,
        per_second: Option<f64>,
        other: impl Future<Output = T>,
    ) -> (Posted, T) {
        let ends = Arc::new(AtomicBool::new(false));
        let interval = per_second.map(|it| Duration::from_secs_f64(count(CONNECTIONS) / it));
        let mut posting = JoinSet::new();
        let started = Instant::now();
        for number in 0..CONNECTIONS {
            let connection = Connection::open(self.gateway.http).await;
            let (body, ends) = (self.body.to_owned(), Arc::clone(&ends));
            // Each at a moment of its own, not all at once.
            let pace = interval.map(|interval| Pace {
                next: started + interval.mul_f64(count(number) / count(CONNECTIONS)),
                interval,
            });
            posting.spawn(post(connection, body, pace, ends));
        }
        let result = other.await;
        ends.store(true, Ordering::Relaxed);
        let latencies_ms: Vec<f64> = posting.join_all().await.into_iter().flatten().collect();
        let posted = Posted {
            per_second: count(latencies_ms.len()) / started.elapsed().as_secs_f64(),
            latencies_ms,
        };
        (posted, result)
    }
}

/// When a connection sends its requests.
struct Pace {
    next: Instant,
    interval: Duration,
}

/// How long each request took, in ms.
async fn post(
    mut connection: Connection,
    body: String,
    mut pace: Option<Pace>,
    ends: Arc<AtomicBool>,
) -> Vec<f64> {
    let mut latencies_ms = Vec::new();
    loop {
        for request in signed(SIGNED, &body).iter() {
            if ends.load(Ordering::Relaxed) {
                return latencies_ms;
            }
            if let Some(pace) = &mut pace {
                tokio::time::sleep_until(pace.next.into()).await;
                pace.next += pace.interval;
            }
            let started = Instant::now();
            assert_eq!(connection.exchange(request).await, 200, "accepted");
            latencies_ms.push(1e3 * started.elapsed().as_secs_f64());
        }
    }
}
