//! Resident memory that a subscriber adds to the gateway: idle, beside what an idle stream
//! of a bare tonic service costs; and one that never reads while events pass, after some
//! of them and after a hundred thousand more.

use bytes::Bytes;
use tempfile::TempDir;

use crate::support::clients::{Clients, Stuck};
use crate::support::posts::{post_all, signed, user_created};
use crate::support::process::{BARE_STREAM, Server};
use crate::support::served::SUBSCRIBE;
use crate::support::{Row, bare, count, table};

const ROUNDS: usize = 3;
const IDLE: usize = 1_000;
const STUCK: usize = 500;
/// What passes before the first look: the window of recent events is full from then on.
const FIRST_EVENTS: usize = 40_000;
const EVENTS: usize = 100_000;
const CONNECTIONS: usize = 64;

pub(crate) async fn run() {
    let mut idle = Row::new("idle");
    for _ in 0..ROUNDS {
        let directory = TempDir::new().expect("a directory");
        let gateway = Server::gateway(directory.path());
        let baseline = Server::baseline(BARE_STREAM);
        let ours = idle_kilobytes(&gateway, SUBSCRIBE, 2).await;
        let base = idle_kilobytes(&baseline, bare::PATH, 1).await;
        idle.push(ours, base);
    }
    table(
        "memory, kB an idle subscriber on its own connection adds (goal: 1.2 or less)",
        "bare tonic",
        &[idle],
    );

    let mut stuck = Row::new("stuck");
    for _ in 0..ROUNDS {
        let (first, all) = stuck_kilobytes().await;
        stuck.push(all, first);
    }
    table(
        "memory, kB a subscriber that never reads adds (goal: 1, however many pass)",
        "after the first events",
        &[stuck],
    );
}

async fn idle_kilobytes(server: &Server, path: &'static str, opening: usize) -> f64 {
    // What the first connections bring with them is not a subscriber's.
    let requests = vec![Bytes::new(); 10];
    let first = Clients::connect(server.grpc, path, 10, requests, opening).await;
    let before = server.resident_bytes();
    let requests = vec![Bytes::new(); IDLE];
    let clients = Clients::connect(server.grpc, path, IDLE, requests, opening).await;
    let added = server.resident_bytes().saturating_sub(before);
    clients.close().await;
    first.close().await;
    count(added) / 1e3 / count(IDLE)
}

/// What each stuck subscriber adds: after some events, and after many more.
async fn stuck_kilobytes() -> (f64, f64) {
    let directory = TempDir::new().expect("a directory");
    let gateway = Server::gateway(directory.path());
    let body = user_created();
    // The ring and the caches fill up first.
    post_all(gateway.http, CONNECTIONS, &signed(FIRST_EVENTS, &body)).await;
    let before = gateway.resident_bytes();
    let mut stuck = Vec::new();
    for _ in 0..STUCK {
        stuck.push(Stuck::subscribe(gateway.grpc, SUBSCRIBE).await);
    }
    let mut added = [0.0; 2];
    for (added, events) in added.iter_mut().zip([2_000, EVENTS]) {
        post_all(gateway.http, CONNECTIONS, &signed(events, &body)).await;
        *added = count(gateway.resident_bytes().saturating_sub(before)) / 1e3 / count(STUCK);
    }
    drop(stuck);
    (added[0], added[1])
}
