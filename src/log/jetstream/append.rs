//! Writing: one message, and one acknowledgement by the stream.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::{self, ErrorCode};
use tokio::time::{Instant, sleep};

use super::admission::{Refusal, Ticket};
use super::connect::ACKNOWLEDGED_WITHIN;
use super::shared::Shared;
use super::{account, record, subject};
use crate::event::{Position, UnixMillis};
use crate::log::error::AppendError;
use crate::log::record::{Appended, Entry, Writability};

/// Delay before the next attempt while the stream replicates the first copy of a record.
const FIRST_COPY_DELAY: Duration = Duration::from_millis(20);

/// Publishes `record` and waits until the stream has it on enough replicas.
///
/// Without an acknowledgement in time, the record may or may not be in the log. That is safe,
/// because the sender retries and the stream knows the id.
pub(super) async fn append(shared: Arc<Shared>, record: Entry) -> Result<Appended, AppendError> {
    if shared.closed.is_cancelled() {
        return Err(AppendError::Closed);
    }
    // While the stream stores nothing, a webhook is refused without a wait.
    let ticket = shared.admit()?;
    let started = Instant::now();
    let last = shared.bounds().last;
    let receive_time = record.receive_time;
    let attributes = &record.attributes;
    let prefix = &shared.config.subject_prefix;
    let subject = subject::of(prefix, &attributes.source, &attributes.event_type);
    let id = shared.recent.hash(&record.id);
    let run = record::run(&attributes.source, &record.id, receive_time);
    let record_bytes = account::weigh(&record);
    let message = record::message(record);
    loop {
        match publish(&shared, &subject, &message).await {
            Ok(PublishOutcome::Stored(position)) if position <= last => {
                return Err(log_truncated(&shared, position, last));
            }
            Ok(PublishOutcome::Stored(position)) => {
                shared.recent.insert([(id, position)]);
                shared.runs.extend([(position, run)]);
                shared.refused_bytes.store(0, Ordering::Relaxed);
                shared.judge(|admission| admission.note_stored(ticket));
                note_committed(&shared, position, receive_time, started);
                return Ok(Appended::Committed(position));
            }
            Ok(PublishOutcome::Known) => {
                undecided(&shared, ticket);
                return Ok(Appended::Duplicate);
            }
            Ok(PublishOutcome::Pending) if started.elapsed() < ACKNOWLEDGED_WITHIN => {
                sleep(FIRST_COPY_DELAY).await;
            }
            Ok(PublishOutcome::Pending) => {
                undecided(&shared, ticket);
                let reason = "another delivery of this event has not become durable yet";
                return Err(AppendError::Refusing(reason.to_owned()));
            }
            Err(error) => {
                shared.metrics.failed_commits.inc();
                return Err(note_refused(&shared, ticket, record_bytes, &error));
            }
        }
    }
}

/// Fails the log, as after a power cut that took what the servers had not synced. Used positions
/// now name other events, and a subscriber with such a position would miss those.
fn log_truncated(shared: &Shared, position: Position, last: Position) -> AppendError {
    let reason = format!(
        "the stream was truncated: new position {position} is below the last known {last}; it is another log now"
    );
    shared.set_writability(Writability::Failed(reason.clone()));
    AppendError::Refusing(reason)
}

/// The stream's answer to a record.
enum PublishOutcome {
    /// The stream has stored the record.
    Stored(Position),
    /// The stream had the record before.
    Known,
    /// The stream is replicating the first copy of the record, which is not durable yet.
    Pending,
}

async fn publish(
    shared: &Shared,
    subject: &str,
    message: &PublishMessage,
) -> Result<PublishOutcome, PublishError> {
    let sent = shared
        .publisher
        .send_publish(subject.to_owned(), message.clone())
        .await;
    let answer = match sent {
        Ok(answer) => answer.await,
        Err(error) => Err(error),
    };
    match answer {
        // Older servers answer "duplicate" to a copy that has no place in the stream yet.
        Ok(PublishAck {
            duplicate: true,
            sequence: 0,
            ..
        }) => Ok(PublishOutcome::Pending),
        Ok(PublishAck {
            duplicate: true, ..
        }) => Ok(PublishOutcome::Known),
        Ok(ack) => Ok(PublishOutcome::Stored(Position::new(ack.sequence))),
        Err(error) if is_first_copy_on_its_way(&error) => Ok(PublishOutcome::Pending),
        Err(error) => Err(error),
    }
}

fn is_first_copy_on_its_way(error: &PublishError) -> bool {
    code(error) == Some(ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT)
}

/// The stream's error code, if the stream answered.
fn code(error: &PublishError) -> Option<ErrorCode> {
    let answer = error.source()?.downcast_ref::<jetstream::Error>()?;
    Some(answer.error_code())
}

fn undecided(shared: &Shared, ticket: Ticket) {
    shared.judge(|admission| admission.note_undecided(ticket, Instant::now().into_std()));
}

/// Returns the error for the caller. Unless the record itself is at fault, later records are
/// refused without an attempt.
fn note_refused(
    shared: &Shared,
    ticket: Ticket,
    record_bytes: u64,
    error: &PublishError,
) -> AppendError {
    let (refusal, reason) = match error.kind() {
        PublishErrorKind::MaxAckPending => {
            undecided(shared, ticket);
            return AppendError::Overloaded;
        }
        PublishErrorKind::MaxPayloadExceeded => {
            undecided(shared, ticket);
            return AppendError::Refusing(
                "the event is larger than the NATS server's max_payload: raise it to 4MB"
                    .to_owned(),
            );
        }
        PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => (
            Refusal::Unanswered,
            "NATS did not acknowledge the event within 5 s: is a majority of its servers up?"
                .to_owned(),
        ),
        PublishErrorKind::StreamNotFound => (
            Refusal::Unanswered,
            "no NATS server answers for the stream: is one electing a leader, or is it gone?"
                .to_owned(),
        ),
        _ => {
            let is_of_cluster = matches!(
                code(error),
                Some(ErrorCode::CLUSTER_NOT_AVAILABLE | ErrorCode::CLUSTER_NOT_LEADER)
            );
            let refusal = if is_of_cluster {
                Refusal::Unanswered
            } else {
                Refusal::Answered
            };
            (refusal, format!("NATS did not store the event: {error}"))
        }
    };
    if refusal == Refusal::Answered {
        shared.refused_bytes.store(record_bytes, Ordering::Relaxed);
    }
    let now = Instant::now().into_std();
    shared.judge(|admission| admission.note_refused(ticket, now, refusal, reason.clone()));
    shared.changed.notify_one();
    AppendError::Refusing(reason)
}

fn note_committed(shared: &Shared, position: Position, received: UnixMillis, started: Instant) {
    shared.published.reach(position, received);
    let metrics = &shared.metrics;
    metrics.committed.inc();
    metrics
        .commit_seconds
        .observe(started.elapsed().as_secs_f64());
}
