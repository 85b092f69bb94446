//! Why a delivery is not believed, in words for the operator of what stands before the gateway.

use axum::http::{HeaderMap, header};

/// No clock is that wrong; a timestamp in milliseconds is further ahead still.
const SECONDS_AHEAD_MAX: u64 = 10_000 * 86_400;

/// Why a delivery is not Clerk's, or not a fresh one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// A header is not there.
    #[error("header {0} is missing: this is not a delivery by Svix, or a proxy removed it")]
    MissingHeader(&'static str),
    /// A header holds what it cannot hold.
    #[error("header {0} is malformed")]
    MalformedHeader(&'static str),
    /// Signed too long ago.
    #[error(
        "the delivery was signed {seconds} s ago, more than the 300 s allowed: check this machine's clock, or resend it from the Clerk dashboard"
    )]
    TooOld {
        /// How long ago.
        seconds: u64,
    },
    /// Signed in the future.
    #[error("{}", too_new(*seconds))]
    TooNew {
        /// How far.
        seconds: u64,
    },
    /// None of the secrets made any of the signatures.
    #[error(
        "no signature matches: check that the signing secret is the one of this endpoint in the Clerk dashboard, and that no proxy changes the body"
    )]
    NoSignatureMatches,
    /// The same, and the body shows why.
    #[error("no signature matches, and {0}")]
    BodyChanged(BodyFault),
    /// Svix signs text.
    #[error("the body is not UTF-8")]
    NotUtf8,
    /// The same, and the request has a `content-encoding`.
    #[error("the body is not UTF-8, and {}", BodyFault::ContentEncoding)]
    Compressed,
}

/// What is seen of a body that is not the one that was signed, without parsing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// Nothing there.
    #[error("the body is empty: a proxy before the gateway read it and did not pass it on")]
    Empty,
    /// The request has a `content-encoding`.
    #[error(
        "the request has a content-encoding: a proxy compressed the body, and only the raw bytes are signed"
    )]
    ContentEncoding,
    /// `eyJ…`
    #[error(
        "the body is base64 of JSON: a function or proxy encoded it, and only the raw bytes are signed"
    )]
    Base64,
    /// Neither an object nor an array.
    #[error("the body is not JSON: it is cut short, changed on its way, or not a delivery by Svix")]
    NotJson,
}

fn too_new(seconds: u64) -> String {
    if seconds > SECONDS_AHEAD_MAX {
        return format!(
            "svix-timestamp is {seconds} s in the future: milliseconds? it counts seconds"
        );
    }
    format!(
        "the delivery was signed {seconds} s in the future, more than the 300 s allowed: check this machine's clock"
    )
}

impl Rejection {
    /// The name in the response body and in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MissingHeader(_) => "missing_header",
            Self::MalformedHeader(_) => "malformed_header",
            Self::TooOld { .. } => "timestamp_too_old",
            Self::TooNew { .. } => "timestamp_too_new",
            Self::NoSignatureMatches | Self::BodyChanged(_) => "signature_mismatch",
            Self::NotUtf8 | Self::Compressed => "body_not_utf8",
        }
    }

    /// The same, with what is seen of the request and its body instead of doubts about the
    /// secret. Looks at the ends of the body alone: nothing is parsed before it is verified.
    #[must_use]
    pub fn explained(self, request: &HeaderMap, body: &[u8]) -> Self {
        let encoding = request.get(header::CONTENT_ENCODING);
        let is_encoded = encoding.is_some_and(|encoding| encoding != "identity");
        match self {
            Self::NotUtf8 if is_encoded => Self::Compressed,
            Self::NoSignatureMatches if body.is_empty() => Self::BodyChanged(BodyFault::Empty),
            Self::NoSignatureMatches if is_encoded => Self::BodyChanged(BodyFault::ContentEncoding),
            Self::NoSignatureMatches => body_fault(body).map_or(self, Self::BodyChanged),
            _ => self,
        }
    }
}

fn body_fault(body: &[u8]) -> Option<BodyFault> {
    let body = body.trim_ascii();
    // `{"` in base64, and a second letter of the first key.
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_=\r\n".contains(byte);
    if body.starts_with(b"eyJ") || body.starts_with(b"eyAi") || body.starts_with(b"ewo") {
        return body
            .iter()
            .take(64)
            .all(is_base64)
            .then_some(BodyFault::Base64);
    }
    let is_json = match body {
        [b'{', .., b'}'] | [b'[', .., b']'] => true,
        // A byte-order mark, or a string: what is inside may be JSON.
        [0xef, 0xbb, 0xbf, ..] | [b'"', .., b'"'] => true,
        _ => false,
    };
    (!is_json).then_some(BodyFault::NotJson)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const BODY: &str = r#"{"event_type":"ping","data":{"success":true}}"#;

    #[test]
    fn a_fault_visible_in_the_body_is_reported_instead_of_the_secret() {
        let explained = |body: &str, encoding: Option<&'static str>| {
            let mut request = HeaderMap::new();
            if let Some(encoding) = encoding {
                request.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
            }
            Rejection::NoSignatureMatches.explained(&request, body.as_bytes())
        };
        for (body, encoding, fault) in [
            ("", None, BodyFault::Empty),
            (BODY, Some("gzip"), BodyFault::ContentEncoding),
            ("eyJldmVudF90eXBlIjoicGluZyJ9", None, BodyFault::Base64),
            (
                "ewogICJldmVudF90eXBlIjogInBpbmciCn0=\n",
                None,
                BodyFault::Base64,
            ),
            ("data=1", None, BodyFault::NotJson),
            ("{\"event_type\":\"pi", None, BodyFault::NotJson),
            ("<html></html>", Some("identity"), BodyFault::NotJson),
        ] {
            let rejection = explained(body, encoding);
            assert_eq!(rejection, Rejection::BodyChanged(fault), "{body}");
            assert_eq!(rejection.name(), "signature_mismatch");
            assert!(!rejection.to_string().contains("secret"), "{rejection}");
        }
        for body in [BODY, "[1]", "\n{ }\n", "\"{}\"", "\u{feff}{}"] {
            assert_eq!(
                explained(body, None),
                Rejection::NoSignatureMatches,
                "{body}"
            );
        }
        let mut gzip = HeaderMap::new();
        gzip.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        let compressed = Rejection::NotUtf8.explained(&gzip, b"\x1f\x8b");
        assert!(compressed.to_string().contains("content-encoding"));
        assert_eq!(compressed.name(), "body_not_utf8");
    }

    #[test]
    fn a_timestamp_in_milliseconds_is_named() {
        let message = Rejection::TooNew {
            seconds: 1_730_000_000_000,
        }
        .to_string();
        assert!(
            message.contains("milliseconds?") && !message.contains("clock"),
            "{message}"
        );
        let message = Rejection::TooNew { seconds: 86_400 }.to_string();
        assert!(message.contains("clock"), "{message}");
    }
}
