//! What it costs that the gateway keeps the place of a group of workers, beside a durable pull
//! consumer of JetStream, the disk and the gateway without subscriptions.
//!
//! The gateway and the servers of the baseline run in processes of their own, and all workers in
//! this one. A worker acknowledges what it is handed, and does nothing else with it. It has one
//! call under way at a time, as `clerkcast_client::Worker` has, unless a row says otherwise. A
//! message of the baseline holds a whole stored record, of which a worker of ours is handed the
//! typed event.

mod acknowledged;
mod backlog;
mod beside_ingest;
mod consumers;
mod latency;
mod one_at_a_time;
mod progress;
mod stand;
mod steps;
mod workers;
mod written;

/// What handles the events of one subscription.
#[derive(Clone, Copy, Debug)]
struct Crew {
    workers: usize,
    /// Events that each may have and not have acknowledged.
    outstanding: usize,
    /// Calls that each has under way.
    calls: usize,
}

pub(crate) async fn run() {
    acknowledged::run().await;
    latency::run().await;
    one_at_a_time::run().await;
    beside_ingest::run().await;
    written::run().await;
    steps::run().await;
}
