//! Swaps: one message per change, each with the sequence that must be the last of its subject.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, ErrorCode};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::{Instant, sleep, timeout};

use super::super::bucket::{Bucket, DELETED, HEADERS_BYTES_MAX, OPERATION};
use super::super::connect::ACKNOWLEDGED_WITHIN;
use super::super::shared::Shared;
use crate::log::cells::{Change, Revision, Swapped, check_changes};
use crate::log::error::{AppendError, CellError, ReadError};
use crate::log::record::Writability;

/// Maximum time of a swap.
const SWAPPED_WITHIN: Duration = Duration::from_secs(10);
/// Number of cells that are read at once.
const READS_MAX: usize = 16;
/// Delay between two reads of a cell while another change of it is on its way.
const REFUSED_DELAY: Duration = Duration::from_millis(5);

/// Stores the changes, or a prefix of them.
pub(super) async fn swap(
    shared: Arc<Shared>,
    changes: Vec<Change>,
) -> Result<Swapped, AppendError> {
    let started = Instant::now();
    let swap = timeout(SWAPPED_WITHIN, store_all(&shared, changes));
    let swapped = swap.await.unwrap_or_else(|_late| {
        let reason = "NATS did not acknowledge the changes of cells within 10 s";
        Err(AppendError::Refusing(reason.to_owned()))
    });
    shared.metrics.note_swap(&swapped, started.elapsed());
    swapped
}

async fn store_all(shared: &Shared, changes: Vec<Change>) -> Result<Swapped, AppendError> {
    let bucket = shared.bucket().map_err(to_append_error)?;
    check_changes(&changes)?;
    check_payload_max(shared.client.max_payload(), &changes)?;
    if let Some(reason) = shared.published.failure() {
        return Err(AppendError::Refusing(reason));
    }
    let Ok(_permit) = bucket.swaps.try_acquire() else {
        return Err(AppendError::Overloaded);
    };
    shared.check_connection()?;
    let sequences = match expected_sequences(shared, bucket, &changes).await? {
        Expected::Sequences(sequences) => sequences,
        Expected::Conflict(name) => return Ok(Swapped::Conflict(name)),
    };
    let mut revisions = Vec::with_capacity(changes.len());
    for (change, sequence) in changes.into_iter().zip(sequences) {
        let name = change.name.clone();
        match store(shared, bucket, change, sequence).await? {
            Outcome::Stored(revision) => revisions.push(revision),
            Outcome::Conflict => return Ok(Swapped::Conflict(name)),
        }
    }
    Ok(Swapped::Stored(revisions))
}

fn to_append_error(error: ReadError) -> AppendError {
    match error {
        ReadError::Closed => AppendError::Closed,
        ReadError::InvalidCell(error) => AppendError::InvalidCell(error),
        error => AppendError::Refusing(error.to_string()),
    }
}

/// Refuses a value that the servers would refuse, before anything is stored.
fn check_payload_max(payload_max: usize, changes: &[Change]) -> Result<(), CellError> {
    let most = payload_max.saturating_sub(HEADERS_BYTES_MAX);
    for change in changes {
        let bytes = change.value.as_ref().map_or(0, bytes::Bytes::len);
        if bytes > most {
            return Err(CellError::BeyondPayload {
                name: change.name.clone(),
                bytes,
                most,
            });
        }
    }
    Ok(())
}

enum Expected {
    /// What the last message of each change's subject must be, 0 if there must be none.
    Sequences(Vec<u64>),
    /// The first name that has another revision.
    Conflict(String),
}

/// Finds out what a deleted cell has left behind, where there must be no such cell.
async fn expected_sequences(
    shared: &Shared,
    bucket: &Bucket,
    changes: &[Change],
) -> Result<Expected, AppendError> {
    let mut reads = Vec::with_capacity(changes.len());
    for change in changes {
        reads.push(expected_sequence(shared, bucket, change));
    }
    let expected: Result<Vec<Option<u64>>, ReadError> =
        stream::iter(reads).buffered(READS_MAX).try_collect().await;
    let expected = expected.map_err(to_append_error)?;
    if expected.iter().all(Option::is_some) {
        return Ok(Expected::Sequences(
            expected.into_iter().flatten().collect(),
        ));
    }
    let name = first_conflict(shared, bucket, changes).await;
    name.map(Expected::Conflict).map_err(to_append_error)
}

/// What the last message of the change's subject must be. None if there is a cell and must not be.
async fn expected_sequence(
    shared: &Shared,
    bucket: &Bucket,
    change: &Change,
) -> Result<Option<u64>, ReadError> {
    if let Some(revision) = change.expected {
        return Ok(Some(revision.number()));
    }
    let last = bucket.read_last(shared, &change.name).await?;
    Ok(last.value.is_none().then_some(last.sequence))
}

/// The first name that has another revision, where one of the last has.
async fn first_conflict(
    shared: &Shared,
    bucket: &Bucket,
    changes: &[Change],
) -> Result<String, ReadError> {
    let mut name = String::new();
    for change in changes {
        let cell = bucket.read(shared, &change.name).await?;
        name.clone_from(&change.name);
        if cell.map(|cell| cell.revision) != change.expected {
            break;
        }
    }
    Ok(name)
}

enum Outcome {
    /// The new revision; none where the cell was deleted.
    Stored(Option<Revision>),
    /// Another message is the last of the subject.
    Conflict,
}

async fn store(
    shared: &Shared,
    bucket: &Bucket,
    change: Change,
    expected: u64,
) -> Result<Outcome, AppendError> {
    let Change { name, value, .. } = change;
    let is_absent = change.expected.is_none();
    if is_absent && value.is_none() {
        return Ok(Outcome::Stored(None));
    }
    // No value has the sequence 0, and for the servers it means that there is none.
    if !is_absent && expected == 0 {
        return Ok(Outcome::Conflict);
    }
    let is_deletion = value.is_none();
    let mut message = PublishMessage::build()
        .expected_last_subject_sequence(expected)
        .payload(value.unwrap_or_default());
    if is_deletion {
        message = message.header(OPERATION, DELETED);
    }
    let last = bucket.last.load(Ordering::Relaxed);
    match publish(shared, bucket, &name, message).await {
        Ok(sequence) if sequence <= last => Err(bucket_truncated(shared, bucket, sequence, last)),
        Ok(sequence) => {
            bucket.note(sequence);
            let revision = (!is_deletion).then_some(Revision::new(sequence));
            Ok(Outcome::Stored(revision))
        }
        Err(error) if is_wrong_sequence(&error) => {
            confirm_conflict(shared, bucket, &name, expected, &error).await?;
            Ok(Outcome::Conflict)
        }
        Err(error) => Err(explain(bucket, &name, &error)),
    }
}

async fn publish(
    shared: &Shared,
    bucket: &Bucket,
    name: &str,
    message: PublishMessage,
) -> Result<u64, PublishError> {
    let subject = bucket.keys.subject(name);
    let acknowledgement = shared.publisher.send_publish(subject, message).await?;
    Ok(acknowledgement.await?.sequence)
}

/// Fails the log, as after a power cut that took what the servers had not synced. Used revisions
/// now stand for other values.
fn bucket_truncated(shared: &Shared, bucket: &Bucket, sequence: u64, last: u64) -> AppendError {
    let reason = format!(
        "the stream {} was truncated: new sequence {sequence} is below the last known {last}",
        bucket.stream
    );
    shared.set_writability(Writability::Failed(reason.clone()));
    AppendError::Refusing(reason)
}

fn is_wrong_sequence(error: &PublishError) -> bool {
    let codes = [
        ErrorCode::STREAM_WRONG_LAST_SEQUENCE,
        ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT,
    ];
    answer(error).is_some_and(|answer| codes.contains(&answer.error_code()))
}

/// The leader's answer, if it answered.
fn answer(error: &PublishError) -> Option<&jetstream::Error> {
    error.source()?.downcast_ref()
}

/// Waits until the cell is known to have another revision than the expected one.
///
/// A leader also refuses a message while it replicates another one of the same subject. That one
/// may be lost with the leader, and then there was no conflict.
async fn confirm_conflict(
    shared: &Shared,
    bucket: &Bucket,
    name: &str,
    expected: u64,
    refusal: &PublishError,
) -> Result<(), AppendError> {
    let named = answer(refusal).and_then(|answer| named_sequence(&answer.to_string()));
    if named.is_some_and(|named| named != expected) {
        return Ok(());
    }
    let started = Instant::now();
    while started.elapsed() < ACKNOWLEDGED_WITHIN {
        let last = bucket.read_last(shared, name).await;
        if last.map_err(to_append_error)?.sequence != expected {
            return Ok(());
        }
        sleep(REFUSED_DELAY).await;
    }
    Err(AppendError::Refusing(format!(
        "another change of the cell `{name}` has not become durable yet"
    )))
}

/// The sequence in `wrong last sequence: 12 (…)`: what the leader has stored last.
fn named_sequence(refusal: &str) -> Option<u64> {
    let (_, rest) = refusal.split_once("wrong last sequence: ")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

fn explain(bucket: &Bucket, name: &str, error: &PublishError) -> AppendError {
    let reason = match error.kind() {
        PublishErrorKind::MaxAckPending => return AppendError::Overloaded,
        PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => format!(
            "NATS did not acknowledge the cell `{name}` within 5 s: is a majority of its servers up?"
        ),
        PublishErrorKind::StreamNotFound => format!(
            "no NATS server answers for the stream {}: is one electing a leader, or is it gone?",
            bucket.stream
        ),
        _ => format!("NATS did not store the cell `{name}`: {error}"),
    };
    AppendError::Refusing(reason)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_refusal_names_the_last_sequence() {
        for (refusal, named) in [
            (
                "wrong last sequence: 12 (code 400, error code 10071)",
                Some(12),
            ),
            (
                "wrong last sequence: 0 (code 400, error code 10071)",
                Some(0),
            ),
            ("wrong last sequence (code 400, error code 10164)", None),
            ("wrong last sequence: ", None),
        ] {
            assert_eq!(named_sequence(refusal), named, "{refusal}");
        }
    }

    #[test]
    fn a_value_beyond_the_servers_max_payload_is_refused_in_words() {
        let change = |bytes: usize| Change {
            name: "state/crm".to_owned(),
            expected: None,
            value: Some(Bytes::from(vec![0; bytes])),
        };
        assert_eq!(check_payload_max(1 << 20, &[change(1_047_552)]), Ok(()));
        let refused = check_payload_max(1 << 20, &[change(0), change(1_047_553)]);
        assert_eq!(
            refused.expect_err("too large").to_string(),
            "the value of cell `state/crm` has 1047553 bytes, and the NATS servers' max_payload has room for 1047552: raise it to 8MB"
        );
    }
}
