//! `clerkcast verify`: explains offline why a delivery's signature is valid or not.

use std::path::PathBuf;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::Args;
use serde::Deserialize;
use serde_json::json;

use super::failure::Failure;
use super::input::read_input;
use super::secrets::secrets_of;
use crate::webhook::{Diagnosis, Rejection, Verifier, diagnose};

pub(super) const EXAMPLES: &str = "\
Examples:
  CLERK_WEBHOOK_SIGNING_SECRET=whsec_… clerkcast verify --id msg_2xJk… --timestamp 1744276393 \\
      --signature 'v1,K5oZ…=' --payload body.json
      the three headers and the body, as your endpoint received them
  npx clerk webhooks listen --json --forward-to http://127.0.0.1:3000/ | head -n 1 > delivery.json
  CLERK_WEBHOOK_SIGNING_SECRET=whsec_… clerkcast verify --delivery delivery.json";

/// Exit code 0 where the signature matches, 1 where it does not.
#[derive(Clone, Debug, Args)]
#[expect(
    clippy::doc_markdown,
    reason = "shown as help, where backticks are noise"
)]
pub(super) struct VerifyArgs {
    /// The signing secret, `whsec_…`, several separated by spaces or commas; better set in
    /// CLERK_WEBHOOK_SIGNING_SECRET
    #[arg(long, alias = "signing-secret", value_name = "SECRET")]
    secret: Option<String>,

    /// The svix-id header
    #[arg(long, value_name = "ID", required_unless_present = "delivery")]
    id: Option<String>,

    /// The svix-timestamp header
    #[arg(long, value_name = "SECONDS", required_unless_present = "delivery")]
    timestamp: Option<String>,

    /// The svix-signature header
    #[arg(long, value_name = "SIGNATURES", required_unless_present = "delivery")]
    signature: Option<String>,

    /// The body as it was received, byte for byte; `-` reads standard input
    #[arg(long, value_name = "FILE", required_unless_present = "delivery")]
    payload: Option<PathBuf>,

    /// Instead of the four: a line that `clerk webhooks listen --json` printed (an object
    /// with `headers` and `body_b64`)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["id", "timestamp", "signature", "payload"])]
    delivery: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A delivery as Clerk's own tool prints it.
#[derive(Deserialize)]
struct Delivery {
    headers: std::collections::HashMap<String, serde_json::Value>,
    body_b64: String,
}

pub(super) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let secrets = secrets_of(args.secret.as_deref())?;
    let verifier = Verifier::new(&secrets);
    let (headers, body) = args.delivery()?;
    let verdict = judge(&verifier, &headers, &body);
    verdict.print(args.json);
    match verdict.rejection {
        None => Ok(()),
        Some(_) => Err(Failure::Failed("the delivery does not verify".to_owned())),
    }
}

/// The verdict on a delivery.
#[derive(Debug, Default)]
struct Verdict {
    rejection: Option<Rejection>,
    /// Why a gateway would refuse it now, although the signature is valid.
    age: Option<Rejection>,
    /// The change to the body that makes the signature match.
    diagnosis: Option<Diagnosis>,
    /// A note about the body.
    note: Option<&'static str>,
}

fn judge(verifier: &Verifier, headers: &HeaderMap, body: &Bytes) -> Verdict {
    let verifies = |body: &[u8]| verifier.verify_ignoring_timestamp(headers, body);
    let rejection = verifies(body).err();
    // Svix looks at the age before it looks at a signature.
    let as_of_now = verifier.verify(headers, body.clone()).err();
    let is_age = |rejection: &Rejection| {
        matches!(
            rejection,
            Rejection::TooOld { .. } | Rejection::TooNew { .. }
        )
    };
    let is_body_in_doubt = matches!(
        rejection,
        Some(Rejection::NoSignatureMatches | Rejection::NotUtf8)
    );
    let diagnosis = is_body_in_doubt
        .then(|| diagnose(body, |original| verifies(original).is_ok()))
        .flatten();
    let is_unexplained = is_body_in_doubt && diagnosis.is_none();
    Verdict {
        rejection,
        age: as_of_now.filter(is_age),
        diagnosis,
        note: is_unexplained.then(|| what_differs(body)),
    }
}

/// The note on a mismatch that no known change explains.
fn what_differs(body: &[u8]) -> &'static str {
    if body.is_empty() {
        "the body is empty: something read it before it was saved"
    } else if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() {
        "the body is JSON, and no change of its form explains the mismatch: the secret is another endpoint's, or the content or a header differs from what was signed"
    } else {
        "the body is not JSON: it is cut short or not a delivery, or both secret and content differ from what was signed"
    }
}

impl Verdict {
    fn print(&self, as_json: bool) {
        let hint = self.diagnosis.as_ref().map(|found| found.hint.as_str());
        if as_json {
            let reason = self
                .rejection
                .map(|rejection| (rejection.name(), rejection.to_string()));
            let line = json!({
                "verified": self.rejection.is_none(),
                "reason": reason.as_ref().map(|(name, _)| name),
                "message": reason.as_ref().map(|(_, message)| message),
                "hint": hint,
                "hint_kind": self.diagnosis.as_ref().map(|found| found.kind.name()),
                "note": self.note,
                "too_old_or_new": self.age.map(|age| age.to_string()),
            });
            println!("{line}");
            return;
        }
        match self.rejection {
            None => println!("verified: the secret made this signature"),
            Some(rejection) => println!("not verified: {rejection}"),
        }
        if let Some(hint) = hint {
            println!("hint: {hint}");
        }
        if let Some(note) = self.note {
            println!("note: {note}");
        }
        if let Some(age) = self.age {
            println!("note: a gateway would refuse it now: {age}");
        }
    }
}

impl VerifyArgs {
    fn delivery(&self) -> Result<(HeaderMap, Bytes), Failure> {
        match &self.delivery {
            Some(path) => parse_delivery(&read_input("--delivery", path)?),
            None => self.delivery_in_parts(),
        }
    }

    fn delivery_in_parts(&self) -> Result<(HeaderMap, Bytes), Failure> {
        let mut headers = HeaderMap::new();
        for (flag, name, text) in [
            ("--id", "svix-id", &self.id),
            ("--timestamp", "svix-timestamp", &self.timestamp),
            ("--signature", "svix-signature", &self.signature),
        ] {
            let value = HeaderValue::from_str(text.as_deref().unwrap_or_default().trim())
                .map_err(|_| Failure::Usage(format!("{flag}: not a header's value")))?;
            headers.insert(name, value);
        }
        let body = match &self.payload {
            Some(path) => read_input("--payload", path)?,
            None => Vec::new(),
        };
        Ok((headers, body.into()))
    }
}

fn parse_delivery(text: &[u8]) -> Result<(HeaderMap, Bytes), Failure> {
    let to_failure = |what: &str| Failure::Usage(format!("--delivery: {what}"));
    let delivery: Delivery = serde_json::from_slice(text)
        .map_err(|_| to_failure("expected one JSON object with `headers` and `body_b64`"))?;
    let body = STANDARD
        .decode(delivery.body_b64)
        .map_err(|_| to_failure("body_b64 is not base64"))?;
    let headers = delivery.headers.iter().filter_map(|(name, value)| {
        // Some tools print each header as a list.
        let value = value
            .as_str()
            .or_else(|| value.as_array()?.first()?.as_str())?;
        let name = HeaderName::from_bytes(name.to_lowercase().as_bytes()).ok()?;
        Some((name, HeaderValue::from_str(value.trim()).ok()?))
    });
    Ok((headers.collect(), body.into()))
}
