//! The stream's settings: applied when the stream is created, else compared with the
//! configuration. An existing stream is never changed, because other clients may rely on it.

use std::fmt;
use std::time::Duration;

use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{
    Config as Settings, DiscardPolicy, Info, PersistenceMode, RetentionPolicy, StorageType,
};
use async_nats::jetstream::{Context, ErrorCode};
use aws_lc_rs::digest;

use super::config::{Config, Missing};
use super::{room, subject};
use crate::event::Epoch;
use crate::event::numbers::saturating;

/// Minimum number of consumers that a gateway needs.
const CONSUMERS_MIN: i32 = 2;

/// Settings of a stream that are not what is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatches {
    stream: String,
    found: Vec<Mismatch>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mismatch {
    setting: &'static str,
    is: String,
    configured: String,
    remedy: String,
}

impl fmt::Display for Mismatches {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stream = &self.stream;
        write!(
            formatter,
            "the stream {stream} exists with other settings, which Clerkcast never changes"
        )?;
        for mismatch in &self.found {
            let Mismatch {
                setting,
                is,
                configured,
                remedy,
            } = mismatch;
            write!(
                formatter,
                "\n  {setting}: is {is}, configured {configured} ({remedy})"
            )?;
        }
        Ok(())
    }
}

/// Why the stream cannot be used.
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
    let error = match context.get_stream(&config.stream).await {
        Ok(stream) => {
            room::delete_left_over(context).await;
            return Ok(stream.cached_info().clone());
        }
        Err(error) => error,
    };
    match error.kind() {
        GetStreamErrorKind::JetStream(error)
            if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {}
        _ => return Err(Unusable::NotNow(error.to_string())),
    }
    if config.missing == Missing::Refuse {
        return Err(Unusable::Absent);
    }
    room::delete_left_over(context).await;
    let error = match context.create_stream(settings(config)).await {
        Ok(stream) => {
            tracing::info!(stream = %config.stream, replicas = config.replicas, "stream created");
            return Ok(stream.cached_info().clone());
        }
        Err(error) => error,
    };
    let description = error.to_string();
    Err(match error.kind() {
        CreateStreamErrorKind::JetStream(error) => {
            not_created(context, config, error.error_code(), description).await
        }
        _ => Unusable::NotNow(description),
    })
}

/// Explains why the servers did not create the stream.
async fn not_created(
    context: &Context,
    config: &Config,
    code: ErrorCode,
    description: String,
) -> Unusable {
    let is_small = code == ErrorCode::STORAGE_RESOURCES_EXCEEDED
        || code == ErrorCode::CLUSTER_NO_PEERS && description.contains("insufficient storage");
    if let Some(bytes) = config.retain_bytes.filter(|_| is_small) {
        let room = room::find(context, config, bytes).await;
        // A starting cluster has room for nothing.
        if code == ErrorCode::STORAGE_RESOURCES_EXCEEDED || room.is_some_and(|room| room > 0) {
            return Unusable::Never(room::explain(room, bytes));
        }
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
    mismatches.limits(config, found);
    mismatches.absent_limits(config, found);
    mismatches.nature(config, found);
    if mismatches.found.is_empty() {
        return Ok(());
    }
    Err(Mismatches {
        stream: config.stream.clone(),
        found: mismatches.found,
    })
}

#[derive(Default)]
struct Comparison {
    found: Vec<Mismatch>,
}

impl Comparison {
    fn expect(&mut self, setting: &'static str, is: String, configured: String, remedy: String) {
        if is != configured {
            self.found.push(Mismatch {
                setting,
                is,
                configured,
                remedy,
            });
        }
    }

    /// Compares what a flag and `nats stream edit` can both change.
    fn limits(&mut self, config: &Config, found: &Settings) {
        let edit = |option: &str, flag: &str| {
            format!("nats stream edit {} {option}, or {flag}", config.stream)
        };
        let subjects = subject::all(&config.subject_prefix);
        let remedy = edit(&format!("--subjects '{subjects}'"), "--nats-subject-prefix");
        self.expect("subjects", found.subjects.join(" "), subjects, remedy);
        let replicas = config.replicas.to_string();
        let remedy = edit(&format!("--replicas {replicas}"), "--nats-replicas");
        self.expect("replicas", found.num_replicas.to_string(), replicas, remedy);
        let age = config.retain_for.unwrap_or_default();
        let option = format!("--max-age {}", or_off(age));
        let remedy = edit(&option, "--retain-for");
        self.expect("max age", or_off(found.max_age), or_off(age), remedy);
        let bytes = bytes_max(config);
        let remedy = edit(&format!("--max-bytes {bytes}"), "--retain-bytes");
        self.expect("max bytes", limit(found.max_bytes), limit(bytes), remedy);
        if found.duplicate_window < config.duplicate_window {
            let window = duration(config.duplicate_window);
            let remedy = edit(
                &format!("--dupe-window {window}"),
                "--nats-duplicate-window",
            );
            self.expect(
                "duplicate window",
                duration(found.duplicate_window),
                window,
                remedy,
            );
        }
    }

    /// Compares limits that no option sets, because each would remove records or refuse them.
    fn absent_limits(&mut self, config: &Config, found: &Settings) {
        let edit = |option: &str| format!("nats stream edit {} {option}", config.stream);
        let unlimited = || limit(-1);
        self.expect(
            "max messages",
            limit(found.max_messages),
            unlimited(),
            edit("--max-msgs=-1"),
        );
        let per_subject = limit(found.max_messages_per_subject);
        self.expect(
            "max messages per subject",
            per_subject,
            unlimited(),
            edit("--max-msgs-per-subject=-1"),
        );
        self.expect(
            "max message size",
            limit(found.max_message_size.into()),
            unlimited(),
            edit("--max-msg-size=-1"),
        );
        // The follower has one, and a search another.
        if (1..CONSUMERS_MIN).contains(&found.max_consumers) {
            self.expect(
                "max consumers",
                found.max_consumers.to_string(),
                format!("{CONSUMERS_MIN} or more"),
                edit("--max-consumers=-1"),
            );
        }
    }

    /// Compares what the log needs in every configuration.
    fn nature(&mut self, config: &Config, found: &Settings) {
        let stream = &config.stream;
        let edit = |option: &str| format!("nats stream edit {stream} {option}");
        let no_edit = || "cannot be edited; use another --nats-stream".to_owned();
        let text = |value: &dyn fmt::Debug| format!("{value:?}").to_lowercase();
        self.expect(
            "storage",
            text(&found.storage),
            text(&StorageType::File),
            no_edit(),
        );
        self.expect(
            "retention",
            text(&found.retention),
            text(&RetentionPolicy::Limits),
            no_edit(),
        );
        self.expect(
            "discard",
            text(&found.discard),
            text(&DiscardPolicy::Old),
            edit("--discard old"),
        );
        self.expect(
            "direct get",
            on(found.allow_direct),
            on(true),
            edit("--allow-direct"),
        );
        self.expect(
            "acknowledgements",
            on(!found.no_ack),
            on(true),
            edit("--ack"),
        );
        self.expect("sealed", on(found.sealed), on(false), no_edit());
        let rollup = on(found.allow_rollup);
        let remedy = edit("--no-allow-rollup");
        self.expect("rollup headers", rollup, on(false), remedy);
        let republish = on(found.republish.is_some());
        let remedy = edit("--no-republish");
        self.expect("republish", republish, on(false), remedy);
        self.expect("mirror", on(found.mirror.is_some()), on(false), no_edit());
        let transforms = on(found.subject_transform.is_some());
        self.expect(
            "subject transform",
            transforms,
            on(false),
            edit("without --transform-source"),
        );
        let sync = found.persist_mode != Some(PersistenceMode::Async);
        self.expect(
            "persisted before acknowledged",
            on(sync),
            on(true),
            no_edit(),
        );
    }
}

fn limit(value: i64) -> String {
    if value <= 0 {
        "unlimited".to_owned()
    } else {
        value.to_string()
    }
}

fn on(value: impl Into<bool>) -> String {
    if value.into() { "on" } else { "off" }.to_owned()
}

fn or_off(value: Duration) -> String {
    if value.is_zero() {
        "off".to_owned()
    } else {
        duration(value)
    }
}

/// As `nats stream edit` takes it.
fn duration(value: Duration) -> String {
    let seconds = value.as_secs();
    match (seconds % 3600, seconds % 60) {
        (0, _) => format!("{}h", seconds / 3600),
        (_, 0) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
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
