//! The HTTP client of the commands that post webhooks.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Collected, Full, Limited};
use hyper::http::uri::Scheme;
use hyper::{Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

/// Maximum time for an answer, as Svix waits for an endpoint (Svix, "Retries").
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
const ANSWER_BYTES_MAX: usize = 20_000;
/// A server closes a connection that has been idle for some seconds, perhaps just as the next
/// request goes out on it. After this time a request has a new one.
const IDLE_MAX: Duration = Duration::from_secs(1);

/// Sends requests over HTTP and HTTPS.
#[derive(Clone, Debug)]
pub struct HttpClient(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// The answer to a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body; empty if it is too large or breaks off.
    pub body: String,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<Duration>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The authorities that the system trusts cannot be read.
    #[error("cannot read the system's certificates: {0}")]
    SystemAuthorities(io::Error),
    /// A text holds no authorities.
    #[error("{0}")]
    Authorities(String),
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(rustls::Error),
    /// The connection failed or broke.
    #[error("cannot reach {url}: {cause}")]
    Unreachable {
        /// The URL of the request.
        url: String,
        /// The error, with its causes.
        cause: String,
    },
    /// No answer came in time.
    #[error("{url} did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    TimedOut {
        /// The URL of the request.
        url: String,
    },
}

impl HttpClient {
    /// A client for `url`, which trusts the system's authorities, or those in `authorities`
    /// (PEM). For plain HTTP, the system needs none.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn new(url: &Uri, authorities: Option<&[u8]>) -> Result<Self, ClientError> {
        let builder = HttpsConnectorBuilder::new();
        let builder = match authorities {
            Some(pem) => builder.with_tls_config(trusting(authorities_in(pem)?)?),
            None if url.scheme() == Some(&Scheme::HTTPS) => builder
                .with_native_roots()
                .map_err(ClientError::SystemAuthorities)?,
            None => builder.with_tls_config(trusting(RootCertStore::empty())?),
        };
        let connector = builder.https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_MAX)
            .build(connector);
        Ok(Self(client))
    }

    /// Sends a request and reads the answer, within the time that Svix gives to both.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn request(&self, request: Request<Full<Bytes>>) -> Result<Answer, ClientError> {
        let url = request.uri().to_string();
        let exchange = async {
            let response =
                self.0
                    .request(request)
                    .await
                    .map_err(|error| ClientError::Unreachable {
                        url: url.clone(),
                        cause: cause_of(&error),
                    })?;
            let status = response.status();
            let retry_after = response
                .headers()
                .get("retry-after")
                .and_then(|value| value.to_str().ok()?.parse().ok());
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
                .collect()
                .await
                .map(Collected::to_bytes);
            Ok(Answer {
                status,
                body: String::from_utf8_lossy(&body.unwrap_or_default()).into_owned(),
                retry_after: retry_after.map(Duration::from_secs),
            })
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::TimedOut { url }),
        }
    }
}

fn authorities_in(pem: &[u8]) -> Result<RootCertStore, ClientError> {
    let invalid = |cause: &dyn std::fmt::Display| ClientError::Authorities(cause.to_string());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| invalid(&error))?;
        roots.add(certificate).map_err(|error| invalid(&error))?;
    }
    if roots.is_empty() {
        return Err(invalid(&"holds no certificate in PEM"));
    }
    Ok(roots)
}

fn trusting(roots: RootCertStore) -> Result<ClientConfig, ClientError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ClientError::Tls)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn cause_of(error: &dyn std::error::Error) -> String {
    let text = with_causes(error);
    if text.contains("received corrupt message") {
        "this port does not speak TLS: use http://".to_owned()
    } else if text.contains("CaUsedAsEndEntity") {
        "it shows the certificate of an authority (CA:TRUE) as its own: make it with basicConstraints CA:FALSE".to_owned()
    } else {
        text
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
