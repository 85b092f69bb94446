//! The one reader of committed batches: encodes each event once and fills the ring.

use std::sync::{Arc, PoisonError};

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::Inner;
use super::frame::{Frame, Payload};
use super::ring::Recent;
use crate::log::Batch;

pub(super) async fn run(inner: Arc<Inner>, mut batches: Receiver<Arc<Batch>>) {
    loop {
        match batches.recv().await {
            Ok(batch) => publish(&inner, &batch),
            // The next batch does not follow on the ring's head, and restarts it.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

fn publish(inner: &Inner, batch: &Batch) {
    let head = inner.ring().head();
    let unseen = batch.records.iter().filter(|record| record.position > head);
    let unseen: Vec<_> = unseen
        .map(|record| (inner.cursor(record.position), record))
        .collect();
    let contents = unseen
        .iter()
        .map(|(cursor, record)| (*cursor, &record.content));
    let frames = Frame::events(contents, Payload::Omitted);
    let recent = unseen.iter().zip(frames);
    let recent = recent.map(|((cursor, record), frame)| {
        let record = Arc::clone(record);
        Arc::new(Recent::new(*cursor, record, frame))
    });
    let recent: Vec<Arc<Recent>> = recent.collect();

    let mut ring = inner.ring.write().unwrap_or_else(PoisonError::into_inner);
    let missed_some = batch.after > head;
    if missed_some {
        ring.restart_after(batch.after);
    }
    for event in recent {
        ring.push(event);
    }
    drop(ring);
    if missed_some {
        inner.waiting.skip_to(batch.after);
    }
    let shown = unseen.iter();
    inner
        .waiting
        .show(shown.map(|(_, record)| (record.position, &record.content.attributes)));
}
