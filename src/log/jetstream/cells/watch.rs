//! Watching: one consumer per gateway, which shows the headers of every message of the bucket.
//!
//! It begins with what is there, for the sake of markers, and announces what is stored from the
//! start of the gateway on. It keeps its place itself, as the follower of the log does. What it
//! announces is a hint, so it may be away for a while.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::pull::{self, Stream};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use futures_util::StreamExt as _;
use tokio::time::sleep;

use super::super::bucket::{Bucket, is_marker};
use super::super::search;
use super::super::shared::Shared;
use super::super::stream;
use crate::log::cells::{Changed, Revision};
use crate::log::record::Writability;

/// Maximum number of messages that are on their way.
const MESSAGES_MAX: usize = 512;
/// Interval between the heartbeats of a consumer without messages.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Delay between two consumers.
const RESTART_DELAY: Duration = Duration::from_millis(500);
/// The server forgets a consumer after this long without a request.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);
/// A bucket that is reported missing this often in a row is gone. A starting cluster reports a
/// stream as missing until it has read it.
const MISSING_MAX: u32 = 16;

/// Announces changes, until the log is closed.
pub(in super::super) async fn run(shared: Arc<Shared>) {
    let Some(bucket) = &shared.bucket else {
        return;
    };
    let mut watcher = Watcher {
        shared: &shared,
        bucket,
        seen: 0,
        missing: 0,
        consumer: None,
    };
    let watching = async {
        loop {
            let reason = watcher.watch().await;
            tracing::debug!(%reason, "the consumer of cells ended; starting another");
            watcher.delete_consumer().await;
            sleep(RESTART_DELAY).await;
        }
    };
    tokio::select! {
        () = watching => {}
        () = shared.closed.cancelled() => {}
    }
    watcher.delete_consumer().await;
}

struct Watcher<'a> {
    shared: &'a Shared,
    bucket: &'a Bucket,
    /// The last message that was seen.
    seen: u64,
    /// How often in a row the bucket was reported missing.
    missing: u32,
    /// The name of the current consumer.
    consumer: Option<String>,
}

impl Watcher<'_> {
    /// Watches by one consumer. Returns why it ended.
    async fn watch(&mut self) -> String {
        let mut messages = match self.consume().await {
            Ok(messages) => messages,
            Err(reason) => return reason,
        };
        let mut consumed = 0;
        loop {
            let seen = match messages.next().await {
                None => Err("the connection is closed".to_owned()),
                Some(Err(error)) => Err(error.to_string()),
                Some(Ok(message)) => self.look_at(&message, &mut consumed),
            };
            if let Err(reason) = seen {
                return reason;
            }
        }
    }

    async fn consume(&mut self) -> Result<Stream, String> {
        self.check_identity().await?;
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: self.seen + 1,
            },
            ack_policy: AckPolicy::None,
            headers_only: true,
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: FORGOTTEN_AFTER,
            ..pull::Config::default()
        };
        let consumer = self
            .shared
            .context
            .create_consumer_on_stream(config, &self.bucket.stream)
            .await
            .map_err(|error| error.to_string())?;
        self.consumer = Some(consumer.cached_info().name.clone());
        let messages = consumer
            .stream()
            .max_messages_per_batch(MESSAGES_MAX)
            .heartbeat(HEARTBEAT)
            .messages();
        messages.await.map_err(|error| error.to_string())
    }

    /// Fails the log where the bucket is another one: its revisions begin at 1 again, and may
    /// stand for other values.
    async fn check_identity(&mut self) -> Result<(), String> {
        let name = &self.bucket.stream;
        let Some(info) = stream::find(&self.shared.context, name).await? else {
            self.missing += 1;
            if self.missing >= MISSING_MAX {
                self.fail(format!(
                    "the stream {name} is gone; a new one has other cells"
                ));
            }
            return Err("the bucket is missing".to_owned());
        };
        self.missing = 0;
        if stream::epoch(&info) != self.bucket.epoch {
            self.fail(format!(
                "the stream {name} was deleted and made again; it has other cells"
            ));
            return Err("the bucket is another one".to_owned());
        }
        self.bucket.note(info.state.last_sequence);
        Ok(())
    }

    fn fail(&self, reason: String) {
        self.shared.set_writability(Writability::Failed(reason));
    }

    fn look_at(&mut self, message: &Message, consumed: &mut u64) -> Result<(), String> {
        let info = message.info().map_err(|error| error.to_string())?;
        *consumed += 1;
        if info.consumer_sequence != *consumed {
            return Err(format!("message {consumed} of the consumer is missing"));
        }
        let sequence = info.stream_sequence;
        self.seen = self.seen.max(sequence);
        self.bucket.note(sequence);
        let is_deletion = message.headers.as_ref().is_some_and(is_marker);
        if is_deletion {
            let now = Instant::now();
            self.bucket.markers.lock().note(sequence, now);
        }
        let is_new = sequence > self.bucket.opened_at;
        if let Some(name) = self.bucket.keys.name(&message.subject).filter(|_| is_new) {
            let _without_receivers = self.bucket.changed.send(Changed {
                name: name.into(),
                revision: (!is_deletion).then_some(Revision::new(sequence)),
            });
        }
        Ok(())
    }

    /// Deletes the consumer, because the next one may find no room beside it.
    async fn delete_consumer(&mut self) {
        if let Some(name) = self.consumer.take()
            && self.shared.check_connection().is_ok()
        {
            let stream = &self.bucket.stream;
            search::delete(&self.shared.context, stream, &name, Duration::ZERO).await;
        }
    }
}
