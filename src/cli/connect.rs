//! The gateway that a command calls, and what is shown to it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use clerkcast_client::{Connection, Error, Gateway, with_scheme};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::failure::Failure;
use super::input::{PEM_BYTES_MAX, read_input};
use super::output::note;
use super::secrets;

/// How a gateway is reached.
#[derive(Clone, Debug, Args)]
pub(super) struct ConnectionArgs {
    /// The gateway: http:// or grpc://, with TLS https:// or grpcs://
    #[arg(
        long,
        env = "CLERKCAST_GRPC_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:50051"
    )]
    pub(super) server: String,

    /// The token that the gateway knows this subscriber by. Better set in the environment, since
    /// other users of this machine can see a command line
    #[arg(
        long,
        env = "CLERKCAST_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,

    /// The authorities that vouch for the gateway's certificate (PEM) [default: the system's]
    #[arg(long, env = "CLERKCAST_CA_CERT", value_name = "FILE")]
    ca_cert: Option<PathBuf>,

    /// The certificate that the gateway knows this subscriber by (PEM)
    #[arg(
        long,
        env = "CLERKCAST_CLIENT_CERT",
        value_name = "FILE",
        requires = "client_key"
    )]
    client_cert: Option<PathBuf>,

    /// Its private key (PEM)
    #[arg(
        long,
        env = "CLERKCAST_CLIENT_KEY",
        value_name = "FILE",
        requires = "client_cert"
    )]
    client_key: Option<PathBuf>,
}

impl ConnectionArgs {
    /// The gateway, which is connected to when a call needs it.
    pub(super) fn gateway(&self) -> Result<Gateway, Failure> {
        let mut gateway = Gateway::new(&self.server).map_err(|error| usage(&error))?;
        if let Some(tls) = self.tls()? {
            gateway = gateway.tls(tls).map_err(|error| usage(&error))?;
        }
        if let Some(token) = secrets::token(self.token.as_deref())? {
            gateway = gateway.token(&token).map_err(|error| usage(&error))?;
        }
        Ok(gateway)
    }

    /// The TLS of the connection; none if no flag sets it.
    fn tls(&self) -> Result<Option<ClientTlsConfig>, Failure> {
        let mut tls = match &self.ca_cert {
            Some(path) => {
                let authority =
                    Certificate::from_pem(read_input("--ca-cert", path, PEM_BYTES_MAX)?);
                ClientTlsConfig::new().ca_certificate(authority)
            }
            None => ClientTlsConfig::new().with_native_roots(),
        };
        if let (Some(certificate), Some(key)) = (&self.client_cert, &self.client_key) {
            let certificate = read_input("--client-cert", certificate, PEM_BYTES_MAX)?;
            let key = read_input("--client-key", key, PEM_BYTES_MAX)?;
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        let is_asked_for = self.ca_cert.is_some() || self.client_cert.is_some();
        if is_asked_for && !with_scheme(&self.server).starts_with("https://") {
            return Err(Failure::Usage(format!(
                "--server: {}: certificates are for https:// or grpcs://",
                self.server
            )));
        }
        Ok(is_asked_for.then_some(tls))
    }
}

fn usage(error: &Error) -> Failure {
    let flag = match error {
        Error::Token => "--token",
        Error::Tls(_) => "--ca-cert",
        _ => "--server",
    };
    Failure::Usage(format!("{flag}: {error}"))
}

/// Reports on standard error when the connection is lost, and when it is open again.
#[derive(Debug, Default)]
pub(super) struct ConnectionReporter {
    was_open: AtomicBool,
}

impl ConnectionReporter {
    pub(super) fn report(&self, connection: &Connection) {
        match connection {
            Connection::Open => {
                self.was_open.store(true, Ordering::Relaxed);
                note("connected");
            }
            Connection::Lost { reason, retry_in } if self.was_open.load(Ordering::Relaxed) => {
                note(format_args!(
                    "connection lost ({reason}); trying again in {retry_in:?}"
                ));
            }
            Connection::Lost { reason, retry_in } => note(format_args!(
                "not connected yet ({reason}); trying again in {retry_in:?}; --server names another gateway"
            )),
        }
    }
}
