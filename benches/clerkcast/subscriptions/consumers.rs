//! The baseline: clients of one durable pull consumer of JetStream, which acknowledge each
//! message that they are handed.

use std::sync::Arc;
use std::time::Instant;

use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use futures_util::StreamExt as _;
use tokio::task::JoinSet;

use super::Crew;
use super::progress::Progress;
use super::stand::Stand;
use crate::support::count;
use crate::support::jetstream::{BASELINE, forget_consumers};

const DURABLE: &str = "workers";

/// Whether a client waits until the server has its acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acknowledgement {
    /// `double_ack`, as many at once as the client may have outstanding.
    Confirmed,
    Unconfirmed,
}

/// Acknowledgements a second by which a new consumer works off the first `events` messages.
pub(super) async fn consume(
    stand: &Stand,
    acknowledgement: Acknowledgement,
    crew: Crew,
    events: usize,
) -> f64 {
    let stream = stand.context.get_stream_no_info(BASELINE).await;
    let outstanding = crew.workers * crew.outstanding;
    let config = pull::Config {
        durable_name: Some(DURABLE.to_owned()),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        max_ack_pending: i64::try_from(outstanding).expect("few"),
        ..pull::Config::default()
    };
    let created = stream.expect("a name").create_consumer(config).await;
    created.expect("created");
    let progress = Arc::new(Progress::default());
    let mut clients = JoinSet::new();
    let started = Instant::now();
    for _ in 0..crew.workers {
        let messages = messages(stand, crew.outstanding).await;
        let progress = Arc::clone(&progress);
        clients.spawn(async move {
            match acknowledgement {
                Acknowledgement::Confirmed => confirm(messages, crew.outstanding, &progress).await,
                Acknowledgement::Unconfirmed => acknowledge(messages, &progress).await,
            }
        });
    }
    progress.reach(events).await;
    let elapsed = started.elapsed();
    clients.shutdown().await;
    forget_consumers(&stand.context).await;
    count(events) / elapsed.as_secs_f64()
}

/// What one client is handed, on its own connection.
async fn messages(stand: &Stand, outstanding: usize) -> pull::Stream {
    let context = stand.servers.connect().await;
    let stream = context.get_stream_no_info(BASELINE).await;
    let consumer = stream.expect("a name").get_consumer(DURABLE).await;
    let consumer: Consumer<pull::Config> = consumer.expect("there is one");
    let messages = consumer.stream().max_messages_per_batch(outstanding);
    messages.messages().await.expect("consumes")
}

async fn confirm(messages: pull::Stream, outstanding: usize, progress: &Progress) {
    let confirm = |message: Result<async_nats::jetstream::Message, _>| async move {
        let message = message.map_err(drop).expect("a message");
        message.double_ack().await.expect("confirmed");
        progress.add(1);
    };
    messages.for_each_concurrent(outstanding, confirm).await;
}

async fn acknowledge(mut messages: pull::Stream, progress: &Progress) {
    while let Some(message) = messages.next().await {
        message.expect("a message").ack().await.expect("sent");
        progress.add(1);
    }
}
