//! Measures the room that the servers have for the stream. They report it to their own operators
//! only, so `find` creates streams of several sizes, and deletes them again.

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::CreateStreamErrorKind;
use async_nats::jetstream::stream::{Config as Settings, StorageType};

use super::config::Config;
use crate::event::UnixMillis;

/// Precision of a measurement.
const STEP: u64 = 1 << 20;
/// Prefix of the names of the streams that measure.
const NAME_PREFIX: &str = "CLERKCAST_ROOM_";
/// Prefix of their subjects.
const SUBJECT_PREFIX: &str = "_CLERKCAST_ROOM";
/// A stream of this age is left over: its gateway ended during the measurement.
const LEFT_OVER_AFTER: Duration = Duration::from_secs(60);
/// Maximum number of leftovers that one start deletes.
const LEFT_OVER_MAX: usize = 64;

/// Returns how many bytes the stream may have, if less than `too_much`. None if it cannot be
/// measured. One step of the room is left to the bucket of the cells: beside a stream that sets
/// everything aside, servers create no other.
pub(super) async fn find(context: &Context, config: &Config, too_much: u64) -> Option<u64> {
    let (context, replicas) = (context.clone(), config.replicas);
    #[expect(
        clippy::disallowed_methods,
        reason = "a measurement that is dropped halfway would leave a stream behind"
    )]
    let measured = tokio::spawn(async move { measure(&context, replicas, too_much).await });
    let room = measured.await.ok().flatten();
    room.map(|bytes| bytes.saturating_sub(STEP))
}

/// Deletes streams that an interrupted measurement left behind, because they reserve room.
pub(super) async fn delete_left_over(context: &Context) {
    for _ in 0..LEFT_OVER_MAX {
        let all = format!("{SUBJECT_PREFIX}.>");
        let Ok(name) = context.stream_by_subject(all).await else {
            return;
        };
        if !name.starts_with(NAME_PREFIX) {
            return;
        }
        let Ok(stream) = context.get_stream(&name).await else {
            return;
        };
        let created = stream.cached_info().created.unix_timestamp();
        let age = UnixMillis::now().milliseconds() / 1000 - created;
        // Another gateway may be measuring with it.
        if age < LEFT_OVER_AFTER.as_secs().cast_signed() {
            return;
        }
        if context.delete_stream(&name).await.is_err() {
            return;
        }
        tracing::info!(stream = %name, "deleted a stream that was left over from measuring room");
    }
}

/// Explains that there is no room for a stream of the configured size.
pub(super) fn explain(room: Option<u64>, retain_bytes: u64) -> String {
    let room = match room {
        Some(0) => format!("less than {}", as_servers_write(STEP)),
        Some(bytes) => as_servers_write(bytes),
        None => "less".to_owned(),
    };
    let aside = as_flags_write(retain_bytes);
    format!(
        "the servers have room for {room}, and --retain-bytes sets {aside} aside on each: lower it, or raise max_file_store"
    )
}

/// Explains that there is no room for the bucket of the cells beside the stream.
pub(super) fn explain_bucket(stream: &str) -> String {
    format!(
        "the servers have no room beside the stream {stream}: lower its --max-bytes and --retain-bytes, or raise max_file_store"
    )
}

/// Measures the room in whole steps, with one stream for each binary digit that fits beside the
/// larger ones. A cluster hears some seconds late what its servers have set aside, so there only
/// the largest digit is measured.
async fn measure(context: &Context, replicas: usize, too_much: u64) -> Option<u64> {
    let inbox = context.client().new_inbox();
    let unique = inbox.rsplit('.').next()?.to_owned();
    let mut made = Vec::new();
    let mut room = 0;
    let mut part = too_much.checked_ilog2().map_or(0, |digit| 1 << digit);
    while part >= STEP {
        let name = format!("{NAME_PREFIX}{unique}_{part}");
        let settings = Settings {
            name: name.clone(),
            subjects: vec![format!("{SUBJECT_PREFIX}.{unique}.{part}")],
            storage: StorageType::File,
            num_replicas: replicas,
            max_bytes: i64::try_from(part).ok()?,
            ..Settings::default()
        };
        if room + part < too_much {
            let stream = context.create_stream(settings).await;
            let is_refused = stream
                .as_ref()
                .is_err_and(|error| matches!(error.kind(), CreateStreamErrorKind::JetStream(_)));
            // Without an answer, the servers may have created it.
            if !is_refused {
                made.push(name);
            }
            if let Ok(stream) = stream {
                room += part;
                if stream.cached_info().cluster.is_some() {
                    break;
                }
            }
        }
        part /= 2;
    }
    for name in made {
        let _left_to_the_operator = context.delete_stream(name).await;
    }
    Some(room)
}

/// Writes a size as a server's configuration does, where a MB has 1,048,576 bytes.
fn as_servers_write(bytes: u64) -> String {
    in_units(bytes, ["bytes", "KB", "MB", "GB"])
}

/// Writes a size as `--retain-bytes` takes it.
fn as_flags_write(bytes: u64) -> String {
    in_units(bytes, ["bytes", "KiB", "MiB", "GiB"])
}

/// Writes a size in the largest unit of which it is a whole number.
fn in_units(bytes: u64, units: [&str; 4]) -> String {
    let mut number = bytes;
    let mut units = units.into_iter();
    let mut unit = units.next().unwrap_or_default();
    while number >= 1024
        && number.is_multiple_of(1024)
        && let Some(larger) = units.next()
    {
        number /= 1024;
        unit = larger;
    }
    format!("{number} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_they_are_configured() {
        assert_eq!(as_servers_write(64 << 20), "64 MB");
        assert_eq!(as_flags_write(10 << 30), "10 GiB");
        assert_eq!(as_flags_write(1536 << 20), "1536 MiB");
        assert_eq!(as_flags_write(16 << 40), "16384 GiB");
        assert_eq!(as_flags_write(100_000_001), "100000001 bytes");
    }
}
