//! The configuration: flags and environment over the file over the defaults.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use serde::Deserialize;

use super::principals::FilePrincipal;
use crate::access::Principals;
use crate::grpc::Door;
use crate::net::CertificateFiles;
use crate::ops::LogFormat;
use crate::webhook::{AllowList, SigningSecret, Source, Verifier};
use crate::{fanout, log, webhook};

/// Everything a gateway needs to know, checked.
#[derive(Clone, Debug)]
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
    pub principals: Principals,
    /// Who may ask for health.
    pub grpc_health: Door,
    /// Who may ask for reflection.
    pub grpc_reflection: Door,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogKind {
    /// See [`LogConfig::Embedded`].
    #[default]
    Embedded,
    /// See [`LogConfig::Nats`].
    Nats,
}

/// One Clerk instance.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// Its name: the last part of its URL.
    pub name: String,
    /// Its signing secrets.
    pub secrets: Vec<SigningSecret>,
    /// The instance that its bodies must name.
    pub instance_id: Option<String>,
}

impl Config {
    pub(super) fn fanout(&self) -> fanout::Config {
        fanout::Config {
            ring_bytes_max: self.ring_bytes_max,
            subscribers_max: self.subscribers_max,
            sources: self
                .sources
                .iter()
                .map(|source| source.name.clone())
                .collect(),
        }
    }

    pub(super) fn webhook(&self) -> webhook::Config {
        let sources = self.sources.iter().map(|source| Source {
            name: source.name.clone(),
            verifier: Verifier::new(&source.secrets),
            instance_id: source.instance_id.clone(),
        });
        webhook::Config {
            sources: sources.collect(),
            body_bytes_max: self.body_bytes_max,
            body_timeout: self.body_timeout,
            in_flight_bytes_max: self.in_flight_bytes_max,
            allow_list: self.allow_list.clone(),
        }
    }
}

/// The configuration file. Every key but the tables is a flag's name, with underscores.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "each key is the flag of the same name, documented there"
)]
pub struct FileConfig {
    pub http_listen: Option<SocketAddr>,
    pub grpc_listen: Option<SocketAddr>,
    pub admin_listen: Option<SocketAddr>,
    pub http_tls_cert: Option<PathBuf>,
    pub http_tls_key: Option<PathBuf>,
    pub http_max_connections: Option<usize>,
    pub http_allow_from: Option<String>,
    pub http_trusted_proxies: Option<String>,
    pub grpc_tls_cert: Option<PathBuf>,
    pub grpc_tls_key: Option<PathBuf>,
    pub grpc_tls_client_ca: Option<PathBuf>,
    pub grpc_max_connections: Option<usize>,
    pub data_dir: Option<PathBuf>,
    pub retain_for: Option<String>,
    pub retain_bytes: Option<String>,
    pub log: Option<LogKind>,
    pub nats_url: Option<String>,
    pub nats_credentials: Option<PathBuf>,
    pub nats_tls_ca: Option<PathBuf>,
    pub nats_tls_cert: Option<PathBuf>,
    pub nats_tls_key: Option<PathBuf>,
    pub nats_stream: Option<String>,
    pub nats_subject_prefix: Option<String>,
    pub nats_replicas: Option<usize>,
    pub nats_duplicate_window: Option<String>,
    pub body_limit: Option<String>,
    pub body_timeout: Option<String>,
    pub in_flight_limit: Option<String>,
    pub ring_size: Option<String>,
    pub max_subscribers: Option<usize>,
    pub drain_timeout: Option<String>,
    pub log_format: Option<LogFormat>,
    pub log_level: Option<String>,
    pub grpc_allow_anonymous: Option<bool>,
    pub grpc_open: Option<String>,
    #[serde(default)]
    pub sources: Vec<FileSource>,
    #[serde(default)]
    pub principals: Vec<FilePrincipal>,
    pub anonymous: Option<FilePrincipal>,
}

/// One `[[sources]]` table.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSource {
    name: String,
    #[serde(default)]
    signing_secrets: Vec<String>,
    /// Environment variables that hold secrets, so that the file need not.
    #[serde(default)]
    signing_secrets_env: Vec<String>,
    instance_id: Option<String>,
}

/// Without the secrets.
impl std::fmt::Debug for FileSource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("FileSource")
            .field("name", &self.name)
            .field("instance_id", &self.instance_id)
            .finish_non_exhaustive()
    }
}

/// So much may be a word of a message, such as `whsec_123`.
const SHOWN_OF_SECRET: usize = 8;

impl FileConfig {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// When it cannot be read, or holds a key that is not one.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration file {}", path.display()))?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Reads `text`, which messages call `name`.
    ///
    /// # Errors
    /// When it is not TOML, or holds a key that is not one.
    pub fn parse(name: &str, text: &str) -> anyhow::Result<Self> {
        let parsed = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| {
                let before = text.get(..span.start).unwrap_or_default();
                before.matches('\n').count() + 1
            });
            let what = without_value(error.message());
            let key = key_in_line(text, line);
            anyhow!("{name}, line {line}{key}: {what}")
        });
        parsed.map_err(|error| without_secrets(&error))
    }

    /// The sources, checked.
    ///
    /// # Errors
    /// With the first that is wrong.
    pub fn sources(&self) -> anyhow::Result<Vec<SourceConfig>> {
        let mut names = BTreeSet::new();
        let mut sources = Vec::with_capacity(self.sources.len());
        for source in &self.sources {
            sources.push(source.check().map_err(|error| without_secrets(&error))?);
            ensure!(
                names.insert(&source.name),
                "source {:?} is configured twice",
                source.name
            );
        }
        Ok(sources)
    }
}

/// The key that a line sets, to be shown; its value may be a secret.
fn key_in_line(text: &str, line: usize) -> String {
    let line = text.lines().nth(line - 1).unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_lowercase() || c == '_';
    match line.split_once('=') {
        Some((key, _)) if key.trim().chars().all(is_plain) => format!(", {}", key.trim()),
        _ => String::new(),
    }
}

/// A value in the wrong place may be a secret: the message names it by its first letters.
pub(super) fn without_secrets(error: &anyhow::Error) -> anyhow::Error {
    const PREFIXES: [&str; 4] = ["whsec_", "cct_", "sk_live_", "sk_test_"];
    let mut told = format!("{error:#}");
    let is_of_secret = |c: char| c.is_ascii_alphanumeric() || "+/=_-".contains(c);
    for prefix in PREFIXES {
        let mut from = 0;
        while let Some(found) = told.get(from..).and_then(|rest| rest.find(prefix)) {
            let start = from + found + prefix.len();
            let secret = told.get(start..).unwrap_or_default();
            let length = secret.find(|c| !is_of_secret(c)).unwrap_or(secret.len());
            if length > SHOWN_OF_SECRET {
                told.replace_range(start..start + length, "…");
            }
            from = start;
        }
    }
    anyhow!(told)
}

/// The parser quotes a value of the wrong type, and that value may be a secret.
fn without_value(message: &str) -> String {
    match (message.split_once(": "), message.rsplit_once(", expected ")) {
        (Some((what, _)), Some((_, expected))) if what.starts_with("invalid") => {
            format!("{what}, expected {expected}")
        }
        _ => message.to_owned(),
    }
}

impl FileSource {
    fn check(&self) -> anyhow::Result<SourceConfig> {
        let name = &self.name;
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
        ensure!(
            !name.is_empty() && name.len() <= 64 && name.chars().all(is_plain),
            "source {name:?}: a name is 1 to 64 of a-z, 0-9, - and _, since it is part of the URL"
        );
        let mut secrets = Vec::new();
        for (index, text) in self.signing_secrets.iter().enumerate() {
            let secret = SigningSecret::parse(text)
                .with_context(|| format!("source {name:?}, signing_secrets[{index}]"))?;
            secrets.push(secret);
        }
        for (index, variable) in self.signing_secrets_env.iter().enumerate() {
            let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            // Not repeated: it may be the secret itself.
            ensure!(
                variable.chars().all(is_name),
                "source {name:?}, signing_secrets_env[{index}]: write the name of an environment variable, such as CLERK_SECRET"
            );
            let text = std::env::var(variable).map_err(|_| {
                anyhow!("source {name:?}: environment variable {variable} is not set, or not text")
            })?;
            let list = SigningSecret::parse_list(&text)
                .with_context(|| format!("source {name:?}, environment variable {variable}"))?;
            secrets.extend(list);
        }
        if secrets.is_empty() {
            bail!(
                "source {name:?} has no signing secret: set signing_secrets or signing_secrets_env"
            );
        }
        Ok(SourceConfig {
            name: name.clone(),
            secrets,
            instance_id: self.instance_id.clone(),
        })
    }
}
