//! Catching up from disk: frames a second to subscribers that start with the oldest of
//! 200,000 events; the baseline is a bare tonic service that streams as many frames from
//! memory. And how much of that a filter saves. `CLERKCAST_SOAK=1` takes 1,000,000 events
//! (4 GB of disk).

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
use crate::support::records::{record, scattered};
use crate::support::served::{SUBSCRIBE, Served};
use crate::support::{Row, count, disk_log, is_soak, table};

const ROUNDS: usize = 5;
const EVENTS: usize = 200_000;
const EVENTS_SOAK: usize = 1_000_000;
const RARE: usize = 100;
const RARE_TYPE: &str = "session.created";
const RARE_USER: &str = "user_rare";
const USERS: usize = 10_000;
const SOME_USERS: usize = 64;

pub(crate) async fn run() {
    let events = if is_soak() { EVENTS_SOAK } else { EVENTS };
    let directory = TempDir::new().expect("a directory");
    let disk = disk_log::open(directory.path());
    disk.fill(records(events)).await;
    rates(&disk.log, events).await;
    filters(&disk.log, events).await;
}

async fn rates(log: &Arc<dyn Log>, events: usize) {
    let mut rows = Vec::new();
    for subscribers in [1, 10] {
        let mut row = Row::new(format!("{subscribers} subscribers"));
        for _ in 0..ROUNDS {
            let base = bare(subscribers, events).await;
            let ours = ours(log, subscribers, events).await;
            let rate = |elapsed: Duration| count(events * subscribers) / elapsed.as_secs_f64();
            row.push(rate(ours), rate(base));
        }
        rows.push(row);
    }
    table(
        "replay, frames/s (goal: 0.8 or more)",
        "bare tonic, from memory",
        &rows,
    );
}

/// Each filter beside no filter, from the first event until the log's end is reached.
async fn filters(log: &Arc<dyn Log>, events: usize) {
    let cases = cases(events);
    let mut rows: Vec<Row> = cases.iter().map(|case| Row::new(case.name)).collect();
    for _ in 0..ROUNDS {
        let all = through(log, EventFilter::default(), events).await;
        for (case, row) in cases.iter().zip(&mut rows) {
            let selected = through(log, case.filter.clone(), case.selected).await;
            row.push(1e3 * selected.as_secs_f64(), 1e3 * all.as_secs_f64());
        }
    }
    let title = format!("replay of what a filter selects of {events} events, ms");
    table(&title, "all events", &rows);
}

struct Case {
    name: &'static str,
    filter: EventFilter,
    /// Events that it selects.
    selected: usize,
}

fn cases(events: usize) -> Vec<Case> {
    let types = |name: &str| EventFilter {
        types: vec![name.to_owned()],
        ..EventFilter::default()
    };
    let users = |user_ids: Vec<String>| EventFilter {
        user_ids,
        ..EventFilter::default()
    };
    let of_users = |users: usize| {
        let others = (0..events).filter(|number| !is_rare(*number));
        others.filter(|number| user(*number) < users).count()
    };
    let rare = (0..events).filter(|number| is_rare(*number)).count();
    let case = |name, filter, selected| Case {
        name,
        filter,
        selected,
    };
    vec![
        case("one in 100, by type", types(RARE_TYPE), rare),
        case(
            "one in 100, by user",
            users(vec![RARE_USER.to_owned()]),
            rare,
        ),
        case(
            "one in 100, by prefix, judging each",
            types("session.*"),
            rare,
        ),
        case("one user of 10,000", users(vec![user_id(0)]), of_users(1)),
        case(
            "64 users of 10,000",
            users((0..SOME_USERS).map(user_id).collect()),
            of_users(SOME_USERS),
        ),
    ]
}

fn records(events: usize) -> impl Iterator<Item = Entry> {
    let common = record(1_400);
    (0..events).map(move |number| {
        let mut record = common.clone();
        record.id = format!("msg_{number:027}");
        record.attributes.user_id = Some(user_id(user(number)));
        if is_rare(number) {
            record.attributes.event_type = RARE_TYPE.to_owned();
            record.attributes.user_id = Some(RARE_USER.to_owned());
        }
        record
    })
}

fn is_rare(number: usize) -> bool {
    number.is_multiple_of(RARE)
}

fn user(number: usize) -> usize {
    scattered(number) % USERS
}

fn user_id(user: usize) -> String {
    format!("user_{user:027}")
}

fn from_earliest() -> SubscribeRequest {
    SubscribeRequest {
        start: Some(Start::StartPosition(StartPosition::Earliest.into())),
        ..SubscribeRequest::default()
    }
}

/// How long it takes until each subscriber has this many events.
async fn ours(log: &Arc<dyn Log>, subscribers: usize, events: usize) -> Duration {
    let served = Served::start(Arc::clone(log)).await;
    let started = Instant::now();
    let request = Bytes::from(from_earliest().encode_to_vec());
    let requests = vec![request; subscribers];
    let clients = Clients::connect(served.address, SUBSCRIBE, subscribers, requests, 0).await;
    // After `Started`.
    clients.slowest_has(1 + events).await;
    let elapsed = started.elapsed();
    clients.close().await;
    elapsed
}

/// How long it takes until a subscriber has all that its filter selects and is caught up.
async fn through(log: &Arc<dyn Log>, filter: EventFilter, selected: usize) -> Duration {
    let served = Served::start(Arc::clone(log)).await;
    let started = Instant::now();
    let request = SubscribeRequest {
        filter: Some(filter),
        stop_when_caught_up: true,
        ..from_earliest()
    };
    let requests = vec![request.encode_to_vec().into()];
    let clients = Clients::connect(served.address, SUBSCRIBE, 1, requests, 0).await;
    let frames = clients.fewest_at_end().await;
    let elapsed = started.elapsed();
    // Between `Started` and `CaughtUp`. Heartbeats count too.
    assert!(frames >= 2 + selected, "{frames} frames, {selected} events");
    elapsed
}

async fn bare(subscribers: usize, events: usize) -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let server = tokio::spawn(bare::serve(listener, BareService::replaying(events)));
    let started = Instant::now();
    let requests = vec![Bytes::new(); subscribers];
    let clients = Clients::connect(address, bare::REPLAY_PATH, subscribers, requests, 0).await;
    clients.slowest_has(1 + events).await;
    let elapsed = started.elapsed();
    clients.close().await;
    server.abort();
    elapsed
}
