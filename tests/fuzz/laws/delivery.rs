//! What comes in at the public port, before it is believed.

use arbitrary::Arbitrary;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use clerkcast::event::UnixMillis;
use clerkcast::webhook::{SigningSecret, Verifier};
use svix::webhooks::Webhook;

use super::SECRET;

/// What is accepted is what Svix's own library accepts, and what Svix signs is accepted.
#[derive(Arbitrary, Debug)]
pub(crate) struct Delivery {
    id: Text,
    timestamp: Timestamp,
    claims: Vec<Claim>,
    body: Vec<u8>,
    uses_standard_names: bool,
}

#[derive(Arbitrary, Debug)]
enum Text {
    Plain(u64),
    Any(String),
}

#[derive(Arbitrary, Debug)]
enum Timestamp {
    Near(i16),
    Far(i64),
    Any(String),
}

#[derive(Arbitrary, Debug)]
enum Claim {
    Right,
    Cut(u8),
    OfOtherSecret,
    Any(String),
}

const OTHER_SECRET: &str = "whsec_plJ3nmyCDGBKInavdOK15jsl";

impl Delivery {
    pub(crate) fn hold(self) {
        let id = match self.id {
            Text::Plain(number) => format!("msg_{number}"),
            Text::Any(text) => text,
        };
        let now = UnixMillis::now().milliseconds() / 1000;
        let (timestamp, seconds) = match self.timestamp {
            Timestamp::Near(offset) => number(now.saturating_add(i64::from(offset) / 100)),
            Timestamp::Far(seconds) => number(seconds),
            Timestamp::Any(text) => {
                let seconds = text.trim().parse().unwrap_or(0);
                (text, seconds)
            }
        };
        let sign = |secret: &str| {
            let svix = Webhook::new(secret).expect("a secret");
            svix.sign(&id, seconds, &self.body).unwrap_or_default()
        };
        let right = sign(SECRET);
        let claims: Vec<String> = self
            .claims
            .iter()
            .map(|claim| match claim {
                Claim::Right => right.clone(),
                Claim::Cut(at) => right.chars().take(usize::from(*at)).collect(),
                Claim::OfOtherSecret => sign(OTHER_SECRET),
                Claim::Any(text) => text.clone(),
            })
            .collect();
        let prefix = if self.uses_standard_names {
            "webhook"
        } else {
            "svix"
        };
        let mut headers = HeaderMap::new();
        let signatures = claims.join(" ");
        for (name, value) in [
            ("id", &id),
            ("timestamp", &timestamp),
            ("signature", &signatures),
        ] {
            let Ok(value) = HeaderValue::from_str(value) else {
                return;
            };
            let name = format!("{prefix}-{name}");
            headers.insert(name.parse::<HeaderName>().expect("a name"), value);
        }
        let verifier = Verifier::new(&[SigningSecret::parse(SECRET).expect("a secret")]);
        let svix = Webhook::new(SECRET).expect("a secret");
        // The clock may reach the bound between two of them.
        let before = svix.verify(&self.body, &headers);
        let verified = verifier.verify(&headers, Bytes::from(self.body.clone()));
        let after = svix.verify(&self.body, &headers);
        if verified.is_ok() {
            let is_accepted = before.is_ok() || after.is_ok();
            assert!(is_accepted, "Svix refuses it: {after:?} of {headers:?}");
        }
        let is_plain = !id.is_empty()
            && id.len() <= 256
            && id
                .chars()
                .all(|c| c.is_ascii_graphic() && !matches!(c, '{' | '[' | '"'));
        let is_number = timestamp == seconds.to_string() && seconds >= 0;
        let is_accepted = before.is_ok() && after.is_ok();
        if is_plain && is_number && is_accepted {
            assert!(verified.is_ok(), "{verified:?} of {headers:?}");
        }
    }
}

fn number(seconds: i64) -> (String, i64) {
    (seconds.to_string(), seconds)
}
