//! Requests about subscriptions, checked and in that room's words.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use crate::api::check::Check;
use crate::api::filter::spec;
use crate::api::problem::Problem;
use crate::event::Position;
use crate::fanout::Start;
use crate::filter::{KnownNames, Scope, Violations};
use crate::proto::create_subscription_request::Start as CreateStart;
use crate::proto::seek_subscription_request::To;
use crate::proto::{self, DeadLetterAction, StartPosition};
use crate::subscriptions::{
    AckId, AskedSettings, Letters, Name, OrderBy, Outcome, RETRY_DELAY_MOST, ReceiveOptions,
    Report, Resolution, SettingError, Settings,
};

/// The field of a subscription to create.
const CREATED: &str = "subscription";
const OUTSTANDING_DEFAULT: usize = 16;
const OUTSTANDING_MAX: usize = 1000;
/// Outcomes in one call.
const REPORTS_MAX: usize = 1000;
/// Of the reason of a failure; what is beyond is cut.
const REASON_BYTES_MAX: usize = 1 << 10;
/// Names in one call.
const NAMES_MAX: usize = 1000;
/// Ids of dead letters in one call.
const EVENT_IDS_MAX: usize = 1000;

/// A subscription to create.
#[derive(Debug)]
pub(super) struct Creation {
    pub(super) name: Name,
    pub(super) settings: Settings,
    pub(super) start: Start,
}

/// Checks a `CreateSubscriptionRequest`; all that is wrong with it is reported at once.
pub(super) fn create(
    mut asked: proto::CreateSubscriptionRequest,
    names: (&KnownNames, &Scope),
) -> Result<Creation, Problem> {
    let mut check = Check::default();
    let subscription = asked.subscription.as_mut();
    let filter = spec(subscription.and_then(|subscription| subscription.filter.take()));
    check.filter_within(CREATED, &filter, names);
    let start = start(&mut check, asked.start.as_ref());
    let (name, settings) = created(&mut check, &asked.subscription.unwrap_or_default());
    let Some(name) = name else {
        return Err(check.problem());
    };
    check.done()?;
    let settings = settings.change(AskedSettings {
        filter: Some(filter),
        ..AskedSettings::default()
    });
    Ok(Creation {
        name,
        settings: settings.map_err(|errors| bounds_problem(&errors))?,
        start,
    })
}

/// What is wrong with a `CreateSubscriptionRequest` whose filter is.
pub(in crate::api) fn refuse_create(
    asked: &proto::CreateSubscriptionRequest,
    filter: Violations,
) -> Problem {
    let mut check = Check::default();
    check.add_within(CREATED, filter);
    start(&mut check, asked.start.as_ref());
    let subscription = asked.subscription.clone().unwrap_or_default();
    created(&mut check, &subscription);
    check.problem()
}

/// The name and the settings of a subscription to create, but for its filter.
fn created(check: &mut Check, asked: &proto::Subscription) -> (Option<Name>, Settings) {
    let name = subscription_name(check, "subscription.name", &asked.name);
    let order_by = order_by(check, asked.order_by);
    let on_expired = check.on_expired("subscription.on_expired", asked.on_expired);
    let mut duration = |name: &str, asked| check.duration(&format!("{CREATED}.{name}"), asked);
    let settings = AskedSettings {
        filter: None,
        order_by: Some(order_by),
        ack_deadline: duration("ack_deadline", asked.ack_deadline),
        max_deliveries: Some(asked.max_deliveries),
        min_retry_delay: duration("min_retry_delay", asked.min_retry_delay),
        max_retry_delay: duration("max_retry_delay", asked.max_retry_delay),
        on_expired: Some(on_expired),
        paused: Some(asked.paused),
    };
    let settings = Settings::new(settings).unwrap_or_else(|errors| {
        out_of_bounds(check, "subscription.", &errors);
        Settings::default()
    });
    (name, settings)
}

/// Checks an `UpdateSubscriptionRequest`. Bounds are checked beside the settings that stay.
pub(super) fn update(
    mut asked: proto::UpdateSubscriptionRequest,
    (known, scope): (&KnownNames, &Scope),
) -> Result<(Name, AskedSettings), Problem> {
    let mut check = Check::default();
    let filter = asked.filter.take().map(|filter| spec(Some(filter)));
    if let Some(filter) = &filter {
        check.filter(filter, known, scope);
    }
    let mut settings = updated(&mut check, &asked);
    settings.filter = filter;
    let name = named(check, "name", &asked.name)?;
    Ok((name, settings))
}

/// What is wrong with an `UpdateSubscriptionRequest` whose filter is.
pub(in crate::api) fn refuse_update(
    asked: &proto::UpdateSubscriptionRequest,
    filter: Violations,
) -> Problem {
    let mut check = Check::beginning_with(filter);
    updated(&mut check, asked);
    subscription_name(&mut check, "name", &asked.name);
    check.problem()
}

/// The settings to change, but for the filter.
fn updated(check: &mut Check, asked: &proto::UpdateSubscriptionRequest) -> AskedSettings {
    AskedSettings {
        filter: None,
        order_by: None,
        ack_deadline: check.duration("ack_deadline", asked.ack_deadline),
        max_deliveries: asked.max_deliveries,
        min_retry_delay: check.duration("min_retry_delay", asked.min_retry_delay),
        max_retry_delay: check.duration("max_retry_delay", asked.max_retry_delay),
        on_expired: asked
            .on_expired
            .map(|policy| check.on_expired("on_expired", policy)),
        paused: asked.paused,
    }
}

/// The problem of settings that are outside their bounds.
pub(super) fn bounds_problem(errors: &[SettingError]) -> Problem {
    let mut check = Check::default();
    out_of_bounds(&mut check, "", errors);
    check.problem()
}

fn out_of_bounds(check: &mut Check, prefix: &str, errors: &[SettingError]) {
    for SettingError { field, bounds } in errors {
        check.fail(
            &format!("{prefix}{field}"),
            &format!("outside its bounds: {bounds}"),
            (),
        );
    }
}

/// Checks the name of a request that has nothing else.
pub(super) fn name(field: &str, name: &str) -> Result<Name, Problem> {
    named(Check::default(), field, name)
}

/// Checks a `ListSubscriptionsRequest`.
pub(super) fn list(asked: &proto::ListSubscriptionsRequest) -> Result<Vec<Name>, Problem> {
    let mut check = Check::default();
    if asked.names.len() > NAMES_MAX {
        let description = "more than 1000 names; leave them out to list all";
        check.fail("names", description, ());
        return Err(check.problem());
    }
    let names = asked.names.iter().enumerate();
    let names = names
        .filter_map(|(index, name)| subscription_name(&mut check, &format!("names[{index}]"), name))
        .collect();
    check.done()?;
    Ok(names)
}

/// Checks a `SeekSubscriptionRequest`.
pub(super) fn seek(asked: &proto::SeekSubscriptionRequest) -> Result<(Name, Start), Problem> {
    let mut check = Check::default();
    let to = match &asked.to {
        Some(To::AfterCursor(cursor)) => check.cursor("after_cursor", cursor),
        Some(To::StartPosition(position)) => {
            if *position == i32::from(StartPosition::Unspecified) {
                check.fail("start_position", "not set; write EARLIEST or LATEST", ());
            }
            check.start_position("start_position", *position)
        }
        Some(To::StartTime(time)) => check.time("start_time", time),
        None => {
            let description = "missing: set after_cursor, start_position or start_time";
            check.fail("to", description, Start::Latest)
        }
    };
    Ok((named(check, "name", &asked.name)?, to))
}

/// A worker as a `ReceiveRequest` asks for it.
#[derive(Debug)]
pub(super) struct Reception {
    pub(super) name: Name,
    pub(super) options: ReceiveOptions,
    pub(super) worker_name: String,
}

/// Checks a `ReceiveRequest`.
pub(super) fn receive(asked: proto::ReceiveRequest) -> Result<Reception, Problem> {
    let mut check = Check::default();
    let outstanding_max = match usize::try_from(asked.max_outstanding) {
        Ok(0) => OUTSTANDING_DEFAULT,
        Ok(most) if most <= OUTSTANDING_MAX => most,
        _ => {
            let description = "outside its bounds: from 1 to 1000, or 0 for 16";
            check.fail("max_outstanding", description, OUTSTANDING_DEFAULT)
        }
    };
    let options = ReceiveOptions {
        outstanding_max,
        events_max: check.events_max(asked.max_events),
        heartbeat_interval: check.heartbeat_interval(asked.heartbeat_interval),
        stop_when_handled: asked.stop_when_handled,
    };
    let worker_name = check.name("worker_name", asked.worker_name);
    let name = named(check, "subscription", &asked.subscription)?;
    Ok(Reception {
        name,
        options,
        worker_name,
    })
}

/// Checks an `AcknowledgeRequest`. One wrong id refuses the whole call.
pub(super) fn acknowledge(
    asked: &proto::AcknowledgeRequest,
) -> Result<(Name, Vec<Report>), Problem> {
    let mut check = Check::default();
    let name = subscription_name(&mut check, "subscription", &asked.subscription);
    let count = asked.ack_ids.len()
        + asked.failures.len()
        + asked.extend_ack_ids.len()
        + asked.release_ack_ids.len();
    if count > REPORTS_MAX {
        check.fail(
            "ack_ids",
            "more than 1000 ids in all lists together; make several calls",
            (),
        );
    }
    let Some(name) = name.filter(|_| count <= REPORTS_MAX) else {
        return Err(check.problem());
    };
    let mut ids = AckIds {
        name: &name,
        check: &mut check,
        places: HashMap::with_capacity(count),
    };
    let mut reports = Vec::with_capacity(count);
    for (list, texts, outcome) in [
        ("ack_ids", &asked.ack_ids, Outcome::Done),
        ("extend_ack_ids", &asked.extend_ack_ids, Outcome::Extended),
        ("release_ack_ids", &asked.release_ack_ids, Outcome::Released),
    ] {
        for (index, text) in texts.iter().enumerate() {
            let field = "";
            let ack_id = ids.read(Place { list, index, field }, text);
            reports.extend(ack_id.map(|ack_id| report(ack_id, outcome)));
        }
    }
    for (index, failure) in asked.failures.iter().enumerate() {
        let place = |field| Place {
            list: "failures",
            index,
            field,
        };
        let ack_id = ids.read(place(".ack_id"), &failure.ack_id);
        let delay = retry_delay(ids.check, place(".retry_delay"), failure.retry_delay);
        let outcome = if failure.dead {
            Outcome::Rejected
        } else {
            Outcome::Failed { delay }
        };
        reports.extend(ack_id.map(|ack_id| Report {
            reason: reason(&failure.reason),
            ..report(ack_id, outcome)
        }));
    }
    check.done()?;
    Ok((name, reports))
}

fn report(ack_id: AckId, outcome: Outcome) -> Report {
    Report {
        ack_id,
        outcome,
        reason: String::new(),
    }
}

/// As much of a reason as is kept.
fn reason(text: &str) -> String {
    let end = text.floor_char_boundary(REASON_BYTES_MAX);
    text.get(..end).unwrap_or_default().to_owned()
}

fn retry_delay(
    check: &mut Check,
    place: Place,
    asked: Option<prost_types::Duration>,
) -> Option<Duration> {
    let asked = asked?;
    let field = place.to_string();
    let is_negative = asked.seconds < 0 || asked.nanos < 0;
    let delay = check.duration(&field, Some(asked))?;
    if is_negative || delay > RETRY_DELAY_MOST {
        return check.fail(&field, "outside its bounds: from 0 s to 24 h", None);
    }
    Some(delay)
}

/// Where something stands in a request.
#[derive(Clone, Copy)]
struct Place {
    list: &'static str,
    index: usize,
    /// A field of the element, with its dot; empty for the element itself.
    field: &'static str,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { list, index, field } = self;
        write!(formatter, "{list}[{index}]{field}")
    }
}

/// Reads ack ids, each of which may stand in a call once.
struct AckIds<'a> {
    name: &'a Name,
    check: &'a mut Check,
    /// Where each id stands.
    places: HashMap<AckId, Place>,
}

impl AckIds<'_> {
    fn read(&mut self, place: Place, text: &str) -> Option<AckId> {
        let mut fail =
            |description: String| self.check.fail(&place.to_string(), &description, None);
        let ack_id = match AckId::read(text, self.name) {
            Ok(ack_id) => ack_id,
            Err(error) => return fail(error.to_string()),
        };
        if let Some(first) = self.places.get(&ack_id) {
            return fail(format!("stands in {first}, too; an id has one outcome"));
        }
        self.places.insert(ack_id, place);
        Some(ack_id)
    }
}

/// Checks a `ListDeadLettersRequest`. Returns the size of the page, and the position that it
/// follows.
pub(super) fn list_dead_letters(
    asked: &proto::ListDeadLettersRequest,
) -> Result<(Name, usize, Position), Problem> {
    let mut check = Check::default();
    let letters_max = check.page_size(asked.page_size);
    let after = check.page_token(&asked.page_token).unwrap_or(0);
    let name = named(check, "subscription", &asked.subscription)?;
    Ok((name, letters_max, Position::new(after)))
}

/// Checks a `ResolveDeadLettersRequest`.
pub(super) fn resolve(
    asked: proto::ResolveDeadLettersRequest,
) -> Result<(Name, Letters, Resolution), Problem> {
    let mut check = Check::default();
    let resolution = match DeadLetterAction::try_from(asked.action) {
        Ok(DeadLetterAction::Replay) => Resolution::Replay,
        Ok(DeadLetterAction::Drop) => Resolution::Drop,
        Ok(DeadLetterAction::Unspecified) => {
            let description = "not set; write DEAD_LETTER_ACTION_REPLAY or DEAD_LETTER_ACTION_DROP";
            check.fail("action", description, Resolution::Replay)
        }
        Err(_) => check.fail("action", "unknown value", Resolution::Replay),
    };
    match (asked.event_ids.len(), asked.all) {
        (0, false) => check.fail("event_ids", "empty; name the events, or set `all`", ()),
        (1.., true) => check.fail("all", "set beside `event_ids`; set one of them", ()),
        (count, false) if count > EVENT_IDS_MAX => {
            check.fail("event_ids", "more than 1000 ids; make several calls", ());
        }
        _ => {}
    }
    let name = named(check, "subscription", &asked.subscription)?;
    let letters = if asked.all {
        Letters::All
    } else {
        Letters::Ids(asked.event_ids)
    };
    Ok((name, letters, resolution))
}

fn start(check: &mut Check, asked: Option<&CreateStart>) -> Start {
    match asked {
        None => Start::Latest,
        Some(CreateStart::AfterCursor(cursor)) => check.cursor("after_cursor", cursor),
        Some(CreateStart::StartPosition(position)) => {
            check.start_position("start_position", *position)
        }
        Some(CreateStart::StartTime(time)) => check.time("start_time", time),
    }
}

fn order_by(check: &mut Check, asked: i32) -> OrderBy {
    match proto::OrderBy::try_from(asked) {
        Ok(proto::OrderBy::Unspecified | proto::OrderBy::User) => OrderBy::User,
        Ok(proto::OrderBy::Organization) => OrderBy::Organization,
        Ok(proto::OrderBy::None) => OrderBy::None,
        Ok(proto::OrderBy::Log) => OrderBy::Log,
        Err(_) => check.fail("subscription.order_by", "unknown value", OrderBy::User),
    }
}

fn subscription_name(check: &mut Check, field: &str, name: &str) -> Option<Name> {
    match name.parse::<Name>() {
        Ok(name) => Some(name),
        Err(_) if name.is_empty() => {
            let description = "empty; write the name of a subscription";
            check.fail(field, description, None)
        }
        Err(error) => check.fail(field, &error.to_string(), None),
    }
}

/// Ends a check with the name of the subscription.
fn named(mut check: Check, field: &str, name: &str) -> Result<Name, Problem> {
    match subscription_name(&mut check, field, name) {
        Some(name) => {
            check.done()?;
            Ok(name)
        }
        None => Err(check.problem()),
    }
}

/// What is answered to a request that is decoded, if it is refused.
#[cfg(test)]
pub(in crate::api) fn refusal_of_creation(
    asked: proto::CreateSubscriptionRequest,
    known: &KnownNames,
) -> Option<Problem> {
    create(asked, (known, &Scope::default())).err()
}

/// The same, of an update.
#[cfg(test)]
pub(in crate::api) fn refusal_of_update(
    asked: proto::UpdateSubscriptionRequest,
    known: &KnownNames,
) -> Option<Problem> {
    update(asked, (known, &Scope::default())).err()
}

#[cfg(test)]
mod tests;
