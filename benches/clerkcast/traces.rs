//! What traces cost a webhook: how long it takes until the gateway has answered, with a receiver
//! of traces that accepts connections and says nothing on them; the baseline is a gateway without
//! traces.
//!
//! The receiver's queue is full before the first round, so that spans are dropped in all of them.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::support::posts::{Connection, signed, user_created};
use crate::support::process::Server;
use crate::support::{Row, percentile, table};

const ROUNDS: usize = 9;
/// Connections, and requests in a round.
const CASES: [(usize, usize); 2] = [(1, 2_000), (16, 10_000)];
const RANKS: [(&str, f64); 2] = [("p50", 0.5), ("p99", 0.99)];

pub(crate) async fn run() {
    let body = user_created();
    let directories = [(); 2].map(|()| TempDir::new().expect("a directory"));
    let endpoint = format!("http://{}", start_hanging_receiver());
    let plain = Server::gateway(directories[0].path());
    let args = ["--otlp-endpoint", &endpoint];
    let traced = Server::gateway_with(directories[1].path(), &args);
    for gateway in [&plain, &traced] {
        answer_times(gateway, 16, 2_000, &body).await;
    }
    let mut rows = Vec::new();
    for (connections, requests) in CASES {
        let mut of_case =
            RANKS.map(|(name, _)| Row::new(format!("{connections} connections, {name}")));
        for _ in 0..ROUNDS {
            let base = answer_times(&plain, connections, requests, &body).await;
            let ours = answer_times(&traced, connections, requests, &body).await;
            for (row, (_, rank)) in of_case.iter_mut().zip(RANKS) {
                row.push(percentile(&ours, rank), percentile(&base, rank));
            }
        }
        rows.extend(of_case);
    }
    table(
        "traces: µs until a webhook is answered while their receiver hangs (goal for p99: 1.1 or less)",
        "no traces",
        &rows,
    );
}

/// Accepts connections and keeps them, until this program ends.
fn start_hanging_receiver() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        let accepted: Vec<_> = listener.incoming().collect();
        drop(accepted);
    });
    address
}

/// Posts webhooks, each connection one after the other. Returns how long each took, in µs.
async fn answer_times(
    gateway: &Server,
    connections: usize,
    requests: usize,
    body: &str,
) -> Vec<f64> {
    let requests = signed(requests, body);
    let next = Arc::new(AtomicUsize::new(0));
    let mut posting = JoinSet::new();
    for _ in 0..connections {
        let mut connection = Connection::open(gateway.http).await;
        let (requests, next) = (Arc::clone(&requests), Arc::clone(&next));
        posting.spawn(async move {
            let mut times = Vec::new();
            while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                let started = Instant::now();
                assert_eq!(connection.exchange(request).await, 200);
                times.push(1e6 * started.elapsed().as_secs_f64());
            }
            times
        });
    }
    posting.join_all().await.concat()
}
