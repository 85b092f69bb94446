//! Collects what is wrong with a request, and reads what many requests have.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::problem::Problem;
use crate::event::{Cursor, UnixMillis, is_unprintable};
use crate::fanout::{OnExpired, Start, UNNAMED};
use crate::filter::{Filter, KnownNames, Scope, Spec, Violation, Violations};
use crate::proto::{ExpiredCursorPolicy, StartPosition};

const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(15);
const HEARTBEAT_MIN: Duration = Duration::from_secs(1);
const PAGE_SIZE_DEFAULT: usize = 100;
const PAGE_SIZE_MAX: usize = 1000;
/// The first and the last second that a `google.protobuf.Timestamp` can hold
/// (timestamp.proto): those of the years 1 and 9999.
const TIMESTAMP_SECONDS: RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
const NANOS: RangeInclusive<i32> = 0..=999_999_999;
/// The longest heartbeat interval, a day. A longer one is shortened to it.
const HEARTBEAT_MAX: Duration = Duration::from_secs(86_400);
/// A name is shown in logs and as a metric's label.
const NAME_BYTES_MAX: usize = 100;
/// Characters that are printable within a text, and could make two names look the same.
const JOINERS: [char; 2] = ['\u{200c}', '\u{200d}'];

/// Collects what is wrong.
#[derive(Default)]
pub(super) struct Check {
    violations: Violations,
}

impl Check {
    /// A check that has found these already.
    pub(super) fn beginning_with(violations: Violations) -> Self {
        Self { violations }
    }

    /// The problem of a request in which something is wrong.
    pub(super) fn problem(self) -> Problem {
        Problem::invalid(self.violations)
    }

    pub(super) fn done(self) -> Result<(), Problem> {
        if self.violations.reported.is_empty() {
            Ok(())
        } else {
            Err(self.problem())
        }
    }

    pub(super) fn fail<T>(&mut self, field: &str, description: &str, instead: T) -> T {
        self.violations.reported.push(Violation {
            field: field.to_owned(),
            description: description.to_owned(),
        });
        instead
    }

    pub(super) fn filter(&mut self, filter: &Spec, known: &KnownNames, scope: &Scope) -> Filter {
        Filter::compile(filter, known, scope).unwrap_or_else(|violations| {
            self.violations.reported.extend(violations.reported);
            self.violations.more += violations.more;
            Filter::default()
        })
    }

    pub(super) fn cursor(&mut self, field: &str, text: &str) -> Start {
        match text.parse::<Cursor>() {
            Ok(cursor) => Start::After(cursor),
            Err(error) => self.fail(field, &error.to_string(), Start::Latest),
        }
    }

    /// An end of the log.
    pub(super) fn start_position(&mut self, field: &str, position: i32) -> Start {
        match StartPosition::try_from(position) {
            Ok(StartPosition::Unspecified | StartPosition::Latest) => Start::Latest,
            Ok(StartPosition::Earliest) => Start::Earliest,
            Err(_) => self.fail(field, "unknown value", Start::Latest),
        }
    }

    pub(super) fn on_expired(&mut self, field: &str, policy: i32) -> OnExpired {
        match ExpiredCursorPolicy::try_from(policy) {
            Ok(ExpiredCursorPolicy::Unspecified | ExpiredCursorPolicy::Fail) => OnExpired::Fail,
            Ok(ExpiredCursorPolicy::Earliest) => OnExpired::Earliest,
            Ok(ExpiredCursorPolicy::Latest) => OnExpired::Latest,
            Err(_) => self.fail(field, "unknown value", OnExpired::Fail),
        }
    }

    /// A duration, whose bounds are the caller's to check. A negative one counts as 0 s.
    pub(super) fn duration(
        &mut self,
        field: &str,
        asked: Option<prost_types::Duration>,
    ) -> Option<Duration> {
        let asked = asked?;
        if !(-999_999_999..=999_999_999).contains(&asked.nanos) {
            return self.fail(field, "nanos outside -999999999 to 999999999", None);
        }
        let seconds = u64::try_from(asked.seconds).ok();
        let nanos = u32::try_from(asked.nanos).ok();
        let duration = seconds.zip(nanos);
        Some(duration.map_or(Duration::ZERO, |(seconds, nanos)| {
            Duration::new(seconds, nanos)
        }))
    }

    pub(super) fn page_size(&mut self, asked: i32) -> usize {
        match usize::try_from(asked) {
            Ok(0) => PAGE_SIZE_DEFAULT,
            Ok(size) => size.min(PAGE_SIZE_MAX),
            Err(_) => self.fail("page_size", "negative; 0 means 100", PAGE_SIZE_DEFAULT),
        }
    }

    /// The number that a page follows; absent for the first page.
    pub(super) fn page_token(&mut self, token: &str) -> Option<u64> {
        if token.is_empty() {
            return None;
        }
        token.parse().ok().or_else(|| {
            let description =
                "not a page token: pass `next_page_token` of the page before unchanged";
            self.fail("page_token", description, None)
        })
    }

    pub(super) fn time(&mut self, field: &str, time: &prost_types::Timestamp) -> Start {
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

    pub(super) fn events_max(&mut self, asked: i64) -> Option<u64> {
        match u64::try_from(asked) {
            Ok(0) => None,
            Ok(most) => Some(most),
            Err(_) => self.fail("max_events", "negative; 0 means no limit", None),
        }
    }

    pub(super) fn heartbeat_interval(&mut self, asked: Option<prost_types::Duration>) -> Duration {
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

    /// Checks a filter that stands in a message of the request.
    pub(super) fn filter_within(
        &mut self,
        field: &str,
        filter: &Spec,
        (known, scope): (&KnownNames, &Scope),
    ) {
        if let Err(violations) = Filter::compile(filter, known, scope) {
            self.add_within(field, violations);
        }
    }

    /// Adds what is wrong with the filter of a message in the request.
    pub(super) fn add_within(&mut self, field: &str, violations: Violations) {
        self.violations.more += violations.more;
        let prefixed = violations.reported.into_iter().map(|violation| Violation {
            field: format!("{field}.{}", violation.field),
            ..violation
        });
        self.violations.reported.extend(prefixed);
    }

    /// The name that a stream gives itself.
    pub(super) fn name(&mut self, field: &str, name: String) -> String {
        if name.len() > NAME_BYTES_MAX {
            return self.fail(field, "longer than 100 bytes: shorten it", String::new());
        }
        let is_refused = |found: &char| is_unprintable(*found) || JOINERS.contains(found);
        if let Some(found) = name.chars().find(is_refused) {
            let description = format!(
                "contains U+{:04X}: leave out control, direction and zero-width characters",
                u32::from(found)
            );
            return self.fail(field, &description, String::new());
        }
        if name.is_empty() {
            return UNNAMED.to_owned();
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(name: &str) -> Result<String, Problem> {
        let mut check = Check::default();
        let name = check.name("worker_name", name.to_owned());
        check.done().map(|()| name)
    }

    #[test]
    fn a_name_that_hides_or_reorders_text_is_refused() {
        let single = [
            '\0', '\n', '\u{1b}', '\u{7f}', '\u{9b}', '\u{61c}', '\u{2060}', '\u{feff}',
        ];
        let hidden = single
            .into_iter()
            .chain('\u{200b}'..='\u{200f}')
            .chain('\u{2028}'..='\u{202e}')
            .chain('\u{2066}'..='\u{2069}');
        for character in hidden {
            for name in [format!("{character}crm"), format!("c{character}rm")] {
                let refused = checked(&name).expect_err("refused");
                let description = &refused.violations[0].description;
                let code = format!("contains U+{:04X}: leave out", u32::from(character));
                assert!(description.starts_with(&code), "{description}");
                assert!(!description.contains(character), "{description:?}");
            }
        }
        for name in [
            "crm eu",
            "a \"b\" \\ {c=\"1\"} # é",
            "日本",
            "e\u{301}",
            "🚀",
        ] {
            assert_eq!(checked(name).ok().as_deref(), Some(name));
        }
        assert_eq!(checked(&"é".repeat(50)).ok(), Some("é".repeat(50)));
        assert!(checked(&"é".repeat(51)).is_err());
        assert_eq!(checked("").ok().as_deref(), Some(UNNAMED));
    }
}
