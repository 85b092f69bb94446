//! The bucket's stream: created like the log's own, else compared with the configuration.

use async_nats::jetstream::Context;
use async_nats::jetstream::stream::{
    Config as Settings, DiscardPolicy, Info, RetentionPolicy, StorageType,
};

use super::super::config::Config;
use super::super::mismatches::{Comparison, Mismatches, limit, on, or_off, text};
use super::super::stream::{self, Unusable};
use super::key::Keys;
use crate::event::numbers::saturating;
use crate::log::cells::VALUE_BYTES_MAX;

/// Bytes that a message of a cell has beside the value.
pub(in super::super) const HEADERS_BYTES_MAX: usize = 1 << 10;
/// Each gateway follows the bucket with one.
const CONSUMERS_MIN: i32 = 1;

/// Finds the bucket, or creates it.
pub(in super::super) async fn find_or_create(
    context: &Context,
    config: &Config,
) -> Result<Info, Unusable> {
    let settings = settings(config);
    let found = stream::find(context, &settings.name).await;
    match found.map_err(Unusable::NotNow)? {
        Some(info) => Ok(info),
        None => stream::create(context, config, settings).await,
    }
}

/// The name of the bucket's stream.
pub(in super::super) fn stream_name(config: &Config) -> String {
    format!("KV_{}_CELLS", config.stream)
}

fn settings(config: &Config) -> Settings {
    let name = stream_name(config);
    Settings {
        description: Some("Clerkcast: the state of subscriptions".to_owned()),
        subjects: vec![Keys::of_stream(&name).all()],
        name,
        retention: RetentionPolicy::Limits,
        // With a limit of bytes, it refuses values and removes none.
        discard: DiscardPolicy::New,
        storage: StorageType::File,
        num_replicas: config.replicas,
        max_bytes: -1,
        max_messages: -1,
        max_messages_per_subject: 1,
        max_message_size: message_bytes_max(),
        max_consumers: -1,
        allow_rollup: true,
        // A follower may answer late.
        allow_direct: false,
        ..Settings::default()
    }
}

/// Maximum size of a message: that of a value and its headers.
fn message_bytes_max() -> i32 {
    saturating(VALUE_BYTES_MAX + HEADERS_BYTES_MAX)
}

/// Compares the settings that matter. A limit of bytes is accepted, because some accounts demand
/// one.
pub(in super::super) fn check(config: &Config, found: &Settings) -> Result<(), Mismatches> {
    let edit = |option: &str| format!("nats stream edit {} {option}", found.name);
    let unlimited = || limit(-1);
    let expected = settings(config);
    let mut mismatches = Comparison::default();
    let subjects = expected.subjects.join(" ");
    let remedy = edit(&format!("--subjects '{subjects}'"));
    mismatches.expect("subjects", found.subjects.join(" "), subjects, remedy);
    mismatches.expect_replicas(found, config.replicas);
    let history = limit(found.max_messages_per_subject);
    mismatches.expect(
        "max messages per subject",
        history,
        limit(1),
        edit("--max-msgs-per-subject=1"),
    );
    let bytes_max = limit(message_bytes_max().into());
    let remedy = edit(&format!("--max-msg-size={bytes_max}"));
    let found_bytes_max = limit(found.max_message_size.into());
    mismatches.expect("max message size", found_bytes_max, bytes_max, remedy);
    let remedy = edit("--max-age=0");
    mismatches.expect("max age", or_off(found.max_age), "off".to_owned(), remedy);
    let found_messages = limit(found.max_messages);
    let remedy = edit("--max-msgs=-1");
    mismatches.expect("max messages", found_messages, unlimited(), remedy);
    let discard = text(&found.discard);
    let remedy = edit("--discard new");
    mismatches.expect("discard", discard, text(&expected.discard), remedy);
    let per_subject = on(found.discard_new_per_subject);
    let remedy = edit("--no-discard-per-subject");
    mismatches.expect("discard per subject", per_subject, on(false), remedy);
    mismatches.expect_consumers(found, CONSUMERS_MIN);
    let remedy = edit("--no-allow-direct");
    mismatches.expect("direct get", on(found.allow_direct), on(false), remedy);
    mismatches.expect_kind(found);
    mismatches.judge(found)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn config() -> Config {
        Config {
            replicas: 3,
            retain_bytes: Some(10 << 30),
            retain_for: Some(Duration::from_secs(86_400)),
            ..Config::default()
        }
    }

    #[test]
    fn a_bucket_made_by_the_gateway_has_no_mismatch() {
        let mut found = settings(&config());
        assert_eq!(check(&config(), &found), Ok(()));
        found.max_bytes = 1 << 30;
        assert_eq!(check(&config(), &found), Ok(()));
    }

    /// The limits of the log are not the bucket's: retention removes no cell.
    #[test]
    fn every_mismatch_is_reported_with_a_remedy() {
        let mut found = settings(&config());
        found.num_replicas = 1;
        found.max_messages_per_subject = 5;
        found.max_message_size = 1_000;
        found.max_age = Duration::from_secs(3_600);
        found.discard = DiscardPolicy::Old;
        found.allow_direct = true;
        found.storage = StorageType::Memory;
        let message = check(&config(), &found)
            .expect_err("mismatches")
            .to_string();
        for line in [
            "the stream KV_CLERKCAST_CELLS exists with other settings, which Clerkcast never changes",
            "replicas: is 1, configured 3 (nats stream edit KV_CLERKCAST_CELLS --replicas 3, or --nats-replicas)",
            "max messages per subject: is 5, configured 1 (nats stream edit KV_CLERKCAST_CELLS --max-msgs-per-subject=1)",
            "max message size: is 1000, configured 4195328 (nats stream edit KV_CLERKCAST_CELLS --max-msg-size=4195328)",
            "max age: is 1h, configured off (nats stream edit KV_CLERKCAST_CELLS --max-age=0)",
            "discard: is old, configured new (nats stream edit KV_CLERKCAST_CELLS --discard new)",
            "direct get: is on, configured off (nats stream edit KV_CLERKCAST_CELLS --no-allow-direct)",
            "storage: is memory, configured file (cannot be edited; use another --nats-stream)",
        ] {
            assert!(message.contains(line), "{message}");
        }
    }
}
