//! The flags of the two ports: TLS, and who may connect.

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use super::serve::named;
use crate::app::FileConfig;
use crate::net::CertificateFiles;
use crate::webhook::AllowList;

const HTTP_CONNECTIONS_MAX: usize = 4096;
/// As many as there may be subscribers.
const GRPC_CONNECTIONS_MAX: usize = 10_000;

/// What of a connection is not its address.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct PortArgs {
    /// Speak HTTPS to webhooks, with this certificate (PEM, followed by its chain); read again
    /// when it changes
    #[arg(long, env = "CLERKCAST_HTTP_TLS_CERT", value_name = "FILE")]
    http_tls_cert: Option<PathBuf>,

    /// Its private key (PEM)
    #[arg(long, env = "CLERKCAST_HTTP_TLS_KEY", value_name = "FILE")]
    http_tls_key: Option<PathBuf>,

    /// Webhook connections open at once; beyond, the oldest that has delivered nothing signed
    /// is closed [default: 4096]
    #[arg(long, env = "CLERKCAST_HTTP_MAX_CONNECTIONS", value_name = "N")]
    http_max_connections: Option<usize>,

    /// Answer webhooks from these networks only, others 403: CIDRs or addresses, and `svix`
    /// for the addresses that Svix publishes, separated by commas
    #[arg(long, env = "CLERKCAST_HTTP_ALLOW_FROM", value_name = "LIST")]
    http_allow_from: Option<String>,

    /// Networks of your own reverse proxies, whose X-Forwarded-For is believed
    #[arg(long, env = "CLERKCAST_HTTP_TRUSTED_PROXIES", value_name = "LIST")]
    http_trusted_proxies: Option<String>,

    /// Speak TLS to subscribers, with this certificate (PEM, followed by its chain); read again
    /// when it changes
    #[arg(long, env = "CLERKCAST_GRPC_TLS_CERT", value_name = "FILE")]
    grpc_tls_cert: Option<PathBuf>,

    /// Its private key (PEM)
    #[arg(long, env = "CLERKCAST_GRPC_TLS_KEY", value_name = "FILE")]
    grpc_tls_key: Option<PathBuf>,

    /// Authorities whose client certificates are taken as credentials (PEM)
    #[arg(long, env = "CLERKCAST_GRPC_TLS_CLIENT_CA", value_name = "FILE")]
    grpc_tls_client_ca: Option<PathBuf>,

    /// gRPC connections open at once; beyond, the oldest that nobody was recognised on is
    /// closed [default: 10000]
    #[arg(long, env = "CLERKCAST_GRPC_MAX_CONNECTIONS", value_name = "N")]
    grpc_max_connections: Option<usize>,
}

/// The same, checked.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) http_tls: Option<CertificateFiles>,
    pub(super) grpc_tls: Option<CertificateFiles>,
    pub(super) http_connections_max: usize,
    pub(super) grpc_connections_max: usize,
    pub(super) allow_list: Option<AllowList>,
}

impl PortArgs {
    pub(super) fn check(&self, file: &FileConfig) -> Result<Ports, Failure> {
        let path = |flag: &Option<PathBuf>, key: &Option<PathBuf>| flag.clone().or(key.clone());
        let http_tls = certificate_files(
            "http",
            path(&self.http_tls_cert, &file.http_tls_cert),
            path(&self.http_tls_key, &file.http_tls_key),
            None,
        )?;
        let grpc_tls = certificate_files(
            "grpc",
            path(&self.grpc_tls_cert, &file.grpc_tls_cert),
            path(&self.grpc_tls_key, &file.grpc_tls_key),
            path(&self.grpc_tls_client_ca, &file.grpc_tls_client_ca),
        )?;
        let connections =
            |name: &str, given: Option<usize>, default: usize| match given.unwrap_or(default) {
                0 => Err(Failure::Usage(format!("{name}: must be more than 0"))),
                count => Ok(count),
            };
        Ok(Ports {
            http_tls,
            grpc_tls,
            http_connections_max: connections(
                "--http-max-connections",
                self.http_max_connections.or(file.http_max_connections),
                HTTP_CONNECTIONS_MAX,
            )?,
            grpc_connections_max: connections(
                "--grpc-max-connections",
                self.grpc_max_connections.or(file.grpc_max_connections),
                GRPC_CONNECTIONS_MAX,
            )?,
            allow_list: self.allow_list(file)?,
        })
    }

    fn allow_list(&self, file: &FileConfig) -> Result<Option<AllowList>, Failure> {
        let from = self.http_allow_from.as_ref();
        let from = from.or(file.http_allow_from.as_ref());
        let proxies = self.http_trusted_proxies.as_ref();
        let proxies = proxies.or(file.http_trusted_proxies.as_ref());
        let Some(from) = from else {
            return match proxies {
                None => Ok(None),
                Some(_) => Err(Failure::Usage(
                    "--http-trusted-proxies says whose word about a client's address is taken, and nothing asks for that address: set --http-allow-from too, or neither".to_owned(),
                )),
            };
        };
        let proxies = proxies.map_or("", String::as_str);
        Ok(Some(AllowList {
            from: named("--http-allow-from", from.parse())?,
            trusted_proxies: named("--http-trusted-proxies", proxies.parse())?,
        }))
    }
}

fn certificate_files(
    port: &str,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    client_ca: Option<PathBuf>,
) -> Result<Option<CertificateFiles>, Failure> {
    match (certificate, key, client_ca) {
        (Some(certificate), Some(key), client_ca) => Ok(Some(CertificateFiles {
            certificate,
            key,
            client_ca,
        })),
        (None, None, None) => Ok(None),
        (Some(_), None, _) | (None, Some(_), _) => Err(Failure::Usage(format!(
            "--{port}-tls-cert and --{port}-tls-key belong together: set both, or neither"
        ))),
        (None, None, Some(_)) => Err(Failure::Usage(format!(
            "--{port}-tls-client-ca needs TLS: set --{port}-tls-cert and --{port}-tls-key too"
        ))),
    }
}
