//! The options of the log on NATS.

use std::time::Duration;

use super::check::{Check, KEPT_MAX};
use super::units;
use crate::log::DEDUPE_WINDOW;
use crate::log::jetstream::{self, Missing, Security, ServerUrl};
use crate::net::{CertificateFiles, check_authorities};

/// JetStream has no more copies of a stream.
const REPLICAS_MAX: usize = 5;

impl Check<'_> {
    /// The stream that the options name.
    pub(super) fn stream(
        &mut self,
        retain_for: Option<Duration>,
        retain_bytes: Option<u64>,
    ) -> jetstream::Config {
        let servers = self.parsed_if_given("nats_url", |text| {
            let servers = text.split(',').map(|url| url.trim().parse::<ServerUrl>());
            servers.collect::<Result<Vec<_>, _>>()
        });
        let duplicate_window =
            self.parsed("nats_duplicate_window", units::duration_up_to(KEPT_MAX));
        if let Err(message) = check_window(duplicate_window, retain_for) {
            self.refuse("nats_duplicate_window", message);
        }
        let name = self.text("nats_stream");
        if let Err(message) = check_stream(&name) {
            self.refuse("nats_stream", message);
        }
        let subject_prefix = self.text("nats_subject_prefix");
        if let Err(message) = jetstream::check_prefix(&subject_prefix) {
            self.refuse("nats_subject_prefix", message);
        }
        let replicas = self.parsed("nats_replicas", units::count);
        if !(1..=REPLICAS_MAX).contains(&replicas) {
            self.refuse(
                "nats_replicas",
                format!("{replicas} is not 1 to {REPLICAS_MAX}; 3 survive the loss of one server, 5 of two"),
            );
        }
        jetstream::Config {
            servers: servers.unwrap_or_default(),
            security: self.security(),
            stream: name,
            subject_prefix,
            replicas,
            duplicate_window,
            retain_for,
            retain_bytes,
            missing: Missing::Create,
        }
    }

    fn security(&mut self) -> Security {
        let certificate = match (self.path("nats_tls_cert"), self.path("nats_tls_key")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (certificate, _) => {
                let key = if certificate.is_some() {
                    "nats_tls_cert"
                } else {
                    "nats_tls_key"
                };
                self.refuse(
                    key,
                    "--nats-tls-cert and --nats-tls-key belong together: set both, or neither",
                );
                None
            }
        };
        Security {
            credentials: self.path("nats_credentials"),
            ca: self.path("nats_tls_ca"),
            certificate,
        }
    }

    /// The files that a gateway reads when it connects, and not before.
    pub(super) fn files_of_stream(&mut self, security: &Security) {
        if let Some(path) = &security.credentials
            && let Err(error) = std::fs::read(path)
        {
            let message = format!("cannot read {}: {error}", path.display());
            self.refuse("nats_credentials", message);
        }
        if let Some(path) = &security.ca
            && let Err(error) = check_authorities(path)
        {
            self.refuse("nats_tls_ca", error);
        }
        if let Some((certificate, key)) = &security.certificate {
            let files = CertificateFiles {
                certificate: certificate.clone(),
                key: key.clone(),
                client_ca: None,
            };
            if let Err(error) = files.check() {
                self.refuse("nats_tls_cert", error);
            }
        }
    }
}

fn check_window(window: Duration, retain_for: Option<Duration>) -> Result<(), String> {
    if window < DEDUPE_WINDOW {
        return Err(
            "must be at least 28h, since Svix retries a delivery for 27 h 35 min".to_owned(),
        );
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
