//! Finds a record by id: among those that this gateway remembers, or else in the whole stream. A
//! stream has no index over ids, so a search reads the headers of its messages, one message of a
//! few hundred bytes per record.
//!
//! The stream's own memory of ids, the duplicate window, would answer faster, but can only be
//! asked by publishing. A server that answers wrongly (2.10 in a cluster does) would then take
//! the event for a duplicate when it comes, and the event would be lost.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::Message;
use futures_util::StreamExt as _;
use tokio::time::{sleep, timeout};

use super::search::SearchConsumer;
use super::shared::Shared;
use super::turns::{SEARCHES_MAX, Turn};
use crate::event::Position;
use crate::log::error::ReadError;
use crate::log::record::Record;
use crate::log::scan::Predicate;

/// Maximum time to search for one id, the wait for a turn included.
const LOOKED_FOR_WITHIN: Duration = Duration::from_secs(10);
/// Maximum number of headers to request at once.
const HEADERS_MAX: usize = 4096;
/// Delay between attempts to get a consumer while there is no room for one.
const ROOM_DELAY: Duration = Duration::from_millis(100);

pub(super) async fn find(
    shared: &Arc<Shared>,
    id: &str,
    matches: &Predicate,
) -> Result<Option<Record>, ReadError> {
    let mut search = Search {
        shared,
        id,
        matches,
        after: Position::START,
        last: Position::START,
        has_begun: false,
    };
    let found = timeout(LOOKED_FOR_WITHIN, search.run()).await;
    found.unwrap_or_else(|_late| {
        if !search.has_begun {
            return Err(ReadError::TooManySearches {
                limit: SEARCHES_MAX,
            });
        }
        Err(ReadError::Unreachable(format!(
            "the stream could not be searched for the id within {} s",
            LOOKED_FOR_WITHIN.as_secs()
        )))
    })
}

/// A search for one id.
struct Search<'a> {
    shared: &'a Arc<Shared>,
    id: &'a str,
    matches: &'a Predicate,
    /// Headers up to here have been looked at.
    after: Position,
    /// The end of the log when the search began.
    last: Position,
    /// Whether the search has had a consumer.
    has_begun: bool,
}

impl Search<'_> {
    async fn run(&mut self) -> Result<Option<Record>, ReadError> {
        self.shared.check_reachable()?;
        for position in self.shared.recent.positions(self.id) {
            if let Some(record) = self.read(position).await? {
                return Ok(Some(record));
            }
        }
        self.last = self.shared.refresh().await?;
        self.after = self.shared.bounds().trimmed;
        while self.after < self.last {
            let turn = self.shared.searches.turn().await?;
            if let ControlFlow::Break(found) = self.look_through(turn).await? {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The record at a position, if it has the id and matches.
    async fn read(&self, position: Position) -> Result<Option<Record>, ReadError> {
        let next = self.shared.next_record(position, None).await?;
        let at_position = next.filter(|(found, _)| *found == position);
        let record = at_position.and_then(|(_, stored)| Some(stored?.into_record(position)));
        let is_wanted = |record: &Record| {
            record.entry.id == self.id && (self.matches)(record.entry.attributes.as_ref())
        };
        Ok(record.filter(is_wanted))
    }

    /// Searches through the messages of one consumer. The search may break off: there may be no
    /// room for the consumer, or the follower may need the room.
    async fn look_through(&mut self, turn: Turn) -> Result<ControlFlow<Option<Record>>, ReadError> {
        let to_unreachable =
            |error: &dyn std::fmt::Display| ReadError::Unreachable(error.to_string());
        let mut consumer = SearchConsumer::start(self.shared, turn, self.after);
        let Some(created) = consumer.created().await? else {
            sleep(ROOM_DELAY).await;
            return Ok(ControlFlow::Continue(()));
        };
        self.has_begun = true;
        let mut messages = created
            .stream()
            .max_messages_per_batch(HEADERS_MAX)
            .messages()
            .await
            .map_err(|error| to_unreachable(&error))?;
        let mut consumed = 0;
        loop {
            let next = tokio::select! {
                next = messages.next() => next,
                () = self.shared.searches.give_way() => return Ok(ControlFlow::Continue(())),
            };
            let message = next
                .ok_or_else(|| to_unreachable(&"the connection is closed"))?
                .map_err(|error| to_unreachable(&error))?;
            let info = message.info().map_err(|error| to_unreachable(&error))?;
            consumed += 1;
            if info.consumer_sequence != consumed {
                return Err(to_unreachable(&"the search lost a message; try again"));
            }
            let position = Position::new(info.stream_sequence);
            if has_id(&message, self.id)
                && let Some(record) = self.read(position).await?
            {
                return Ok(ControlFlow::Break(Some(record)));
            }
            self.after = position;
            // The last message may have been deleted.
            let is_last = info.pending == 0;
            if position >= self.last
                || is_last
                    && self
                        .shared
                        .next_record(position.next(), None)
                        .await?
                        .is_none()
            {
                return Ok(ControlFlow::Break(None));
            }
        }
    }
}

fn has_id(message: &Message, id: &str) -> bool {
    let headers = message.headers.as_ref();
    let message_id = headers.and_then(|headers| headers.get(NATS_MESSAGE_ID));
    let parts = message_id.and_then(|value| value.as_str().split_once('/'));
    parts.is_some_and(|(_source, of_id)| of_id == id)
}
