//! Logs what a gateway runs when it starts, from where, and who may use it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::config::LogConfig;
use super::open::{Addresses, Gateway};
use crate::access::{AccessConfig, audit};
use crate::telemetry;
use crate::webhook::{self, Source};

/// The embedded log's file.
const DATABASE: &str = "clerkcast.db";

/// Writes a duration as log lines show it: `0.086s`.
#[must_use]
pub fn seconds(duration: Duration) -> String {
    format!("{:.3}s", duration.as_secs_f64())
}

/// Writes a duration in its largest whole unit: `30d`, `36h`, `0.5s`.
#[must_use]
pub fn shown_duration(duration: Duration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    if nanos > 0 {
        let shown = format!("{seconds}.{nanos:09}");
        return format!("{}s", shown.trim_end_matches('0'));
    }
    let mut units = [("d", 86_400), ("h", 3_600), ("m", 60)].into_iter();
    let whole = units.find(|(_, length)| seconds > 0 && seconds.is_multiple_of(*length));
    match whole {
        Some((unit, length)) => format!("{}{unit}", seconds / length),
        None => format!("{seconds}s"),
    }
}

/// Announces `gateway`, whose configuration file is `file`.
///
/// # Errors
/// When the log or the system cannot be read.
pub async fn announce(gateway: &Gateway, file: Option<&Path>) -> anyhow::Result<()> {
    announce_start(gateway, file).await;
    let config = &gateway.config;
    let Addresses { http, grpc, admin } = gateway.addresses()?;
    let http_scheme = config.http.tls.as_ref().map_or("http", |_| "https");
    let grpc_scheme = config.grpc.tls.as_ref().map_or("http", |_| "https");
    for source in &config.webhook.sources {
        announce_source(http, http_scheme, source);
    }
    announce_principals(&config.access);
    tracing::info!(address = %http, scheme = http_scheme, "listening for webhooks on {http_scheme}://{http}");
    tracing::info!(address = %grpc, scheme = grpc_scheme, "listening for subscribers on {grpc_scheme}://{grpc}");
    tracing::info!(address = %admin, scheme = "http", "listening for operators on http://{admin}");
    Ok(())
}

async fn announce_start(gateway: &Gateway, file: Option<&Path>) {
    let config = &gateway.config;
    // The gateway starts even if the store does not answer now.
    let description = gateway
        .log
        .describe()
        .await
        .inspect_err(|error| tracing::warn!(%error, "cannot describe the log"))
        .ok();
    let described = description.as_ref();
    let (log, data_dir, stream) = match &config.log {
        LogConfig::Embedded(config) => ("embedded", Some(&config.data_dir), None),
        LogConfig::Nats(config) => ("nats", None, Some(config.stream.as_str())),
    };
    let file_bytes = data_dir.and_then(|directory| {
        let database = std::fs::metadata(directory.join(DATABASE));
        Some(database.ok()?.len())
    });
    let (retain_for, retain_bytes) = config.log.retention();
    tracing::info!(
        version = telemetry::VERSION,
        commit = telemetry::COMMIT,
        config = file.map(|file| display(file.display())),
        log,
        data_dir = data_dir.map(|directory| display(directory.display())),
        stream,
        epoch = %gateway.log.epoch(),
        events = described.map(|description| description.record_count),
        oldest = described.and_then(|description| description.oldest_receive_time).map(display),
        newest = described.and_then(|description| description.newest_receive_time).map(display),
        used_bytes = described.map(|description| description.size_bytes),
        file_bytes,
        retain_for = retain_for.map_or_else(|| "off".to_owned(), shown_duration),
        retain_bytes = retain_bytes.map_or_else(|| "off".to_owned(), |bytes| bytes.to_string()),
        sources = config.webhook.sources.len(),
        principals = config.access.principals.len(),
        anonymous = config.access.anonymous.is_some(),
        recovered_in = seconds(gateway.recovered_in),
        "clerkcast starts"
    );
}

fn announce_source(http: SocketAddr, scheme: &str, source: &Source) {
    let path = webhook::path(&source.name);
    tracing::info!(
        source = %source.name,
        url = %format_args!("{scheme}://{http}{path}"),
        secrets = source.fingerprints().join(","),
        instance_id = source.instance_id.as_deref().unwrap_or("any"),
        "source configured"
    );
}

fn announce_principals(access: &AccessConfig) {
    let names: Vec<&str> = access
        .principals
        .iter()
        .map(|principal| principal.name.as_str())
        .collect();
    tracing::info!(
        target: audit::TARGET,
        principals = names.join(","),
        anonymous = access.anonymous.is_some(),
        "principals loaded"
    );
}
