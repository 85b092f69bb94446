//! `clerkcast send`: sample events, or a file, signed and posted; or recorded deliveries.

mod message;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::time::{Interval, MissedTickBehavior};

use super::failure::Failure;
use super::figures::grouped;
use super::output::{escaped, note, print_line};
use super::post::{Poster, Signer};
use super::secrets::{no_secret, secrets_of};
use crate::event::numbers::saturating;
use crate::net::Answer;
use message::{Message, Outgoing};

pub(super) use message::sample_as_of_now;

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

    /// Post deliveries that `clerk webhooks listen --json` printed again, each with its own headers;
    /// `-` reads standard input. A gateway refuses those that were signed more than 5 minutes ago
    #[arg(long, value_name = "FILE", conflicts_with_all = ["types", "file", "secret", "id"])]
    delivery: Option<PathBuf>,

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
    let messages = messages(&args)?;
    let signer = match &args.delivery {
        Some(_) => None,
        None => Some(signer(&args)?),
    };
    let poster = Poster::new(&args.url, args.ca_cert.as_deref())?;
    let count = args.count.unwrap_or(messages.len());
    let mut pace = pace(args.rate)?;
    if !(0.0..=1.0).contains(&args.retry_scale) {
        return Err(Failure::Usage(
            "--retry-scale: must be between 0 and 1".to_owned(),
        ));
    }
    let mut accepted = 0;
    for message in messages.iter().cycle().take(count) {
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        let outgoing = message.deliver(signer.as_ref(), args.id.as_deref())?;
        let answer = deliver(&args, &poster, &outgoing).await?;
        accepted += usize::from(answer.status.is_success());
        print(&args, message.name(), outgoing.id(), &answer)?;
    }
    let outcome = outcome(accepted, count);
    if accepted < count {
        return Err(Failure::Failed(outcome));
    }
    note(outcome);
    Ok(())
}

fn messages(args: &SendArgs) -> Result<Vec<Message>, Failure> {
    match (&args.delivery, &args.file) {
        (Some(path), _) => message::recorded(path),
        (None, Some(path)) => message::file(path),
        (None, None) => message::samples(&args.types),
    }
}

/// `1 of 1 was accepted`, `40 of 46 were accepted`
fn outcome(accepted: usize, count: usize) -> String {
    let verb = if count == 1 { "was" } else { "were" };
    let [accepted, count] = [accepted, count].map(|number| grouped(saturating(number)));
    format!("{accepted} of {count} {verb} accepted")
}

fn signer(args: &SendArgs) -> Result<Signer, Failure> {
    let secrets = secrets_of(args.secret.as_deref())?;
    let secret = secrets.first().ok_or_else(no_secret)?;
    Ok(Signer::new(secret))
}

/// Posts a delivery, and with `--retry` posts it again as often as Svix does.
async fn deliver(
    args: &SendArgs,
    poster: &Poster,
    outgoing: &Outgoing<'_>,
) -> Result<Answer, Failure> {
    let mut waits = RETRY_AFTER.iter().filter(|_| args.retry);
    loop {
        let (headers, body) = outgoing.attempt()?;
        let outcome = poster.post(headers, body).await;
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
        let id = outgoing.id();
        note(format_args!("{id}: {why}; trying again in {wait:?}"));
        tokio::time::sleep(wait).await;
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
fn print(args: &SendArgs, name: &str, id: &str, answer: &Answer) -> Result<(), Failure> {
    let status = answer.status.as_u16();
    if args.json {
        let body: serde_json::Value =
            serde_json::from_str(&answer.body).unwrap_or_else(|_| answer.body.as_str().into());
        return print_line(json!({"type": name, "id": id, "status": status, "answer": body}));
    }
    let remark = match answer.status.is_success() {
        true if answer.body.contains("\"duplicate\":true") => "duplicate",
        true => "",
        false => answer.body.trim(),
    };
    // As wide as it is shown.
    let name = escaped(name);
    let line = format!("{status} {name:<32} {id}  {remark}");
    print_line(line.trim_end())
}
