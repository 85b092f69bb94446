//! `clerkcast send`: sample events, or a file, signed and posted.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use serde_json::json;
use tokio::time::{Interval, MissedTickBehavior};

use super::failure::Failure;
use super::input::read_input;
use super::post::{Poster, new_id};
use super::secrets::{no_secret, secrets_of};
use crate::clerk::samples::SAMPLES;
use crate::event::{Excerpt, UnixMillis};
use crate::filter::nearest::Suggestions;
use crate::net::Answer;

/// The waits between attempts (Svix, "Retry Schedule").
const RETRY_AFTER: [Duration; 7] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(5 * 3600),
    Duration::from_secs(10 * 3600),
    Duration::from_secs(10 * 3600),
];

/// Sends one of every type where no TYPE and no --file is given.
#[derive(Clone, Debug, Args)]
#[expect(
    clippy::doc_markdown,
    reason = "shown as help, where backticks are noise"
)]
pub(super) struct SendArgs {
    /// Event types to send samples of: `user.created`, `user.*` [default: one of every type]
    #[arg(value_name = "TYPE")]
    types: Vec<String>,

    /// Send this body instead, byte for byte; `-` reads standard input
    #[arg(long, value_name = "FILE", conflicts_with = "types")]
    file: Option<PathBuf>,

    /// Where to post to
    #[arg(
        long,
        env = "CLERKCAST_WEBHOOK_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080/webhooks/clerk"
    )]
    url: String,

    /// The secret to sign with, `whsec_…`, the first where there are several; better set in
    /// CLERK_WEBHOOK_SIGNING_SECRET
    #[arg(long, alias = "signing-secret", value_name = "SECRET")]
    secret: Option<String>,

    /// The authorities that vouch for the gateway's certificate (PEM) [default: the system's]
    #[arg(long, env = "CLERKCAST_CA_CERT", value_name = "FILE")]
    ca_cert: Option<PathBuf>,

    /// How many events to send, going through the types again and again [default: one of each]
    #[arg(long, value_name = "N")]
    count: Option<usize>,

    /// Maximum events per second
    #[arg(long, value_name = "N")]
    rate: Option<f64>,

    /// Use this svix-id for all of them, to see duplicates [default: a new one each]
    #[arg(long, value_name = "ID")]
    id: Option<String>,

    /// Retry deliveries that are not accepted, as Svix does: after 5 s, 5 min, 30 min, 2 h, 5 h,
    /// 10 h and 10 h, with the same svix-id
    #[arg(long)]
    retry: bool,

    /// Multiply the waits by this factor, such as 0.001
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, requires = "retry")]
    retry_scale: f64,

    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: SendArgs) -> Result<(), Failure> {
    let bodies = bodies(&args)?;
    let secrets = secrets_of(args.secret.as_deref())?;
    let secret = secrets.first().ok_or_else(no_secret)?;
    let poster = Poster::new(&args.url, secret, args.ca_cert.as_deref())?;
    let count = args.count.unwrap_or(bodies.len());
    let mut pace = pace(args.rate)?;
    if !(0.0..=1.0).contains(&args.retry_scale) {
        return Err(Failure::Usage(
            "--retry-scale: must be between 0 and 1".to_owned(),
        ));
    }
    let mut refused = 0;
    for body in bodies.iter().cycle().take(count) {
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        let id = match &args.id {
            Some(id) => id.clone(),
            None => new_id()?,
        };
        let answer = deliver(&args, &poster, &id, body.current()?).await?;
        refused += usize::from(!answer.status.is_success());
        print(&args, body.name(), &id, &answer);
    }
    if refused > 0 {
        return Err(Failure::Failed(format!(
            "{refused} of {count} were not accepted"
        )));
    }
    Ok(())
}

/// Posts a body, and with `--retry` posts it again as often as Svix does.
async fn deliver(
    args: &SendArgs,
    poster: &Poster,
    id: &str,
    body: Bytes,
) -> Result<Answer, Failure> {
    let mut waits = RETRY_AFTER.iter().filter(|_| args.retry);
    loop {
        let outcome = poster.post(id, body.clone()).await;
        let (why, asked) = match &outcome {
            Ok(answer) if answer.status.is_success() => return outcome,
            Ok(answer) => (
                format!("{} was answered", answer.status),
                answer.retry_after,
            ),
            Err(Failure::Failed(why)) => (why.clone(), None),
            Err(_) => return outcome,
        };
        let Some(wait) = waits.next() else {
            return outcome;
        };
        // A receiver may ask for up to twice the time.
        let wait = asked
            .unwrap_or_default()
            .clamp(*wait, 2 * *wait)
            .mul_f64(args.retry_scale);
        eprintln!("clerkcast: {id}: {why}; trying again in {wait:?}");
        tokio::time::sleep(wait).await;
    }
}

/// A body to send.
enum Body {
    Sample {
        event_type: &'static str,
        body: &'static str,
    },
    File(Bytes),
}

impl Body {
    fn name(&self) -> &'static str {
        match self {
            Self::Sample { event_type, .. } => event_type,
            Self::File(_) => "file",
        }
    }

    /// The bytes to send: a sample with the present time, or a file as it is.
    fn current(&self) -> Result<Bytes, Failure> {
        match self {
            Self::File(bytes) => Ok(bytes.clone()),
            Self::Sample { body, .. } => sample_as_of_now(body),
        }
    }
}

/// The sample with the present as its `timestamp`.
pub(super) fn sample_as_of_now(body: &str) -> Result<Bytes, Failure> {
    let parsed: Result<serde_json::Value, _> = serde_json::from_str(body);
    let mut event =
        parsed.map_err(|error| Failure::Failed(format!("a sample is broken: {error}")))?;
    event["timestamp"] = UnixMillis::now().milliseconds().into();
    Ok(event.to_string().into())
}

fn bodies(args: &SendArgs) -> Result<Vec<Body>, Failure> {
    if let Some(path) = &args.file {
        let bytes = read_input("--file", path)?;
        return Ok(vec![Body::File(bytes.into())]);
    }
    let all = ["*".to_owned()];
    let asked = if args.types.is_empty() {
        &all[..]
    } else {
        &args.types
    };
    let mut bodies = Vec::new();
    for wanted in asked {
        let before = bodies.len();
        let matching = SAMPLES
            .iter()
            .filter(|sample| match wanted.strip_suffix('*') {
                Some(prefix) => sample.event_type.starts_with(prefix),
                None => sample.event_type == wanted,
            });
        bodies.extend(matching.map(|sample| Body::Sample {
            event_type: sample.event_type,
            body: sample.body,
        }));
        if bodies.len() == before {
            return Err(Failure::Usage(format!(
                "TYPE: no sample of type {}; {}",
                Excerpt(wanted),
                advice(wanted)
            )));
        }
    }
    Ok(bodies)
}

/// A suggestion in place of a type without a sample.
fn advice(wanted: &str) -> String {
    let suggestions = Suggestions::new(SAMPLES.iter().map(|sample| sample.event_type));
    let samples = suggestions.allowed(|_| true);
    let name = wanted.trim_end_matches('*').trim_end_matches('.');
    match samples.nearest(name) {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => format!("there are {}", samples.families()),
    }
}

fn pace(rate: Option<f64>) -> Result<Option<Interval>, Failure> {
    let Some(rate) = rate else { return Ok(None) };
    if !(0.001..=100_000.0).contains(&rate) {
        return Err(Failure::Usage(
            "--rate: must be between 0.001 and 100000".to_owned(),
        ));
    }
    let mut interval = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Ok(Some(interval))
}

/// A closed standard output is not a failure: the events are still sent.
fn print(args: &SendArgs, name: &str, id: &str, answer: &Answer) {
    let status = answer.status.as_u16();
    let mut out = std::io::stdout().lock();
    if args.json {
        let body: serde_json::Value =
            serde_json::from_str(&answer.body).unwrap_or_else(|_| answer.body.as_str().into());
        let line = json!({"type": name, "id": id, "status": status, "answer": body});
        let _closed = writeln!(out, "{line}");
    } else {
        let remark = match answer.status.is_success() {
            true if answer.body.contains("\"duplicate\":true") => "duplicate",
            true => "",
            false => answer.body.trim(),
        };
        let line = format!("{status} {name:<32} {id}  {remark}");
        let _closed = writeln!(out, "{}", line.trim_end());
    }
}
