//! Requests, checked and in the fan-out's words.

use std::time::Duration;

use super::check::Check;
use super::filter::spec;
use super::problem::Problem;
use crate::access::{Narrowed, Principal};
use crate::fanout::{Encoding, ListRequest, OnExpired, Payload, Request, Start, View};
use crate::filter::{self, AskedFilter, Filter, KnownNames, TypePattern, Violations};
use crate::proto;
use crate::proto::subscribe_request::Start as AskedStart;

/// Of an event's id or a source's name: no event in the log has a longer one.
const VALUE_BYTES_MAX: usize = 256;

/// Checks a `SubscribeRequest`; all that is wrong with it is reported at once.
pub(super) fn subscribe(
    mut asked: proto::SubscribeRequest,
    known: &KnownNames,
    principal: Principal,
    peer: String,
) -> Result<Request, Problem> {
    let mut check = Check::default();
    let asked_filter = spec(asked.filter.take());
    let scope = &principal.policy().scope;
    let filter = check.filter(&asked_filter, known, scope);
    let options = check.stream(&asked);
    check.done()?;
    let view = view(&principal, asked.include_payload)?;
    let (filter, narrowed) = within(&filter, &principal)?;
    Ok(Request {
        principal,
        narrowed: narrowed_by(&filter.types(), narrowed, &view),
        filter,
        asked_filter: AskedFilter::new(&asked_filter),
        start: options.start,
        on_expired: options.on_expired,
        stop_when_caught_up: asked.stop_when_caught_up,
        events_max: options.events_max,
        heartbeat_interval: options.heartbeat_interval,
        view,
        name: options.name,
        peer,
    })
}

/// What is wrong with a `SubscribeRequest` whose filter is.
pub(super) fn refuse_subscribe(asked: &proto::SubscribeRequest, filter: Violations) -> Problem {
    let mut check = Check::beginning_with(filter);
    check.stream(asked);
    check.problem()
}

/// Checks a `ListEventsRequest`. Returns what to list, and what the policy takes away of it.
pub(super) fn list(
    asked: &proto::ListEventsRequest,
    known: &KnownNames,
    principal: &Principal,
) -> Result<(ListRequest, Option<Narrowed>), Problem> {
    let mut check = Check::default();
    let asked_filter = spec(asked.filter.clone());
    let filter = check.filter(&asked_filter, known, &principal.policy().scope);
    let (start, events_max) = check.page(asked);
    check.done()?;
    let view = view(principal, asked.include_payload)?;
    let (filter, narrowed) = within(&filter, principal)?;
    let narrowed = narrowed_by(&filter.types(), narrowed, &view);
    let listing = ListRequest {
        view,
        filter,
        start,
        events_max,
    };
    Ok((listing, narrowed))
}

/// What is wrong with a `ListEventsRequest` whose filter is.
pub(super) fn refuse_list(asked: &proto::ListEventsRequest, filter: Violations) -> Problem {
    let mut check = Check::beginning_with(filter);
    check.page(asked);
    check.problem()
}

/// Checks a `GetEventRequest`.
pub(super) fn get(asked: &proto::GetEventRequest) -> Result<(), Problem> {
    let mut check = Check::default();
    if asked.id.is_empty() {
        check.fail("id", "empty; pass the event's svix-id, msg_…", ());
    }
    for (field, value) in [("id", &asked.id), ("source", &asked.source)] {
        if value.len() > VALUE_BYTES_MAX {
            check.fail(
                field,
                "longer than 256 bytes, so there is no such event",
                (),
            );
        }
    }
    check.done()
}

/// Checks a `ListSubscribersRequest`. Returns the size of the page, and the number of the
/// subscriber that it follows.
pub(super) fn list_subscribers(
    asked: &proto::ListSubscribersRequest,
) -> Result<(usize, Option<u64>), Problem> {
    let mut check = Check::default();
    let most = check.page_size(asked.page_size);
    let after = check.page_token(&asked.page_token);
    check.done()?;
    Ok((most, after))
}

/// What is removed of an event of this type; nothing where nothing is.
pub(super) fn removed_of(event_type: &str, view: &View) -> Option<Narrowed> {
    let types = [TypePattern::Exact(event_type.to_owned())];
    narrowed_by(&types, filter::Narrowed::default(), view)
}

/// What the caller is shown of events.
pub(super) fn view(principal: &Principal, include_payload: bool) -> Result<View, Problem> {
    let policy = principal.policy();
    if include_payload && policy.withholds_payload {
        return Err(not_allowed(principal, "include_payload"));
    }
    let payload = if include_payload {
        Payload::Included
    } else {
        Payload::Omitted
    };
    let redaction = policy.redaction.clone();
    Ok(View {
        payload,
        redaction,
        encoding: Encoding::Proto,
    })
}

/// The part of a filter that the caller may receive, and what was taken away.
fn within(filter: &Filter, principal: &Principal) -> Result<(Filter, filter::Narrowed), Problem> {
    let within = filter.within(&principal.policy().scope);
    within.map_err(|denied| not_allowed(principal, &denied.asked))
}

fn not_allowed(principal: &Principal, asked: &str) -> Problem {
    Problem::not_allowed(principal.name(), asked)
}

/// What a policy takes away of events of these types; nothing where it takes nothing.
fn narrowed_by(types: &[TypePattern], filter: filter::Narrowed, view: &View) -> Option<Narrowed> {
    let narrowed = Narrowed {
        filter,
        redacted_fields: view.redaction.names(types),
    };
    (!narrowed.is_nothing()).then_some(narrowed)
}

/// What a `SubscribeRequest` asks for beside its filter.
struct StreamOptions {
    start: Start,
    on_expired: OnExpired,
    events_max: Option<u64>,
    heartbeat_interval: Duration,
    name: String,
}

impl Check {
    /// Checks what a `SubscribeRequest` asks for beside its filter.
    fn stream(&mut self, asked: &proto::SubscribeRequest) -> StreamOptions {
        let start = match &asked.start {
            None => Start::Latest,
            Some(AskedStart::AfterCursor(cursor)) => self.cursor("after_cursor", cursor),
            Some(AskedStart::StartTime(time)) => self.time("start_time", time),
            Some(AskedStart::StartPosition(position)) => {
                self.start_position("start_position", *position)
            }
        };
        let on_expired = self.on_expired("on_expired", asked.on_expired);
        let events_max = self.events_max(asked.max_events);
        let heartbeat_interval = self.heartbeat_interval(asked.heartbeat_interval);
        let name = self.name("subscriber_name", asked.subscriber_name.clone());
        StreamOptions {
            start,
            on_expired,
            events_max,
            heartbeat_interval,
            name,
        }
    }

    /// Checks where a page starts, and its size.
    fn page(&mut self, asked: &proto::ListEventsRequest) -> (Start, usize) {
        let start = if !asked.page_token.is_empty() {
            self.cursor("page_token", &asked.page_token)
        } else if let Some(time) = &asked.start_time {
            self.time("start_time", time)
        } else {
            Start::Earliest
        };
        let events_max = self.page_size(asked.page_size);
        (start, events_max)
    }
}

#[cfg(test)]
mod tests;
