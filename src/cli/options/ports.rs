//! The options of the ports, and the checks of options that belong together.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::check::{Check, TIMEOUT_MAX};
use super::declaration::{self, AtReload, Declaration, option, options};
use super::period::Period;
use super::value::Value;
use crate::access::AccessConfig;
use crate::app::{Config, PortConfig};
use crate::net::CertificateFiles;

options! {
    /// The ports, and how long they take to close.
    PortOptions {
        10 http_listen: SocketAddr = option(
            "ADDRESS",
            "Where webhooks are received",
        ).with_default("0.0.0.0:8080");
        20 grpc_listen: SocketAddr = option(
            "ADDRESS",
            "Where subscribers connect",
        ).with_default("127.0.0.1:50051");
        50 admin_listen: SocketAddr = option(
            "ADDRESS",
            "Where /healthz, /readyz and /metrics are served",
        ).with_default("127.0.0.1:9090");
        160 drain_timeout: Period = option(
            "DURATION",
            "How long a graceful stop may take",
        ).with_default("20s");
        270 http_tls_cert: PathBuf = option(
            "FILE",
            "Speak HTTPS to webhooks, with this certificate (PEM, followed by its chain); read again when it changes",
        ).at_reload(AtReload::TakenUpByTls);
        280 http_tls_key: PathBuf = option(
            "FILE",
            "Its private key (PEM)",
        ).at_reload(AtReload::TakenUpByTls);
        290 http_max_connections: usize = option(
            "N",
            "Webhook connections open at once; beyond, the oldest that has delivered nothing signed is closed",
        ).with_default("4096");
        320 grpc_tls_cert: PathBuf = option(
            "FILE",
            "Speak TLS to subscribers, with this certificate (PEM, followed by its chain); read again when it changes",
        ).at_reload(AtReload::TakenUpByTls);
        330 grpc_tls_key: PathBuf = option(
            "FILE",
            "Its private key (PEM)",
        ).at_reload(AtReload::TakenUpByTls);
        340 grpc_tls_client_ca: PathBuf = option(
            "FILE",
            "Authorities whose client certificates are taken as credentials (PEM)",
        ).at_reload(AtReload::TakenUpByTls);
        350 grpc_max_connections: usize = option(
            "N",
            "gRPC connections open at once; beyond, the oldest without a known caller is closed",
        ).with_default("10000");
    }
}

impl PortOptions {
    /// Puts the ports into `config`, whose `access` and `doors` are complete.
    pub(super) fn config(self, check: &mut Check<'_>, config: &mut Config) {
        let http_connections = check.count("http_max_connections", self.http_max_connections);
        let grpc_connections = check.count("grpc_max_connections", self.grpc_max_connections);
        let drain_timeout = check.period("drain_timeout", self.drain_timeout, TIMEOUT_MAX);
        let http_tls = CertificateOptions {
            port: "http",
            certificate: self.http_tls_cert,
            key: self.http_tls_key,
            client_ca: None,
        };
        let grpc_tls = CertificateOptions {
            port: "grpc",
            certificate: self.grpc_tls_cert,
            key: self.grpc_tls_key,
            client_ca: self.grpc_tls_client_ca,
        };
        config.http = PortConfig {
            listen: self.http_listen.unwrap_or(config.http.listen),
            tls: http_tls.config(check),
            connections_max: http_connections.unwrap_or(config.http.connections_max),
        };
        config.grpc = PortConfig {
            listen: self.grpc_listen.unwrap_or(config.grpc.listen),
            tls: grpc_tls.config(check),
            connections_max: grpc_connections.unwrap_or(config.grpc.connections_max),
        };
        config.admin = self.admin_listen.unwrap_or(config.admin);
        config.drain_timeout = drain_timeout.unwrap_or(config.drain_timeout);
        let mut listeners = vec![
            ("http_listen", config.http.listen),
            ("grpc_listen", config.grpc.listen),
            ("admin_listen", config.admin),
        ];
        listeners.retain(|(key, _)| !check.is_refused(key));
        check_exposure(check, config);
        check_certificates(check, &config.grpc, &config.access);
        check_listeners(check, &listeners);
    }
}

/// The files of one port's TLS.
struct CertificateOptions {
    port: &'static str,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    client_ca: Option<PathBuf>,
}

impl CertificateOptions {
    fn config(self, check: &mut Check<'_>) -> Option<CertificateFiles> {
        let port = self.port;
        let option = |end: &str| format!("{port}_tls_{end}");
        let is_known = ["cert", "key", "client_ca"]
            .iter()
            .all(|end| !check.is_refused(&option(end)));
        let files = match (self.certificate, self.key, self.client_ca) {
            (Some(certificate), Some(key), client_ca) => CertificateFiles {
                certificate,
                key,
                client_ca,
            },
            (None, None, None) => return None,
            _ if !is_known => return None,
            (None, None, Some(_)) => {
                check.refuse(&option("client_ca"), format!("--{port}-tls-client-ca needs TLS: set --{port}-tls-cert and --{port}-tls-key too"));
                return None;
            }
            (certificate, _, _) => {
                let given = if certificate.is_some() { "cert" } else { "key" };
                check.refuse(&option(given), format!("--{port}-tls-cert and --{port}-tls-key belong together: set both, or neither"));
                return None;
            }
        };
        match files.check() {
            Ok(warning) => check.report.warnings.extend(warning),
            Err(error) if error.file() == files.key => check.refuse(&option("key"), error),
            Err(error) if Some(error.file()) == files.client_ca.as_deref() => {
                check.refuse(&option("client_ca"), error);
            }
            Err(error) => check.refuse(&option("cert"), error),
        }
        Some(files)
    }
}

/// Refuses to offer events to a network unless the configuration names the subscribers.
fn check_exposure(check: &mut Check<'_>, config: &Config) {
    let listen = config.grpc.listen;
    if config.access.anonymous.is_none() || listen.ip().is_loopback() {
        return;
    }
    if check.is_refused("principals") || check.is_refused("grpc_allow_anonymous") {
        return;
    }
    if !config.doors.allows_anonymous {
        check.refuse("grpc_listen", format!(
            "--grpc-listen {listen} is reachable from other machines, and no principals are configured: list [[principals]] in --config (`clerkcast token new NAME` prints one), or pass --grpc-allow-anonymous to let every caller subscribe"
        ));
        return;
    }
    check.report.warn(format!(
        "callers without credentials may subscribe from other machines at {listen}, since --grpc-allow-anonymous is set"
    ));
}

/// Checks that certificates are verified, and warns if tokens cross the network in the clear.
fn check_certificates(check: &mut Check<'_>, grpc: &PortConfig, access: &AccessConfig) {
    let principals = || access.principals.iter();
    let tls = grpc.tls.as_ref();
    let verifies = tls.is_some_and(|files| files.client_ca.is_some());
    let by_certificate = principals().position(|principal| !principal.certificate_names.is_empty());
    let has_pair = !check.is_refused("grpc_tls_cert") && !check.is_refused("grpc_tls_key");
    let is_known = !check.is_refused("grpc_tls_client_ca") && (tls.is_some() || has_pair);
    match by_certificate {
        Some(index) if !verifies && is_known => refuse_unverified(check, access, index),
        None if verifies && !check.is_refused("principals") => check.refuse("grpc_tls_client_ca", "--grpc-tls-client-ca is set, and no principal is known by a certificate: set client_certificate in a [[principals]] table of --config (\"*\" is any certificate that the CA vouches for)"),
        _ => {}
    }
    let by_token = principals().any(|principal| !principal.token_hashes.is_empty());
    let listen = grpc.listen;
    if by_token && tls.is_none() && !listen.ip().is_loopback() {
        check.report.warn(format!(
            "tokens and events cross the network at {listen} in the clear: set --grpc-tls-cert and --grpc-tls-key, unless a proxy or service mesh encrypts them"
        ));
    }
}

/// Refuses a principal that is known by a certificate where nothing verifies one.
fn refuse_unverified(check: &mut Check<'_>, access: &AccessConfig, index: usize) {
    const KEY: &str = "grpc_tls_client_ca";
    let name = access
        .principals
        .get(index)
        .map(|principal| &*principal.name);
    let name = name.unwrap_or_default();
    let message = format!(
        "principal {name:?} has a client_certificate, and nothing verifies certificates: set --grpc-tls-client-ca, --grpc-tls-cert and --grpc-tls-key"
    );
    let document = &check.settings.document;
    match document.line_of_principal(index) {
        Some(line) => check.report.refuse(document.place(line), KEY, message),
        None => check.refuse(KEY, message),
    }
}

/// Refuses two listeners at one address.
fn check_listeners(check: &mut Check<'_>, listeners: &[(&'static str, SocketAddr)]) {
    let flag = |key: &str| format!("--{}", key.replace('_', "-"));
    for (index, (key, address)) in listeners.iter().enumerate() {
        let others = listeners.iter().take(index);
        for (other, theirs) in others.filter(|(_, theirs)| is_taken(*address, *theirs)) {
            // The option that the operator set is at fault.
            let (key, address, other, theirs) = match check.settings.has(key) {
                true => (key, address, other, theirs),
                false => (other, theirs, key, address),
            };
            check.refuse(
                key,
                format!(
                    "{address} is taken by {} {theirs}: each listener needs a port of its own",
                    flag(other)
                ),
            );
        }
    }
}

/// Whether a listener at `first` takes `second` too.
fn is_taken(first: SocketAddr, second: SocketAddr) -> bool {
    let covers = |address: SocketAddr| address.ip().is_unspecified();
    let is_one_family = first.is_ipv4() == second.is_ipv4();
    let meets = first.ip() == second.ip() || is_one_family && (covers(first) || covers(second));
    // For port 0, the system chooses a free one.
    first.port() == second.port() && first.port() != 0 && meets
}
