//! The baseline on NATS: JetStream's own client, which publishes messages of the size of
//! a stored record and waits for each acknowledgement, and ordered consumers that count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::{DeliverPolicy, pull, push};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Info, Stream};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::clients::Clients;
use super::nats_server::NatsServers;
use super::process::Server;

/// The stream that a gateway makes by itself.
pub(crate) const OURS: &str = "CLERKCAST";
/// Where it keeps what [`super::posts::user_created`] becomes.
pub(crate) const OUR_SUBJECT: &str = "clerk.default.user.created";
pub(crate) const BASELINE: &str = "BASELINE";
pub(crate) const BASELINE_SUBJECT: &str = "other.default.user.created";

/// Numbers of fields of a stored record.
const ID_FIELD: u32 = 1;
const USER_ID_FIELD: u32 = 5;

/// Of three, any may become the leader.
const LEADERS_TRIED: usize = 100;

/// A gateway that keeps its log on these servers.
pub(crate) fn gateway(servers: &NatsServers, directory: &TempDir, replicas: &str) -> Server {
    let args = ["--log", "nats", "--nats-url", &servers.url];
    // The servers set it aside, once for each stream.
    let retain = ["--retain-bytes", "4GiB", "--nats-replicas", replicas];
    Server::gateway_with(directory.path(), &[args, retain].concat())
}

/// Makes a stream with the settings of the gateway's, led by the same server.
pub(crate) async fn make_baseline(context: &Context) {
    let ours = info(context, OURS).await;
    let mut config = ours.config.clone();
    BASELINE.clone_into(&mut config.name);
    config.subjects = vec!["other.>".to_owned()];
    for _ in 0..LEADERS_TRIED {
        context.create_stream(config.clone()).await.expect("made");
        if leader(&info(context, BASELINE).await) == leader(&ours) {
            return;
        }
        context.delete_stream(BASELINE).await.expect("deleted");
    }
    panic!("the streams never had the same leader");
}

async fn info(context: &Context, stream: &str) -> Info {
    let stream = context.get_stream(stream).await.expect("there is one");
    stream.cached_info().clone()
}

fn leader(info: &Info) -> Option<&str> {
    info.cluster.as_ref()?.leader.as_deref()
}

/// The body of a record that the gateway stored.
pub(crate) async fn stored_record(context: &Context) -> Bytes {
    let stream: Stream = context.get_stream(OURS).await.expect("there is one");
    let last = stream.get_last_raw_message_by_subject(OUR_SUBJECT).await;
    last.expect("a record").payload
}

/// Messages with ids that no message of this process had before.
pub(crate) fn messages(count: usize, body: &Bytes) -> Vec<PublishMessage> {
    (0..count).map(|_| message(body.to_vec())).collect()
}

/// The same, one for each of these users.
pub(crate) fn messages_of(
    users: impl Iterator<Item = String>,
    body: &Bytes,
) -> Vec<PublishMessage> {
    let messages = users.map(|user_id| {
        let mut body = body.to_vec();
        prost::encoding::string::encode(USER_ID_FIELD, &user_id, &mut body);
        message(body)
    });
    messages.collect()
}

/// A message with the record, which gets another id: of a field that comes twice, the last
/// counts. A gateway takes for a record only what has the header's id.
fn message(mut body: Vec<u8>) -> PublishMessage {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // As long as an id of Svix, and none of those that are posted.
    let id = format!("msg_bench_{number:021}");
    prost::encoding::string::encode(ID_FIELD, &id, &mut body);
    PublishMessage::build()
        .header(NATS_MESSAGE_ID, format!("default/{id}").as_str())
        .payload(body.into())
}

/// Publishes each once, so many at a time, and returns how long it took until all were
/// acknowledged.
pub(crate) async fn publish_all(
    context: &Context,
    subject: &'static str,
    concurrency: usize,
    messages: Vec<PublishMessage>,
) -> Duration {
    let messages = Arc::new(Mutex::new(messages.into_iter()));
    let started = Instant::now();
    let mut publishing = JoinSet::new();
    for _ in 0..concurrency {
        let messages = Arc::clone(&messages);
        let context = context.clone();
        publishing.spawn(async move {
            let next = || messages.lock().next();
            while let Some(message) = next() {
                let sent = context.send_publish(subject, message).await;
                let stored = sent.expect("sent").await.expect("acknowledged");
                assert!(!stored.duplicate, "stored");
            }
        });
    }
    publishing.join_all().await;
    started.elapsed()
}

/// The two kinds of ordered consumers that the client has.
#[derive(Clone, Copy)]
pub(crate) enum Ordered {
    Pull,
    Push,
}

/// So many ordered consumers of a stream, each on its own connection.
pub(crate) async fn consumers(
    servers: &NatsServers,
    stream: &str,
    kind: Ordered,
    number: usize,
    from: DeliverPolicy,
) -> Clients {
    let mut clients = Clients::none();
    for _ in 0..number {
        let context = servers.connect().await;
        let inbox = context.client().new_inbox();
        let stream = context.get_stream_no_info(stream).await;
        let stream = stream.expect("a name");
        match kind {
            Ordered::Pull => {
                let config = pull::OrderedConfig {
                    deliver_policy: from,
                    ..pull::OrderedConfig::default()
                };
                let consumer = stream.create_consumer(config).await.expect("created");
                let mut messages = consumer.messages().await.expect("consumes");
                clients.add(async move |counter| {
                    while let Some(message) = messages.next().await {
                        message.expect("in order");
                        counter.count();
                    }
                });
            }
            Ordered::Push => {
                let config = push::OrderedConfig {
                    deliver_subject: inbox,
                    deliver_policy: from,
                    ..push::OrderedConfig::default()
                };
                let consumer = stream.create_consumer(config).await.expect("created");
                let mut messages = consumer.messages().await.expect("consumes");
                clients.add(async move |counter| {
                    while let Some(message) = messages.next().await {
                        message.expect("in order");
                        counter.count();
                    }
                });
            }
        }
    }
    clients
}

/// Deletes all consumers of the baseline's stream. The server keeps those that are gone
/// for minutes, and each would cost the next round something.
pub(crate) async fn forget_consumers(context: &Context) {
    let stream = context.get_stream_no_info(BASELINE).await;
    let stream = stream.expect("a name");
    let names: Vec<String> = stream.consumer_names().try_collect().await.expect("listed");
    for name in names {
        stream.delete_consumer(&name).await.expect("deleted");
    }
}
