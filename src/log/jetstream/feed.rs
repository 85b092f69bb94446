//! Following: one consumer per gateway, from the end of the stream on.
//!
//! The consumer lives in the memory of one server, and may vanish with it. The follower keeps
//! the place itself: it accepts only the consumer's next message, and begins a new consumer
//! after the last message that it has seen. So no record is repeated or skipped when servers
//! fail.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::pull::{self, Stream};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::shared::Shared;
use super::{search, subject};
use crate::event::Position;
use crate::log::record::{Batch, Record};

/// Maximum number of records in one batch.
const BATCH_RECORDS_MAX: usize = 512;
/// A batch ends with the record that reaches this many bytes.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Bytes to request at once; more than the largest message.
const PULL_BYTES_MAX: usize = 16 << 20;
/// After this many refused consumers in a row, the gateway is not ready.
const REFUSALS_MAX: usize = 20;
/// A consumer is given up after this long without a message while the stream grows, because its
/// server may be gone.
const STALLED_AFTER: Duration = Duration::from_secs(1);
/// Interval between the heartbeats of a consumer without messages.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Delay between two consumers.
const RESTART_DELAY: Duration = Duration::from_millis(100);
/// The server forgets a consumer after this long without a request.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);
/// Maximum time to delete a consumer that ended.
const DELETED_WITHIN: Duration = Duration::from_secs(5);

/// Publishes the records after `end`, until the log is closed.
pub(super) async fn run(shared: Arc<Shared>, end: Position) {
    let mut follower = Follower {
        shared: Arc::clone(&shared),
        seen: end,
        published: end,
        refused: 0,
        consumer: None,
    };
    let following = async {
        loop {
            shared.followed.send_replace(());
            let reason = follower.follow().await;
            tracing::debug!(%reason, "the live consumer ended; starting another");
            follower.give_up_consumer();
            follower.note_end(&reason);
            sleep(RESTART_DELAY).await;
        }
    };
    tokio::select! {
        () = following => {}
        () = shared.closed.cancelled() => {}
    }
    // Another gateway may need the consumer's room.
    if let Some(name) = follower.consumer.take()
        && shared.check_connection().is_ok()
    {
        let stream = &shared.config.stream;
        search::delete(&shared.context, stream, &name, Duration::ZERO).await;
    }
}

struct Follower {
    shared: Arc<Shared>,
    /// The last message that was read.
    seen: Position,
    /// The last record that was published, or the end of a gap.
    published: Position,
    /// Number of refused consumers in a row.
    refused: usize,
    /// The name of the current consumer.
    consumer: Option<String>,
}

impl Follower {
    /// Notes why a consumer ended. A gateway that cannot follow has no events for its live
    /// subscribers, so after several refusals in a row it is not ready.
    fn note_end(&mut self, reason: &str) {
        self.refused += 1;
        if self.refused == REFUSALS_MAX {
            let reason = format!("the stream cannot be followed: {reason}");
            self.shared.note_not_followed(Some(reason));
        }
    }

    /// Deletes the consumer, because the next one may find no room beside it.
    fn give_up_consumer(&mut self) {
        let Some(name) = self.consumer.take() else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        #[expect(
            clippy::disallowed_methods,
            reason = "the follower does not wait for the deletion, which has a timeout"
        )]
        tokio::spawn(async move {
            search::delete(
                &shared.context,
                &shared.config.stream,
                &name,
                DELETED_WITHIN,
            )
            .await;
        });
    }

    /// Follows one consumer. Returns why it ended.
    async fn follow(&mut self) -> String {
        let mut messages = match self.consume().await {
            Ok(messages) => messages,
            Err(reason) => return reason,
        };
        if std::mem::take(&mut self.refused) >= REFUSALS_MAX {
            self.shared.note_not_followed(None);
        }
        let mut consumed = 0;
        let mut watch = interval(STALLED_AFTER);
        watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut behind_since_tick = None;
        loop {
            self.shared.followed.send_replace(());
            tokio::select! {
                message = messages.next() => {
                    let taken = self.take(message, &mut messages, &mut consumed).await;
                    if let Err(reason) = taken {
                        return reason;
                    }
                }
                _ = watch.tick() => {
                    let is_behind = self.shared.bounds().last > self.seen;
                    if is_behind && behind_since_tick == Some(self.seen) {
                        return "the consumer is behind and shows nothing".to_owned();
                    }
                    behind_since_tick = is_behind.then_some(self.seen);
                }
            }
        }
    }

    async fn consume(&mut self) -> Result<Stream, String> {
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: self.seen.next().number(),
            },
            ack_policy: AckPolicy::None,
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: FORGOTTEN_AFTER,
            ..pull::Config::default()
        };
        let Shared {
            context,
            config: log,
            ..
        } = &*self.shared;
        let creation = context.create_consumer_on_stream(config, &log.stream).await;
        let has_no_room = creation.as_ref().is_err_and(search::has_no_room);
        self.shared.searches.give_way_to_follower(has_no_room);
        let consumer = creation.map_err(|error| error.to_string())?;
        self.consumer = Some(consumer.cached_info().name.clone());
        let messages = consumer
            .stream()
            .max_messages_per_batch(BATCH_RECORDS_MAX)
            .max_bytes_per_batch(PULL_BYTES_MAX)
            .heartbeat(HEARTBEAT)
            .messages();
        messages.await.map_err(|error| error.to_string())
    }

    /// Publishes `first` and all messages that are ready.
    async fn take(
        &mut self,
        first: Option<Result<Message, pull::MessagesError>>,
        messages: &mut Stream,
        consumed: &mut u64,
    ) -> Result<(), String> {
        let mut next = Some(first);
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut outcome = Ok(());
        while let Some(message) = next {
            if let Some(Ok(message)) = &message {
                bytes += message.message.payload.len();
            }
            outcome = self.look_at(message, consumed, &mut records).await;
            let is_full = records.len() >= BATCH_RECORDS_MAX || bytes >= BATCH_BYTES_MAX;
            if outcome.is_err() || is_full {
                break;
            }
            next = messages.next().now_or_never();
        }
        self.publish(&mut records);
        outcome
    }

    async fn look_at(
        &mut self,
        message: Option<Result<Message, pull::MessagesError>>,
        consumed: &mut u64,
        records: &mut Vec<Record>,
    ) -> Result<(), String> {
        let message = message
            .ok_or("the connection is closed")?
            .map_err(|error| error.to_string())?;
        let info = message.info().map_err(|error| error.to_string())?;
        let position = Position::new(info.stream_sequence);
        *consumed += 1;
        if info.consumer_sequence != *consumed {
            return Err(format!("message {consumed} of the consumer is missing"));
        }
        if position <= self.seen {
            return Ok(());
        }
        if position > self.seen.next() {
            self.publish(records);
            self.cross_hole(position).await?;
        }
        self.seen = position;
        let (headers, payload) = (message.headers.as_ref(), message.payload.clone());
        if let Some(record) = self.shared.read_record(position, headers, payload) {
            records.push(record.into_record(position));
        }
        Ok(())
    }

    /// Where the stream has no messages before `position`, retention may have removed
    /// some that this gateway has not seen. Subscribers learn of it when they read the log.
    async fn cross_hole(&mut self, position: Position) -> Result<(), String> {
        let state = self.shared.refresh().await;
        state.map_err(|error| error.to_string())?;
        let trimmed = self.shared.bounds().trimmed;
        if trimmed > self.seen {
            let before = Position::new(position.number().saturating_sub(1));
            self.published = trimmed.min(before);
        }
        Ok(())
    }

    fn publish(&mut self, records: &mut Vec<Record>) {
        let records = std::mem::take(records);
        let Some(last) = records.last() else {
            return;
        };
        let after = std::mem::replace(&mut self.published, last.position);
        let recent = &self.shared.recent;
        recent.insert(
            records
                .iter()
                .map(|record| (recent.hash(&record.entry.id), record.position)),
        );
        let runs = records.iter().map(|record| (record.position, record.run));
        self.shared.runs.extend(runs);
        let batch = Arc::new(Batch { after, records });
        self.shared.published.relay(batch, subject::counted_as);
    }
}
