//! Catching up from disk: frames a second to subscribers that start with the oldest of
//! 200,000 events; the baseline is a bare tonic service that streams as many frames from
//! memory. And how much of that a filter saves that wants one event in a hundred.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clerkcast::log::{Entry, Log};
use clerkcast::proto::subscribe_request::Start;
use clerkcast::proto::{EventFilter, StartPosition, SubscribeRequest};
use prost::Message as _;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::support::bare::{self, BareService};
use crate::support::clients::Clients;
use crate::support::records::record;
use crate::support::served::{SUBSCRIBE, Served};
use crate::support::{Row, count, disk_log, table};

const ROUNDS: usize = 5;
const EVENTS: usize = 200_000;
const RARE: usize = EVENTS / 100;
const RARE_TYPE: &str = "session.created";
const RARE_USER: &str = "user_rare";

pub(crate) async fn run() {
    let directory = TempDir::new().expect("a directory");
    let log = disk_log::open(directory.path());
    disk_log::fill(&*log, records()).await;

    let mut rates = Vec::new();
    for subscribers in [1, 10] {
        let mut row = Row::new(format!("{subscribers} subscribers"));
        for _ in 0..ROUNDS {
            let requests = vec![request(EventFilter::default()); subscribers];
            let base = bare(subscribers).await;
            let ours = ours(&log, requests, EVENTS).await;
            let rate = |elapsed: Duration| count(EVENTS * subscribers) / elapsed.as_secs_f64();
            row.push(rate(ours), rate(base));
        }
        rates.push(row);
    }
    table(
        "replay, frames/s (goal: 0.8 or more)",
        "bare tonic, from memory",
        &rates,
    );

    let by_type = EventFilter {
        types: vec![RARE_TYPE.to_owned()],
        ..EventFilter::default()
    };
    let by_user = EventFilter {
        user_ids: vec![RARE_USER.to_owned()],
        ..EventFilter::default()
    };
    let by_prefix = EventFilter {
        types: vec!["session.*".to_owned()],
        ..EventFilter::default()
    };
    let mut rows = Vec::new();
    for (name, filter) in [
        ("by type, from the index", by_type),
        ("by user, from the index", by_user),
        ("by prefix, judging every event", by_prefix),
    ] {
        let mut row = Row::new(name);
        for _ in 0..ROUNDS {
            let all = ours(&log, vec![request(EventFilter::default())], EVENTS).await;
            let some = ours(&log, vec![request(filter.clone())], RARE).await;
            row.push(1e3 * some.as_secs_f64(), 1e3 * all.as_secs_f64());
        }
        rows.push(row);
    }
    table("replay of one event in a hundred, ms", "all events", &rows);
}

fn records() -> impl Iterator<Item = Entry> {
    let common = record(1_400);
    (0..EVENTS).map(move |number| {
        let mut record = common.clone();
        record.id = format!("msg_{number:027}");
        record.attributes.user_id = Some(format!("user_{:027}", number % 10_000));
        if number % (EVENTS / RARE) == 0 {
            record.attributes.event_type = RARE_TYPE.to_owned();
            record.attributes.user_id = Some(RARE_USER.to_owned());
        }
        record
    })
}

fn request(filter: EventFilter) -> Bytes {
    let request = SubscribeRequest {
        filter: Some(filter),
        start: Some(Start::StartPosition(StartPosition::Earliest.into())),
        ..SubscribeRequest::default()
    };
    request.encode_to_vec().into()
}

/// How long it takes until each subscriber has so many events.
async fn ours(log: &Arc<dyn Log>, requests: Vec<Bytes>, events: usize) -> Duration {
    let served = Served::start(Arc::clone(log)).await;
    let started = Instant::now();
    let connections = requests.len();
    let clients = Clients::connect(served.address, SUBSCRIBE, connections, requests, 0).await;
    // After `Started`.
    clients.slowest_has(1 + events).await;
    let elapsed = started.elapsed();
    clients.close().await;
    elapsed
}

async fn bare(subscribers: usize) -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let server = tokio::spawn(bare::serve(listener, BareService::replaying(EVENTS)));
    let started = Instant::now();
    let requests = vec![Bytes::new(); subscribers];
    let clients = Clients::connect(address, bare::REPLAY_PATH, subscribers, requests, 0).await;
    clients.slowest_has(1 + EVENTS).await;
    let elapsed = started.elapsed();
    clients.close().await;
    server.abort();
    elapsed
}
