//! What the filters of some cost others: webhooks while callers ask for thousands of types
//! that do not exist, and while many streams have as many wildcards as they may; the
//! baseline is the same gateway without them. And what a filter costs in memory.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::http::uri::PathAndQuery;
use bytes::Bytes;
use clerkcast::proto::{EventFilter, SubscribeRequest};
use prost::Message as _;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tonic::Request;
use tonic::client::Grpc;
use tonic::transport::Endpoint;

use crate::support::bare::{self, RawCodec};
use crate::support::clients::Clients;
use crate::support::paced::deliver;
use crate::support::posts::{Connection, signed, user_created};
use crate::support::process::{BARE_STREAM, Server};
use crate::support::served::SUBSCRIBE;
use crate::support::{Row, count, percentile, table};

const ROUNDS: usize = 5;
/// Webhooks that are posted one after the other, each when the last was answered.
const WEBHOOKS: usize = 2_000;
const CALLERS: usize = 6;
const UNKNOWN_TYPES: usize = 10_000;
const UNKNOWN_TYPE_BYTES: usize = 52;
/// From an answer to the next call of the same caller, so that what is measured is how
/// long a call holds others up, not how much of the machine the callers take.
const PAUSE: Duration = Duration::from_millis(200);
const STREAMS: usize = 300;
const WILDCARDS: usize = 256;
/// Streams that share a connection.
const SHARED: usize = 100;
const EVENTS: usize = 1_000;
const EVENTS_PER_SECOND: f64 = 200.0;
const LARGE_FILTERS: usize = 40;
const IDS: usize = 10_000;

pub(crate) async fn run() {
    let body = user_created();
    let mut unknown = Row::new(format!(
        "{CALLERS} callers of {UNKNOWN_TYPES} unknown types"
    ));
    let mut transfer = Row::new("the same calls to a bare tonic server");
    for _ in 0..ROUNDS {
        let directory = TempDir::new().expect("a directory");
        let gateway = Server::gateway(directory.path());
        let bare = Server::baseline(BARE_STREAM);
        let alone = percentile(&in_series(&gateway, &body).await, 0.99);
        for (row, called, path) in [
            (&mut unknown, &gateway, SUBSCRIBE),
            (&mut transfer, &bare, bare::PATH),
        ] {
            let answered = Arc::new(AtomicUsize::new(0));
            let callers = ask_for_unknown_types(called.grpc, path, &answered).await;
            let beside = in_series(&gateway, &body).await;
            drop(callers);
            assert!(answered.load(Ordering::Relaxed) > 0, "no call was made");
            row.push(percentile(&beside, 0.99), alone);
        }
    }
    table(
        "filters, µs of a webhook's answer, p99 (goal: 2 or less)",
        "alone",
        &[unknown, transfer],
    );

    let name = format!("{STREAMS} streams of {WILDCARDS} wildcards");
    let mut in_a_second = Row::new(format!("{name}, webhooks/s in series"));
    let mut to_frame = Row::new(format!("{name}, µs from POST to frame, p50"));
    for _ in 0..ROUNDS {
        let directory = TempDir::new().expect("a directory");
        let gateway = Server::gateway(directory.path());
        let without = in_series(&gateway, &body).await;
        let frames_without = deliver(&gateway, 1, &body, EVENTS, EVENTS_PER_SECOND).await;
        let streams = (0..STREAMS).map(wildcards).collect();
        let connections = STREAMS.div_ceil(SHARED);
        let streams = Clients::connect(gateway.grpc, SUBSCRIBE, connections, streams, 2).await;
        let with = in_series(&gateway, &body).await;
        let frames_with = deliver(&gateway, 1, &body, EVENTS, EVENTS_PER_SECOND).await;
        streams.close().await;
        in_a_second.push(per_second(&with), per_second(&without));
        to_frame.push(
            percentile(&frames_with.latencies, 0.5),
            percentile(&frames_without.latencies, 0.5),
        );
    }
    table(
        "filters, what must be asked about each event (goal: 0.8 or more; 1.5 or less)",
        "without the streams",
        &[in_a_second, to_frame],
    );

    let mut memory = Row::new(format!("{IDS} ids"));
    for _ in 0..ROUNDS {
        let (added, sent) = kilobytes_of_a_filter().await;
        memory.push(added, sent);
    }
    table(
        "filters, kB that a stream's own filter adds (goal: 4 or less)",
        "kB that were sent",
        &[memory],
    );
}

/// How long the answer to each of the webhooks took, in µs.
async fn in_series(gateway: &Server, body: &str) -> Vec<f64> {
    let requests = signed(WEBHOOKS, body);
    let mut connection = Connection::open(gateway.http).await;
    let mut took = Vec::with_capacity(WEBHOOKS);
    for request in requests.iter() {
        let sent = Instant::now();
        assert_eq!(connection.exchange(request).await, 200);
        took.push(1e6 * sent.elapsed().as_secs_f64());
    }
    took
}

fn per_second(took: &[f64]) -> f64 {
    1e6 * count(took.len()) / took.iter().sum::<f64>()
}

/// Calls again and again, until dropped. What answers is the gateway, which refuses, or a
/// server that only reads the request.
async fn ask_for_unknown_types(
    address: SocketAddr,
    path: &'static str,
    answered: &Arc<AtomicUsize>,
) -> JoinSet<()> {
    let types = (0..UNKNOWN_TYPES).map(|number| format!("{number:0>UNKNOWN_TYPE_BYTES$}"));
    let filter = EventFilter {
        types: types.collect(),
        ..EventFilter::default()
    };
    // Encoded once: what is measured is the gateway, and the callers share its machine.
    let request = request(filter);
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URI");
        let mut grpc = Grpc::new(endpoint.connect().await.expect("connected"));
        let request = request.clone();
        let answered = Arc::clone(answered);
        callers.spawn(async move {
            // Each at a moment of its own, not all at once.
            tokio::time::sleep(PAUSE.mul_f64(count(number) / count(CALLERS))).await;
            loop {
                grpc.ready().await.expect("ready");
                let request = Request::new(request.clone());
                let answer =
                    grpc.server_streaming(request, PathAndQuery::from_static(path), RawCodec);
                assert_eq!(
                    answer.await.is_err(),
                    path == SUBSCRIBE,
                    "there are no such types"
                );
                answered.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(PAUSE).await;
            }
        });
    }
    callers
}

/// A filter that no other stream has, and that no event matches.
fn wildcards(stream: usize) -> Bytes {
    let types = (0..WILDCARDS).map(|number| format!("user.x{stream}.{number}.*"));
    request(EventFilter {
        types: types.collect(),
        ..EventFilter::default()
    })
}

fn request(filter: EventFilter) -> Bytes {
    let request = SubscribeRequest {
        filter: Some(filter),
        ..SubscribeRequest::default()
    };
    request.encode_to_vec().into()
}

/// What each stream with thousands of ids adds to the gateway's memory, and what it sent.
async fn kilobytes_of_a_filter() -> (f64, f64) {
    let directory = TempDir::new().expect("a directory");
    let gateway = Server::gateway(directory.path());
    let of_ids = |number: usize| {
        let ids = (0..IDS).map(|id| format!("user_{:027}", number * IDS + id));
        request(EventFilter {
            user_ids: ids.collect(),
            ..EventFilter::default()
        })
    };
    // What the first requests bring with them is not a filter's. The streams open one after
    // the other: what is held while requests are read has a bound of its own.
    let open = async |numbers: Range<usize>| {
        let mut streams = Vec::new();
        for number in numbers {
            let request = vec![of_ids(number)];
            streams.push(Clients::connect(gateway.grpc, SUBSCRIBE, 1, request, 2).await);
        }
        streams
    };
    let first = open(0..10).await;
    let before = gateway.resident_bytes();
    let streams = open(10..10 + LARGE_FILTERS).await;
    let added = gateway.resident_bytes().saturating_sub(before);
    let sent = of_ids(10).len() * LARGE_FILTERS;
    for stream in first.into_iter().chain(streams) {
        stream.close().await;
    }
    let each = |bytes: usize| count(bytes) / 1e3 / count(LARGE_FILTERS);
    (each(added), each(sent))
}
