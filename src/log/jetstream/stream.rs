//! The stream's settings: applied when the stream is created, else compared with the
//! configuration. An existing stream is never changed, because other clients may rely on it.

use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{
    Config as Settings, DiscardPolicy, Info, RetentionPolicy, StorageType,
};
use async_nats::jetstream::{Context, ErrorCode};
use aws_lc_rs::digest;

use super::config::{Config, Missing};
use super::mismatches::{Comparison, Mismatches, duration, limit, on, or_off, text};
use super::{room, subject};
use crate::event::Epoch;
use crate::event::numbers::saturating;

/// Minimum number of consumers that a gateway needs.
const CONSUMERS_MIN: i32 = 2;

/// Why a stream cannot be used.
#[derive(Debug)]
pub(super) enum Unusable {
    /// The stream may exist soon.
    NotNow(String),
    /// The stream will not exist without a change.
    Never(String),
    /// The stream does not exist, and must not be created.
    Absent,
}

/// Finds the stream, or creates it.
pub(super) async fn find_or_create(context: &Context, config: &Config) -> Result<Info, Unusable> {
    let found = find(context, &config.stream)
        .await
        .map_err(Unusable::NotNow)?;
    if found.is_none() && config.missing == Missing::Refuse {
        return Err(Unusable::Absent);
    }
    room::delete_left_over(context).await;
    match found {
        Some(info) => Ok(info),
        None => create(context, config, settings(config)).await,
    }
}

/// Finds a stream by its name.
pub(super) async fn find(context: &Context, name: &str) -> Result<Option<Info>, String> {
    let error = match context.get_stream(name).await {
        Ok(stream) => return Ok(Some(stream.cached_info().clone())),
        Err(error) => error,
    };
    match error.kind() {
        GetStreamErrorKind::JetStream(error)
            if error.error_code() == ErrorCode::STREAM_NOT_FOUND =>
        {
            Ok(None)
        }
        _ => Err(error.to_string()),
    }
}

/// Creates a stream.
pub(super) async fn create(
    context: &Context,
    config: &Config,
    settings: Settings,
) -> Result<Info, Unusable> {
    let error = match context.create_stream(&settings).await {
        Ok(stream) => {
            tracing::info!(stream = %settings.name, replicas = settings.num_replicas, "stream created");
            return Ok(stream.cached_info().clone());
        }
        Err(error) => error,
    };
    let description = error.to_string();
    Err(match error.kind() {
        CreateStreamErrorKind::JetStream(error) => {
            not_created(context, config, &settings, error.error_code(), description).await
        }
        _ => Unusable::NotNow(description),
    })
}

/// Explains why the servers did not create the stream.
async fn not_created(
    context: &Context,
    config: &Config,
    settings: &Settings,
    code: ErrorCode,
    description: String,
) -> Unusable {
    let reserved = u64::try_from(settings.max_bytes).ok();
    let is_small = code == ErrorCode::STORAGE_RESOURCES_EXCEEDED
        || code == ErrorCode::CLUSTER_NO_PEERS && description.contains("insufficient storage");
    if let Some(bytes) = reserved.filter(|_| is_small) {
        let room = room::find(context, config, bytes).await;
        // A starting cluster has room for nothing.
        if code == ErrorCode::STORAGE_RESOURCES_EXCEEDED || room.is_some_and(|room| room > 0) {
            return Unusable::Never(room::explain(room, bytes));
        }
    }
    if settings.name != config.stream && code == ErrorCode::STORAGE_RESOURCES_EXCEEDED {
        return Unusable::Never(room::explain_bucket(&config.stream));
    }
    match code {
        // Another gateway created the stream meanwhile, and the next try finds it.
        ErrorCode::STREAM_NAME_EXIST | ErrorCode::CLUSTER_NOT_AVAILABLE => {
            Unusable::NotNow(description)
        }
        // A starting cluster knows few of its servers.
        ErrorCode::CLUSTER_NO_PEERS
        | ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED => Unusable::NotNow(format!(
            "{description}; --nats-replicas {} needs as many servers in one cluster, each with room for the stream",
            config.replicas
        )),
        _ => Unusable::Never(description),
    }
}

/// The log's identity: a stream that was deleted and made again was created at another
/// time.
pub(super) fn epoch(info: &Info) -> Epoch {
    let mut content = info.config.name.clone().into_bytes();
    content.push(0);
    content.extend(info.created.unix_timestamp_nanos().to_be_bytes());
    let hash = digest::digest(&digest::SHA256, &content);
    let first = hash.as_ref().iter().take(8);
    Epoch::new(first.fold(0, |number, byte| (number << 8) | u64::from(*byte)))
}

fn settings(config: &Config) -> Settings {
    Settings {
        name: config.stream.clone(),
        description: Some("Clerkcast: the log of verified Clerk webhooks".to_owned()),
        subjects: vec![subject::all(&config.subject_prefix)],
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        num_replicas: config.replicas,
        max_age: config.retain_for.unwrap_or_default(),
        max_bytes: bytes_max(config),
        max_messages: -1,
        max_messages_per_subject: -1,
        max_message_size: -1,
        max_consumers: -1,
        duplicate_window: config.duplicate_window,
        allow_direct: true,
        ..Settings::default()
    }
}

fn bytes_max(config: &Config) -> i64 {
    config.retain_bytes.map_or(-1, saturating)
}

/// Compares the settings that matter. A stricter setting, such as a longer duplicate window, is
/// accepted, and so is one that this version does not know.
pub(super) fn check(config: &Config, found: &Settings) -> Result<(), Mismatches> {
    let mut mismatches = Comparison::default();
    compare_limits(&mut mismatches, config, found);
    compare_absent_limits(&mut mismatches, found);
    compare_nature(&mut mismatches, found);
    mismatches.judge(found)
}

/// Compares what a flag and `nats stream edit` can both change.
fn compare_limits(mismatches: &mut Comparison, config: &Config, found: &Settings) {
    let edit = |option: &str, flag: &str| {
        format!("nats stream edit {} {option}, or {flag}", config.stream)
    };
    let subjects = subject::all(&config.subject_prefix);
    let remedy = edit(&format!("--subjects '{subjects}'"), "--nats-subject-prefix");
    mismatches.expect("subjects", found.subjects.join(" "), subjects, remedy);
    mismatches.expect_replicas(found, config.replicas);
    let age = config.retain_for.unwrap_or_default();
    let option = format!("--max-age {}", or_off(age));
    let remedy = edit(&option, "--retain-for");
    mismatches.expect("max age", or_off(found.max_age), or_off(age), remedy);
    let bytes = bytes_max(config);
    let remedy = edit(&format!("--max-bytes {bytes}"), "--retain-bytes");
    mismatches.expect("max bytes", limit(found.max_bytes), limit(bytes), remedy);
    if found.duplicate_window < config.duplicate_window {
        let window = duration(config.duplicate_window);
        let remedy = edit(
            &format!("--dupe-window {window}"),
            "--nats-duplicate-window",
        );
        mismatches.expect(
            "duplicate window",
            duration(found.duplicate_window),
            window,
            remedy,
        );
    }
}

/// Compares limits that no option sets, because each would remove records or refuse them.
fn compare_absent_limits(mismatches: &mut Comparison, found: &Settings) {
    let edit = |option: &str| format!("nats stream edit {} {option}", found.name);
    let unlimited = || limit(-1);
    mismatches.expect(
        "max messages",
        limit(found.max_messages),
        unlimited(),
        edit("--max-msgs=-1"),
    );
    let per_subject = limit(found.max_messages_per_subject);
    mismatches.expect(
        "max messages per subject",
        per_subject,
        unlimited(),
        edit("--max-msgs-per-subject=-1"),
    );
    mismatches.expect(
        "max message size",
        limit(found.max_message_size.into()),
        unlimited(),
        edit("--max-msg-size=-1"),
    );
    // The follower has one, and a search another.
    mismatches.expect_consumers(found, CONSUMERS_MIN);
}

/// Compares what the log needs in every configuration.
fn compare_nature(mismatches: &mut Comparison, found: &Settings) {
    let edit = |option: &str| format!("nats stream edit {} {option}", found.name);
    mismatches.expect_kind(found);
    mismatches.expect(
        "discard",
        text(&found.discard),
        text(&DiscardPolicy::Old),
        edit("--discard old"),
    );
    mismatches.expect(
        "direct get",
        on(found.allow_direct),
        on(true),
        edit("--allow-direct"),
    );
    let rollup = on(found.allow_rollup);
    mismatches.expect(
        "rollup headers",
        rollup,
        on(false),
        edit("--no-allow-rollup"),
    );
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn config() -> Config {
        Config {
            stream: "CLERKCAST".to_owned(),
            subject_prefix: "clerk".to_owned(),
            replicas: 3,
            duplicate_window: crate::log::DEDUPE_WINDOW,
            retain_for: Some(Duration::from_secs(30 * 86_400)),
            retain_bytes: Some(10 << 30),
            ..Config::default()
        }
    }

    #[test]
    fn a_stream_made_by_the_gateway_has_no_mismatch() {
        assert_eq!(check(&config(), &settings(&config())), Ok(()));
    }

    #[test]
    fn a_longer_duplicate_window_is_accepted() {
        let mut found = settings(&config());
        found.duplicate_window *= 2;
        found.description = None;
        assert_eq!(check(&config(), &found), Ok(()));
    }

    #[test]
    fn every_mismatch_is_reported_with_a_remedy() {
        let mut found = settings(&config());
        found.num_replicas = 1;
        found.duplicate_window = Duration::from_secs(120);
        found.max_age = Duration::ZERO;
        found.allow_direct = false;
        found.max_consumers = 1;
        let message = check(&config(), &found)
            .expect_err("mismatches")
            .to_string();
        for line in [
            "replicas: is 1, configured 3 (nats stream edit CLERKCAST --replicas 3, or --nats-replicas)",
            "duplicate window: is 2m, configured 28h (nats stream edit CLERKCAST --dupe-window 28h, or --nats-duplicate-window)",
            "max age: is off, configured 720h (nats stream edit CLERKCAST --max-age 720h, or --retain-for)",
            "direct get: is off, configured on (nats stream edit CLERKCAST --allow-direct)",
            "max consumers: is 1, configured 2 or more (nats stream edit CLERKCAST --max-consumers=-1)",
        ] {
            assert!(message.contains(line), "{message}");
        }
    }
}
