//! Signs bodies and posts them, as Svix does for Clerk.

use std::path::Path;

use axum::http::{HeaderMap, HeaderValue, Method, Request, Uri};
use bytes::Bytes;
use http_body_util::Full;
use svix::webhooks::Webhook;

use super::failure::Failure;
use super::input::{PEM_BYTES_MAX, read_input};
use crate::event::UnixMillis;
use crate::net::{Answer, ClientError, HttpClient};
use crate::webhook::SigningSecret;

const CA_CERT: &str = "--ca-cert";
const ID_ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Posts to one URL.
pub(super) struct Poster {
    url: Uri,
    client: HttpClient,
}

impl Poster {
    /// Trusts the system's authorities, or those in `authorities` (PEM).
    pub(super) fn new(url: &str, authorities: Option<&Path>) -> Result<Self, Failure> {
        let url: Uri = url
            .parse()
            .map_err(|error| Failure::Usage(format!("--url: {url:?}: {error}")))?;
        if url.scheme().is_none() || url.host().is_none() {
            return Err(Failure::Usage(format!(
                "--url: {url}: write the whole URL, such as http://127.0.0.1:8080/webhooks/clerk"
            )));
        }
        if url
            .authority()
            .is_some_and(|whole| whole.as_str().contains('@'))
        {
            return Err(Failure::Usage(
                "--url: leave the login out of the URL, which Svix does not send either".to_owned(),
            ));
        }
        let pem = authorities
            .map(|path| read_input(CA_CERT, path, PEM_BYTES_MAX))
            .transpose()?;
        let client = HttpClient::new(&url, pem.as_deref()).map_err(|error| match authorities {
            Some(path) if matches!(error, ClientError::Authorities(_)) => {
                Failure::Usage(format!("{CA_CERT}: {}: {error}", path.display()))
            }
            _ => Failure::failed(error),
        })?;
        Ok(Self { url, client })
    }

    pub(super) async fn post(&self, headers: HeaderMap, body: Bytes) -> Result<Answer, Failure> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        *request.headers_mut() = headers;
        self.client.request(request).await.map_err(Failure::failed)
    }
}

/// Signs with one secret.
pub(super) struct Signer(Webhook);

impl Signer {
    pub(super) fn new(secret: &SigningSecret) -> Self {
        Self(secret.webhook())
    }

    /// The headers of a delivery that is made now.
    pub(super) fn headers(&self, id: &str, body: &[u8]) -> Result<HeaderMap, Failure> {
        let timestamp = UnixMillis::now().milliseconds().div_euclid(1000);
        let signature = self
            .0
            .sign(id, timestamp, body)
            .map_err(|_| Failure::Usage("the body is not UTF-8, and Svix signs text".to_owned()))?;
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "application/json"),
            (
                "user-agent",
                concat!("clerkcast/", env!("CARGO_PKG_VERSION")),
            ),
            ("svix-id", id),
            ("svix-timestamp", &timestamp.to_string()),
            ("svix-signature", &signature),
        ] {
            let value = HeaderValue::from_str(value)
                .map_err(|_| Failure::Usage(format!("--id: {id:?} cannot be a header's value")))?;
            headers.insert(name, value);
        }
        Ok(headers)
    }
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
