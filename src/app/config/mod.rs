//! The configuration: from what an operator wrote to what a gateway needs.
//!
//! ```text
//!   flags, variables ─┐
//!   file ─► Document ─┴─► Settings ─► check ─► Config, or everything that is wrong
//! ```
//!
//! `serve`, `config check` and a reload take the same way, so that they agree.

mod check;
mod document;
mod file;
mod listeners;
mod nats;
mod options;
mod principals;
mod print;
mod problem;
pub mod secrets;
mod settings;
mod sources;
mod units;

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::access::AccessConfig;
use crate::doors::grpc::Exposure;
use crate::net::CertificateFiles;
use crate::telemetry::Level;
use crate::webhook::{AllowList, SigningSecret, Source, Sources, Verifier};
use crate::{fanout, log, webhook};

pub use check::{Checked, check, check_stream, check_with_files, logging};
pub use document::Document;
pub use file::{check_whole, read, read_again, warning_at_start};
pub use options::{AtReload, Declaration, Kind, OPTIONS, Place as OptionPlace};
pub use print::{Printed, printed};
pub use problem::{Place, Problem};
pub use settings::{Environment, Given, Origin, Settings};
pub use units::{shown_bytes, shown_duration};

/// Everything a gateway needs to know, checked.
#[derive(Debug)]
pub struct Config {
    /// Where webhooks are received.
    pub http_listen: SocketAddr,
    /// Where subscribers connect.
    pub grpc_listen: SocketAddr,
    /// Where probes and metrics are served.
    pub admin_listen: SocketAddr,
    /// TLS on the webhook port.
    pub http_tls: Option<CertificateFiles>,
    /// TLS on the gRPC port.
    pub grpc_tls: Option<CertificateFiles>,
    /// Webhook connections open at once.
    pub http_connections_max: usize,
    /// gRPC connections open at once.
    pub grpc_connections_max: usize,
    /// Which networks webhooks may come from.
    pub allow_list: Option<AllowList>,
    /// The log.
    pub log: LogConfig,
    /// The accepted sources.
    pub sources: Vec<SourceConfig>,
    /// The largest webhook body.
    pub body_bytes_max: usize,
    /// How long a webhook body may take.
    pub body_timeout: Duration,
    /// Bytes of webhook bodies on their way into the log.
    pub in_flight_bytes_max: usize,
    /// Bytes of recent events kept in memory.
    pub ring_bytes_max: usize,
    /// Subscriptions open at once.
    pub subscribers_max: usize,
    /// How long stopping may take.
    pub drain_timeout: Duration,
    /// Who may subscribe.
    pub principals: AccessConfig,
    /// Who may ask for health.
    pub grpc_health: Exposure,
    /// Whether callers without credentials are let in beside principals.
    pub allows_anonymous: bool,
    /// Who may ask for reflection.
    pub grpc_reflection: Exposure,
    /// What is logged.
    pub log_level: Level,
}

/// Which log.
#[derive(Clone, Debug)]
pub enum LogConfig {
    /// In a file of this machine.
    Embedded(log::sqlite::Config),
    /// In a stream that gateways share.
    Nats(log::jetstream::Config),
}

/// The name of such a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LogKind {
    Embedded,
    Nats,
}

/// As `config check` shows it.
impl fmt::Display for LogConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(config) => {
                write!(formatter, "embedded in {}", config.data_dir.display())
            }
            Self::Nats(config) => write!(formatter, "nats in stream {}", config.stream),
        }
    }
}

impl LogConfig {
    /// How long and how much of it is kept.
    #[must_use]
    pub fn retention(&self) -> (Option<Duration>, Option<u64>) {
        match self {
            Self::Embedded(config) => (config.retain_for, config.retain_bytes),
            Self::Nats(config) => (config.retain_for, config.retain_bytes),
        }
    }
}

/// One Clerk instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceConfig {
    /// Its name: the last part of its URL.
    pub name: String,
    /// Its signing secrets.
    pub secrets: Vec<SigningSecret>,
    /// The instance that its bodies must name.
    pub instance_id: Option<String>,
    /// Whether the environment holds some of its secrets, which a running process keeps.
    pub is_in_environment: bool,
}

impl SourceConfig {
    /// Its secrets, each by the start of its key's SHA-256.
    #[must_use]
    pub fn fingerprints(&self) -> Vec<String> {
        self.secrets
            .iter()
            .map(SigningSecret::fingerprint)
            .collect()
    }

    pub(super) fn to_source(&self) -> Source {
        Source {
            name: self.name.clone(),
            verifier: Verifier::new(&self.secrets),
            instance_id: self.instance_id.clone(),
        }
    }
}

impl Config {
    pub(super) fn fanout(&self) -> fanout::Config {
        fanout::Config {
            ring_bytes_max: self.ring_bytes_max,
            subscribers_max: self.subscribers_max,
            sources: self.source_names().into_iter().collect(),
        }
    }

    pub(super) fn source_names(&self) -> BTreeSet<String> {
        let names = self.sources.iter().map(|source| source.name.clone());
        names.collect()
    }

    pub(super) fn webhook(&self, sources: Sources) -> webhook::Config {
        webhook::Config {
            sources,
            body_bytes_max: self.body_bytes_max,
            body_timeout: self.body_timeout,
            in_flight_bytes_max: self.in_flight_bytes_max,
            allow_list: self.allow_list.clone(),
        }
    }

    pub(super) fn webhook_sources(&self) -> Vec<Source> {
        self.sources.iter().map(SourceConfig::to_source).collect()
    }
}
