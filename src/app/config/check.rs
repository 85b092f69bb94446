//! From what an operator wrote to a [`Config`], or to everything that is wrong with it.
//!
//! Each value that is wrong is noted and its default taken in its place, so that one pass
//! finds all. It reads the files that the configuration names, binds nothing and contacts
//! no server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::options::declaration;
use super::problem::{Place, Problem};
use super::settings::Settings;
use super::{Config, LogConfig, LogKind, units};
use crate::access::AccessConfig;
use crate::doors::grpc::Exposure;
use crate::log::{jetstream, sqlite};
use crate::net::CertificateFiles;
use crate::telemetry::{Level, LogFormat};
use crate::webhook::AllowList;

/// Smaller than a few of the largest events, a ring would hold none of them long enough.
const RING_BYTES_MIN: u64 = 4 << 20;
/// A typed event with its payload stays below gRPC's default limit of 4 MiB.
const BODY_BYTES_LIMIT_MAX: u64 = 512 << 10;
/// A log smaller than this would be removed as fast as it is written.
const RETAIN_BYTES_MIN: u64 = 16 << 20;

/// Of what somebody waits for.
const TIMEOUT_MAX: &str = "1d";
/// Of what events and their ids are kept for; `off` keeps events for longer.
pub(super) const KEPT_MAX: &str = "10y";

/// A configuration without a fault.
#[derive(Debug)]
pub struct Checked {
    /// The configuration.
    pub config: Config,
    /// What an operator should know nevertheless.
    pub warnings: Vec<String>,
}

/// How to log, which is known before anything else.
///
/// # Errors
/// With what is wrong with these two options.
pub fn logging(settings: &Settings) -> Result<(LogFormat, Level), Vec<Problem>> {
    let mut check = Check::new(settings);
    let logging = check.logging();
    match check.problems.is_empty() {
        true => Ok(logging),
        false => Err(check.problems),
    }
}

/// Checks everything.
///
/// # Errors
/// With everything that is wrong.
pub fn check(settings: &Settings) -> Result<Checked, Vec<Problem>> {
    let mut check = Check::new(settings);
    check.problems.clone_from(&settings.document.problems);
    if !settings.document.is_toml {
        return Err(check.problems);
    }
    let config = check.config();
    if !check.problems.is_empty() {
        check.problems.sort_by_key(Problem::line);
        return Err(check.problems);
    }
    Ok(Checked {
        config,
        warnings: check.warnings,
    })
}

/// Checks everything, and the files that a gateway reads later than that.
///
/// # Errors
/// With everything that is wrong.
pub fn check_with_files(settings: &Settings) -> Result<Checked, Vec<Problem>> {
    let checked = check(settings)?;
    let mut files = Check::new(settings);
    if let LogConfig::Nats(stream) = &checked.config.log {
        files.files_of_stream(&stream.security);
    }
    match files.problems.is_empty() {
        true => Ok(checked),
        false => Err(files.problems),
    }
}

/// The stream that the options name, whichever log is chosen.
///
/// # Errors
/// With everything that is wrong.
pub fn check_stream(settings: &Settings) -> Result<jetstream::Config, Vec<Problem>> {
    let mut check = Check::new(settings);
    check.problems.clone_from(&settings.document.problems);
    if !settings.has("nats_url") {
        check.refuse(
            "nats_url",
            "`nats` needs --nats-url, such as nats://127.0.0.1:4222",
        );
    }
    let (retain_for, retain_bytes) = check.retention();
    let stream = check.stream(retain_for, retain_bytes);
    match check.problems.is_empty() {
        true => Ok(stream),
        false => Err(check.problems),
    }
}

/// A check under way.
pub(super) struct Check<'a> {
    pub(super) settings: &'a Settings,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
}

impl<'a> Check<'a> {
    fn new(settings: &'a Settings) -> Self {
        Self {
            settings,
            problems: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Notes what is wrong with an option.
    pub(super) fn refuse(&mut self, key: &str, message: impl std::fmt::Display) {
        self.refuse_at(self.settings.place(key), key, message);
    }

    pub(super) fn refuse_at(&mut self, place: Place, key: &str, message: impl std::fmt::Display) {
        self.problems.push(Problem::new(place, key, message));
    }

    pub(super) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// The value of an option that has a default, which also stands in for a wrong value.
    pub(super) fn parsed<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> T {
        if let Some(value) = self.parsed_if_given(key, &parse) {
            return value;
        }
        let default = declaration(key).map_or("", |option| option.default);
        let default = parse(default);
        default.unwrap_or_else(|_| unreachable!("a test parses the default of every option"))
    }

    /// The value of an option, if it has one that is right.
    pub(super) fn parsed_if_given<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (value, _) = self.settings.value(key)?;
        let parsed = match value.to_str() {
            Some(text) => parse(text),
            None => Err("it is not UTF-8".to_owned()),
        };
        parsed.map_err(|message| self.refuse(key, message)).ok()
    }

    pub(super) fn text(&mut self, key: &str) -> String {
        self.parsed(key, |text| Ok(text.to_owned()))
    }

    pub(super) fn path(&self, key: &str) -> Option<PathBuf> {
        self.settings
            .value(key)
            .map(|(path, _)| PathBuf::from(path))
    }

    fn config(&mut self) -> Config {
        let (_, log_level) = self.logging();
        let sources = self.sources();
        let grpc_listen = self.parsed("grpc_listen", units::address);
        let allows_anonymous = self.parsed_if_given("grpc_allow_anonymous", units::switch);
        let allows_anonymous = allows_anonymous.unwrap_or(false);
        let principals = self.principals(&sources, allows_anonymous);
        self.check_exposure(grpc_listen, allows_anonymous, &principals);
        let http_tls = self.certificate_files("http", false);
        let grpc_tls = self.certificate_files("grpc", true);
        self.check_certificates(grpc_tls.as_ref(), grpc_listen, &principals);
        let open = self.parsed("grpc_open", Open::parse);
        let (body_bytes_max, in_flight_bytes_max) = self.body_limits();
        let body_timeout = self.parsed("body_timeout", units::duration_up_to(TIMEOUT_MAX));
        if body_timeout.is_zero() {
            self.refuse("body_timeout", "must be more than 0s");
        }
        let ring = self.parsed("ring_size", units::bytes);
        if ring < RING_BYTES_MIN {
            self.refuse(
                "ring_size",
                "must be at least 4MiB, so that it holds a few of the largest events",
            );
        }
        let http_listen = self.parsed("http_listen", units::address);
        let admin_listen = self.parsed("admin_listen", units::address);
        self.check_listeners([
            ("http_listen", http_listen),
            ("grpc_listen", grpc_listen),
            ("admin_listen", admin_listen),
        ]);
        Config {
            http_listen,
            grpc_listen,
            admin_listen,
            http_tls,
            grpc_tls,
            http_connections_max: self.count("http_max_connections"),
            grpc_connections_max: self.count("grpc_max_connections"),
            allow_list: self.allow_list(),
            log: self.log(),
            sources,
            body_bytes_max: usize::try_from(body_bytes_max).unwrap_or(usize::MAX),
            body_timeout,
            in_flight_bytes_max: usize::try_from(in_flight_bytes_max).unwrap_or(usize::MAX),
            ring_bytes_max: usize::try_from(ring).unwrap_or(usize::MAX),
            subscribers_max: self.count("max_subscribers"),
            drain_timeout: self.parsed("drain_timeout", units::duration_up_to(TIMEOUT_MAX)),
            principals,
            allows_anonymous,
            grpc_health: open.health,
            grpc_reflection: open.reflection,
            log_level,
        }
    }

    fn logging(&mut self) -> (LogFormat, Level) {
        let format = self.parsed("log_format", |text| match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(format!("{text:?} is not a format: write text or json")),
        });
        (format, self.parsed("log_level", str::parse::<Level>))
    }

    fn count(&mut self, key: &str) -> usize {
        let count = self.parsed(key, units::count);
        if count == 0 {
            self.refuse(key, "must be more than 0");
        }
        count
    }

    fn body_limits(&mut self) -> (u64, u64) {
        let body = self.parsed("body_limit", units::bytes);
        if body > BODY_BYTES_LIMIT_MAX {
            self.refuse(
                "body_limit",
                "must be at most 512KiB, so that a typed event stays below gRPC's limit of 4 MiB",
            );
        }
        if body == 0 {
            self.refuse("body_limit", "must be more than 0");
        }
        let in_flight = self.parsed("in_flight_limit", units::bytes);
        if in_flight < body {
            self.refuse("in_flight_limit", "must be at least --body-limit");
        }
        (body, in_flight)
    }

    pub(super) fn retention(&mut self) -> (Option<Duration>, Option<u64>) {
        let retain_for = self.parsed("retain_for", |text| {
            units::or_off(text, units::duration_up_to(KEPT_MAX))
        });
        let retain_bytes = self.parsed("retain_bytes", |text| units::or_off(text, units::bytes));
        if retain_bytes.is_some_and(|bytes| bytes < RETAIN_BYTES_MIN) {
            self.refuse("retain_bytes", "must be at least 16MiB");
        }
        (retain_for, retain_bytes)
    }

    fn log(&mut self) -> LogConfig {
        let (retain_for, retain_bytes) = self.retention();
        let kind = self.parsed("log", |text| match text {
            "embedded" => Ok(LogKind::Embedded),
            "nats" => Ok(LogKind::Nats),
            _ => Err(format!("{text:?} is not a log: write embedded or nats")),
        });
        match (kind, self.settings.has("nats_url")) {
            (LogKind::Nats, true) => {
                return LogConfig::Nats(self.stream(retain_for, retain_bytes));
            }
            (LogKind::Nats, false) => self.refuse(
                "log",
                "--log nats needs --nats-url, such as nats://127.0.0.1:4222",
            ),
            (LogKind::Embedded, true) => self.refuse(
                "nats_url",
                "--nats-url is set, and the log is the embedded one: add --log nats, or leave it out",
            ),
            (LogKind::Embedded, false) => {}
        }
        LogConfig::Embedded(sqlite::Config {
            data_dir: self.path("data_dir").unwrap_or_default(),
            retain_for,
            retain_bytes,
        })
    }

    fn allow_list(&mut self) -> Option<AllowList> {
        let networks = |text: &str| text.parse().map_err(|error| format!("{error}"));
        let proxies = self.parsed_if_given("http_trusted_proxies", networks);
        if !self.settings.has("http_allow_from") {
            if self.settings.has("http_trusted_proxies") {
                self.refuse("http_trusted_proxies", "--http-trusted-proxies has no effect without --http-allow-from: set both, or neither");
            }
            return None;
        }
        Some(AllowList {
            from: self.parsed_if_given("http_allow_from", networks)?,
            trusted_proxies: proxies.unwrap_or_default(),
        })
    }

    fn certificate_files(&mut self, port: &str, has_clients: bool) -> Option<CertificateFiles> {
        let key = |end: &str| format!("{port}_tls_{end}");
        let client_ca = match has_clients {
            true => self.path(&key("client_ca")),
            false => None,
        };
        let files = match (self.path(&key("cert")), self.path(&key("key")), client_ca) {
            (Some(certificate), Some(key), client_ca) => CertificateFiles {
                certificate,
                key,
                client_ca,
            },
            (None, None, None) => return None,
            (None, None, Some(_)) => {
                self.refuse(&key("client_ca"), format!("--{port}-tls-client-ca needs TLS: set --{port}-tls-cert and --{port}-tls-key too"));
                return None;
            }
            (certificate, _, _) => {
                let given = if certificate.is_some() { "cert" } else { "key" };
                self.refuse(&key(given), format!("--{port}-tls-cert and --{port}-tls-key belong together: set both, or neither"));
                return None;
            }
        };
        if let Err(error) = files.check() {
            self.refuse(
                &key("cert"),
                format!("--{port}-tls-cert, --{port}-tls-key: {error}"),
            );
        }
        Some(files)
    }

    /// Refuses to offer events to a network unless the configuration names the subscribers.
    fn check_exposure(
        &mut self,
        grpc_listen: SocketAddr,
        allows_anonymous: bool,
        principals: &AccessConfig,
    ) {
        if principals.anonymous.is_none() || grpc_listen.ip().is_loopback() {
            return;
        }
        if !allows_anonymous {
            self.refuse("grpc_listen", format!(
                "--grpc-listen {grpc_listen} is reachable from other machines, and no principals are configured: list [[principals]] in --config (`clerkcast token new NAME` prints one), or pass --grpc-allow-anonymous to let every caller subscribe"
            ));
            return;
        }
        self.warn(format!(
            "callers without credentials may subscribe from other machines at {grpc_listen}, since --grpc-allow-anonymous is set"
        ));
    }

    /// What the principals are recognised by has to reach the gateway, unread by others.
    fn check_certificates(
        &mut self,
        tls: Option<&CertificateFiles>,
        grpc_listen: SocketAddr,
        principals: &AccessConfig,
    ) {
        let configured = || principals.principals.iter();
        let verifies = tls.is_some_and(|files| files.client_ca.is_some());
        let by_certificate = configured().find(|it| !it.certificate_names.is_empty());
        match by_certificate {
            Some(principal) if !verifies => {
                let name = &principal.name;
                self.refuse("grpc_tls_client_ca", format!("principal {name:?} has a client_certificate, and nothing verifies certificates: set --grpc-tls-client-ca, --grpc-tls-cert and --grpc-tls-key"));
            }
            None if verifies => self.refuse("grpc_tls_client_ca", "--grpc-tls-client-ca is set, and no principal is known by a certificate: set client_certificate in a [[principals]] table of --config (\"*\" is any certificate that the CA vouches for)"),
            _ => {}
        }
        let by_token = configured().any(|it| !it.token_hashes.is_empty());
        if by_token && tls.is_none() && !grpc_listen.ip().is_loopback() {
            self.warn(format!(
                "tokens and events cross the network at {grpc_listen} in the clear: set --grpc-tls-cert and --grpc-tls-key, unless a proxy or service mesh encrypts them"
            ));
        }
    }
}

/// Which services are open to callers without credentials.
struct Open {
    health: Exposure,
    reflection: Exposure,
}

impl Open {
    fn parse(text: &str) -> Result<Self, String> {
        let mut open = Self {
            health: Exposure::Authenticated,
            reflection: Exposure::Authenticated,
        };
        if text == "none" {
            return Ok(open);
        }
        for name in text.split(',').map(str::trim) {
            match name {
                "health" => open.health = Exposure::Public,
                "reflection" => open.reflection = Exposure::Public,
                _ => {
                    return Err(format!(
                        "{name:?} is not one of `health`, `reflection` and `none`, which --grpc-open takes"
                    ));
                }
            }
        }
        Ok(open)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Environment, OPTIONS, Origin};
    use super::*;

    fn with(options: &[(&'static str, &str)]) -> Settings {
        let mut settings = Settings {
            environment: Environment::LeftOut,
            ..Settings::default()
        };
        for (key, value) in options {
            settings.given.set(key, *value, Origin::Flag);
        }
        settings
    }

    #[test]
    fn every_default_is_right_and_stands_in_for_what_is_wrong() {
        let nats = [("log", "nats"), ("nats_url", "nats://127.0.0.1")];
        check(&with(&[])).expect("the defaults are right");
        check(&with(&nats)).expect("they are right on NATS");
        for option in OPTIONS {
            let wrong = [nats[0], nats[1], (option.key, "\u{1}")];
            let problems = check(&with(&wrong)).err().unwrap_or_default();
            // Free texts and paths that nothing reads yet.
            let takes_anything = ["data_dir", "nats_credentials", "nats_tls_ca"];
            let is_named = problems.iter().any(|problem| problem.key == option.key);
            assert_ne!(
                takes_anything.contains(&option.key),
                is_named,
                "{}",
                option.key
            );
        }
    }
}
