//! A hundred subscribers that catch up from different positions of a long log, while
//! webhooks arrive at half of the gateway's maximum; the baseline is the same without
//! them. Both with ten live subscribers.

use std::time::Duration;

use bytes::Bytes;
use clerkcast::proto::SubscribeRequest;
use clerkcast::proto::subscribe_request::Start;
use prost::Message as _;
use tempfile::TempDir;

use crate::support::clients::Clients;
use crate::support::paced::deliver;
use crate::support::posts::{post_all, signed, user_created};
use crate::support::process::Server;
use crate::support::records::record;
use crate::support::served::SUBSCRIBE;
use crate::support::{Row, count, disk_log, percentile, table};

const ROUNDS: usize = 3;
const HISTORY: usize = 200_000;
const CATCHING_UP: usize = 100;
const LIVE: usize = 10;
const CONNECTIONS: usize = 128;
const LASTS: Duration = Duration::from_secs(5);

pub(crate) async fn run() {
    let directory = TempDir::new().expect("a directory");
    let cursors = fill(&directory).await;
    let gateway = Server::gateway(directory.path());
    let body = user_created();
    let requests = signed(60_000, &body);
    let elapsed = post_all(gateway.http, CONNECTIONS, &requests).await;
    let most = count(requests.len()) / elapsed.as_secs_f64();
    let pace = most / 2.0;

    let mut accepted = Row::new("webhooks/s accepted");
    let mut p99 = Row::new("live p99, ms");
    for _ in 0..ROUNDS {
        let (base_rate, base_p99) = measure(&gateway, &body, pace).await;
        let catching_up = Clients::connect(
            gateway.grpc,
            SUBSCRIBE,
            CATCHING_UP,
            cursors.iter().map(|cursor| after(cursor)).collect(),
            1,
        )
        .await;
        let (rate, with_p99) = measure(&gateway, &body, pace).await;
        catching_up.close().await;
        accepted.push(rate, base_rate);
        p99.push(with_p99, base_p99);
    }
    table(
        &format!(
            "backlog, {pace:.0} webhooks/s offered, half of the maximum (goal: accepted 0.8 or more, p99 2 or less)"
        ),
        "without those who catch up",
        &[accepted, p99],
    );
}

/// Fills a log, and returns cursors spread over it.
async fn fill(directory: &TempDir) -> Vec<String> {
    let log = disk_log::open(directory.path());
    let common = record(1_400);
    let records = (0..HISTORY).map(|number| {
        let mut record = common.clone();
        record.id = format!("msg_history_{number:020}");
        record
    });
    log.fill(records).await;
    let cursors = log.cursors(CATCHING_UP);
    log.close().await;
    cursors
}

fn after(cursor: &str) -> Bytes {
    let request = SubscribeRequest {
        start: Some(Start::AfterCursor(cursor.to_owned())),
        ..SubscribeRequest::default()
    };
    request.encode_to_vec().into()
}

/// Webhooks accepted a second, and the 99th percentile of the time from the start of a
/// POST until a live subscriber has it, in ms.
async fn measure(gateway: &Server, body: &str, pace: f64) -> (f64, f64) {
    let events = pace * LASTS.as_secs_f64();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number of events"
    )]
    let delivered = deliver(gateway, LIVE, body, events as usize, pace).await;
    let p99 = percentile(&delivered.latencies, 0.99) / 1e3;
    (delivered.accepted_per_second, p99)
}
