//! `clerkcast verify`: explains offline why a delivery's signature is valid or not.

use std::path::PathBuf;

use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use clap::Args;
use serde_json::json;

use super::delivery::{self, Delivery};
use super::failure::Failure;
use super::figures::grouped;
use super::input::{BODY_BYTES_MAX, read_input};
use super::output::print_line;
use super::secrets::secrets_of;
use crate::event::numbers::saturating;
use crate::webhook::{Diagnosis, Rejection, Verifier, diagnose};

pub(super) const EXAMPLES: &str = "\
Examples:
  CLERK_WEBHOOK_SIGNING_SECRET=whsec_… clerkcast verify --id msg_2xJk… --timestamp 1744276393 \\
      --signature 'v1,K5oZ…=' --payload body.json
      the three headers and the body, as your endpoint received them
  npx clerk webhooks listen --json --forward-to http://127.0.0.1:3000/ > deliveries.ndjson
  CLERK_WEBHOOK_SIGNING_SECRET=whsec_… clerkcast verify --delivery deliveries.ndjson
      each delivery that Clerk's own tool has recorded";

/// Exit code 0 where the signature matches, 1 where it does not.
#[derive(Clone, Debug, Args)]
#[expect(
    clippy::doc_markdown,
    reason = "shown as help, where backticks are noise"
)]
pub(super) struct VerifyArgs {
    /// The signing secret, `whsec_…`, several separated by white space or commas; better set in
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

    /// Instead of the four: the lines that `clerk webhooks listen --json` printed (objects with
    /// `headers` and `body_b64`); `-` reads standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["id", "timestamp", "signature", "payload"])]
    delivery: Option<PathBuf>,

    /// Print one JSON object; of each line of --delivery, one
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let secrets = secrets_of(args.secret.as_deref())?;
    let verifier = Verifier::new(&secrets);
    let deliveries = args.deliveries()?;
    let mut refused = 0;
    for (index, delivery) in deliveries.iter().enumerate() {
        let verdict = judge(&verifier, &delivery.headers, &delivery.body);
        refused += usize::from(verdict.rejection.is_some());
        if args.json {
            print_line(verdict.as_json(delivery.id()))?;
            continue;
        }
        if deliveries.len() > 1 {
            print_line(format!("delivery {}: {}", index + 1, delivery.id()))?;
        }
        verdict.print()?;
    }
    match (refused, deliveries.len()) {
        (0, _) => Ok(()),
        (_, 1) => Err(Failure::Failed("the delivery does not verify".to_owned())),
        (refused, all) => {
            let [verified, all] = [all - refused, all].map(|count| grouped(saturating(count)));
            Err(Failure::Failed(format!(
                "{verified} of {all} deliveries verify"
            )))
        }
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
    fn hint(&self) -> Option<&str> {
        self.diagnosis.as_ref().map(|found| found.hint.as_str())
    }

    fn as_json(&self, id: &str) -> serde_json::Value {
        let reason = self
            .rejection
            .map(|rejection| (rejection.name(), rejection.to_string()));
        json!({
            "id": id,
            "verified": self.rejection.is_none(),
            "reason": reason.as_ref().map(|(name, _)| name),
            "message": reason.as_ref().map(|(_, message)| message),
            "hint": self.hint(),
            "hint_kind": self.diagnosis.as_ref().map(|found| found.kind.name()),
            "note": self.note,
            "too_old_or_new": self.age.map(|age| age.to_string()),
        })
    }

    fn print(&self) -> Result<(), Failure> {
        match self.rejection {
            None => print_line("verified: the secret made this signature")?,
            Some(rejection) => print_line(format!("not verified: {rejection}"))?,
        }
        if let Some(hint) = self.hint() {
            print_line(format!("hint: {hint}"))?;
        }
        if let Some(note) = self.note {
            print_line(format!("note: {note}"))?;
        }
        if let Some(age) = self.age {
            print_line(format!("note: a gateway would refuse it now: {age}"))?;
        }
        Ok(())
    }
}

impl VerifyArgs {
    fn deliveries(&self) -> Result<Vec<Delivery>, Failure> {
        if let Some(path) = &self.delivery {
            return delivery::read(path);
        }
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
            Some(path) => read_input("--payload", path, BODY_BYTES_MAX)?,
            None => Vec::new(),
        };
        Ok(vec![Delivery {
            event_type: String::new(),
            headers,
            body: body.into(),
        }])
    }
}
