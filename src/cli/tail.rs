//! `clerkcast tail`: a reconnecting subscriber in the terminal.

use std::ops::ControlFlow;
use std::time::Duration;

use clap::Args;
use clerkcast_client::{Subscriber, Worker};

use super::connect::{ConnectionArgs, ConnectionReporter};
use super::failure::Failure;
use super::printer::{Printer, Style};
use super::selection::{FILTER_ARGS, FilterArgs, Place, START_ARGS, StartArgs};
use super::{advice, notices};
use crate::proto::subscribe_request::Start;
use crate::proto::{ReceiveRequest, StartPosition, SubscribeRequest};

/// How long an event stays with a `tail` that cannot print it.
const PRINTING_MAX: Duration = Duration::from_secs(600);

/// Prints events until interrupted; resumes by itself when the gateway is away.
#[derive(Clone, Debug, Args)]
pub(super) struct TailArgs {
    #[command(flatten)]
    connection: ConnectionArgs,

    /// Print the events of this subscription, and acknowledge each once it is printed
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with_all = FILTER_ARGS,
        conflicts_with_all = START_ARGS
    )]
    subscription: Option<String>,

    #[command(flatten)]
    filter: FilterArgs,

    #[command(flatten)]
    start: StartArgs,

    /// End after N events [default: no limit]
    #[arg(long, value_name = "N")]
    max: Option<i64>,

    /// End when the history is printed; with --subscription, when all of it is handled
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
    fn subscribe_request(&self) -> Result<SubscribeRequest, Failure> {
        let start = match self.start.place()? {
            Place::After(cursor) => Start::AfterCursor(cursor),
            Place::End(end) => Start::StartPosition(end.into()),
            Place::Time(time) => Start::StartTime(time),
        };
        Ok(SubscribeRequest {
            filter: Some(self.filter.filter()),
            start: Some(start),
            stop_when_caught_up: self.until_caught_up,
            max_events: self.max.unwrap_or(0),
            include_payload: self.include_payload || self.verbose,
            subscriber_name: self.name.clone(),
            ..SubscribeRequest::default()
        })
    }

    fn receive_request(&self, subscription: &str) -> ReceiveRequest {
        ReceiveRequest {
            subscription: subscription.to_owned(),
            stop_when_handled: self.until_caught_up,
            max_events: self.max.unwrap_or(0),
            include_payload: self.include_payload || self.verbose,
            worker_name: self.name.clone(),
            ..ReceiveRequest::default()
        }
    }
}

pub(super) async fn run(args: TailArgs) -> Result<(), Failure> {
    let mut printer = Printer::new(Style::new(args.json), args.verbose);
    if let Some(subscription) = &args.subscription {
        let request = args.receive_request(subscription);
        let worker = Worker::of(args.connection.gateway()?, request, PRINTING_MAX)
            .watch(notices::reporter(subscription));
        return print_subscription(&mut printer, worker, subscription).await;
    }
    let request = args.subscribe_request()?;
    let gateway = args.connection.gateway()?;
    let reporter = ConnectionReporter::default();
    let mut subscriber =
        Subscriber::of(gateway, request).watch(move |connection| reporter.report(connection));
    tokio::select! {
        ended = printer.print(&mut subscriber) => ended,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.map_err(Failure::failed)?;
            Err(Failure::Interrupted(printer.summary()))
        }
    }
}

async fn print_subscription(
    printer: &mut Printer,
    mut worker: Worker,
    subscription: &str,
) -> Result<(), Failure> {
    let ended = tokio::select! {
        ended = print_deliveries(printer, &mut worker, subscription) => ended,
        interrupted = tokio::signal::ctrl_c() => match interrupted {
            Ok(()) => Err(Failure::Interrupted(printer.summary())),
            Err(error) => Err(Failure::failed(error)),
        }
    };
    // Another Ctrl-C does not wait for a gateway that is away.
    let stopped = tokio::select! {
        stopped = worker.stop() => stopped,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    ended?;
    stopped.map_err(|error| advice::failure(&error, subscription))
}

/// Prints until the stream ends as asked, or standard output is closed.
async fn print_deliveries(
    printer: &mut Printer,
    worker: &mut Worker,
    subscription: &str,
) -> Result<(), Failure> {
    loop {
        let next = worker.next().await;
        let Some(delivery) = next.map_err(|error| advice::failure(&error, subscription))? else {
            return Ok(());
        };
        let printed = printer.print_delivery(&delivery);
        if !matches!(printed, Ok(ControlFlow::Continue(()))) {
            delivery.release();
            return printed.map(|_| ());
        }
        delivery.acknowledge();
    }
}

/// The whole log, then live, for `clerkcast dev`.
pub(super) fn everything(name: &str) -> SubscribeRequest {
    SubscribeRequest {
        start: Some(Start::StartPosition(StartPosition::Earliest.into())),
        subscriber_name: name.to_owned(),
        ..SubscribeRequest::default()
    }
}
