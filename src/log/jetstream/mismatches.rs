//! Compares the settings of a stream that exists with those that are configured, and explains
//! each that differs.

use std::fmt;
use std::time::Duration;

use async_nats::jetstream::stream::{
    Config as Settings, PersistenceMode, RetentionPolicy, StorageType,
};

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

/// The settings that were compared up to now.
#[derive(Default)]
pub(super) struct Comparison {
    found: Vec<Mismatch>,
}

impl Comparison {
    /// Returns the settings that differ, if any does.
    pub(super) fn judge(self, found: &Settings) -> Result<(), Mismatches> {
        if self.found.is_empty() {
            return Ok(());
        }
        Err(Mismatches {
            stream: found.name.clone(),
            found: self.found,
        })
    }

    pub(super) fn expect(
        &mut self,
        setting: &'static str,
        is: String,
        configured: String,
        remedy: String,
    ) {
        if is != configured {
            self.found.push(Mismatch {
                setting,
                is,
                configured,
                remedy,
            });
        }
    }

    pub(super) fn expect_replicas(&mut self, found: &Settings, configured: usize) {
        let remedy = format!(
            "nats stream edit {} --replicas {configured}, or --nats-replicas",
            found.name
        );
        let configured = configured.to_string();
        self.expect(
            "replicas",
            found.num_replicas.to_string(),
            configured,
            remedy,
        );
    }

    pub(super) fn expect_consumers(&mut self, found: &Settings, least: i32) {
        if (1..least).contains(&found.max_consumers) {
            self.expect(
                "max consumers",
                found.max_consumers.to_string(),
                format!("{least} or more"),
                format!("nats stream edit {} --max-consumers=-1", found.name),
            );
        }
    }

    /// Compares what every stream of a gateway needs.
    pub(super) fn expect_kind(&mut self, found: &Settings) {
        let edit = |option: &str| format!("nats stream edit {} {option}", found.name);
        let no_edit = || "cannot be edited; use another --nats-stream".to_owned();
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
            "acknowledgements",
            on(!found.no_ack),
            on(true),
            edit("--ack"),
        );
        self.expect("sealed", on(found.sealed), on(false), no_edit());
        let republish = on(found.republish.is_some());
        self.expect("republish", republish, on(false), edit("--no-republish"));
        self.expect("mirror", on(found.mirror.is_some()), on(false), no_edit());
        let transforms = on(found.subject_transform.is_some());
        let remedy = edit("without --transform-source");
        self.expect("subject transform", transforms, on(false), remedy);
        let is_synchronous = found.persist_mode != Some(PersistenceMode::Async);
        self.expect(
            "persisted before acknowledged",
            on(is_synchronous),
            on(true),
            no_edit(),
        );
    }
}

pub(super) fn limit(value: i64) -> String {
    if value <= 0 {
        "unlimited".to_owned()
    } else {
        value.to_string()
    }
}

pub(super) fn on(value: impl Into<bool>) -> String {
    if value.into() { "on" } else { "off" }.to_owned()
}

pub(super) fn or_off(value: Duration) -> String {
    if value.is_zero() {
        "off".to_owned()
    } else {
        duration(value)
    }
}

/// As `nats stream edit` takes it.
pub(super) fn duration(value: Duration) -> String {
    let seconds = value.as_secs();
    match (seconds % 3600, seconds % 60) {
        (0, _) => format!("{}h", seconds / 3600),
        (_, 0) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

pub(super) fn text(value: &dyn fmt::Debug) -> String {
    format!("{value:?}").to_lowercase()
}
