//! Signs bodies and posts them, as Svix does for Clerk.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Request, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use svix::webhooks::Webhook;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::failure::Failure;
use crate::event::UnixMillis;
use crate::webhook::SigningSecret;

/// How long Svix waits for an endpoint's answer (Svix, "Retries").
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
const ANSWER_BYTES_MAX: usize = 20_000;
const ID_ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Posts signed bodies to one URL.
pub(super) struct Poster {
    url: Uri,
    key: Webhook,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// What the other side said.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: String,
    /// `Retry-After`, in seconds.
    pub(super) retry_after: Option<Duration>,
}

impl Poster {
    /// Trusts the system's authorities, or those in `authorities` (PEM).
    pub(super) fn new(
        url: &str,
        secret: &SigningSecret,
        authorities: Option<&Path>,
    ) -> Result<Self, Failure> {
        let url: Uri = url
            .parse()
            .map_err(|error| Failure::Usage(format!("--url: {url:?}: {error}")))?;
        if url.scheme().is_none() || url.host().is_none() {
            return Err(Failure::Usage(format!(
                "--url: {url}: write the whole URL, such as http://127.0.0.1:8080/webhooks/clerk"
            )));
        }
        let builder = HttpsConnectorBuilder::new();
        let builder = match authorities {
            None => builder.with_native_roots().map_err(|error| {
                Failure::Failed(format!("cannot read the system's certificates: {error}"))
            })?,
            Some(path) => builder.with_tls_config(trusting(path)?),
        };
        let connector = builder.https_or_http().enable_http1().build();
        Ok(Self {
            url,
            key: secret.webhook(),
            client: Client::builder(TokioExecutor::new()).build(connector),
        })
    }

    /// Signs `body` as `id`, now, and posts it.
    pub(super) async fn post(&self, id: &str, body: Bytes) -> Result<Answer, Failure> {
        let timestamp = UnixMillis::now().milliseconds().div_euclid(1000);
        let signature = self
            .key
            .sign(id, timestamp, &body)
            .map_err(|_| Failure::Usage("the body is not UTF-8, and Svix signs text".to_owned()))?;
        let request = Request::post(self.url.clone())
            .header("content-type", "application/json")
            .header(
                "user-agent",
                concat!("clerkcast/", env!("CARGO_PKG_VERSION")),
            )
            .header("svix-id", id)
            .header("svix-timestamp", timestamp)
            .header("svix-signature", signature)
            .body(Full::new(body))
            .map_err(|error| Failure::Usage(format!("cannot send this: {error}")))?;
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| {
                Failure::Failed(format!("cannot reach {}: {}", self.url, causes(&error)))
            })?;
            let status = response.status();
            let retry_after = response.headers().get("retry-after");
            let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
            let retry_after = retry_after.map(Duration::from_secs);
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
                .collect()
                .await;
            let body = body
                .map(http_body_util::Collected::to_bytes)
                .unwrap_or_default();
            let body = String::from_utf8_lossy(&body).into_owned();
            Ok(Answer {
                status,
                body,
                retry_after,
            })
        };
        tokio::time::timeout(ANSWER_TIMEOUT, exchange)
            .await
            .map_err(|_| Failure::Failed(format!("{} did not answer within 15 s", self.url)))?
    }
}

fn trusting(authorities: &Path) -> Result<ClientConfig, Failure> {
    let to_failure = |error: &dyn std::fmt::Display| {
        Failure::Usage(format!("--ca-cert: {}: {error}", authorities.display()))
    };
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(authorities).map_err(|error| to_failure(&error))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| to_failure(&error))?;
        roots.add(certificate).map_err(|error| to_failure(&error))?;
    }
    if roots.is_empty() {
        return Err(to_failure(&"holds no certificate in PEM"));
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| to_failure(&error))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// An id as Svix makes them: `msg_` and 27 base-62 characters.
pub(super) fn new_id() -> Result<String, Failure> {
    let mut random = [0; 27];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::Failed(format!("no randomness: {error}")))?;
    let letters = random
        .iter()
        .map(|byte| char::from(ID_ALPHABET[usize::from(byte % 62)]));
    Ok(format!("msg_{}", letters.collect::<String>()))
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
