//! The consumer of a search for an id. At most [`SEARCHES_MAX`](super::turns::SEARCHES_MAX)
//! searches run at once, each with a consumer that is deleted when the search ends, times out or
//! is dropped.
//!
//! A stream or an account may allow only a few consumers. A search waits while there is no room
//! for its own, and gives way to the consumer that follows the stream.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy};
use async_nats::jetstream::stream::{ConsumerError, ConsumerErrorKind};
use async_nats::jetstream::{Context, ErrorCode};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::shared::Shared;
use super::turns::Turn;
use crate::event::Position;
use crate::log::error::ReadError;

/// The server forgets a consumer that could not be deleted after this long.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);
/// Delay between attempts to delete a consumer.
const DELETE_DELAY: Duration = Duration::from_millis(100);

/// The consumer of one search, which shows the headers of all messages after a position.
pub(super) struct SearchConsumer {
    shared: Arc<Shared>,
    name: String,
    /// Runs to its end even if the search is dropped, because a consumer must not be created
    /// after it was deleted.
    creation: Option<Creation>,
    turn: Option<Turn>,
}

type Creation = JoinHandle<Result<Consumer<pull::Config>, ConsumerError>>;

impl SearchConsumer {
    pub(super) fn start(shared: &Arc<Shared>, turn: Turn, after: Position) -> Self {
        // The unique part of an inbox.
        let inbox = shared.client.new_inbox();
        let unique = inbox.rsplit('.').next().unwrap_or_default();
        let name = format!("clerkcast-search-{unique}");
        let config = pull::Config {
            name: Some(name.clone()),
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: after.next().number(),
            },
            ack_policy: AckPolicy::None,
            headers_only: true,
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: FORGOTTEN_AFTER,
            ..pull::Config::default()
        };
        let (context, stream) = (shared.context.clone(), shared.config.stream.clone());
        #[expect(
            clippy::disallowed_methods,
            reason = "dropping a search waits for the creation before it deletes the consumer"
        )]
        let creation =
            tokio::spawn(async move { context.create_consumer_on_stream(config, &stream).await });
        Self {
            shared: Arc::clone(shared),
            name,
            creation: Some(creation),
            turn: Some(turn),
        }
    }

    /// Waits until the consumer exists. None if there is no room for it.
    pub(super) async fn created(&mut self) -> Result<Option<Consumer<pull::Config>>, ReadError> {
        let Some(creation) = &mut self.creation else {
            return Ok(None);
        };
        let created = creation
            .await
            .map_err(|error| ReadError::Unreachable(error.to_string()))?;
        self.creation = None;
        match created {
            Ok(consumer) => Ok(Some(consumer)),
            Err(error) if has_no_room(&error) => {
                // There is nothing to delete, because nothing was created.
                self.turn = None;
                Ok(None)
            }
            Err(error) => Err(ReadError::Unreachable(error.to_string())),
        }
    }
}

impl Drop for SearchConsumer {
    fn drop(&mut self) {
        let (Some(turn), Ok(runtime)) = (self.turn.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let (shared, name) = (Arc::clone(&self.shared), std::mem::take(&mut self.name));
        let creation = self.creation.take();
        runtime.spawn(async move {
            if let Some(creation) = creation {
                let _created_or_not = creation.await;
            }
            delete(
                &shared.context,
                &shared.config.stream,
                &name,
                FORGOTTEN_AFTER,
            )
            .await;
            drop(turn);
        });
    }
}

/// Deletes a consumer, until it is gone or `within` has passed.
pub(super) async fn delete(context: &Context, stream: &str, name: &str, within: Duration) {
    let started = Instant::now();
    loop {
        let deleted = context.delete_consumer_from_stream(name, stream).await;
        let is_gone = match deleted {
            Ok(_) => true,
            Err(error) => code(&error) == Some(ErrorCode::CONSUMER_NOT_FOUND),
        };
        if is_gone || started.elapsed() >= within {
            return;
        }
        sleep(DELETE_DELAY).await;
    }
}

/// Whether the stream or the account has as many consumers as it allows.
pub(super) fn has_no_room(error: &ConsumerError) -> bool {
    code(error) == Some(ErrorCode::MAXIMUM_CONSUMERS_LIMIT)
}

fn code(error: &ConsumerError) -> Option<ErrorCode> {
    match error.kind() {
        ConsumerErrorKind::JetStream(error) => Some(error.error_code()),
        _ => None,
    }
}
