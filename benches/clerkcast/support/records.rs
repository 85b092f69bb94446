//! The events that are measured.

use std::sync::Arc;

use bytes::Bytes;
use clerkcast::clerk::{self, Envelope};
use clerkcast::event::{Position, Run, UnixMillis};
use clerkcast::log::{Batch, Entry, Record};

/// A `user.created` whose encoded event has about so many bytes.
pub(crate) fn record(event_bytes: usize) -> Entry {
    let filler = "x".repeat(event_bytes.saturating_sub(150));
    let body = format!(
        r#"{{"type":"user.created","data":{{"id":"user_3ATV8zndaNuwl9Z3aLvmUEmOJSm","image_url":"{filler}"}}}}"#
    );
    record_of(&body)
}

/// What the gateway makes of a body.
pub(crate) fn record_of(body: &str) -> Entry {
    let envelope = Envelope {
        id: "msg_3ATV8zndaNuwl9Z3aLvmUEmOJSm",
        source: "default",
        send_time: UnixMillis::now(),
    };
    let decoded = clerk::decode(envelope, body.as_bytes());
    Entry {
        id: envelope.id.to_owned(),
        attributes: decoded.attributes,
        receive_time: UnixMillis::now(),
        event: decoded.event,
        decoding: clerk::decoding(),
        payload: Bytes::copy_from_slice(body.as_bytes()),
    }
}

/// Turns numbers that follow each other into numbers far apart, without a pattern.
pub(crate) fn scattered(number: usize) -> usize {
    // The last steps of SplitMix64.
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Batches of `batch` copies, `count` copies in all. Made before the clock starts: a
/// real log's writer is not part of the fan-out.
pub(crate) fn batches(entry: &Entry, batch: usize, count: usize) -> Vec<Arc<Batch>> {
    let positions: Vec<u64> = (1..=count as u64).collect();
    let batches = positions.chunks(batch).map(|positions| {
        let records = positions.iter().map(|position| Record {
            position: Position::new(*position),
            run: Run::NONE,
            entry: entry.clone(),
        });
        Arc::new(Batch {
            after: Position::new(positions[0] - 1),
            records: records.collect(),
        })
    });
    batches.collect()
}
