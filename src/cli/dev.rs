//! `clerkcast dev`: the whole gateway on this machine, in one terminal.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Failure;
use super::post::{Poster, new_id};
use super::send::sample_as_of_now;
use super::serve::{ServeArgs, stop_signal};
use super::tail::{Style, everything, print_events};
use crate::access::{Identity, Policy, Principals, Token};
use crate::app::{Addresses, Gateway};
use crate::clerk::samples::SAMPLES;
use crate::client::Subscriber;
use crate::webhook::{self, SigningSecret};

const HTTP_LISTEN: ([u8; 4], u16) = ([127, 0, 0, 1], 8080);
const SAMPLE_TYPES: [&str; 6] = [
    "user.created",
    "user.updated",
    "session.created",
    "session.ended",
    "organization.created",
    "organizationMembership.created",
];
const SAMPLE_INTERVAL: Duration = Duration::from_secs(2);

/// The same gateway as `serve`, with its flags, and other defaults: webhooks on loopback,
/// a throw-away secret, a log that is removed at the end, and warnings only.
#[derive(Clone, Debug, Args)]
pub(super) struct DevArgs {
    /// Post a signed sample event to the gateway every two seconds
    #[arg(long)]
    samples: bool,

    /// Print events as JSON, one a line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    serve: ServeArgs,
}

pub(super) async fn run(args: DevArgs) -> Result<(), Failure> {
    let mut serve = args.serve;
    let file = serve.start_logging("warn")?;
    let directory = DataDir::choose(serve.data_dir.clone().or_else(|| file.data_dir.clone()))?;
    serve.data_dir = Some(directory.path.clone());
    serve.http_listen = serve
        .http_listen
        .or(file.http_listen)
        .or(Some(HTTP_LISTEN.into()));
    let (secret, shown) = match serve.default_secrets() {
        Some((origin, text)) => (text, Shown::Origin(origin)),
        None => {
            let generated = SigningSecret::generate();
            let (_, text) = generated.map_err(Failure::failed)?;
            (text.clone(), Shown::ThrowAway(text))
        }
    };
    serve.signing_secret = Some(secret.clone());
    let mut config = serve.check(&file)?;
    if config.http_tls.is_some() || config.grpc_tls.is_some() {
        return Err(Failure::Usage(
            "`clerkcast dev` stays on this machine and speaks no TLS: leave the certificates out, or run `clerkcast serve`".to_owned(),
        ));
    }
    let token = admit_printer(&mut config.principals).map_err(Failure::failed)?;
    let stop = stop_signal()?;
    let gateway = Gateway::open(config).await;
    let gateway = gateway.map_err(Failure::failed)?;
    let addresses = gateway.addresses();
    let addresses = addresses.map_err(Failure::failed)?;
    introduce(addresses, &shown, args.samples);

    let server = format!("http://{}", addresses.grpc);
    let subscriber =
        Subscriber::new(&server, everything("clerkcast dev")).map_err(Failure::failed)?;
    let subscriber = match token {
        Some(token) => subscriber.token(&token).map_err(Failure::failed)?,
        None => subscriber,
    };
    let style = Style::new(args.json);
    let printing = tokio::spawn(async move {
        if let Err(failure) = print_events(subscriber, style).await {
            eprintln!("clerkcast: {failure}");
        }
    });
    let posting = args
        .samples
        .then(|| tokio::spawn(post_samples(addresses, secret)));
    let outcome = gateway.run(stop).await;
    printing.abort();
    if let Some(posting) = posting {
        posting.abort();
    }
    outcome.map_err(Failure::failed)
}

/// Where the configuration lets nobody in without credentials, what prints the events
/// needs some as well. They last as long as this process.
fn admit_printer(principals: &mut Principals) -> Result<Option<String>, getrandom::Error> {
    if principals.anonymous.is_some() {
        return Ok(None);
    }
    let token = Token::generate()?;
    principals.identities.push(Identity {
        name: "clerkcast dev".to_owned(),
        token_hashes: vec![token.hash()],
        certificate_names: Vec::new(),
        policy: Policy::default(),
    });
    Ok(Some(token.secret().to_owned()))
}

/// What is shown of the secret: a real one stays where it is.
enum Shown {
    ThrowAway(String),
    Origin(&'static str),
}

/// To standard error: standard output is for the events.
fn introduce(addresses: Addresses, secret: &Shown, samples: bool) {
    let Addresses { http, grpc, admin } = addresses;
    let path = webhook::PATH;
    // As this process was started, so that the lines can be pasted as they are.
    let this = std::env::args()
        .next()
        .unwrap_or_else(|| "clerkcast".to_owned());
    let arriving = if samples {
        "A signed sample event is posted every two seconds. They arrive here:"
    } else {
        "Events appear here as they arrive (--samples posts one every two seconds):"
    };
    let (secret, flag) = match secret {
        Shown::ThrowAway(text) => (
            format!("{text}   (for this run only)"),
            format!(" --secret {text}"),
        ),
        Shown::Origin("--signing-secret") => {
            ("from --signing-secret".to_owned(), " --secret …".to_owned())
        }
        Shown::Origin(origin) => (format!("from {origin}"), String::new()),
    };
    eprintln!(
        "\
Clerkcast is running on this machine.

  webhook URL     http://{http}{path}
  signing secret  {secret}
  metrics         http://{admin}/metrics

In another terminal, subscribe:

  grpcurl -plaintext -d '{{\"filter\":{{\"types\":[\"user.*\"]}}}}' {grpc} clerkcast.v1.EventService/Subscribe
  {this} tail --server http://{grpc} --from earliest --type 'user.*'

or send it an event, or one of every type:

  {this} send user.created --url http://{http}{path}{flag}
  {this} send --url http://{http}{path}{flag}

{arriving}
"
    );
}

/// What happens most often, over and over; `clerkcast send` knows every type.
async fn post_samples(addresses: Addresses, secret: String) -> Result<(), Failure> {
    let secrets = SigningSecret::parse_list(&secret);
    let secrets = secrets.map_err(Failure::failed)?;
    let Some(secret) = secrets.first() else {
        return Ok(());
    };
    let poster = Poster::new(
        &format!("http://{}{}", addresses.http, webhook::PATH),
        secret,
        None,
    )?;
    let mut pace = tokio::time::interval(SAMPLE_INTERVAL);
    let shown = SAMPLES
        .iter()
        .filter(|sample| SAMPLE_TYPES.contains(&sample.event_type));
    for sample in shown.cycle() {
        pace.tick().await;
        let answer = poster
            .post(&new_id()?, sample_as_of_now(sample.body)?)
            .await;
        if let Err(error) = answer {
            tracing::warn!(%error, "a sample was not accepted");
        }
    }
    Ok(())
}

/// The log's directory, removed at the end unless it was asked for.
struct DataDir {
    path: PathBuf,
    is_temporary: bool,
}

impl DataDir {
    fn choose(asked: Option<PathBuf>) -> Result<Self, Failure> {
        if let Some(path) = asked {
            return Ok(Self {
                path,
                is_temporary: false,
            });
        }
        let name = format!("clerkcast-dev-{}", new_id()?);
        Ok(Self {
            path: std::env::temp_dir().join(name),
            is_temporary: true,
        })
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if self.is_temporary {
            let _stays_in_tmp = std::fs::remove_dir_all(&self.path);
        }
    }
}
