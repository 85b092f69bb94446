//! The one reader of committed batches: fills the ring, and wakes whoever waits for it.

use std::sync::{Arc, PoisonError};

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::hub::Inner;
use super::index::Shown;
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

fn publish(inner: &Inner, batch: &Arc<Batch>) {
    let Some(last) = batch.records.last() else {
        return;
    };
    let mut ring = inner.ring.write().unwrap_or_else(PoisonError::into_inner);
    let head = ring.head();
    if last.position <= head {
        return;
    }
    let missed_some = batch.after > head;
    if missed_some {
        ring.restart_after(batch.after);
    }
    ring.push(inner.log.epoch(), Arc::clone(batch));
    drop(ring);

    if missed_some {
        inner.waiting.skip_to(batch.after);
    }
    let unseen = batch.records.iter();
    let unseen = unseen.filter(|record| record.position > head);
    let events = unseen.map(|record| (record.position, &record.entry.attributes));
    let events: Vec<Shown<'_>> = events.collect();
    inner.waiting.show(&events);
}
