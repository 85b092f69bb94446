//! The options of the log on NATS.

use std::ffi::OsStr;
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use super::check::Check;
use super::declaration::{self, Declaration, OptionPlace, option, options};
use super::period::{Period, PeriodMax};
use super::settings::{Origin, Settings};
use super::value::{Value, read_text};
use crate::app::file::{Place, of_variable};
use crate::cli::input::{PEM_BYTES_MAX, bounded};
use crate::log::DEDUPE_WINDOW;
use crate::log::jetstream::{self, Security, ServerUrl};
use crate::net::{CertificateFiles, check_authorities};

const URL: &str = "nats_url";
const URL_VARIABLE: &str = "CLERKCAST_NATS_URL";
/// The twin of that variable: it names a file, because a URL can hold a password.
const URL_FILE_VARIABLE: &str = "CLERKCAST_NATS_URL_FILE";
/// Maximum number of copies of a stream in JetStream.
const REPLICAS_MAX: usize = 5;

options! {
    /// The stream, and how to reach it.
    NatsOptions {
        180 nats_url: Servers = option(
            "URLS",
            "Servers of NATS, nats://HOST:PORT or tls://HOST:PORT, several separated by commas; with a password, better in a file that CLERKCAST_NATS_URL_FILE names",
        ).in_place(OptionPlace::EverywhereAndCopy);
        190 nats_credentials: PathBuf = option(
            "FILE",
            "Credentials for NATS, a file as `nsc` makes it",
        ).in_place(OptionPlace::EverywhereAndCopy);
        200 nats_tls_ca: PathBuf = option(
            "FILE",
            "Authorities that vouch for the servers of NATS, beside the system's (PEM)",
        ).in_place(OptionPlace::EverywhereAndCopy);
        210 nats_tls_cert: PathBuf = option(
            "FILE",
            "Certificate to show to the servers of NATS (PEM)",
        ).in_place(OptionPlace::EverywhereAndCopy);
        220 nats_tls_key: PathBuf = option(
            "FILE",
            "Its private key (PEM)",
        ).in_place(OptionPlace::EverywhereAndCopy);
        230 nats_stream: String = option(
            "NAME",
            "The stream that is the log; created if it does not exist",
        ).with_default("CLERKCAST").in_place(OptionPlace::EverywhereAndCopy);
        240 nats_subject_prefix: String = option(
            "PREFIX",
            "First part of its subjects: PREFIX.SOURCE.TYPE",
        ).with_default("clerk").in_place(OptionPlace::EverywhereAndCopy);
        250 nats_replicas: usize = option(
            "N",
            "Servers that keep a copy of the stream; 3 survive the loss of one",
        ).with_default("1").in_place(OptionPlace::EverywhereAndCopy);
        260 nats_duplicate_window: Period = option(
            "DURATION",
            "Deduplication window, at least 28h; ids are kept in the servers' memory",
        ).with_default("28h").in_place(OptionPlace::EverywhereAndCopy);
    }
}

/// Servers, separated by commas.
pub(super) struct Servers(Vec<ServerUrl>);

impl Value for Servers {
    fn read(text: &OsStr) -> Result<Self, String> {
        read_text(text, |text| {
            let servers = text.split(',').map(|url| url.trim().parse::<ServerUrl>());
            let servers = servers.collect::<Result<Vec<_>, _>>()?;
            let mut logins = servers.iter().filter_map(ServerUrl::login);
            let first = logins.next();
            if logins.any(|login| Some(login) != first) {
                return Err(
                    "the URLs hold different users, passwords or tokens, and the gateway shows the same to every server"
                        .to_owned(),
                );
            }
            Ok(Self(servers))
        })
    }
}

impl NatsOptions {
    /// The stream's configuration, without retention.
    pub(super) fn config(
        self,
        check: &mut Check<'_>,
        window_max: PeriodMax,
        retain_for: Option<Duration>,
    ) -> jetstream::Config {
        let default = jetstream::Config::default();
        let window = check.period(
            "nats_duplicate_window",
            self.nats_duplicate_window,
            window_max,
        );
        let duplicate_window = window.unwrap_or(default.duplicate_window);
        check_window(check, duplicate_window, retain_for);
        let stream = self.nats_stream.unwrap_or(default.stream);
        if let Err(message) = check_stream(&stream) {
            check.refuse("nats_stream", message);
        }
        let subject_prefix = self.nats_subject_prefix.unwrap_or(default.subject_prefix);
        if let Err(message) = jetstream::check_prefix(&subject_prefix) {
            check.refuse("nats_subject_prefix", message);
        }
        let replicas = self.nats_replicas.unwrap_or(default.replicas);
        if !(1..=REPLICAS_MAX).contains(&replicas) {
            check.refuse(
                "nats_replicas",
                format!("{replicas} is not 1 to {REPLICAS_MAX}; 3 survive the loss of one server, 5 of two"),
            );
        }
        let certificate = match (self.nats_tls_cert, self.nats_tls_key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ if check.is_refused("nats_tls_cert") || check.is_refused("nats_tls_key") => None,
            (certificate, _) => {
                let key = if certificate.is_some() {
                    "nats_tls_cert"
                } else {
                    "nats_tls_key"
                };
                check.refuse(
                    key,
                    "--nats-tls-cert and --nats-tls-key belong together: set both, or neither",
                );
                None
            }
        };
        let servers = self
            .nats_url
            .map_or(default.servers, |Servers(servers)| servers);
        let has_login = servers.iter().any(|server| server.login().is_some());
        if has_login && self.nats_credentials.is_some() {
            check.refuse(
                "nats_credentials",
                "--nats-url holds a user or a token, and --nats-credentials is another one: leave one of them out",
            );
        }
        jetstream::Config {
            servers,
            security: Security {
                credentials: self.nats_credentials,
                ca: self.nats_tls_ca,
                certificate,
            },
            stream,
            subject_prefix,
            replicas,
            duplicate_window,
            ..default
        }
    }
}

/// Takes the servers from the file that the twin names, unless a flag sets them.
pub(super) fn add_servers_of_file(settings: &mut Settings) {
    let twin = Origin::Variable(URL_FILE_VARIABLE);
    let origin = settings.value(URL).map(|(_, origin)| origin);
    if origin == Some(twin.clone()) {
        // The file may hold others now.
        settings.given.forget(URL);
    }
    if origin == Some(Origin::Flag) || settings.environment.get(URL_FILE_VARIABLE).is_none() {
        return;
    }
    match of_variable(settings.environment, URL_VARIABLE) {
        Ok(Some(held)) => {
            settings.given.set(URL, held.text, twin);
            settings.files.warnings.extend(held.warning);
        }
        Ok(None) => {}
        Err((variable, message)) => {
            let place = Place::Variable(variable);
            settings.files.refuse(place, URL, message);
        }
    }
}

/// Checks the files that a gateway reads only when it connects.
pub(super) fn check_files(check: &mut Check<'_>, security: &Security) {
    if let Some(path) = &security.credentials
        && let Err(error) = File::open(path).and_then(|file| bounded(file, PEM_BYTES_MAX))
    {
        let message = format!("cannot read {}: {error}", path.display());
        check.refuse("nats_credentials", message);
    }
    if let Some(path) = &security.ca
        && let Err(error) = check_authorities(path)
    {
        check.refuse("nats_tls_ca", error);
    }
    if let Some((certificate, key)) = &security.certificate {
        let files = CertificateFiles {
            certificate: certificate.clone(),
            key: key.clone(),
            client_ca: None,
        };
        match files.check() {
            Err(error) if error.file() == files.key => check.refuse("nats_tls_key", error),
            Err(error) => check.refuse("nats_tls_cert", error),
            Ok(_) => {}
        }
    }
}

/// Checks the window by itself, and beside the time for which events are kept. The option that
/// the operator set is at fault.
fn check_window(check: &mut Check<'_>, window: Duration, retain_for: Option<Duration>) {
    const KEY: &str = "nats_duplicate_window";
    if window < DEDUPE_WINDOW {
        check.refuse(
            KEY,
            "must be at least 28h, since Svix retries a delivery for 27 h 35 min",
        );
    } else if retain_for.is_some_and(|retain_for| retain_for < window)
        && !check.is_refused("retain_for")
    {
        let key = match check.settings.has("retain_for") {
            true => "retain_for",
            false => KEY,
        };
        check.refuse(
            key,
            "JetStream does not know ids for longer than it keeps events: make --retain-for at least as long as --nats-duplicate-window (default 28h)",
        );
    }
}

fn check_stream(name: &str) -> Result<(), &'static str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if (1..=128).contains(&name.len()) && name.chars().all(is_plain) {
        Ok(())
    } else {
        Err("a stream's name is 1 to 128 of A-Z, a-z, 0-9, - and _")
    }
}
