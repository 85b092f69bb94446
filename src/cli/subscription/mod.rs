//! `clerkcast subscription`: subscriptions that the gateway keeps, managed from a terminal.

mod letters;
mod settings;
mod table;

use clap::{Args, Subcommand};
use clerkcast_client::{Authorized, Gateway};
use tonic::{Response, Status};

use super::connect::ConnectionArgs;
use super::failure::Failure;
use super::output::{note, print_line, print_lines};
use super::selection::Place;
use super::{advice, json};
use crate::proto::seek_subscription_request::To;
use crate::proto::subscription_service_client::SubscriptionServiceClient;
use crate::proto::{
    DeadLetterAction, DeleteSubscriptionRequest, ListSubscriptionsRequest, SeekSubscriptionRequest,
    Subscription, UpdateSubscriptionRequest,
};
use letters::{DeadArgs, ResolveArgs};
use settings::{CreateArgs, UpdateArgs};

#[derive(Clone, Debug, Args)]
pub(super) struct SubscriptionArgs {
    #[command(subcommand)]
    command: SubscriptionCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum SubscriptionCommand {
    /// Create a subscription; again with the same settings, this changes nothing
    Create(Box<CreateArgs>),
    /// Change settings; those that no flag names stay as they are
    ///
    /// Filters replace the filter as a whole; `--type '*'` means all events. Events that were
    /// looked at already are not judged again.
    Update(Box<UpdateArgs>),
    /// List subscriptions: what they are doing, and how far they are behind
    List(ListArgs),
    /// Hand out nothing until it is resumed; what is handed out can still be acknowledged
    Pause(NamedArgs),
    /// Hand out events again
    Resume(NamedArgs),
    /// Delete a subscription with its dead letters
    Delete(NamedArgs),
    /// Move a subscription to another place in the log; dead letters stay
    Seek(SeekArgs),
    /// List the events that failed too often, oldest first
    Dead(DeadArgs),
    /// Hand dead letters out again, as if never delivered
    Replay(ResolveArgs),
    /// Forget dead letters
    Drop(ResolveArgs),
}

#[derive(Clone, Debug, Args)]
struct NamedArgs {
    #[command(flatten)]
    connection: ConnectionArgs,

    /// The subscription
    name: String,
}

#[derive(Clone, Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    connection: ConnectionArgs,

    /// Only these subscriptions
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// Print one JSON object a line, with the proto's field names
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, Args)]
struct SeekArgs {
    #[command(flatten)]
    connection: ConnectionArgs,

    /// The subscription
    name: String,

    /// Where to continue: `earliest`, `latest`, a time such as 2026-11-23T09:00:00Z, or after a
    /// cursor
    #[arg(long, value_name = "WHERE")]
    to: String,
}

pub(super) async fn run(args: SubscriptionArgs) -> Result<(), Failure> {
    match args.command {
        SubscriptionCommand::Create(args) => settings::create(&args).await,
        SubscriptionCommand::Update(args) => settings::update(&args).await,
        SubscriptionCommand::List(args) => list(args).await,
        SubscriptionCommand::Pause(args) => set_paused(args, true).await,
        SubscriptionCommand::Resume(args) => set_paused(args, false).await,
        SubscriptionCommand::Delete(args) => delete(args).await,
        SubscriptionCommand::Seek(args) => seek(args).await,
        SubscriptionCommand::Dead(args) => letters::list(args).await,
        SubscriptionCommand::Replay(args) => letters::resolve(args, DeadLetterAction::Replay).await,
        SubscriptionCommand::Drop(args) => letters::resolve(args, DeadLetterAction::Drop).await,
    }
}

/// The calls about one subscription.
struct Calls {
    gateway: Gateway,
    client: SubscriptionServiceClient<Authorized>,
    name: String,
}

impl Calls {
    fn new(connection: &ConnectionArgs, name: &str) -> Result<Self, Failure> {
        let gateway = connection.gateway()?;
        Ok(Self {
            client: gateway.subscriptions(),
            gateway,
            name: name.to_owned(),
        })
    }

    /// The message of an answer, or what is wrong and what to do.
    fn answer<M>(&self, response: Result<Response<M>, Status>) -> Result<M, Failure> {
        response
            .map(Response::into_inner)
            .map_err(|status| advice::failure(&self.gateway.error(status), &self.name))
    }
}

async fn list(args: ListArgs) -> Result<(), Failure> {
    let first = args.names.first().map_or("", String::as_str);
    let mut calls = Calls::new(&args.connection, first)?;
    let request = ListSubscriptionsRequest { names: args.names };
    let response = calls.client.list_subscriptions(request).await;
    let subscriptions = calls.answer(response)?.subscriptions;
    if args.json {
        let lines = subscriptions
            .iter()
            .map(|subscription| json::line(subscription, "Subscription"));
        return print_lines(lines.collect::<Result<Vec<_>, _>>()?);
    }
    if subscriptions.is_empty() {
        note("no subscriptions; `clerkcast subscription create NAME` creates one");
        return Ok(());
    }
    print_lines(table::of(&subscriptions))
}

async fn set_paused(args: NamedArgs, paused: bool) -> Result<(), Failure> {
    let request = UpdateSubscriptionRequest {
        name: args.name.clone(),
        paused: Some(paused),
        ..UpdateSubscriptionRequest::default()
    };
    let mut calls = Calls::new(&args.connection, &args.name)?;
    let response = calls.client.update_subscription(request).await;
    print_changed(calls.answer(response)?.subscription.as_ref())
}

async fn delete(args: NamedArgs) -> Result<(), Failure> {
    let mut calls = Calls::new(&args.connection, &args.name)?;
    let request = DeleteSubscriptionRequest {
        name: args.name.clone(),
    };
    let response = calls.client.delete_subscription(request).await;
    calls.answer(response)?;
    print_line(format!("{} is deleted", args.name))
}

async fn seek(args: SeekArgs) -> Result<(), Failure> {
    let place = Place::parse(&args.to).ok_or_else(|| {
        Failure::Usage(format!(
            "--to: {:?}: write earliest, latest, a time such as 2026-11-23T09:00:00Z, or a cursor",
            args.to
        ))
    })?;
    let request = SeekSubscriptionRequest {
        name: args.name.clone(),
        to: Some(match place {
            Place::After(cursor) => To::AfterCursor(cursor),
            Place::End(end) => To::StartPosition(end.into()),
            Place::Time(time) => To::StartTime(time),
        }),
    };
    let mut calls = Calls::new(&args.connection, &args.name)?;
    let response = calls.client.seek_subscription(request).await;
    print_changed(calls.answer(response)?.subscription.as_ref())
}

/// Prints a subscription as it is now.
fn print_changed(subscription: Option<&Subscription>) -> Result<(), Failure> {
    print_lines(table::of(subscription))
}
