//! The settings of a subscription, as flags.

use clap::{Args, ValueEnum};
use prost_types::Duration;

use super::{Calls, print_changed};
use crate::cli::connect::ConnectionArgs;
use crate::cli::failure::Failure;
use crate::cli::options::Period;
use crate::cli::selection::{FilterArgs, Place, StartArgs};
use crate::proto::create_subscription_request::Start;
use crate::proto::{
    CreateSubscriptionRequest, ExpiredCursorPolicy, OrderBy, Subscription,
    UpdateSubscriptionRequest,
};

#[derive(Clone, Debug, Args)]
pub(super) struct CreateArgs {
    #[command(flatten)]
    connection: ConnectionArgs,

    /// Its name: a-z, 0-9 and `-`, at most 63 characters
    name: String,

    #[command(flatten)]
    settings: SettingsArgs,

    #[command(flatten)]
    start: StartArgs,

    /// Which events are handled one after the other: those of one user, those of one
    /// organization, none, or all of them
    #[arg(long, value_name = "KEY", value_enum, default_value = "user")]
    order_by: Key,

    /// Hand out nothing until it is resumed
    #[arg(long)]
    paused: bool,
}

#[derive(Clone, Debug, Args)]
pub(super) struct UpdateArgs {
    #[command(flatten)]
    connection: ConnectionArgs,

    /// The subscription
    name: String,

    #[command(flatten)]
    settings: SettingsArgs,
}

/// What can be changed later.
#[derive(Clone, Debug, Args)]
struct SettingsArgs {
    #[command(flatten)]
    filter: FilterArgs,

    /// How long a worker has for an event until it is handed out again, 1s to 1h [default: 30s]
    #[arg(long, value_name = "TIME")]
    ack_deadline: Option<Period>,

    /// After how many deliveries an event becomes a dead letter, at most 100 [default: 10]
    #[arg(long, value_name = "N")]
    max_deliveries: Option<i32>,

    /// How long a failed event waits before its second delivery, 100ms to 24h; doubled with each
    /// further one [default: 1s]
    #[arg(long, value_name = "TIME")]
    min_retry_delay: Option<Period>,

    /// The longest such wait, at most 24h [default: 10m]
    #[arg(long, value_name = "TIME")]
    max_retry_delay: Option<Period>,

    /// What to do when retention removes events that were not handled: fail, or continue at the
    /// earliest or the latest event [default: fail]
    #[arg(long, value_name = "WHAT", value_enum)]
    on_expired: Option<OnExpired>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Key {
    User,
    Organization,
    None,
    Log,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnExpired {
    Fail,
    Earliest,
    Latest,
}

impl From<Key> for OrderBy {
    fn from(key: Key) -> Self {
        match key {
            Key::User => Self::User,
            Key::Organization => Self::Organization,
            Key::None => Self::None,
            Key::Log => Self::Log,
        }
    }
}

impl From<OnExpired> for ExpiredCursorPolicy {
    fn from(policy: OnExpired) -> Self {
        match policy {
            OnExpired::Fail => Self::Fail,
            OnExpired::Earliest => Self::Earliest,
            OnExpired::Latest => Self::Latest,
        }
    }
}

pub(super) async fn create(args: &CreateArgs) -> Result<(), Failure> {
    let settings = &args.settings;
    let start = match args.start.place()? {
        Place::After(cursor) => Start::AfterCursor(cursor),
        Place::End(end) => Start::StartPosition(end.into()),
        Place::Time(time) => Start::StartTime(time),
    };
    let on_expired = settings.on_expired.map(ExpiredCursorPolicy::from);
    let subscription = Subscription {
        name: args.name.clone(),
        filter: settings.filter.given(),
        order_by: OrderBy::from(args.order_by).into(),
        ack_deadline: duration("--ack-deadline", settings.ack_deadline)?,
        max_deliveries: settings.max_deliveries.unwrap_or_default(),
        min_retry_delay: duration("--min-retry-delay", settings.min_retry_delay)?,
        max_retry_delay: duration("--max-retry-delay", settings.max_retry_delay)?,
        on_expired: on_expired.unwrap_or_default().into(),
        paused: args.paused,
        ..Subscription::default()
    };
    let request = CreateSubscriptionRequest {
        subscription: Some(subscription),
        start: Some(start),
    };
    let mut calls = Calls::new(&args.connection, &args.name)?;
    let response = calls.client.create_subscription(request).await;
    print_changed(calls.answer(response)?.subscription.as_ref())
}

pub(super) async fn update(args: &UpdateArgs) -> Result<(), Failure> {
    let settings = &args.settings;
    let on_expired = settings.on_expired.map(ExpiredCursorPolicy::from);
    let request = UpdateSubscriptionRequest {
        name: args.name.clone(),
        paused: None,
        filter: settings.filter.given(),
        ack_deadline: duration("--ack-deadline", settings.ack_deadline)?,
        max_deliveries: settings.max_deliveries,
        min_retry_delay: duration("--min-retry-delay", settings.min_retry_delay)?,
        max_retry_delay: duration("--max-retry-delay", settings.max_retry_delay)?,
        on_expired: on_expired.map(i32::from),
    };
    let changes_nothing = UpdateSubscriptionRequest {
        name: args.name.clone(),
        ..UpdateSubscriptionRequest::default()
    };
    if request == changes_nothing {
        return Err(Failure::Usage(
            "no setting to change: pass --type, --ack-deadline, --max-deliveries or another flag of `clerkcast subscription update --help`".to_owned(),
        ));
    }
    let mut calls = Calls::new(&args.connection, &args.name)?;
    let response = calls.client.update_subscription(request).await;
    print_changed(calls.answer(response)?.subscription.as_ref())
}

fn duration(flag: &str, period: Option<Period>) -> Result<Option<Duration>, Failure> {
    let converted = period
        .map(|period| Duration::try_from(period.0))
        .transpose();
    converted.map_err(|_| Failure::Usage(format!("{flag}: the time is too long")))
}
