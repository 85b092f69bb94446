//! Finding a record by id. A stream has no index over ids, so this looks through its
//! headers, which is one message of a few hundred bytes per record.
//!
//! The stream's own memory of ids, the duplicate window, would answer faster, but can
//! only be asked by publishing, and a server that answers wrongly (2.10 in a cluster does)
//! then takes the event for a duplicate when it comes: it would be lost.

use std::time::Duration;

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::Shared;
use crate::event::Position;
use crate::log::{Bounds, Error, Matches, Record};

/// How long may be looked for one id.
const LOOKED_FOR_WITHIN: Duration = Duration::from_secs(10);
/// Headers asked for at once.
const HEADERS_MAX: usize = 4096;
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);

pub(super) async fn find(
    shared: &Shared,
    id: &str,
    matches: &Matches,
) -> Result<Option<Record>, Error> {
    shared.refresh().await?;
    let bounds = shared.bounds();
    if bounds.trimmed >= bounds.tail {
        return Ok(None);
    }
    let looking = look_through(shared, bounds, id, matches);
    timeout(LOOKED_FOR_WITHIN, looking).await.map_err(|_| {
        Error::Unreachable(format!(
            "the stream could not be searched for the id within {} s",
            LOOKED_FOR_WITHIN.as_secs()
        ))
    })?
}

/// The record at a position, if it has the id and matches.
async fn read(
    shared: &Shared,
    position: Position,
    id: &str,
    matches: &Matches,
) -> Result<Option<Record>, Error> {
    let next = shared.next_record(position, None).await?;
    let at_position = next.filter(|(found, _)| *found == position);
    let record = at_position.and_then(|(_, stored)| Some(stored?.into_record(position)));
    let is_it =
        |record: &Record| record.content.id == id && matches(record.content.attributes.view());
    Ok(record.filter(is_it))
}

async fn look_through(
    shared: &Shared,
    bounds: Bounds,
    id: &str,
    matches: &Matches,
) -> Result<Option<Record>, Error> {
    let config = pull::Config {
        deliver_policy: DeliverPolicy::ByStartSequence {
            start_sequence: bounds.trimmed.next().number(),
        },
        ack_policy: AckPolicy::None,
        headers_only: true,
        memory_storage: true,
        num_replicas: 1,
        inactive_threshold: FORGOTTEN_AFTER,
        ..pull::Config::default()
    };
    let unreachable = |error: &dyn std::fmt::Display| Error::Unreachable(error.to_string());
    let consumer = shared
        .context
        .create_consumer_on_stream(config, &shared.config.stream)
        .await
        .map_err(|error| unreachable(&error))?;
    let messages = consumer.stream().max_messages_per_batch(HEADERS_MAX);
    let mut messages = messages
        .messages()
        .await
        .map_err(|error| unreachable(&error))?;
    let mut consumed = 0;
    while let Some(message) = messages.next().await {
        let message = message.map_err(|error| unreachable(&error))?;
        let info = message.info().map_err(|error| unreachable(&error))?;
        consumed += 1;
        if info.consumer_sequence != consumed {
            return Err(unreachable(&"the search lost a message; try again"));
        }
        let position = Position::new(info.stream_sequence);
        if has_id(&message, id)
            && let Some(record) = read(shared, position, id, matches).await?
        {
            return Ok(Some(record));
        }
        if position >= bounds.tail {
            return Ok(None);
        }
        // Somebody may have deleted the message at the tail.
        if info.pending == 0 && shared.next_record(position.next(), None).await?.is_none() {
            return Ok(None);
        }
    }
    Err(unreachable(&"the connection is closed"))
}

fn has_id(message: &Message, id: &str) -> bool {
    let headers = message.headers.as_ref();
    let message_id = headers.and_then(|headers| headers.get(NATS_MESSAGE_ID));
    let parts = message_id.and_then(|value| value.as_str().split_once('/'));
    parts.is_some_and(|(_source, of_id)| of_id == id)
}
