//! Webhooks posted at a pace, and how long each takes until subscribers have it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::clients::Clients;
use super::count;
use super::posts::{Connection, id, signed};
use super::process::Server;
use super::served::SUBSCRIBE;

/// Posts under way at once, so that one that waits does not hold up the pace.
const CONNECTIONS: usize = 64;
/// The runtime's timers are no finer.
const TICK: Duration = Duration::from_millis(1);

pub(crate) struct Delivered {
    pub(crate) accepted_per_second: f64,
    /// From the start of each POST until each subscriber had the event, in µs.
    pub(crate) latencies: Vec<f64>,
}

/// Posts so many events at a pace to a gateway with so many live subscribers.
pub(crate) async fn deliver(
    gateway: &Server,
    subscribers: usize,
    body: &str,
    events: usize,
    events_per_second: f64,
) -> Delivered {
    let stopwatch = Stopwatch::default();
    let clients = stopwatch
        .subscribers(gateway.grpc, SUBSCRIBE, subscribers, 2)
        .await;
    let requests = signed(events, body);
    let start = |request: &[u8]| stopwatch.start(request);
    let elapsed = post(gateway, &requests, events_per_second, start).await;
    clients.slowest_has(events).await;
    clients.close().await;
    Delivered {
        accepted_per_second: count(events) / elapsed.as_secs_f64(),
        latencies: stopwatch.latencies(),
    }
}

/// Measures from a request to the frames that carry its id.
#[derive(Clone, Default)]
pub(crate) struct Stopwatch {
    started: Arc<Mutex<HashMap<String, Instant>>>,
    latencies: Arc<Mutex<Vec<f64>>>,
}

impl Stopwatch {
    /// Subscribers that stop it, each on its own connection.
    pub(crate) async fn subscribers(
        &self,
        address: SocketAddr,
        path: &'static str,
        subscribers: usize,
        opening: usize,
    ) -> Clients {
        let stopwatch = self.clone();
        let observe = Arc::new(move |frame: &[u8]| stopwatch.stop(frame));
        let requests = vec![Bytes::new(); subscribers];
        Clients::observing(address, path, subscribers, requests, opening, observe).await
    }

    pub(crate) fn start(&self, request: &[u8]) {
        let id = find_id(request).expect("a request has an id").to_owned();
        let mut started = self.started.lock();
        started.insert(id, Instant::now());
    }

    /// Notes how long ago the request was sent whose id a frame carries.
    pub(crate) fn stop(&self, frame: &[u8]) {
        let now = Instant::now();
        let Some(id) = find_id(frame) else { return };
        let started = self.started.lock().get(id).copied();
        if let Some(started) = started {
            let latency = 1e6 * now.duration_since(started).as_secs_f64();
            self.latencies.lock().push(latency);
        }
    }

    /// In µs.
    pub(crate) fn latencies(&self) -> Vec<f64> {
        self.latencies.lock().clone()
    }
}

/// Posts each request when it is due, and returns when all were answered.
pub(crate) async fn post(
    gateway: &Server,
    requests: &Arc<[Vec<u8>]>,
    per_second: f64,
    before: impl Fn(&[u8]),
) -> Duration {
    let (give_back, mut idle) = mpsc::channel(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let connection = Connection::open(gateway.http).await;
        give_back.try_send(connection).expect("room for all");
    }
    let started = Instant::now();
    let mut posting = JoinSet::new();
    for number in 0..requests.len() {
        while started.elapsed().as_secs_f64() * per_second < count(number) {
            tokio::time::sleep(TICK).await;
        }
        let mut connection: Connection = idle.recv().await.expect("this end is open");
        let (requests, give_back) = (Arc::clone(requests), give_back.clone());
        before(&requests[number]);
        posting.spawn(async move {
            assert_eq!(connection.exchange(&requests[number]).await, 200);
            give_back.try_send(connection).expect("room for all");
        });
    }
    posting.join_all().await;
    started.elapsed()
}

/// The first thing that looks like the id of a request.
pub(crate) fn find_id(bytes: &[u8]) -> Option<&str> {
    let length = id(0).len();
    let head = bytes.get(..400).unwrap_or(bytes);
    let start = head.windows(5).position(|it| it == b"msg_0")?;
    std::str::from_utf8(bytes.get(start..start + length)?).ok()
}
