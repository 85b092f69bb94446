//! The log on NATS JetStream, beside JetStream's own client that does the same in the
//! same servers: publishing with an acknowledgement, following live, reading from the
//! beginning.
//!
//! Servers, gateway, baseline and clients share the machine. A message holds a whole
//! stored record, of which a subscriber receives the typed event.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::DeliverPolicy;
use bytes::Bytes;
use clerkcast::proto::subscribe_request::Start;
use clerkcast::proto::{StartPosition, SubscribeRequest};
use prost::Message as _;
use tempfile::TempDir;

use crate::support::clients::Clients;
use crate::support::jetstream::{
    BASELINE, BASELINE_SUBJECT, OUR_SUBJECT, OURS, Ordered, consumers, forget_consumers, gateway,
    make_baseline, messages, publish_all, stored_record,
};
use crate::support::nats_server::NatsServers;
use crate::support::posts::{post_all, signed, user_created};
use crate::support::process::{BARE_WEBHOOK, Server};
use crate::support::served::SUBSCRIBE;
use crate::support::{Row, count, table};

const ROUNDS: usize = 5;
/// Connections, and requests in a round.
const INGEST: [(usize, usize); 3] = [(1, 2_000), (16, 12_000), (128, 30_000)];
const SUBSCRIBERS: usize = 100;
const LIVE_EVENTS: usize = 6_400;
/// Events that are published at once.
const BATCH: usize = 256;
/// The publisher waits for the slowest subscriber once it is so far ahead.
const WINDOW: usize = 8 * BATCH;
/// Frames that are no events are smaller.
const EVENT_BYTES_MIN: usize = 300;
const REPLAYED: usize = 100_000;
const PUBLISHED_AT_ONCE: usize = 128;
const KINDS: [(&str, Ordered); 2] = [
    ("ordered pull consumers", Ordered::Pull),
    ("ordered push consumers", Ordered::Push),
];

pub(crate) async fn run() {
    ingest().await;
    fan_out().await;
    replay().await;
}

/// A gateway on so many servers, and a stream beside its own for the baseline.
struct Stand {
    /// Goes first, while its servers are there.
    gateway: Server,
    _directory: TempDir,
    context: Context,
    record: Bytes,
    servers: NatsServers,
}

impl Stand {
    async fn set_up(servers: usize) -> Self {
        let replicas = servers.to_string();
        let servers = NatsServers::start(servers).await;
        let directory = TempDir::new().expect("a directory");
        let gateway = gateway(&servers, &directory, &replicas);
        post_all(gateway.http, 1, &signed(1, &user_created())).await;
        let context = servers.connect().await;
        make_baseline(&context).await;
        Self {
            gateway,
            _directory: directory,
            record: stored_record(&context).await,
            context,
            servers,
        }
    }
}

async fn ingest() {
    let body = user_created();
    let bare = Server::baseline(BARE_WEBHOOK);
    let mut rows = Vec::new();
    let mut beside_both = Vec::new();
    for (servers, cases) in [(1, &INGEST[..]), (3, &INGEST[2..])] {
        let stand = Stand::set_up(servers).await;
        for (connections, requests) in cases.iter().copied() {
            let mut row = Row::new(format!("at once {connections}, replicas {servers}"));
            let mut each = Row::new(row.name.clone());
            for _ in 0..ROUNDS {
                let messages = messages(requests, &stand.record);
                let context = &stand.context;
                let base = publish_all(context, BASELINE_SUBJECT, connections, messages).await;
                let received = post_all(bare.http, connections, &signed(requests, &body)).await;
                let requested = signed(requests, &body);
                let ours = post_all(stand.gateway.http, connections, &requested).await;
                let rate = |elapsed: Duration| count(requests) / elapsed.as_secs_f64();
                row.push(rate(ours), rate(base));
                let micros = |elapsed: Duration| 1e6 * elapsed.as_secs_f64() / count(requests);
                each.push(micros(ours), micros(received + base));
            }
            rows.push(row);
            beside_both.push(each);
        }
    }
    table(
        "nats: ingest, webhooks/s (goal at 128: 0.7 or more)",
        "acknowledged publishes",
        &rows,
    );
    table(
        "nats: the same, µs a webhook, beside both of its parts",
        "verify and parse + acknowledged publish",
        &beside_both,
    );
}

/// Events are published straight to the streams, on both sides alike: to the gateway they
/// come as from another gateway.
async fn fan_out() {
    let stand = Stand::set_up(1).await;
    let mut rows = Vec::new();
    for (name, kind, include_payload) in [
        ("ordered pull consumers", Ordered::Pull, false),
        ("ordered push consumers", Ordered::Push, false),
        // As many bytes on both sides.
        ("ordered pull consumers, with payload", Ordered::Pull, true),
    ] {
        let mut row = Row::new(format!("{SUBSCRIBERS}, {name}"));
        for _ in 0..ROUNDS {
            let new = DeliverPolicy::New;
            let clients = consumers(&stand.servers, BASELINE, kind, SUBSCRIBERS, new).await;
            let base = publish_and_wait(&stand, BASELINE_SUBJECT, clients).await;
            forget_consumers(&stand.context).await;
            let request = SubscribeRequest {
                include_payload,
                ..SubscribeRequest::default()
            };
            let requests = vec![request.encode_to_vec().into(); SUBSCRIBERS];
            let ours = subscribers(&stand.gateway, requests).await;
            row.push(publish_and_wait(&stand, OUR_SUBJECT, ours).await, base);
        }
        rows.push(row);
    }
    table(
        "nats: live fan-out, frames/s (goal: 2 or more)",
        "direct consumers",
        &rows,
    );
}

/// All of them live, and none of them to be sent anything but events.
async fn subscribers(gateway: &Server, requests: Vec<Bytes>) -> Clients {
    let opened = Arc::new(AtomicUsize::new(0));
    let opening = 2 * requests.len();
    let observe = Arc::new(move |frame: &[u8]| {
        // `Started` and `CaughtUp` come first.
        if frame.len() < EVENT_BYTES_MIN {
            let others = opened.fetch_add(1, Ordering::Relaxed);
            assert!(others < opening, "a frame that is no event");
        }
    });
    Clients::observing(gateway.grpc, SUBSCRIBE, SUBSCRIBERS, requests, 2, observe).await
}

/// Frames a second, to all clients together.
async fn publish_and_wait(stand: &Stand, subject: &'static str, clients: Clients) -> f64 {
    let mut batches = Vec::new();
    for _ in 0..LIVE_EVENTS / BATCH {
        batches.push(messages(BATCH, &stand.record));
    }
    let started = Instant::now();
    let mut published = 0_usize;
    for batch in batches {
        clients.slowest_has(published.saturating_sub(WINDOW)).await;
        publish_all(&stand.context, subject, PUBLISHED_AT_ONCE, batch).await;
        published += BATCH;
    }
    clients.slowest_has(published).await;
    let elapsed = started.elapsed();
    clients.close().await;
    count(published * SUBSCRIBERS) / elapsed.as_secs_f64()
}

async fn replay() {
    let stand = Stand::set_up(1).await;
    let filling = messages(REPLAYED - 1, &stand.record);
    publish_all(&stand.context, OUR_SUBJECT, PUBLISHED_AT_ONCE, filling).await;
    // One that has seen none of them, so that all come from the stream.
    let directory = TempDir::new().expect("a directory");
    let gateway = gateway(&stand.servers, &directory, "1");
    let mut rows = Vec::new();
    for (name, kind) in KINDS {
        let mut row = Row::new(format!("1 subscriber, {name}"));
        for _ in 0..ROUNDS {
            let started = Instant::now();
            let clients = consumers(&stand.servers, OURS, kind, 1, DeliverPolicy::All).await;
            clients.slowest_has(REPLAYED).await;
            let base = count(REPLAYED) / started.elapsed().as_secs_f64();
            clients.close().await;
            let started = Instant::now();
            let requests = vec![from_earliest()];
            let clients = Clients::connect(gateway.grpc, SUBSCRIBE, 1, requests, 0).await;
            // After `Started`.
            clients.slowest_has(1 + REPLAYED).await;
            row.push(count(REPLAYED) / started.elapsed().as_secs_f64(), base);
            clients.close().await;
        }
        rows.push(row);
    }
    table(
        "nats: replay of 100,000 events, frames/s",
        "an ordered consumer",
        &rows,
    );
}

fn from_earliest() -> Bytes {
    let request = SubscribeRequest {
        start: Some(Start::StartPosition(StartPosition::Earliest.into())),
        ..SubscribeRequest::default()
    };
    request.encode_to_vec().into()
}
