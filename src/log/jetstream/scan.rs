//! Reading: pages of messages from any replica that answers, and from the stream's leader what
//! only the leader knows.
//!
//! ```text
//!            after                     frontier of A      frontier of B    last
//!   type A     │   a      a      a     │(more)               ┆              │
//!   type B     │      b                ┆            b        │(more)        │
//!              └── shown: a b a a ─────┘ through
//! ```
//!
//! One request asks for the next messages of one subject. A replica may lag behind the leader,
//! so its page is the log up to some point: each message of the page exists, and there is no
//! other between two of them. The end of the page does not prove that there are no later
//! messages. Its first message does not prove that there are no earlier ones, because by its own
//! clock the replica may have removed what the leader still has. In both cases the scan asks the
//! leader for the next message, once the leader has shown that it knows the end of the log. Only
//! the leader's answer that there is none counts.

use std::ops::ControlFlow;
use std::time::Duration;

use async_nats::{Message, StatusCode};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout};

use super::connect::ANSWERED_WITHIN;
use super::record::StoredRecord;
use super::shared::Shared;
use super::subject;
use crate::event::{IndexHint, Position};
use crate::log::error::ReadError;
use crate::log::scan::{Reader, Scan};

/// Maximum number of messages to request at once.
const MESSAGES_MAX: usize = 512;
/// Maximum number of bytes to request at once.
const BYTES_MAX: usize = 1 << 20;
/// With more types than this, reading everything is cheaper.
const TYPES_MAX: usize = 8;
/// A scan that finds no wanted record lets other scans run after this long.
const FAIR_FOR: Duration = Duration::from_millis(500);

/// Shows `reader` the records in `(scan.after, last]`. Returns how far it came.
pub(super) async fn scan(
    shared: &Shared,
    scan: Scan,
    mut reader: Box<dyn Reader>,
) -> Result<Position, ReadError> {
    shared.check_reachable()?;
    let last = shared.bounds().last;
    let Scan {
        after,
        narrow,
        payloads: _,
    } = scan;
    let subjects = subjects(shared, &narrow);
    let started = Instant::now();
    let mut through = after;
    while through < last && started.elapsed() < FAIR_FOR {
        let page = read_page(shared, &subjects, through, last).await?;
        for (position, record) in page.records {
            let wanted = record.filter(|record| reader.wants(record.attributes()));
            if let Some(record) = wanted
                && reader.take(record.at(position)).is_break()
            {
                return Ok(position);
            }
        }
        through = page.through;
    }
    Ok(through)
}

fn subjects(shared: &Shared, narrow: &IndexHint) -> Vec<String> {
    let prefix = &shared.config.subject_prefix;
    if let IndexHint::Types(types) = narrow
        && (1..=TYPES_MAX).contains(&types.len())
    {
        let subjects = types.iter().map(|name| subject::of_type(prefix, name));
        return subjects.collect();
    }
    vec![subject::all(prefix)]
}

/// The messages of some subjects in `(after, through]`, in order.
struct Page {
    records: Vec<Found>,
    through: Position,
}

/// A message, with its record unless it holds none.
type Found = (Position, Option<StoredRecord>);

async fn read_page(
    shared: &Shared,
    subjects: &[String],
    after: Position,
    last: Position,
) -> Result<Page, ReadError> {
    let requests = subjects
        .iter()
        .map(|subject| PageRequest {
            shared,
            subject,
            after,
            last,
            messages_max: MESSAGES_MAX / subjects.len(),
        })
        .map(PageRequest::read);
    let answers = futures_util::future::try_join_all(requests).await?;
    let mut through = last;
    let mut records = Vec::new();
    for (found, frontier) in answers {
        through = through.min(frontier.unwrap_or(last));
        records.extend(found);
    }
    records.retain(|(position, _)| *position <= through);
    records.sort_unstable_by_key(|(position, _)| *position);
    // Without holes, retention cannot have removed a message meanwhile.
    let has_holes = records.len() as u64 != through.distance_from(after);
    if has_holes {
        ensure_nothing_removed(shared, after, last).await?;
    }
    Ok(Page { records, through })
}

/// A request for the next messages of one subject.
#[derive(Clone, Copy)]
struct PageRequest<'a> {
    shared: &'a Shared,
    subject: &'a str,
    after: Position,
    last: Position,
    messages_max: usize,
}

impl PageRequest<'_> {
    /// Returns the messages, and the frontier up to which there are no others. Without a
    /// frontier, there are none up to the end.
    async fn read(self) -> Result<(Vec<Found>, Option<Position>), ReadError> {
        let (mut found, has_more) = self.ask_replica().await?;
        let first = found.first().map(|(position, _)| *position);
        if first != Some(self.after.next()) {
            let leaders = self.ask_leader(self.after).await?;
            let leaders_first = leaders.as_ref().map(|(position, _)| *position);
            if leaders_first != first {
                // The replica lags, or has removed what the leader has not.
                return Ok((leaders.into_iter().collect(), leaders_first));
            }
        }
        let Some(last) = found.last().map(|(position, _)| *position) else {
            return Ok((found, None));
        };
        if has_more == ControlFlow::Continue(()) {
            return Ok((found, Some(last)));
        }
        let next = self.ask_leader(last).await?;
        let frontier = next.as_ref().map(|(position, _)| *position);
        found.extend(next);
        Ok((found, frontier))
    }

    /// The first message after `position`. A leader that was elected a moment ago may
    /// not have applied all that it has, so it must know the end first.
    async fn ask_leader(&self, position: Position) -> Result<Option<Found>, ReadError> {
        confirm_last(self.shared, self.last).await?;
        let next = position.next();
        self.shared.next_record(next, Some(self.subject)).await
    }

    /// Asks any replica. Returns the messages, and whether the subject has more.
    async fn ask_replica(&self) -> Result<(Vec<Found>, ControlFlow<()>), ReadError> {
        let Shared { client, config, .. } = self.shared;
        let (subject, messages_max) = (self.subject, self.messages_max);
        let inbox = client.new_inbox();
        let to_unreachable =
            |error: &dyn std::fmt::Display| ReadError::Unreachable(error.to_string());
        let mut answers = client
            .subscribe(inbox.clone())
            .await
            .map_err(|error| to_unreachable(&error))?;
        // A subject holds letters, digits and a few marks, none of which JSON escapes.
        let request = format!(
            r#"{{"seq":{},"next_by_subj":"{subject}","batch":{messages_max},"max_bytes":{BYTES_MAX}}}"#,
            self.after.next()
        );
        let api = format!("$JS.API.DIRECT.GET.{}", config.stream);
        client
            .publish_with_reply(api, inbox, Bytes::from(request))
            .await
            .map_err(|error| to_unreachable(&error))?;
        let mut found: Vec<Found> = Vec::new();
        loop {
            let answer = timeout(ANSWERED_WITHIN, answers.next())
                .await
                .map_err(|_| to_unreachable(&"no server answered for the stream in time"))?
                .ok_or_else(|| to_unreachable(&"the connection is closed"))?;
            match answer.status {
                None => {}
                // The end of the page, which older servers do not send.
                Some(status) if status.as_u16() == 204 && follows(&answer, &found) => {
                    return Ok((found, has_more(&answer)));
                }
                Some(StatusCode::NOT_FOUND) => return Ok((found, ControlFlow::Break(()))),
                Some(status) => {
                    let description = answer.description.unwrap_or_default();
                    return Err(to_unreachable(&format!("{status} {description}")));
                }
            }
            let is_alone = number(&answer, "Nats-Num-Pending").is_none();
            if !is_alone && !follows(&answer, &found) {
                return Err(to_unreachable(&"a message of the page is missing"));
            }
            let position = number(&answer, "Nats-Sequence")
                .map(Position::new)
                .ok_or_else(|| to_unreachable(&"a message without a sequence"))?;
            let (headers, payload) = (answer.headers.as_ref(), answer.payload);
            let record = self.shared.read_record(position, headers, payload);
            found.push((position, record));
            // Servers before 2.11 have no pages, and answer with one message.
            if is_alone {
                return Ok((found, ControlFlow::Continue(())));
            }
        }
    }
}

/// Fails if retention removed the beginning of the range during the scan.
async fn ensure_nothing_removed(
    shared: &Shared,
    after: Position,
    last: Position,
) -> Result<(), ReadError> {
    confirm_last(shared, last).await?;
    let trimmed = shared.bounds().trimmed;
    if trimmed > after {
        return Err(ReadError::Expired { trimmed });
    }
    Ok(())
}

async fn confirm_last(shared: &Shared, last: Position) -> Result<(), ReadError> {
    if shared.refresh().await? < last {
        return Err(ReadError::Unreachable(
            "the stream's leader does not know its end yet".to_owned(),
        ));
    }
    Ok(())
}

/// Whether the answer follows the last message of the page. Each answer names the one before it,
/// which shows whether one was lost between servers.
fn follows(answer: &Message, found: &[Found]) -> bool {
    let last = found.last().map_or(0, |(position, _)| position.number());
    number(answer, "Nats-Last-Sequence").is_none_or(|named| named == last)
}

fn has_more(end: &Message) -> ControlFlow<()> {
    match number(end, "Nats-Num-Pending") {
        Some(0) | None => ControlFlow::Break(()),
        Some(_) => ControlFlow::Continue(()),
    }
}

fn number(message: &Message, header: &str) -> Option<u64> {
    let value = message.headers.as_ref()?.get(header)?;
    value.as_str().parse().ok()
}
