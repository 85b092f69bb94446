//! `clerkcast tail`: a reconnecting subscriber in the terminal.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::str::FromStr as _;

use clap::Args;
use clerkcast_client::{Connection, Subscriber};
use prost::Message as _;
use prost_reflect::{DynamicMessage, SerializeOptions};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::failure::Failure;
use super::input::read_input;
use super::secrets;
use crate::proto::subscribe_request::Start;
use crate::proto::subscribe_response::Kind;
use crate::proto::{EventFilter, StartPosition, SubscribeRequest, SubscribeResponse};
use crate::{access, proto, webhook};

/// Types that are named at the end; the others are `…`.
const TYPES_SUMMED_MAX: usize = 2;

/// Prints events until interrupted; resumes by itself when the gateway is away.
#[derive(Clone, Debug, Args)]
pub(super) struct TailArgs {
    /// The gateway: http:// or grpc://, with TLS https:// or grpcs://
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

    /// End after N events [default: no limit]
    #[arg(long, value_name = "N")]
    max: Option<i64>,

    /// End when the history is printed
    #[arg(long)]
    until_caught_up: bool,

    /// Also ask for the verified body; shown with --json
    #[arg(long)]
    include_payload: bool,

    /// Print the verified body below each event
    #[arg(short, long)]
    verbose: bool,

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
                    "--from: {time:?}: write earliest, latest, or a time such as 2026-11-23T09:00:00Z"
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
            include_payload: self.include_payload || self.verbose,
            subscriber_name: self.name.clone(),
            ..SubscribeRequest::default()
        })
    }
}

impl TailArgs {
    /// The TLS of the connection; none if no flag sets it.
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
        if is_asked_for && !clerkcast_client::with_scheme(&self.server).starts_with("https://") {
            return Err(Failure::Usage(format!(
                "--server: {}: certificates are for https:// or grpcs://",
                self.server
            )));
        }
        Ok(is_asked_for.then_some(tls))
    }
}

pub(super) async fn run(args: TailArgs) -> Result<(), Failure> {
    let request = args.request()?;
    let usage = |error: clerkcast_client::Error| {
        let flag = match error {
            clerkcast_client::Error::Token => "--token",
            clerkcast_client::Error::Tls(_) => "--ca-cert",
            _ => "--server",
        };
        Failure::Usage(format!("{flag}: {error}"))
    };
    let mut subscriber = Subscriber::new(&args.server, request)
        .map_err(usage)?
        .watch(report_connection);
    if let Some(tls) = args.tls()? {
        subscriber = subscriber.tls(tls).map_err(usage)?;
    }
    if let Some(token) = secrets::token(args.token.as_deref())? {
        subscriber = subscriber.token(&token).map_err(usage)?;
    }
    let mut printer = Printer::new(Style::new(args.json), args.verbose);
    tokio::select! {
        ended = printer.print(&mut subscriber) => ended,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.map_err(Failure::failed)?;
            Err(Failure::Interrupted(printer.summary()))
        }
    }
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

/// Prints frames, and counts the printed events.
pub(super) struct Printer {
    style: Style,
    /// Whether the body is printed below each event.
    is_verbose: bool,
    counts: BTreeMap<String, u64>,
    /// The cursor of the last printed frame.
    cursor: String,
    is_narrowing_reported: bool,
}

impl Printer {
    pub(super) fn new(style: Style, is_verbose: bool) -> Self {
        Self {
            style,
            is_verbose,
            counts: BTreeMap::new(),
            cursor: String::new(),
            is_narrowing_reported: false,
        }
    }

    /// Does not report what the policy removes, because `clerkcast dev` made the policy itself.
    pub(super) fn without_narrowing(mut self) -> Self {
        self.is_narrowing_reported = true;
        self
    }

    /// Prints until the stream ends as asked, or standard output is closed.
    pub(super) async fn print(&mut self, subscriber: &mut Subscriber) -> Result<(), Failure> {
        loop {
            let Some(frame) = subscriber
                .next()
                .await
                .map_err(|error| Failure::Failed(error.to_string()))?
            else {
                return Ok(());
            };
            if let Some(line) = self.line(&frame)? {
                let mut out = std::io::stdout().lock();
                if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
                    return Ok(());
                }
            }
            if let Some(Kind::Event(event)) = &frame.kind {
                *self.counts.entry(event.r#type.clone()).or_default() += 1;
            }
            self.cursor = frame.cursor;
        }
    }

    /// The printed events, and how to resume: `3 events (2 user.created, 1 user.updated); …`.
    fn summary(&self) -> String {
        let count: u64 = self.counts.values().sum();
        let mut types: Vec<(&String, &u64)> = self.counts.iter().collect();
        types.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let more = if types.len() > TYPES_SUMMED_MAX {
            ", …"
        } else {
            ""
        };
        let shown = types
            .iter()
            .take(TYPES_SUMMED_MAX)
            .map(|(name, count)| format!("{count} {}", name_of(name)))
            .collect::<Vec<_>>()
            .join(", ");
        let of_types = if count == 0 {
            String::new()
        } else {
            format!(" ({shown}{more})")
        };
        let noun = if count == 1 { "event" } else { "events" };
        match self.cursor.as_str() {
            "" => format!("{count} {noun}{of_types}"),
            cursor => format!("{count} {noun}{of_types}; resume with --after {cursor}"),
        }
    }

    fn line(&mut self, frame: &SubscribeResponse) -> Result<Option<String>, Failure> {
        match &frame.kind {
            Some(Kind::Event(_) | Kind::Gap(_)) if self.style == Style::Json => {
                json(frame).map(Some)
            }
            Some(Kind::Event(event)) => Ok(Some(self.with_body(event))),
            Some(Kind::Gap(_)) => {
                eprintln!("clerkcast: events were removed by retention before they could be read");
                Ok(None)
            }
            Some(Kind::FellBehind(_)) => {
                eprintln!("clerkcast: fell behind; reading from the log until caught up");
                Ok(None)
            }
            Some(Kind::Started(started)) => {
                let narrowed = started.narrowed.as_ref().and_then(taken_away);
                // Once, not at each connection.
                if let Some(text) = narrowed.filter(|_| !self.is_narrowing_reported) {
                    eprintln!("clerkcast: {text}");
                    self.is_narrowing_reported = true;
                }
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn with_body(&self, event: &proto::Event) -> String {
        let summary = summary(event, self.style);
        match &event.payload_json {
            Some(body) if self.is_verbose => format!("{summary}\n{}", indented(body)),
            _ => summary,
        }
    }
}

/// The body on lines of its own, with its keys in their order. A body that is not JSON, or is
/// nested too deep to indent, stays as it is.
fn indented(body: &str) -> String {
    let pretty = webhook::pretty(body).unwrap_or_else(|| body.to_owned());
    let lines = pretty.lines().map(|line| format!("    {line}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// What the caller's policy removes, and how to change that.
fn taken_away(narrowed: &proto::Narrowed) -> Option<String> {
    let parts = [
        ("types withheld: ", &narrowed.withheld_types),
        ("only types: ", &narrowed.types),
        ("without types: ", &narrowed.exclude_types),
        ("only sources: ", &narrowed.sources),
        ("fields removed: ", &narrowed.redacted_fields),
    ];
    let narrowings: Vec<String> = parts
        .iter()
        .filter(|(_, values)| !values.is_empty())
        .map(|(what, values)| format!("{what}{}", values.join(", ")))
        .collect();
    let sealed = access::redaction::grants();
    let grants: Vec<String> = narrowed
        .redacted_fields
        .iter()
        .filter(|name| sealed.contains(&name.as_str()))
        .map(|name| format!("\"{name}\""))
        .collect();
    let remedy = match &grants[..] {
        [] => String::new(),
        grants => format!(
            "; `grant = [{}]` in its table of the gateway's configuration gives back what is sealed",
            grants.join(", ")
        ),
    };
    let is_narrowed = !narrowings.is_empty();
    is_narrowed.then(|| {
        format!(
            "this caller's policy narrows what is sent ({}){remedy}",
            narrowings.join("; ")
        )
    })
}

fn name_of(event_type: &str) -> &str {
    if event_type.is_empty() {
        "(no type)"
    } else {
        event_type
    }
}

/// One line: the time, the type, the ids that the event concerns, and its own id.
fn summary(event: &proto::Event, style: Style) -> String {
    let time = event
        .occur_time
        .as_ref()
        .or(event.receive_time.as_ref())
        .map_or_else(String::new, ToString::to_string);
    let name = name_of(&event.r#type);
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
    let descriptor = proto::DESCRIPTORS
        .get_message_by_name(&name)
        .ok_or_else(|| failed("no descriptor".to_owned()))?;
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
