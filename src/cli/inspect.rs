//! `clerkcast info`, `get`, `types` and `subscribers`: what a gateway answers, as a table.

use clap::Args;
use clerkcast_client::{Authorized, Gateway};
use prost_types::Timestamp;
use tonic::{Response, Status};

use super::connect::ConnectionArgs;
use super::failure::Failure;
use super::figures::{grouped, size};
use super::options::{Limit, Period, Size};
use super::output::{Printable, note, print_line, print_lines};
use super::printer::indented;
use super::table::{NO_VALUE, aligned, to_the_second};
use super::{advice, json, narrowing};
use crate::proto::event_service_client::EventServiceClient;
use crate::proto::{
    Event, EventType, GetEventRequest, GetLogInfoRequest, GetLogInfoResponse,
    ListEventTypesRequest, ListSubscribersRequest, Subscriber, SubscriberState,
};

/// Subscribers that one call asks for, which is the most that a page holds.
const PAGE_SIZE: i32 = 1000;

#[derive(Clone, Debug, Args)]
pub(super) struct InfoArgs {
    #[command(flatten)]
    connection: ConnectionArgs,

    /// Print one JSON object, with the proto's field names
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, Args)]
pub(super) struct GetArgs {
    #[command(flatten)]
    connection: ConnectionArgs,

    /// The event's id, its svix-id: `msg_…`
    id: String,

    /// The source that accepted it, if several hold the id
    #[arg(long, value_name = "NAME")]
    source: Option<String>,

    /// Print the verified body below
    #[arg(short, long)]
    verbose: bool,

    /// Also ask for the verified body; shown with --json
    #[arg(long)]
    include_payload: bool,

    /// Print one JSON object, with the proto's field names
    #[arg(long)]
    json: bool,
}

/// The arguments of `types` and of `subscribers`.
#[derive(Clone, Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    connection: ConnectionArgs,

    /// Print one JSON object a line, with the proto's field names
    #[arg(long)]
    json: bool,
}

/// A call to one gateway.
struct Call {
    gateway: Gateway,
    client: EventServiceClient<Authorized>,
}

impl Call {
    fn new(connection: &ConnectionArgs) -> Result<Self, Failure> {
        let gateway = connection.gateway()?;
        let client = gateway.events();
        Ok(Self { gateway, client })
    }

    /// The message of an answer, or what is wrong and what to do.
    fn answer<M>(&self, response: Result<Response<M>, Status>) -> Result<M, Failure> {
        response
            .map(Response::into_inner)
            .map_err(|status| advice::call_failure(&self.gateway.error(status)))
    }
}

pub(super) async fn info(args: InfoArgs) -> Result<(), Failure> {
    let mut call = Call::new(&args.connection)?;
    let response = call.client.get_log_info(GetLogInfoRequest {}).await;
    let info = call.answer(response)?;
    match args.json {
        true => print_line(json::line(&info, "GetLogInfoResponse")?),
        false => print_lines(aligned(&rows_of_info(&info))),
    }
}

fn rows_of_info(info: &GetLogInfoResponse) -> Vec<[String; 2]> {
    let retain_for = info.retain_for.and_then(|time| time.try_into().ok());
    let retain_bytes = Some(info.retain_bytes.unsigned_abs()).filter(|bytes| *bytes > 0);
    // A caller that may not receive all events does not see the size.
    let size = match info.size_bytes {
        0 => NO_VALUE.to_owned(),
        bytes => size(bytes.unsigned_abs()),
    };
    let rows = [
        ("events", grouped(info.event_count.unsigned_abs())),
        ("size", size),
        ("retain for", Limit(retain_for.map(Period)).to_string()),
        ("retain bytes", Limit(retain_bytes.map(Size)).to_string()),
        ("oldest received", shown(info.oldest_receive_time)),
        ("newest received", shown(info.newest_receive_time)),
        ("oldest cursor", info.oldest_cursor.clone()),
        ("newest cursor", info.newest_cursor.clone()),
        ("epoch", info.epoch.clone()),
    ];
    rows.map(|(name, value)| [name.to_owned(), value]).into()
}

pub(super) async fn get(args: GetArgs) -> Result<(), Failure> {
    let mut call = Call::new(&args.connection)?;
    let request = GetEventRequest {
        id: args.id.clone(),
        source: args.source.clone().unwrap_or_default(),
        include_payload: args.include_payload || args.verbose,
    };
    let response = call.client.get_event(request).await;
    let answer = call.answer(response)?;
    if let Some(text) = answer.narrowed.as_ref().and_then(narrowing::described) {
        note(text);
    }
    if args.json {
        return print_line(json::line(&answer, "GetEventResponse")?);
    }
    let event = answer.event.unwrap_or_default();
    let rows = aligned(&rows_of_event(&event, &answer.cursor));
    let mut lines: Vec<Printable> = rows.into_iter().map(Printable::from).collect();
    let body = event.payload_json.as_deref().filter(|_| args.verbose);
    lines.extend(body.into_iter().flat_map(indented));
    print_lines(lines)
}

fn rows_of_event(event: &Event, cursor: &str) -> Vec<[String; 2]> {
    let time = |time: Option<Timestamp>| time.map_or_else(String::new, |time| time.to_string());
    let rows = [
        ("id", event.id.clone()),
        ("type", event.r#type.clone()),
        ("source", event.source.clone()),
        ("instance", event.instance_id.clone()),
        ("occurred", time(event.occur_time)),
        ("sent", time(event.send_time)),
        ("received", time(event.receive_time)),
        ("object", event.object_id.clone()),
        ("user", event.user_id.clone()),
        ("organization", event.organization_id.clone()),
        ("session", event.session_id.clone()),
        ("cursor", cursor.to_owned()),
    ];
    let present = rows.into_iter().filter(|(_, value)| !value.is_empty());
    present
        .map(|(name, value)| [name.to_owned(), value])
        .collect()
}

pub(super) async fn types(args: ListArgs) -> Result<(), Failure> {
    let mut call = Call::new(&args.connection)?;
    let response = call.client.list_event_types(ListEventTypesRequest {}).await;
    let types = call.answer(response)?.event_types;
    if args.json {
        let lines: Result<Vec<_>, _> = types
            .iter()
            .map(|kind| json::line(kind, "EventType"))
            .collect();
        return print_lines(lines?);
    }
    let header = ["TYPE", "EVENTS", "MESSAGE"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(header)
        .chain(types.iter().map(row_of_type))
        .collect();
    print_lines(aligned(&rows))
}

fn row_of_type(kind: &EventType) -> [String; 3] {
    [
        kind.name.clone(),
        grouped(kind.count.unsigned_abs()),
        kind.message.clone(),
    ]
}

pub(super) async fn subscribers(args: ListArgs) -> Result<(), Failure> {
    let mut call = Call::new(&args.connection)?;
    let mut subscribers = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListSubscribersRequest {
            page_size: PAGE_SIZE,
            page_token,
        };
        let response = call.client.list_subscribers(request).await;
        let page = call.answer(response)?;
        subscribers.extend(page.subscribers);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if args.json {
        let lines: Result<Vec<_>, _> = subscribers
            .iter()
            .map(|subscriber| json::line(subscriber, "Subscriber"))
            .collect();
        return print_lines(lines?);
    }
    if subscribers.is_empty() {
        note("no subscribers are connected");
        return Ok(());
    }
    let rows: Vec<_> = std::iter::once(SUBSCRIBER_COLUMNS.map(str::to_owned))
        .chain(subscribers.iter().map(row_of_subscriber))
        .collect();
    print_lines(aligned(&rows))
}

const SUBSCRIBER_COLUMNS: [&str; 8] = [
    "NAME",
    "PRINCIPAL",
    "STATE",
    "LAG",
    "BEHIND",
    "DELIVERED",
    "CONNECTED",
    "PEER",
];

fn row_of_subscriber(subscriber: &Subscriber) -> [String; 8] {
    let lag = subscriber.lag.as_ref();
    let or_none = |text: Option<String>| text.unwrap_or_else(|| NO_VALUE.to_owned());
    let state = match subscriber.state() {
        SubscriberState::Unspecified => NO_VALUE,
        SubscriberState::CatchingUp => "catching up",
        SubscriberState::Live => "live",
    };
    [
        subscriber.name.clone(),
        subscriber.principal.clone(),
        state.to_owned(),
        or_none(lag.map(|lag| grouped(lag.events.unsigned_abs()))),
        or_none(lag.map(|lag| format!("{:.1}s", lag.seconds))),
        grouped(subscriber.delivered_count.unsigned_abs()),
        shown(subscriber.connect_time),
        subscriber.peer.clone(),
    ]
}

fn shown(time: Option<Timestamp>) -> String {
    time.map_or_else(|| NO_VALUE.to_owned(), to_the_second)
}
