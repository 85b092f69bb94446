//! Signs bodies and posts them, as Svix does for Clerk.

use std::path::Path;

use axum::http::{Request, Uri};
use bytes::Bytes;
use http_body_util::Full;
use svix::webhooks::Webhook;

use super::failure::Failure;
use crate::event::UnixMillis;
use crate::net::{Answer, ClientError, HttpClient};
use crate::webhook::SigningSecret;

const ID_ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Posts signed bodies to one URL.
pub(super) struct Poster {
    url: Uri,
    key: Webhook,
    client: HttpClient,
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
        Ok(Self {
            url,
            key: secret.webhook(),
            client: HttpClient::new(authorities).map_err(no_client)?,
        })
    }

    /// Signs `body` with the present time as the delivery `id`, and posts it.
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
        self.client.request(request).await.map_err(Failure::failed)
    }
}

fn no_client(error: ClientError) -> Failure {
    match error {
        ClientError::Authorities { .. } => Failure::Usage(format!("--ca-cert: {error}")),
        _ => Failure::failed(error),
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
