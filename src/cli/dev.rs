//! `clerkcast dev`: the whole gateway on this machine, in one terminal.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, Args};
use clerkcast_client::Subscriber;

use super::failure::Failure;
use super::options::{Checked, Origin, ServeArgs, Settings, check, refusal};
use super::output::{note, report};
use super::post::{Poster, Signer, new_id};
use super::printer::{Printer, Style};
use super::secrets;
use super::send::sample_as_of_now;
use super::serve::{start_logging, stop_signal};
use super::tail::everything;
use crate::access::{AccessConfig, Policy, PrincipalConfig, Token};
use crate::app::file::Environment;
use crate::app::{Addresses, Gateway};
use crate::clerk::samples::SAMPLES;
use crate::webhook::{self, SigningSecret};

/// Defaults that differ from those of `serve`.
const DEFAULTS: &[(&str, &str)] = &[("http_listen", "127.0.0.1:8080"), ("log_level", "warn")];
/// Default addresses. If one is busy and no option sets it, the system chooses a free port.
const PORTS: &[(&str, &str)] = &[
    ("http_listen", "127.0.0.1:8080"),
    ("grpc_listen", "127.0.0.1:50051"),
    ("admin_listen", "127.0.0.1:9090"),
];
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
    let loaded = args.serve.load(Environment::OfProcess).map_err(refusal)?;
    let mut settings = loaded.settings;
    for (key, default) in DEFAULTS {
        if !settings.has(key) {
            settings.given.set(key, *default, Origin::Default);
        }
    }
    take_free_ports(&mut settings);
    start_logging(&settings)?;
    let asked = settings
        .has("data_dir")
        .then(|| settings.value("data_dir"))
        .flatten()
        .map(|(path, _)| PathBuf::from(path));
    let directory = DataDir::choose(asked)?;
    settings
        .given
        .set("data_dir", directory.path.clone(), Origin::Default);
    let (secret, shown) = choose_secret(&mut settings, args.samples)?;
    let Checked {
        mut config,
        warnings,
        ..
    } = check(&settings).map_err(refusal)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    if config.http.tls.is_some() || config.grpc.tls.is_some() {
        return Err(Failure::Usage(
            "`clerkcast dev` stays on this machine and speaks no TLS: leave the certificates out, or run `clerkcast serve`".to_owned(),
        ));
    }
    let token = admit_printer(&mut config.access).map_err(Failure::failed)?;
    let stop = stop_signal()?;
    let gateway = Box::pin(Gateway::open(config))
        .await
        .map_err(Failure::failed)?;
    let addresses = gateway.addresses().map_err(Failure::failed)?;
    introduce(addresses, &shown, args.samples);

    let server = format!("http://{}", addresses.grpc);
    let mut subscriber =
        Subscriber::new(&server, everything("clerkcast dev")).map_err(Failure::failed)?;
    if let Some(token) = token {
        subscriber = subscriber.token(&token).map_err(Failure::failed)?;
    }
    let style = Style::new(args.json);
    #[expect(
        clippy::disallowed_methods,
        reason = "aborted when the gateway has stopped"
    )]
    let mut printing = tokio::spawn(async move {
        let mut printer = Printer::new(style, false).without_narrowing();
        printer.print(&mut subscriber).await
    });
    #[expect(
        clippy::disallowed_methods,
        reason = "aborted when the gateway has stopped"
    )]
    let posting = args
        .samples
        .then(|| tokio::spawn(post_samples(addresses, secret)));
    let mut unprinted = None;
    let stop = async {
        tokio::pin!(stop);
        let printed = tokio::select! {
            () = &mut stop => return,
            printed = &mut printing => printed,
        };
        match printed {
            Ok(Err(failure @ Failure::Output(_))) => {
                unprinted = Some(failure);
                return;
            }
            Ok(Err(failure)) => note(failure),
            // No process reads the events any more; the gateway runs on.
            Ok(Ok(())) | Err(_) => {}
        }
        stop.await;
    };
    let outcome = gateway.run(stop).await;
    printing.abort();
    if let Some(posting) = posting {
        posting.abort();
    }
    outcome.map_err(Failure::from)?;
    unprinted.map_or(Ok(()), Err)
}

/// The option of `serve`, with its default in `dev`.
pub(super) fn with_own_default(option: Arg) -> Arg {
    let help = match option.get_id().as_str() {
        "http_listen" => {
            "Where webhooks are received [default: 127.0.0.1:8080, or a free port if it is busy]"
        }
        "grpc_listen" => {
            "Where subscribers connect [default: 127.0.0.1:50051, or a free port if it is busy]"
        }
        "admin_listen" => {
            "Where /healthz, /readyz and /metrics are served [default: 127.0.0.1:9090, or a free port if it is busy]"
        }
        "data_dir" => "Where the log is kept [default: a temporary directory, removed at the end]",
        "log_level" => {
            "What is logged: error, warn, info, debug or trace, or by module, such as `info,clerkcast::webhook=debug` [default: warn]"
        }
        _ => return option,
    };
    option.help(help)
}

/// Lets the system choose a port where no option sets one and the default is busy.
fn take_free_ports(settings: &mut Settings) {
    for (key, usual) in PORTS {
        let is_busy = || {
            let bound = std::net::TcpListener::bind(usual);
            bound.is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
        };
        if !settings.has(key) && is_busy() {
            note(format_args!("{usual} is busy; using a free port instead"));
            settings.given.set(key, "127.0.0.1:0", Origin::Default);
        }
    }
}

/// The secret of the default source, unparsed; a new one if no secret is given. Empty if the
/// file has sources of its own.
fn choose_secret(
    settings: &mut Settings,
    samples: bool,
) -> Result<(String, SecretDisplay), Failure> {
    if settings.document.has_sources() {
        return match samples {
            true => Err(Failure::Usage(
                "--samples posts to the default source, and the configuration file has [[sources]] of its own: leave one of them out".to_owned(),
            )),
            false => Ok((String::new(), SecretDisplay::Origin("[[sources]] of the file".to_owned()))),
        };
    }
    let flag = settings
        .value("signing_secret")
        .map(|(text, _)| text.to_string_lossy().into_owned());
    if let Some((origin, text)) = secrets::find("--signing-secret", flag.as_deref())? {
        return Ok((text, SecretDisplay::Origin(origin)));
    }
    let (_, text) = SigningSecret::generate().map_err(Failure::failed)?;
    settings.given.set("signing_secret", &text, Origin::Flag);
    Ok((text.clone(), SecretDisplay::ThrowAway(text)))
}

/// Where the configuration requires credentials, the subscriber that prints the events
/// needs some as well. They last as long as this process.
fn admit_printer(access: &mut AccessConfig) -> Result<Option<String>, getrandom::Error> {
    if access.anonymous.is_some() {
        return Ok(None);
    }
    let token = Token::generate()?;
    access.principals.push(PrincipalConfig {
        name: "clerkcast dev".to_owned(),
        token_hashes: vec![token.hash()],
        certificate_names: Vec::new(),
        policy: Policy::default(),
    });
    Ok(Some(token.secret().to_owned()))
}

/// How the secret is shown. A real one is not shown at all.
enum SecretDisplay {
    ThrowAway(String),
    Origin(String),
}

/// Prints to standard error, because standard output is for the events.
fn introduce(addresses: Addresses, secret: &SecretDisplay, samples: bool) {
    let Addresses { http, grpc, admin } = addresses;
    let path = webhook::PATH;
    // The program as this process was started, so that the lines can be pasted as they are.
    let program = std::env::args()
        .next()
        .unwrap_or_else(|| "clerkcast".to_owned());
    let arriving = if samples {
        "A signed sample event is posted every two seconds. They arrive here:"
    } else {
        "Events appear here as they arrive (--samples posts one every two seconds):"
    };
    let (secret, flag) = match secret {
        SecretDisplay::ThrowAway(text) => (
            format!("{text}   (for this run only)"),
            format!(" --secret {text}"),
        ),
        SecretDisplay::Origin(origin) if origin == "--signing-secret" => {
            ("from --signing-secret".to_owned(), " --secret …".to_owned())
        }
        SecretDisplay::Origin(origin) => (format!("from {origin}"), String::new()),
    };
    let introduction = format!(
        "\
Clerkcast is running on this machine.

  webhook URL     http://{http}{path}
  signing secret  {secret}
  metrics         http://{admin}/metrics

In another terminal, subscribe:

  grpcurl -plaintext -d '{{\"filter\":{{\"types\":[\"user.*\"]}}}}' {grpc} clerkcast.v1.EventService/Subscribe
  {program} tail --server http://{grpc} --from earliest --type 'user.*'

or send it an event, or one of every type:

  {program} send user.created --url http://{http}{path}{flag}
  {program} send --url http://{http}{path}{flag}

or let Clerk's own tool forward real ones (it prints a URL: add it as an endpoint in Clerk's
dashboard, and start again with that endpoint's secret in CLERK_WEBHOOK_SIGNING_SECRET):

  npx clerk webhooks listen --forward-to http://{http}{path}

{arriving}
"
    );
    introduction.lines().for_each(report);
}

/// Posts samples of the most frequent types, again and again; `clerkcast send` has every type.
async fn post_samples(addresses: Addresses, secret: String) -> Result<(), Failure> {
    let secrets = SigningSecret::parse_list(&secret).map_err(Failure::failed)?;
    let Some(secret) = secrets.first() else {
        return Ok(());
    };
    let signer = Signer::new(secret);
    let url = format!("http://{}{}", addresses.http, webhook::PATH);
    let poster = Poster::new(&url, None)?;
    let mut pace = tokio::time::interval(SAMPLE_INTERVAL);
    let shown = SAMPLES
        .iter()
        .filter(|sample| SAMPLE_TYPES.contains(&sample.event_type));
    for sample in shown.cycle() {
        pace.tick().await;
        let body = sample_as_of_now(sample.body)?;
        let headers = signer.headers(&new_id()?, &body)?;
        let answer = poster.post(headers, body).await;
        if let Err(error) = answer {
            tracing::warn!(%error, "a sample was not accepted");
        }
    }
    Ok(())
}

/// The log's directory, removed at the end unless an option names it.
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
