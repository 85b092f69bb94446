//! The one reader of committed batches: fills the ring, and wakes the waiters.

use std::sync::Arc;

use futures_util::StreamExt as _;

use super::hub::Hub;
use super::index::Arrival;
use crate::log::{Batch, Follower};

pub(super) async fn run(hub: Arc<Hub>, mut follower: Follower) {
    while let Some(followed) = follower.next().await {
        // After a lag, the next batch does not follow on the ring's last event, and restarts
        // it.
        if let Ok(batch) = followed {
            publish(&hub, &batch);
        }
    }
}

pub(super) fn publish(hub: &Hub, batch: &Arc<Batch>) {
    let Some(last) = batch.records.last() else {
        return;
    };
    let mut ring = hub.ring.write();
    let ring_last = ring.last();
    if last.position <= ring_last {
        return;
    }
    let missed_some = batch.after > ring_last;
    if missed_some {
        ring.restart_after(batch.after);
    }
    ring.push(hub.log.epoch(), Arc::clone(batch));
    drop(ring);

    if missed_some {
        hub.waiters.skip_to(batch.after);
    }
    let unseen = batch
        .records
        .iter()
        .filter(|record| record.position > ring_last);
    let events: Vec<Arrival<'_>> = unseen
        .map(|record| (record.position, &record.entry.attributes))
        .collect();
    hub.waiters.notify(&events);
}
