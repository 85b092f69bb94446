//! Requests, checked and in the fan-out's words.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::filter::spec;
use super::problem::Problem;
use crate::access::{Narrowed, Principal};
use crate::event::{Cursor, UnixMillis};
use crate::fanout::{Encoding, ListRequest, OnExpired, Payload, Request, Start, View};
use crate::filter::{
    self, AskedFilter, Filter, KnownNames, Scope, Spec, TypePattern, Violation, Violations,
};
use crate::proto;
use crate::proto::subscribe_request::Start as AskedStart;
use crate::proto::{ExpiredCursorPolicy, StartPosition};

const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(15);
const HEARTBEAT_MIN: Duration = Duration::from_secs(1);
const PAGE_SIZE_DEFAULT: usize = 100;
const PAGE_SIZE_MAX: usize = 1000;
/// Of an event's id or a source's name: no event in the log has a longer one.
const VALUE_BYTES_MAX: usize = 256;
/// The first and the last second that a `google.protobuf.Timestamp` can hold
/// (timestamp.proto): those of the years 1 and 9999.
const TIMESTAMP_SECONDS: RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
const NANOS: RangeInclusive<i32> = 0..=999_999_999;
/// The longest heartbeat interval, a day. A longer one is shortened to it.
const HEARTBEAT_MAX: Duration = Duration::from_secs(86_400);
/// A name is shown in logs and as a metric's label.
const NAME_BYTES_MAX: usize = 100;
/// Easier to see in a log line than nothing.
const UNNAMED: &str = "unnamed";

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
    let mut check = Check { violations: filter };
    check.stream(asked);
    Problem::invalid(check.violations)
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
    let mut check = Check { violations: filter };
    check.page(asked);
    Problem::invalid(check.violations)
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
    let after = match asked.page_token.as_str() {
        "" => None,
        token => token.parse().ok().or_else(|| {
            let description =
                "not a page token: pass `next_page_token` of the page before unchanged";
            check.fail("page_token", description, None)
        }),
    };
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

/// Collects what is wrong.
#[derive(Default)]
struct Check {
    violations: Violations,
}

impl Check {
    fn done(self) -> Result<(), Problem> {
        if self.violations.reported.is_empty() {
            Ok(())
        } else {
            Err(Problem::invalid(self.violations))
        }
    }

    fn fail<T>(&mut self, field: &str, description: &str, instead: T) -> T {
        self.violations.reported.push(Violation {
            field: field.to_owned(),
            description: description.to_owned(),
        });
        instead
    }

    fn filter(&mut self, filter: &Spec, known: &KnownNames, scope: &Scope) -> Filter {
        Filter::compile(filter, known, scope).unwrap_or_else(|violations| {
            self.violations.reported.extend(violations.reported);
            self.violations.more += violations.more;
            Filter::default()
        })
    }

    /// Checks what a `SubscribeRequest` asks for beside its filter.
    fn stream(&mut self, asked: &proto::SubscribeRequest) -> StreamOptions {
        let start = match &asked.start {
            None => Start::Latest,
            Some(AskedStart::AfterCursor(cursor)) => self.cursor("after_cursor", cursor),
            Some(AskedStart::StartTime(time)) => self.time("start_time", time),
            Some(AskedStart::StartPosition(position)) => match StartPosition::try_from(*position) {
                Ok(StartPosition::Unspecified | StartPosition::Latest) => Start::Latest,
                Ok(StartPosition::Earliest) => Start::Earliest,
                Err(_) => self.fail("start_position", "unknown value", Start::Latest),
            },
        };
        let on_expired = match ExpiredCursorPolicy::try_from(asked.on_expired) {
            Ok(ExpiredCursorPolicy::Unspecified | ExpiredCursorPolicy::Fail) => OnExpired::Fail,
            Ok(ExpiredCursorPolicy::Earliest) => OnExpired::Earliest,
            Ok(ExpiredCursorPolicy::Latest) => OnExpired::Latest,
            Err(_) => self.fail("on_expired", "unknown value", OnExpired::Fail),
        };
        let events_max = self.events_max(asked.max_events);
        let heartbeat_interval = self.heartbeat_interval(asked.heartbeat_interval);
        let name = self.name(asked.subscriber_name.clone());
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

    fn cursor(&mut self, field: &str, text: &str) -> Start {
        match text.parse::<Cursor>() {
            Ok(cursor) => Start::After(cursor),
            Err(error) => self.fail(field, &error.to_string(), Start::Latest),
        }
    }

    fn page_size(&mut self, asked: i32) -> usize {
        match usize::try_from(asked) {
            Ok(0) => PAGE_SIZE_DEFAULT,
            Ok(size) => size.min(PAGE_SIZE_MAX),
            Err(_) => self.fail("page_size", "negative; 0 means 100", PAGE_SIZE_DEFAULT),
        }
    }

    fn time(&mut self, field: &str, time: &prost_types::Timestamp) -> Start {
        if !NANOS.contains(&time.nanos) {
            return self.fail(field, "nanos outside 0 to 999999999", Start::Latest);
        }
        if !TIMESTAMP_SECONDS.contains(&time.seconds) {
            let description = "seconds outside the years 1 to 9999; they count from 1970";
            return self.fail(field, description, Start::Latest);
        }
        // Rounded up: events of the millisecond that `time` lies in may be before it.
        let floor = UnixMillis::from(time);
        let is_whole = time.nanos % 1_000_000 == 0;
        let milliseconds = floor.milliseconds().saturating_add(i64::from(!is_whole));
        Start::Time(UnixMillis::new(milliseconds))
    }

    fn events_max(&mut self, asked: i64) -> Option<u64> {
        match u64::try_from(asked) {
            Ok(0) => None,
            Ok(most) => Some(most),
            Err(_) => self.fail("max_events", "negative; 0 means no limit", None),
        }
    }

    fn heartbeat_interval(&mut self, asked: Option<prost_types::Duration>) -> Duration {
        let Some(asked) = asked else {
            return HEARTBEAT_DEFAULT;
        };
        // Judged as the integers that they are: not every pair of them is a `Duration`.
        let seconds = u64::try_from(asked.seconds).ok();
        let nanos = u32::try_from(asked.nanos).ok();
        let interval = match (seconds, nanos) {
            (Some(seconds), Some(nanos)) if NANOS.contains(&asked.nanos) => {
                Duration::new(seconds.min(HEARTBEAT_MAX.as_secs()), nanos).min(HEARTBEAT_MAX)
            }
            _ => Duration::ZERO,
        };
        if interval >= HEARTBEAT_MIN {
            return interval;
        }
        let description = "less than 1 s, or nanos outside 0 to 999999999; leave it out for 15 s";
        self.fail("heartbeat_interval", description, HEARTBEAT_DEFAULT)
    }

    fn name(&mut self, name: String) -> String {
        if name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            let description = "longer than 100 bytes, or with control characters";
            return self.fail("subscriber_name", description, String::new());
        }
        if name.is_empty() {
            return UNNAMED.to_owned();
        }
        name
    }
}

#[cfg(test)]
mod tests;
