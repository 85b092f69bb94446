//! `clerkcast tail`: a reconnecting subscriber in the terminal.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::str::FromStr as _;

use clap::Args;
use prost::Message as _;
use prost_reflect::{DynamicMessage, SerializeOptions};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::secrets;
use super::{Failure, read_input};
use crate::client::{self, Connection, Subscriber};
use crate::proto;
use crate::proto::subscribe_request::Start;
use crate::proto::subscribe_response::Kind;
use crate::proto::{EventFilter, StartPosition, SubscribeRequest, SubscribeResponse};

/// Prints events until interrupted; resumes by itself when the gateway is away.
#[derive(Clone, Debug, Args)]
pub(super) struct TailArgs {
    /// The gateway
    #[arg(
        long,
        env = "CLERKCAST_GRPC_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:50051"
    )]
    pub(super) server: String,

    /// The token that the gateway knows this subscriber by. Better set in the environment, since
    /// other users of this machine can see a command line
    #[arg(
        long,
        env = "CLERKCAST_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,

    /// The authorities that vouch for the gateway's certificate (PEM) [default: the system's]
    #[arg(long, env = "CLERKCAST_CA_CERT", value_name = "FILE")]
    ca_cert: Option<PathBuf>,

    /// The certificate that the gateway knows this subscriber by (PEM)
    #[arg(
        long,
        env = "CLERKCAST_CLIENT_CERT",
        value_name = "FILE",
        requires = "client_key"
    )]
    client_cert: Option<PathBuf>,

    /// Its private key (PEM)
    #[arg(
        long,
        env = "CLERKCAST_CLIENT_KEY",
        value_name = "FILE",
        requires = "client_cert"
    )]
    client_key: Option<PathBuf>,

    /// Only these types: `user.created`, `user.*`; repeat for several
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,

    /// Not these types
    #[arg(long = "exclude-type", value_name = "TYPE")]
    exclude_types: Vec<String>,

    /// Only events that concern these users
    #[arg(long = "user", value_name = "ID")]
    users: Vec<String>,

    /// Only events that concern these organizations
    #[arg(long = "org", value_name = "ID")]
    organizations: Vec<String>,

    /// Only events of these sessions
    #[arg(long = "session", value_name = "ID")]
    sessions: Vec<String>,

    /// Only events of these Clerk instances
    #[arg(long = "instance", value_name = "ID")]
    instances: Vec<String>,

    /// Only events from these sources
    #[arg(long = "source", value_name = "NAME")]
    sources: Vec<String>,

    /// Where to start: `earliest`, `latest`, or a time such as 2026-11-23T09:00:00Z
    #[arg(
        long,
        value_name = "WHERE",
        default_value = "latest",
        conflicts_with = "after"
    )]
    from: String,

    /// Start after this cursor, as --json shows them
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,

    /// End after so many events [default: no limit]
    #[arg(long, value_name = "N")]
    max: Option<i64>,

    /// End when the history is printed
    #[arg(long)]
    until_caught_up: bool,

    /// Also ask for the verified body; shown with --json
    #[arg(long)]
    include_payload: bool,

    /// Print one JSON object a line: the frame, with the proto's field names
    #[arg(long)]
    json: bool,

    /// The name to show up with in the gateway's logs and metrics
    #[arg(long, value_name = "NAME", default_value = "clerkcast tail")]
    name: String,
}

impl TailArgs {
    fn request(&self) -> Result<SubscribeRequest, Failure> {
        let start = match (&self.after, self.from.as_str()) {
            (Some(cursor), _) => Start::AfterCursor(cursor.clone()),
            (None, "latest") => Start::StartPosition(StartPosition::Latest.into()),
            (None, "earliest") => Start::StartPosition(StartPosition::Earliest.into()),
            (None, time) => Start::StartTime(prost_types::Timestamp::from_str(time).map_err(|_| {
                Failure::Usage(format!(
                    "--from {time:?}: write earliest, latest, or a time such as 2026-11-23T09:00:00Z"
                ))
            })?),
        };
        Ok(SubscribeRequest {
            filter: Some(EventFilter {
                types: self.types.clone(),
                exclude_types: self.exclude_types.clone(),
                user_ids: self.users.clone(),
                organization_ids: self.organizations.clone(),
                session_ids: self.sessions.clone(),
                sources: self.sources.clone(),
                instance_ids: self.instances.clone(),
            }),
            start: Some(start),
            stop_when_caught_up: self.until_caught_up,
            max_events: self.max.unwrap_or(0),
            include_payload: self.include_payload,
            subscriber_name: self.name.clone(),
            ..SubscribeRequest::default()
        })
    }
}

impl TailArgs {
    /// None where the flags say nothing of TLS.
    fn tls(&self) -> Result<Option<ClientTlsConfig>, Failure> {
        let mut tls = match &self.ca_cert {
            Some(path) => {
                let authority = Certificate::from_pem(read_input("--ca-cert", path)?);
                ClientTlsConfig::new().ca_certificate(authority)
            }
            None => ClientTlsConfig::new().with_native_roots(),
        };
        if let (Some(certificate), Some(key)) = (&self.client_cert, &self.client_key) {
            let certificate = read_input("--client-cert", certificate)?;
            let key = read_input("--client-key", key)?;
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        let is_asked_for = self.ca_cert.is_some() || self.client_cert.is_some();
        if is_asked_for && !self.server.starts_with("https://") {
            return Err(Failure::Usage(format!(
                "--server {}: certificates are for https://",
                self.server
            )));
        }
        Ok(is_asked_for.then_some(tls))
    }
}

pub(super) async fn run(args: TailArgs) -> Result<(), Failure> {
    let request = args.request()?;
    let usage = |error: client::Error| Failure::Usage(error.to_string());
    let subscriber = Subscriber::new(&args.server, request).map_err(usage)?;
    let subscriber = match args.tls()? {
        Some(tls) => subscriber.tls(tls).map_err(usage)?,
        None => subscriber,
    };
    let subscriber = match secrets::token(args.token.as_deref())? {
        Some(token) => subscriber.token(&token).map_err(usage)?,
        None => subscriber,
    };
    print_events(subscriber.watch(report_connection), Style::new(args.json)).await
}

fn report_connection(connection: &Connection) {
    match connection {
        Connection::Open => eprintln!("clerkcast: connected"),
        Connection::Lost { reason, retry_in } => {
            eprintln!("clerkcast: connection lost ({reason}); trying again in {retry_in:?}");
        }
    }
}

/// How events are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Json,
    Plain,
    Colored,
}

impl Style {
    pub(super) fn new(json: bool) -> Self {
        let wants_color = std::env::var_os("NO_COLOR").is_none();
        match (json, std::io::stdout().is_terminal() && wants_color) {
            (true, _) => Self::Json,
            (false, true) => Self::Colored,
            (false, false) => Self::Plain,
        }
    }
}

/// Prints until the stream ends as asked, or nobody reads what is printed.
pub(super) async fn print_events(mut subscriber: Subscriber, style: Style) -> Result<(), Failure> {
    loop {
        let frame = subscriber.next().await;
        let frame = frame.map_err(|error| Failure::Failed(error.to_string()))?;
        let Some(frame) = frame else { return Ok(()) };
        let Some(line) = line(&frame, style)? else {
            continue;
        };
        let mut out = std::io::stdout().lock();
        if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
    }
}

fn line(frame: &SubscribeResponse, style: Style) -> Result<Option<String>, Failure> {
    match &frame.kind {
        Some(Kind::Event(_)) if style == Style::Json => json(frame).map(Some),
        Some(Kind::Event(event)) => Ok(Some(summary(event, style))),
        Some(Kind::Gap(_)) if style == Style::Json => json(frame).map(Some),
        Some(Kind::Gap(_)) => {
            eprintln!("clerkcast: events were removed by retention before they could be read");
            Ok(None)
        }
        Some(Kind::FellBehind(_)) => {
            eprintln!("clerkcast: fell behind; reading from the log until caught up");
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// When, what, whom, and the id to look it up by.
fn summary(event: &proto::Event, style: Style) -> String {
    let time = event.occur_time.as_ref().or(event.receive_time.as_ref());
    let time = time.map_or_else(String::new, ToString::to_string);
    let name = if event.r#type.is_empty() {
        "(no type)"
    } else {
        &event.r#type
    };
    let ids = [&event.user_id, &event.organization_id, &event.session_id];
    let mut concerns: Vec<&str> = ids
        .iter()
        .map(|id| id.as_str())
        .filter(|id| !id.is_empty())
        .collect();
    if concerns.is_empty() {
        let object = Some(event.object_id.as_str()).filter(|id| !id.is_empty());
        concerns.push(object.unwrap_or("-"));
    }
    let concerns = concerns.join(" ");
    let Style::Colored = style else {
        return format!("{time:<24} {name:<32} {concerns}  {}", event.id);
    };
    format!(
        "\x1b[2m{time:<24}\x1b[0m \x1b[1;36m{name:<32}\x1b[0m {concerns}  \x1b[2m{}\x1b[0m",
        event.id
    )
}

fn json(frame: &SubscribeResponse) -> Result<String, Failure> {
    let failed = |error: String| Failure::Failed(format!("cannot print a frame as JSON: {error}"));
    let name = format!("{}.SubscribeResponse", proto::PACKAGE);
    let descriptor = proto::DESCRIPTORS.get_message_by_name(&name);
    let descriptor = descriptor.ok_or_else(|| failed("no descriptor".to_owned()))?;
    let message = DynamicMessage::decode(descriptor, &frame.encode_to_vec()[..])
        .map_err(|error| failed(error.to_string()))?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    let mut out = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut out);
    message
        .serialize_with_options(&mut serializer, &options)
        .map_err(|error| failed(error.to_string()))?;
    String::from_utf8(out).map_err(|error| failed(error.to_string()))
}

/// The whole log, then live, for `clerkcast dev`.
pub(super) fn everything(name: &str) -> SubscribeRequest {
    SubscribeRequest {
        start: Some(Start::StartPosition(StartPosition::Earliest.into())),
        subscriber_name: name.to_owned(),
        ..SubscribeRequest::default()
    }
}
