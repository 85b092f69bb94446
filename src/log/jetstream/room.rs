//! How much room the servers have for the stream. They report it to their own operators
//! only, so it is found by making streams of other sizes, which are deleted again.

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::CreateStreamErrorKind;
use async_nats::jetstream::stream::{Config as Settings, StorageType};

use super::config::Config;
use crate::event::UnixMillis;

/// How exactly the room is found.
const STEP: u64 = 1 << 20;
/// How the names of the streams begin that are made to measure.
const NAME_PREFIX: &str = "CLERKCAST_ROOM_";
/// Their subjects.
const SUBJECT_PREFIX: &str = "_CLERKCAST_ROOM";
/// A stream that is this old is left over: its gateway ended while it measured.
const LEFT_OVER_AFTER: Duration = Duration::from_secs(60);
/// Leftovers that one start deletes.
const LEFT_OVER_MAX: usize = 64;

/// Returns how many bytes the stream may have, where that is less than `too_much`. None where
/// it cannot be found out.
pub(super) async fn find(context: &Context, config: &Config, too_much: u64) -> Option<u64> {
    let (context, replicas) = (context.clone(), config.replicas);
    #[expect(
        clippy::disallowed_methods,
        reason = "a measurement that is dropped halfway would leave a stream behind"
    )]
    let measured = tokio::spawn(async move { measure(&context, replicas, too_much).await });
    measured.await.ok().flatten()
}

/// Deletes what measuring left behind where its gateway was ended: it reserves room.
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
        // Another gateway may be measuring.
        if age < LEFT_OVER_AFTER.as_secs().cast_signed() {
            return;
        }
        if context.delete_stream(&name).await.is_err() {
            return;
        }
        tracing::info!(stream = %name, "deleted a stream that was left over from measuring room");
    }
}

/// Says that a stream of the configured size has no room.
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

/// The most that there is room for, in whole steps: made of one stream for each binary digit
/// that fits beside the larger ones. A cluster hears of what its servers have set aside some
/// seconds late, so there the largest digit has to do.
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
            // Without an answer, the servers may have made it.
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

/// As in a server's configuration, where a MB has 1,048,576 bytes.
fn as_servers_write(bytes: u64) -> String {
    in_units(bytes, ["bytes", "KB", "MB", "GB"])
}

/// As `--retain-bytes` takes it.
fn as_flags_write(bytes: u64) -> String {
    in_units(bytes, ["bytes", "KiB", "MiB", "GiB"])
}

/// In the largest unit of which it is a whole number.
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
