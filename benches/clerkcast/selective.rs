//! What an event costs that ten subscribers want, when many more are connected that want
//! other users' events; the baseline is the same gateway with the ten alone.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use clerkcast::event::{Position, Run};
use clerkcast::log::{Batch, Record};
use clerkcast::proto::{EventFilter, SubscribeRequest};
use prost::Message as _;

use crate::support::clients::Clients;
use crate::support::memory_log::{Memory, MemoryLog};
use crate::support::records::record;
use crate::support::served::{SUBSCRIBE, Served};
use crate::support::{Row, count, table};

const ROUNDS: usize = 5;
const MATCHING: usize = 10;
const OTHERS: [usize; 3] = [100, 1_000, 10_000];
/// Streams that share a connection.
const STREAMS: usize = 100;
/// Events, one after the other: each waits until all ten have received the last.
const EVENTS: usize = 3_000;

pub(crate) async fn run() {
    let mut rows = Vec::new();
    for others in OTHERS {
        let mut row = Row::new(format!("{others} others"));
        for _ in 0..ROUNDS {
            let base = microseconds_per_event(0).await;
            row.push(microseconds_per_event(others).await, base);
        }
        rows.push(row);
    }
    table(
        "selective, µs an event that 10 subscribers want (goal: 1.2 or less)",
        "the 10 alone",
        &rows,
    );
}

async fn microseconds_per_event(others: usize) -> f64 {
    let log = Arc::new(MemoryLog::open(Memory::default(), None, None));
    let served = Served::start(log.clone()).await;
    let entry = record(1_400);
    let wanted = entry.attributes.user_id.clone().expect("a user");
    let uninterested = (0..others).map(|number| filter(format!("user_{number}")));
    let uninterested = uninterested.collect();
    let connections = others.div_ceil(STREAMS);
    let uninterested =
        Clients::connect(served.address, SUBSCRIBE, connections, uninterested, 2).await;
    let matching = vec![filter(wanted); MATCHING];
    let matching = Clients::connect(served.address, SUBSCRIBE, MATCHING, matching, 2).await;

    let started = Instant::now();
    for number in 1..=EVENTS {
        let position = Position::new(number as u64);
        let entry = entry.clone();
        log.publish(&Arc::new(Batch {
            after: Position::new(number as u64 - 1),
            records: vec![Record {
                position,
                run: Run::NONE,
                entry,
            }],
        }));
        matching.slowest_has(number).await;
    }
    let elapsed = started.elapsed();
    matching.close().await;
    uninterested.close().await;
    1e6 * elapsed.as_secs_f64() / count(EVENTS)
}

fn filter(user: String) -> Bytes {
    let filter = EventFilter {
        user_ids: vec![user],
        ..EventFilter::default()
    };
    let request = SubscribeRequest {
        filter: Some(filter),
        ..SubscribeRequest::default()
    };
    request.encode_to_vec().into()
}
