//! Proof that Clerk sent it.
//!
//! A [`Verified`] body can only come out of [`Verifier::verify`], and the webhook hands in
//! nothing else, so nothing can be parsed before it is verified.
//!
//! Svix's library decides: what it refuses is never accepted. This module refuses some
//! deliveries on top, before the library is asked, and names the reason of a refusal.

use std::fmt;

use axum::http::{HeaderMap, HeaderName};
use bytes::Bytes;
use svix::webhooks::{Webhook, WebhookError};

use super::rejection::Rejection;
use super::secret::SigningSecret;
use crate::event::UnixMillis;
use crate::intake::Submission;

static ID: SigningHeader = SigningHeader::new("svix-id", "webhook-id");
static TIMESTAMP: SigningHeader = SigningHeader::new("svix-timestamp", "webhook-timestamp");
static SIGNATURE: SigningHeader = SigningHeader::new("svix-signature", "webhook-signature");
/// A `svix-id` is 31 characters long; anything near this is not one.
const ID_BYTES_MAX: usize = 256;

/// The signing headers of a delivery, present and well-formed but not yet believed.
#[derive(Clone, Copy, Debug)]
pub struct SignatureHeaders<'a> {
    id: &'a str,
    timestamp_seconds: i64,
}

impl<'a> SignatureHeaders<'a> {
    /// Reads the signing headers of a request. `svix-…` wins over the Standard-Webhooks
    /// names `webhook-…`, as it does in Svix's library.
    ///
    /// # Errors
    /// When one is missing or malformed.
    pub fn read(request: &'a HeaderMap) -> Result<Self, Rejection> {
        let id = ID.read(request)?;
        let timestamp = TIMESTAMP.read(request)?;
        SIGNATURE.read(request)?;
        // What is signed is `id.timestamp.body`: with the beginning of a body in it, an id
        // could have a signature that was made for another one.
        let is_part = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'{' | b'[' | b'"');
        if id.is_empty() || id.len() > ID_BYTES_MAX || !id.bytes().all(is_part) {
            return Err(ID.malformed());
        }
        let is_number = timestamp.bytes().all(|byte| byte.is_ascii_digit());
        let timestamp_seconds = timestamp.parse().ok().filter(|_| is_number);
        Ok(Self {
            id,
            timestamp_seconds: timestamp_seconds.ok_or_else(|| TIMESTAMP.malformed())?,
        })
    }

    /// The `svix-id` that is claimed.
    #[must_use]
    pub fn id(&self) -> &'a str {
        self.id
    }

    fn send_time(&self) -> UnixMillis {
        UnixMillis::new(self.timestamp_seconds.saturating_mul(1000))
    }
}

/// A header under both of its names.
struct SigningHeader {
    svix: HeaderName,
    standard: HeaderName,
    name: &'static str,
}

impl SigningHeader {
    const fn new(svix: &'static str, standard: &'static str) -> Self {
        Self {
            svix: HeaderName::from_static(svix),
            standard: HeaderName::from_static(standard),
            name: svix,
        }
    }

    fn read<'a>(&self, request: &'a HeaderMap) -> Result<&'a str, Rejection> {
        let found = request
            .get(&self.svix)
            .or_else(|| request.get(&self.standard));
        let value = found.ok_or(Rejection::MissingHeader(self.name))?;
        value.to_str().map_err(|_| self.malformed())
    }

    fn malformed(&self) -> Rejection {
        Rejection::MalformedHeader(self.name)
    }
}

/// A delivery that was signed with one of a source's secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// `svix-id`.
    pub id: String,
    /// `svix-timestamp`: when this attempt was signed.
    pub send_time: UnixMillis,
    body: Bytes,
}

impl Verified {
    /// The body, byte for byte as it was signed.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Hands it in as an event of `source` that arrives now.
    pub(super) fn into_submission(self, source: &str) -> Submission {
        Submission {
            source: source.to_owned(),
            id: self.id,
            send_time: self.send_time,
            receive_time: UnixMillis::now(),
            body: self.body,
        }
    }
}

/// Knows a source's secrets.
pub struct Verifier {
    webhooks: Vec<Webhook>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Verifier({} secrets)", self.webhooks.len())
    }
}

impl Verifier {
    /// A verifier that accepts each of `secrets`: during a rotation, both endpoints
    /// deliver each event (Clerk, "Rotate your API keys").
    #[must_use]
    pub fn new(secrets: &[SigningSecret]) -> Self {
        Self {
            webhooks: secrets.iter().map(SigningSecret::webhook).collect(),
        }
    }

    /// Checks age and signature of a delivery, by the system's clock.
    ///
    /// # Errors
    /// With the reason, which is safe to show to the sender.
    pub fn verify(&self, headers: &HeaderMap, body: Bytes) -> Result<Verified, Rejection> {
        let signed = SignatureHeaders::read(headers)?;
        match self.try_each(|webhook| webhook.verify(&body, headers)) {
            Ok(()) => Ok(Verified {
                id: signed.id.to_owned(),
                send_time: signed.send_time(),
                body,
            }),
            Err(error) => Err(explain(&error, &signed, UnixMillis::now())),
        }
    }

    /// Checks the signature alone, as of a delivery that was kept in a file.
    ///
    /// # Errors
    /// With the reason.
    pub fn verify_ignoring_timestamp(
        &self,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<(), Rejection> {
        let signed = SignatureHeaders::read(headers)?;
        self.try_each(|webhook| webhook.verify_ignoring_timestamp(body, headers))
            .map_err(|error| explain(&error, &signed, UnixMillis::now()))
    }

    /// Tries each secret in turn, until one made a signature or an error is not of a
    /// secret's, such as a timestamp that is too old.
    fn try_each(
        &self,
        verify: impl Fn(&Webhook) -> Result<(), WebhookError>,
    ) -> Result<(), WebhookError> {
        for webhook in &self.webhooks {
            match verify(webhook) {
                Err(WebhookError::InvalidSignature) => {}
                outcome => return outcome,
            }
        }
        Err(WebhookError::InvalidSignature)
    }
}

/// Names the reason of a refusal. `now` is for the message alone.
fn explain(error: &WebhookError, headers: &SignatureHeaders<'_>, now: UnixMillis) -> Rejection {
    let now_seconds = now.milliseconds().div_euclid(1000);
    let seconds = now_seconds.abs_diff(headers.timestamp_seconds);
    match error {
        WebhookError::MissingHeader(name) => Rejection::MissingHeader(full_name(name)),
        WebhookError::InvalidHeader(name) => Rejection::MalformedHeader(full_name(name)),
        WebhookError::InvalidTimestamp => TIMESTAMP.malformed(),
        WebhookError::TimestampTooOldError => Rejection::TooOld { seconds },
        WebhookError::FutureTimestampError => Rejection::TooNew { seconds },
        WebhookError::InvalidPayload => Rejection::NotUtf8,
        // The last two are of a secret, and a parsed one is a key.
        WebhookError::InvalidSignature
        | WebhookError::InvalidSecret(_)
        | WebhookError::EmptySecret => Rejection::NoSignatureMatches,
    }
}

/// The header that Svix's library calls by the last part of its name.
fn full_name(part: &str) -> &'static str {
    match part {
        "id" => ID.name,
        "timestamp" => TIMESTAMP.name,
        _ => SIGNATURE.name,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    /// Svix's documentation, "Verifying manually".
    const SECRET: &str = "whsec_plJ3nmyCDGBKInavdOK15jsl";
    const OTHER_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const MESSAGE_ID: &str = "msg_loFOjxBNrRLzqYUf";
    const BODY: &str = r#"{"event_type":"ping","data":{"success":true}}"#;
    const PUBLISHED_SIGNATURE: &str = "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=";
    const PUBLISHED_SECONDS: i64 = 1_731_705_121;

    fn verifier(secrets: &[&str]) -> Verifier {
        let secrets: Vec<SigningSecret> = secrets
            .iter()
            .map(|text| SigningSecret::parse(text))
            .collect::<Result<_, _>>()
            .expect("valid");
        Verifier::new(&secrets)
    }

    fn now_seconds() -> i64 {
        UnixMillis::now().milliseconds() / 1000
    }

    fn headers(timestamp_seconds: i64, signature: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("svix-id", MESSAGE_ID),
            ("svix-timestamp", &timestamp_seconds.to_string()),
            ("svix-signature", signature),
        ] {
            headers.insert(name, value.parse().expect("ascii"));
        }
        headers
    }

    /// What Svix would sign `body` with now, and the headers with what is made of that.
    fn signed(body: &str, claim: impl Fn(&str) -> String) -> HeaderMap {
        let now = now_seconds();
        let webhook = Webhook::new(SECRET).expect("a secret");
        let signature = webhook.sign(MESSAGE_ID, now, body.as_bytes());
        headers(now, &claim(&signature.expect("text")))
    }

    fn verify(headers: &HeaderMap, body: &str) -> Result<Verified, Rejection> {
        verifier(&[SECRET]).verify(headers, Bytes::from(body.to_owned()))
    }

    #[test]
    fn the_published_vector_verifies() {
        let published = headers(PUBLISHED_SECONDS, PUBLISHED_SIGNATURE);
        let verifier = verifier(&[SECRET]);
        let signature = verifier.verify_ignoring_timestamp(&published, BODY.as_bytes());
        assert_eq!(signature, Ok(()));
        let by_age = verifier.verify(&published, Bytes::from_static(BODY.as_bytes()));
        assert!(
            matches!(by_age, Err(Rejection::TooOld { .. })),
            "{by_age:?}"
        );
    }

    #[test]
    fn a_svix_signature_verifies_exactly_the_bytes_that_it_signed() {
        for length in [0, 1, 55, 56, 63, 64, 65, 1_200, 100_000] {
            let body = "ä".repeat(length / 2) + &"x".repeat(length % 2);
            let headers = signed(&body, str::to_owned);
            let verified = verify(&headers, &body).expect("Svix signed it");
            assert_eq!(verified.id, MESSAGE_ID);
            assert_eq!(verified.body(), &body);
            let other_body = verify(&headers, &format!("{body}x"));
            assert_eq!(other_body, Err(Rejection::NoSignatureMatches));
        }
        let signature = signed(BODY, str::to_owned)["svix-signature"].clone();
        for at in 3..signature.len() {
            let refused = verify(
                &signed(BODY, |signature| {
                    let mut other = signature.to_owned().into_bytes();
                    other[at] = if other[at] == b'A' { b'B' } else { b'A' };
                    String::from_utf8(other).expect("ascii")
                }),
                BODY,
            );
            assert_eq!(refused, Err(Rejection::NoSignatureMatches), "{at}");
        }
    }

    #[test]
    fn any_v1_signature_of_the_list_may_match() {
        let mismatch = "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        for before in [mismatch, "v1a,AAAA", "v2,x"] {
            for after in ["", " v1,AAAA", " v1a,AAAA"] {
                let list = signed(BODY, |right| format!("{before} {right}{after}"));
                assert!(verify(&list, BODY).is_ok(), "{before} … {after}");
            }
        }
        let refused = |list: HeaderMap| {
            let refused = verify(&list, BODY);
            assert_eq!(refused, Err(Rejection::NoSignatureMatches), "{list:?}");
        };
        refused(signed(BODY, |right| right.replace("v1,", "v1a,")));
        for none in [mismatch, "v1,", "v1", "", "v2,x", " , "] {
            refused(signed(BODY, |_| none.to_owned()));
        }
    }

    #[test]
    fn a_reserialized_body_is_refused() {
        let spaced = r#"{"event_type": "ping", "data": {"success": true}}"#;
        let headers = signed(BODY, str::to_owned);
        for body in [spaced, &format!("{BODY}\n")] {
            let refused = verify(&headers, body);
            assert_eq!(refused, Err(Rejection::NoSignatureMatches));
        }
    }

    #[test]
    fn each_of_several_secrets_is_tried() {
        let verify = |secrets: &[&str]| {
            let body = Bytes::from_static(BODY.as_bytes());
            verifier(secrets).verify(&signed(BODY, str::to_owned), body)
        };
        assert!(verify(&[OTHER_SECRET, SECRET]).is_ok());
        assert!(verify(&[SECRET, OTHER_SECRET]).is_ok());
        assert_eq!(verify(&[OTHER_SECRET]), Err(Rejection::NoSignatureMatches));
        assert_eq!(verify(&[]), Err(Rejection::NoSignatureMatches));
    }

    #[test]
    fn an_error_unrelated_to_the_secret_ends_the_search() {
        let calls = std::cell::Cell::new(0);
        let outcome = verifier(&[OTHER_SECRET, SECRET]).try_each(|_| {
            calls.set(calls.get() + 1);
            Err(WebhookError::TimestampTooOldError)
        });
        assert!(matches!(outcome, Err(WebhookError::TimestampTooOldError)));
        assert_eq!(calls.get(), 1);
    }

    #[test]
    fn every_svix_error_maps_to_its_rejection() {
        let request = headers(1_000, "v1,x");
        let headers = SignatureHeaders::read(&request).expect("well-formed");
        let explained = |error| explain(&error, &headers, UnixMillis::new(2_000_999));
        for (error, rejection) in [
            (
                WebhookError::MissingHeader("signature"),
                Rejection::MissingHeader("svix-signature"),
            ),
            (
                WebhookError::InvalidHeader("id"),
                Rejection::MalformedHeader("svix-id"),
            ),
            (
                WebhookError::InvalidTimestamp,
                Rejection::MalformedHeader("svix-timestamp"),
            ),
            (
                WebhookError::TimestampTooOldError,
                Rejection::TooOld { seconds: 1_000 },
            ),
            (
                WebhookError::FutureTimestampError,
                Rejection::TooNew { seconds: 1_000 },
            ),
            (
                WebhookError::InvalidSignature,
                Rejection::NoSignatureMatches,
            ),
            (WebhookError::InvalidPayload, Rejection::NotUtf8),
        ] {
            assert_eq!(explained(error), rejection);
        }
    }

    #[test]
    fn a_missing_or_malformed_header_is_named() {
        for name in ["svix-id", "svix-timestamp", "svix-signature"] {
            let mut headers = signed(BODY, str::to_owned);
            headers.remove(name);
            assert_eq!(verify(&headers, BODY), Err(Rejection::MissingHeader(name)));
        }
        for bad in [
            "1760000000abc",
            "-5",
            "+5",
            "1e9",
            "",
            "99999999999999999999",
        ] {
            let mut headers = signed(BODY, str::to_owned);
            headers.insert("svix-timestamp", bad.parse().expect("ascii"));
            let refused = verify(&headers, BODY);
            let malformed = Rejection::MalformedHeader("svix-timestamp");
            assert_eq!(refused, Err(malformed), "{bad}");
        }
        let too_long = "x".repeat(ID_BYTES_MAX + 1);
        for bad in ["", "a b", "{", "a[", "\"", "\u{e4}", &too_long] {
            let mut headers = signed(BODY, str::to_owned);
            let value = HeaderValue::from_bytes(bad.as_bytes());
            headers.insert("svix-id", value.expect("a value"));
            let refused = verify(&headers, BODY);
            assert_eq!(refused, Err(Rejection::MalformedHeader("svix-id")), "{bad}");
        }
    }

    #[test]
    fn the_standard_webhooks_names_are_accepted_and_svix_wins() {
        let mut renamed = HeaderMap::new();
        for (name, value) in &signed(BODY, str::to_owned) {
            let standard = name.as_str().replace("svix-", "webhook-");
            renamed.insert(
                HeaderName::from_bytes(standard.as_bytes()).expect("a name"),
                value.clone(),
            );
        }
        assert!(verify(&renamed, BODY).is_ok());
        renamed.insert("svix-id", HeaderValue::from_static("msg_other"));
        let headers = SignatureHeaders::read(&renamed).expect("complete");
        assert_eq!(headers.id(), "msg_other");
        let refused = verify(&renamed, BODY);
        assert_eq!(refused, Err(Rejection::NoSignatureMatches));
    }
}
