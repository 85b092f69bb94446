//! The flags of the log: the embedded one, or a stream of NATS JetStream.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::retention::Retention;
use super::serve::named;
use super::{Failure, units};
use crate::app::{FileConfig, LogKind};
use crate::log::DEDUPE_WINDOW;
use crate::log::jetstream::{self, Missing, Security, ServerUrl};

/// JetStream has no more copies of a stream.
const REPLICAS_MAX: usize = 5;

/// Where the log is, if not in the data directory.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct NatsArgs {
    /// Where the log is: in a file under --data-dir, or in a stream of NATS JetStream that
    /// any number of gateways share [default: embedded]
    #[arg(long, env = "CLERKCAST_LOG", value_name = "KIND")]
    log: Option<LogKind>,

    /// Servers of NATS, nats://HOST:PORT or tls://HOST:PORT, several separated by commas
    #[arg(
        long,
        env = "CLERKCAST_NATS_URL",
        value_name = "URLS",
        hide_env_values = true
    )]
    nats_url: Option<String>,

    /// Credentials for NATS, a file as `nsc` makes it
    #[arg(long, env = "CLERKCAST_NATS_CREDENTIALS", value_name = "FILE")]
    nats_credentials: Option<PathBuf>,

    /// Authorities that vouch for the servers of NATS, beside the system's (PEM)
    #[arg(long, env = "CLERKCAST_NATS_TLS_CA", value_name = "FILE")]
    nats_tls_ca: Option<PathBuf>,

    /// Certificate to show to the servers of NATS (PEM)
    #[arg(long, env = "CLERKCAST_NATS_TLS_CERT", value_name = "FILE")]
    nats_tls_cert: Option<PathBuf>,

    /// Its private key (PEM)
    #[arg(long, env = "CLERKCAST_NATS_TLS_KEY", value_name = "FILE")]
    nats_tls_key: Option<PathBuf>,

    /// The stream that is the log; made if there is none [default: CLERKCAST]
    #[arg(long, env = "CLERKCAST_NATS_STREAM", value_name = "NAME")]
    nats_stream: Option<String>,

    /// What its subjects begin with: PREFIX.SOURCE.TYPE [default: clerk]
    #[arg(long, env = "CLERKCAST_NATS_SUBJECT_PREFIX", value_name = "PREFIX")]
    nats_subject_prefix: Option<String>,

    /// Servers that keep a copy of the stream; 3 survive the loss of one [default: 1]
    #[arg(long, env = "CLERKCAST_NATS_REPLICAS", value_name = "N")]
    nats_replicas: Option<usize>,

    /// How long the stream knows which events it has had, in memory; at least 28h [default: 28h]
    #[arg(long, env = "CLERKCAST_NATS_DUPLICATE_WINDOW", value_name = "DURATION")]
    nats_duplicate_window: Option<String>,
}

impl NatsArgs {
    /// The stream, if the log is one.
    pub(super) fn check(
        &self,
        file: &FileConfig,
        retention: &Retention,
    ) -> Result<Option<jetstream::Config>, Failure> {
        let url = self.nats_url.as_ref().or(file.nats_url.as_ref());
        match (self.log.or(file.log).unwrap_or_default(), url) {
            (LogKind::Embedded, None) => Ok(None),
            (LogKind::Embedded, Some(_)) => Err(Failure::Usage(
                "--nats-url is set, and the log is the embedded one: add --log nats, or leave it out".to_owned(),
            )),
            (LogKind::Nats, None) => Err(Failure::Usage(
                "--log nats needs --nats-url, such as nats://127.0.0.1:4222".to_owned(),
            )),
            (LogKind::Nats, Some(url)) => self.stream(file, url, retention).map(Some),
        }
    }

    /// The stream, whichever log is chosen.
    pub(super) fn named_stream(
        &self,
        file: &FileConfig,
        retention: &Retention,
    ) -> Result<jetstream::Config, Failure> {
        let url = self.nats_url.as_ref().or(file.nats_url.as_ref());
        let url = url.ok_or_else(|| {
            Failure::Usage("`nats` needs --nats-url, such as nats://127.0.0.1:4222".to_owned())
        })?;
        self.stream(file, url, retention)
    }

    fn stream(
        &self,
        file: &FileConfig,
        url: &str,
        retention: &Retention,
    ) -> Result<jetstream::Config, Failure> {
        let text = |flag: &Option<String>, key: &Option<String>, default: &str| {
            let given = flag.clone().or_else(|| key.clone());
            given.unwrap_or_else(|| default.to_owned())
        };
        let servers = url.split(',').map(|url| url.trim().parse::<ServerUrl>());
        let stream = text(&self.nats_stream, &file.nats_stream, "CLERKCAST");
        let prefix = text(
            &self.nats_subject_prefix,
            &file.nats_subject_prefix,
            "clerk",
        );
        let window = text(
            &self.nats_duplicate_window,
            &file.nats_duplicate_window,
            "28h",
        );
        let duplicate_window = named("--nats-duplicate-window", units::duration(&window))?;
        named(
            "--nats-duplicate-window",
            check_window(duplicate_window, retention.retain_for),
        )?;
        named("--nats-stream", check_stream(&stream))?;
        named("--nats-subject-prefix", jetstream::check_prefix(&prefix))?;
        let replicas = self.nats_replicas.or(file.nats_replicas).unwrap_or(1);
        if !(1..=REPLICAS_MAX).contains(&replicas) {
            return Err(Failure::Usage(format!(
                "--nats-replicas: {replicas} is not 1 to {REPLICAS_MAX}; 3 survive the loss of one server, 5 of two"
            )));
        }
        Ok(jetstream::Config {
            servers: named("--nats-url", servers.collect::<Result<_, _>>())?,
            security: self.security(file)?,
            stream,
            subject_prefix: prefix,
            replicas,
            duplicate_window,
            retain_for: retention.retain_for,
            retain_bytes: retention.retain_bytes,
            missing: Missing::Create,
        })
    }

    fn security(&self, file: &FileConfig) -> Result<Security, Failure> {
        let path = |flag: &Option<PathBuf>, key: &Option<PathBuf>| flag.clone().or(key.clone());
        let certificate = path(&self.nats_tls_cert, &file.nats_tls_cert);
        let key = path(&self.nats_tls_key, &file.nats_tls_key);
        let certificate = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                return Err(Failure::Usage(
                    "--nats-tls-cert and --nats-tls-key belong together: set both, or neither"
                        .to_owned(),
                ));
            }
        };
        Ok(Security {
            credentials: path(&self.nats_credentials, &file.nats_credentials),
            ca: path(&self.nats_tls_ca, &file.nats_tls_ca),
            certificate,
        })
    }
}

fn check_window(window: Duration, retain_for: Option<Duration>) -> Result<(), String> {
    if window < DEDUPE_WINDOW {
        return Err("the least is 28h, since Svix retries a delivery for 27 h 35 min".to_owned());
    }
    if retain_for.is_some_and(|retain_for| retain_for < window) {
        return Err(
            "JetStream does not know ids for longer than it keeps events: make --retain-for at least as long"
                .to_owned(),
        );
    }
    Ok(())
}

fn check_stream(name: &str) -> Result<(), &'static str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if (1..=128).contains(&name.len()) && name.chars().all(is_plain) {
        Ok(())
    } else {
        Err("a stream's name is 1 to 128 of A-Z, a-z, 0-9, - and _")
    }
}
