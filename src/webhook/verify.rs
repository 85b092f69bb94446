//! Proof that Clerk sent it.
//!
//! A [`Verified`] body can only come out of [`Verifier::verify`], and what decodes and
//! stores a delivery takes nothing else, so nothing can be parsed before it is verified.
//!
//! The scheme is Svix's (Svix, "Verifying manually"). Svix's library computes the HMAC
//! without the processor's help, which was a tenth of what a delivery costs, so it is
//! computed here; the tests hold both to the same answer.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::{constant_time, hmac};
use axum::http::{HeaderMap, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::rejection::Rejection;
use super::secret::SigningSecret;
use crate::event::UnixMillis;

/// Both ways, inclusive (Svix, "How to verify webhooks").
const TIMESTAMP_TOLERANCE: Duration = Duration::from_secs(5 * 60);
/// The version of the scheme, before each signature.
const VERSION: &str = "v1";
/// An HMAC-SHA256 in base 64.
const SIGNATURE_BYTES: usize = 44;
/// A `svix-id` is 31 characters long; anything near this is not one.
const ID_BYTES_MAX: usize = 256;

/// The signing headers of a delivery, present and well-formed but not yet believed.
#[derive(Clone, Debug)]
pub struct SignatureHeaders {
    id: String,
    timestamp_seconds: i64,
    signatures: HeaderValue,
}

impl SignatureHeaders {
    /// Takes the signing headers out of a request's. `svix-…` wins over the
    /// Standard-Webhooks names `webhook-…`.
    ///
    /// # Errors
    /// When one is missing or malformed.
    pub fn read(request: &HeaderMap) -> Result<Self, Rejection> {
        let (_, id) = signing_header(request, "svix-id", "webhook-id")?;
        let (_, timestamp) = signing_header(request, "svix-timestamp", "webhook-timestamp")?;
        let (signatures, _) = signing_header(request, "svix-signature", "webhook-signature")?;
        // What is signed is `id.timestamp.body`: with the beginning of a body in it, an id
        // could have a signature that was made for another one.
        let is_part = |c: char| c.is_ascii_graphic() && !matches!(c, '{' | '[' | '"');
        let is_id = !id.is_empty() && id.len() <= ID_BYTES_MAX && id.chars().all(is_part);
        if !is_id {
            return Err(Rejection::MalformedHeader("svix-id"));
        }
        let is_number = timestamp.chars().all(|c| c.is_ascii_digit());
        let timestamp_seconds = timestamp.parse().ok().filter(|_| is_number);
        let timestamp_seconds =
            timestamp_seconds.ok_or(Rejection::MalformedHeader("svix-timestamp"))?;
        Ok(Self {
            id: id.to_owned(),
            timestamp_seconds,
            signatures: signatures.clone(),
        })
    }

    /// The `svix-id` that is claimed.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Fails unless the delivery was signed within the tolerance of `now`.
    ///
    /// # Errors
    /// With how far off it is.
    pub fn check_age(&self, now: UnixMillis) -> Result<(), Rejection> {
        let now = now.milliseconds().div_euclid(1000);
        let tolerance = TIMESTAMP_TOLERANCE.as_secs();
        let seconds = now.abs_diff(self.timestamp_seconds);
        if seconds <= tolerance {
            Ok(())
        } else if self.timestamp_seconds < now {
            Err(Rejection::TooOld { seconds })
        } else {
            Err(Rejection::TooNew { seconds })
        }
    }
}

fn signing_header<'a>(
    request: &'a HeaderMap,
    svix: &'static str,
    standard: &str,
) -> Result<(&'a HeaderValue, &'a str), Rejection> {
    let found = request.get(svix).or_else(|| request.get(standard));
    let found = found.ok_or(Rejection::MissingHeader(svix))?;
    let text = found
        .to_str()
        .map_err(|_| Rejection::MalformedHeader(svix))?;
    Ok((found, text.trim()))
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
}

/// Knows a source's secrets.
pub struct Verifier {
    keys: Vec<hmac::Key>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Verifier({} secrets)", self.keys.len())
    }
}

impl Verifier {
    /// A verifier that accepts each of `secrets`: during a rotation, both endpoints
    /// deliver each event (Clerk, "Rotate your API keys").
    #[must_use]
    pub fn new(secrets: &[SigningSecret]) -> Self {
        Self {
            keys: secrets.iter().map(SigningSecret::hmac_key).collect(),
        }
    }

    /// Checks age and signature of a delivery.
    ///
    /// # Errors
    /// With the reason, which is safe to show to the sender.
    pub fn verify(
        &self,
        headers: SignatureHeaders,
        body: Bytes,
        now: UnixMillis,
    ) -> Result<Verified, Rejection> {
        headers.check_age(now)?;
        self.verify_signature(&headers, &body)?;
        Ok(Verified {
            id: headers.id,
            send_time: UnixMillis::new(headers.timestamp_seconds.saturating_mul(1000)),
            body,
        })
    }

    /// Checks the signature alone, as of a delivery that was kept in a file.
    ///
    /// # Errors
    /// With the reason.
    pub fn verify_signature(
        &self,
        headers: &SignatureHeaders,
        body: &[u8],
    ) -> Result<(), Rejection> {
        if std::str::from_utf8(body).is_err() {
            return Err(Rejection::NotUtf8);
        }
        let signed = self
            .keys
            .iter()
            .any(|key| headers.hold(&sign(key, headers, body)));
        if signed {
            Ok(())
        } else {
            Err(Rejection::NoSignatureMatches)
        }
    }
}

/// What Svix would sign this with (Svix, "Verifying manually").
fn sign(
    key: &hmac::Key,
    SignatureHeaders {
        id,
        timestamp_seconds,
        ..
    }: &SignatureHeaders,
    body: &[u8],
) -> [u8; SIGNATURE_BYTES] {
    let mut context = hmac::Context::with_key(key);
    context.update(format!("{id}.{timestamp_seconds}.").as_bytes());
    context.update(body);
    let mut signature = [0; SIGNATURE_BYTES];
    // Fits: an HMAC-SHA256 has 32 bytes.
    let _length = STANDARD.encode_slice(context.sign(), &mut signature);
    signature
}

impl SignatureHeaders {
    /// Whether one of the signatures is this one; how alike they are takes no time.
    fn hold(&self, signature: &[u8; SIGNATURE_BYTES]) -> bool {
        let claimed = self.signatures.to_str().unwrap_or_default().split(' ');
        let mut claimed = claimed.filter_map(|claim| claim.split_once(','));
        claimed.any(|(version, claim)| {
            version == VERSION
                && constant_time::verify_slices_are_equal(claim.as_bytes(), signature).is_ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Svix's documentation, "Verifying manually".
    const SECRET: &str = "whsec_plJ3nmyCDGBKInavdOK15jsl";
    const BODY: &str = r#"{"event_type":"ping","data":{"success":true}}"#;
    const SIGNATURE: &str = "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=";
    const SIGNED_AT_SECONDS: i64 = 1_731_705_121;

    fn verifier(secrets: &[&str]) -> Verifier {
        let secrets = secrets.iter().map(|text| SigningSecret::parse(text));
        let secrets: Vec<SigningSecret> = secrets.collect::<Result<_, _>>().expect("valid");
        Verifier::new(&secrets)
    }

    fn headers(signature: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let timestamp = SIGNED_AT_SECONDS.to_string();
        for (name, value) in [
            ("svix-id", "msg_loFOjxBNrRLzqYUf"),
            ("svix-timestamp", &timestamp),
            ("svix-signature", signature),
        ] {
            headers.insert(name, value.parse().expect("ascii"));
        }
        headers
    }

    fn verify(signature: &str, body: &str, seconds_later: i64) -> Result<Verified, Rejection> {
        let now = UnixMillis::new((SIGNED_AT_SECONDS + seconds_later) * 1000);
        let headers = SignatureHeaders::read(&headers(signature))?;
        verifier(&[SECRET]).verify(headers, Bytes::from(body.to_owned()), now)
    }

    #[test]
    fn the_published_vector_verifies() {
        let verified = verify(SIGNATURE, BODY, 0).expect("Svix published it");
        assert_eq!(verified.id, "msg_loFOjxBNrRLzqYUf");
        assert_eq!(verified.body(), BODY);
    }

    #[test]
    fn what_svix_signs_verifies_and_nothing_that_differs_in_a_byte() {
        let key = svix::webhooks::Webhook::new(SECRET).expect("a secret");
        for length in [0, 1, 55, 56, 63, 64, 65, 1_200, 100_000] {
            let body = "ä".repeat(length / 2) + &"x".repeat(length % 2);
            let id = "msg_loFOjxBNrRLzqYUf";
            let signature = key.sign(id, SIGNED_AT_SECONDS, body.as_bytes());
            let signature = signature.expect("text");
            assert!(verify(&signature, &body, 0).is_ok(), "{length} bytes");
            let other_body = verify(&signature, &format!("{body}x"), 0);
            assert_eq!(other_body, Err(Rejection::NoSignatureMatches));
            for at in 3..signature.len() {
                let mut other = signature.clone().into_bytes();
                other[at] = if other[at] == b'A' { b'B' } else { b'A' };
                let other = String::from_utf8(other).expect("ascii");
                let refused = verify(&other, &body, 0);
                assert_eq!(refused, Err(Rejection::NoSignatureMatches), "{other}");
            }
        }
    }

    #[test]
    fn the_tolerance_is_300_seconds_both_ways_inclusive() {
        assert!(verify(SIGNATURE, BODY, 300).is_ok());
        assert!(verify(SIGNATURE, BODY, -300).is_ok());
        let too_old = Rejection::TooOld { seconds: 301 };
        let too_new = Rejection::TooNew { seconds: 301 };
        assert_eq!(verify(SIGNATURE, BODY, 301), Err(too_old));
        assert_eq!(verify(SIGNATURE, BODY, -301), Err(too_new));
    }

    #[test]
    fn any_v1_signature_of_the_list_may_match_and_other_versions_are_passed_over() {
        let wrong = "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        assert!(verify(&format!("{wrong} {SIGNATURE}"), BODY, 0).is_ok());
        assert!(verify(&format!("v1a,AAAA {SIGNATURE}"), BODY, 0).is_ok());
        let as_v1a = SIGNATURE.replace("v1,", "v1a,");
        for signature in [wrong, as_v1a.as_str(), "v1,", "v1", "", "v2,x", " , "] {
            let rejected = verify(signature, BODY, 0);
            assert_eq!(rejected, Err(Rejection::NoSignatureMatches), "{signature}");
        }
    }

    #[test]
    fn a_reserialised_body_is_refused() {
        let spaced = r#"{"event_type": "ping", "data": {"success": true}}"#;
        assert_eq!(
            verify(SIGNATURE, spaced, 0),
            Err(Rejection::NoSignatureMatches)
        );
        let newline = format!("{BODY}\n");
        assert_eq!(
            verify(SIGNATURE, &newline, 0),
            Err(Rejection::NoSignatureMatches)
        );
    }

    #[test]
    fn each_of_several_secrets_is_tried() {
        let other = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
        let now = UnixMillis::new(SIGNED_AT_SECONDS * 1000);
        let verify = |secrets: &[&str]| {
            let headers = SignatureHeaders::read(&headers(SIGNATURE)).expect("well-formed");
            verifier(secrets).verify(headers, Bytes::from_static(BODY.as_bytes()), now)
        };
        assert!(verify(&[other, SECRET]).is_ok());
        assert!(verify(&[SECRET, other]).is_ok());
        assert!(verify(&[other]).is_err());
    }

    #[test]
    fn a_missing_or_malformed_header_is_named() {
        for name in ["svix-id", "svix-timestamp", "svix-signature"] {
            let mut headers = headers(SIGNATURE);
            headers.remove(name);
            let error = SignatureHeaders::read(&headers).expect_err(name);
            assert!(matches!(error, Rejection::MissingHeader(missing) if missing == name));
        }
        for bad in [
            "1760000000abc",
            "-5",
            "+5",
            "1e9",
            "",
            "99999999999999999999",
        ] {
            let mut headers = headers(SIGNATURE);
            headers.insert("svix-timestamp", bad.parse().expect("ascii"));
            let error = SignatureHeaders::read(&headers).expect_err(bad);
            assert_eq!(error, Rejection::MalformedHeader("svix-timestamp"));
        }
    }

    #[test]
    fn the_standard_webhooks_names_are_accepted_and_svix_wins() {
        let mut renamed = HeaderMap::new();
        for (name, value) in &headers(SIGNATURE) {
            let standard = name.as_str().replace("svix-", "webhook-");
            renamed.insert(
                axum::http::HeaderName::from_bytes(standard.as_bytes()).expect("a name"),
                value.clone(),
            );
        }
        assert!(SignatureHeaders::read(&renamed).is_ok());
        renamed.insert("svix-id", HeaderValue::from_static("msg_other"));
        assert_eq!(
            SignatureHeaders::read(&renamed).expect("complete").id(),
            "msg_other"
        );
    }
}
