//! Reading without subscribing: one page, or one event.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::error::Error;
use super::frame::{Event, View, event_message};
use super::hub::Hub;
use super::page_cache::PageKey;
use super::request::Start;
use super::sink::{RecordSink, Sink as _};
use crate::event::{Attributes, Cursor, Position};
use crate::filter::{Filter, Scope};
use crate::log::ReadError;

/// A page ends with the record that reaches this, and stays below the 4 MiB that gRPC
/// clients accept by default: typed, JSON can take six times its size.
const PAGE_BYTES_MAX: usize = 256 << 10;
/// A page ends after this long, with what was found, so that a caller whose filter matches
/// next to nothing learns how far it has come.
const PAGE_TIME_MAX: Duration = Duration::from_secs(1);
/// And after this many rows.
const PAGE_ROWS_MAX: usize = 100_000;

/// One page to list.
#[derive(Clone, Debug)]
pub struct ListRequest {
    /// What to list.
    pub filter: Filter,
    /// Where to start.
    pub start: Start,
    /// The most events in the page.
    pub events_max: usize,
    /// What of them to send.
    pub view: View,
}

/// One page.
#[derive(Debug)]
pub struct EventPage {
    /// The events, in log order.
    pub events: Vec<Event>,
    /// Everything that matches up to here is in this page or before it.
    pub cursor: Cursor,
    /// Whether the log had more when the page was read.
    pub has_more: bool,
}

/// See [`super::Fanout::list`].
pub(super) async fn list(hub: &Hub, listing: ListRequest) -> Result<EventPage, Error> {
    let last = hub.log.confirmed_bounds(Position::START).await?.last;
    let has_no_cursor = !matches!(listing.start, Start::After(_));
    let mut position = match listing.start {
        Start::After(cursor) => hub.position_of(cursor).await?,
        Start::Latest => last,
        Start::Earliest => hub.log.bounds().trimmed,
        Start::Time(time) => hub.log.position_before(time).await?,
    };
    let mut sink = RecordSink::new(listing.events_max, PAGE_BYTES_MAX);
    let begun = Instant::now();
    while position < last && !sink.is_full() {
        let key = PageKey {
            after: position,
            filter: listing.filter.clone(),
            events_max: u64::MAX,
        };
        position = match sink.read_page(&hub.history, key).await {
            // What was found is right; the next page finds out.
            Err(ReadError::Expired { .. }) if !sink.is_empty() => break,
            // Retention moved the oldest event, which is where this starts anyway.
            Err(ReadError::Expired { trimmed }) if has_no_cursor => {
                position = trimmed;
                continue;
            }
            Err(ReadError::Expired { .. }) => return Err(hub.expired()),
            through => through?,
        };
        if begun.elapsed() >= PAGE_TIME_MAX || sink.rows() >= PAGE_ROWS_MAX {
            break;
        }
    }
    let records = sink.flush().unwrap_or_default();
    let events = records
        .iter()
        .map(|record| event_message(record.view(), &listing.view));
    Ok(EventPage {
        events: events.collect::<Result<_, _>>()?,
        cursor: hub.cursor(position),
        has_more: position < last,
    })
}

/// See [`super::Fanout::find`].
pub(super) async fn find(
    hub: &Hub,
    id: String,
    source: Option<String>,
    scope: &Scope,
    view: &View,
) -> Result<Option<(Event, Cursor)>, Error> {
    let scope = scope.clone();
    let matches = move |attributes: Attributes<&str>| {
        let is_named = source
            .as_deref()
            .is_none_or(|source| source == attributes.source);
        is_named && scope.allows(attributes)
    };
    let Some(record) = hub.log.find(id, Arc::new(matches)).await? else {
        return Ok(None);
    };
    let event = event_message(record.view(), view)?;
    Ok(Some((event, hub.cursor(record.position))))
}
