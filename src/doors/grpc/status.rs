//! Errors as `google.rpc.Status`: the one place that chooses codes.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use super::request::Refused;
use super::retry;
use crate::access::AuthError;
use crate::event::Excerpt;
use crate::fanout::Error;
use crate::filter::Violations;

const DOMAIN: &str = "clerkcast";
/// Clients bound the metadata of an answer, many at 8 KiB, and show nothing of one that is
/// larger.
const MESSAGE_BYTES_MAX: usize = 1 << 10;
/// The same, before base64.
const DETAILS_BYTES_MAX: usize = 3 << 10;
/// Violations that are named; the others are counted.
const VIOLATIONS_SHOWN: usize = 10;
/// Of a text that the caller wrote, or that has its words in it.
const VALUE_BYTES_MAX: usize = 256;

pub(super) fn refused(refused: Refused) -> Status {
    match refused {
        Refused::Invalid(violations) => invalid(violations),
        Refused::NotAllowed { principal, asked } => {
            let message = format!("the policy of {principal} allows nothing of this: {asked}");
            let metadata = [("principal", principal), ("asked", asked)];
            let details = error_info("NOT_ALLOWED", metadata);
            problem(Code::PermissionDenied, &message, details)
        }
    }
}

/// For a caller that is nobody whom the gateway knows.
pub(super) fn unauthenticated(unknown: AuthError) -> Status {
    let reason = match unknown {
        AuthError::NoCredentials => "NO_CREDENTIALS",
        AuthError::Token => "UNKNOWN_TOKEN",
        AuthError::Certificate => "UNKNOWN_CERTIFICATE",
    };
    let details = error_info(reason, []);
    problem(Code::Unauthenticated, &unknown.to_string(), details)
}

fn invalid(violations: Violations) -> Status {
    let Violations {
        reported: mut violations,
        more,
    } = violations;
    let more = more + violations.len().saturating_sub(VIOLATIONS_SHOWN);
    violations.truncate(VIOLATIONS_SHOWN);
    let mut message = match &violations[..] {
        [one] => format!("{}: {}", one.field, one.description),
        _ => {
            let descriptions = violations.iter().map(|one| one.description.as_str());
            descriptions.collect::<Vec<_>>().join("; ")
        }
    };
    if more > 0 {
        message = cut(&message, MESSAGE_BYTES_MAX - 64);
        message.push_str(&format!("; and {more} more"));
    }
    let violations = violations.into_iter();
    let violations = violations
        .map(|one| FieldViolation::new(one.field, cut(&one.description, VALUE_BYTES_MAX)));
    let mut details = error_info("INVALID_REQUEST", []);
    details.set_bad_request(violations.collect::<Vec<_>>());
    problem(Code::InvalidArgument, &message, details)
}

pub(super) fn no_such_event(id: &str) -> Status {
    problem(
        Code::NotFound,
        "no event with this id is in the log; it may have been removed by retention",
        error_info("EVENT_NOT_FOUND", [("id", Excerpt(id).to_string())]),
    )
}

/// For a caller whose calls, or those of its connection, are as many as may be worked on.
/// `crowd` is how many streams are open.
pub(super) fn too_many_calls(principal: &str, limit: usize, crowd: usize) -> Status {
    too_many(
        "TOO_MANY_CALLS",
        (principal, limit, crowd),
        &format!(
            "the limit of {limit} calls in progress or unread is reached; read their answers, or make fewer calls at once"
        ),
    )
}

/// For a health watch or a reflection stream beyond their number.
pub(super) fn too_many_side_streams(principal: &str, limit: usize, crowd: usize) -> Status {
    too_many(
        "TOO_MANY_STREAMS",
        (principal, limit, crowd),
        "too many health watches and reflection streams are open; end those that are not needed",
    )
}

fn too_many(
    reason: &str,
    (principal, limit, crowd): (&str, usize, usize),
    message: &str,
) -> Status {
    let metadata = [
        ("principal", principal.to_owned()),
        ("limit", limit.to_string()),
    ];
    let mut details = error_info(reason, metadata);
    details.set_retry_info(Some(retry::delay(crowd)));
    problem(Code::ResourceExhausted, message, details)
}

/// For a path that names no method.
pub(super) fn no_such_method() -> Status {
    Status::new(
        Code::Unimplemented,
        "no such method; `grpcurl HOST:PORT list` lists the services",
    )
}

/// For a request that ends before its message.
pub(super) fn no_message() -> Status {
    problem(
        Code::InvalidArgument,
        "the request holds no message; an empty message is valid, and means everything from now on",
        error_info("INVALID_REQUEST", []),
    )
}

/// For a call that was not answered in time.
pub(super) fn call_timed_out() -> Status {
    let mut details = error_info("CALL_TIMED_OUT", []);
    details.set_retry_info(Some(retry::delay(1)));
    problem(
        Code::Unavailable,
        "the call was not answered within 60 s; send the whole request at once, or ask for less",
        details,
    )
}

/// For a call that its caller did not mean to wait for any longer.
pub(super) fn deadline_exceeded() -> Status {
    Status::new(
        Code::DeadlineExceeded,
        "the call was not answered within the caller's own timeout",
    )
}

/// `crowd` is how many streams come back with this one.
pub(super) fn from_fanout(error: &Error, crowd: usize) -> Status {
    let message = error.to_string();
    let mut metadata = Vec::new();
    let (code, reason) = match error {
        Error::CursorExpired { oldest, newest } => {
            metadata.push(("oldest_cursor", oldest.to_string()));
            metadata.push(("newest_cursor", newest.to_string()));
            (Code::OutOfRange, "CURSOR_EXPIRED")
        }
        Error::OtherEpoch { found, expected } => {
            metadata.push(("cursor_epoch", found.to_string()));
            metadata.push(("log_epoch", expected.to_string()));
            (Code::FailedPrecondition, "CURSOR_OF_ANOTHER_LOG")
        }
        Error::AheadOfLog { newest } => {
            metadata.push(("newest_cursor", newest.to_string()));
            (Code::FailedPrecondition, "CURSOR_AHEAD_OF_LOG")
        }
        Error::OtherHistory { common } => {
            if let Some(common) = common {
                metadata.push(("common_cursor", common.to_string()));
            }
            (Code::FailedPrecondition, "CURSOR_OF_ANOTHER_LOG")
        }
        Error::TooManySubscribers(limit) => {
            metadata.push(("limit", limit.to_string()));
            (Code::ResourceExhausted, "TOO_MANY_SUBSCRIBERS")
        }
        Error::TooManyStreams { principal, limit } => {
            metadata.push(("principal", principal.clone()));
            metadata.push(("limit", limit.to_string()));
            (Code::ResourceExhausted, "TOO_MANY_STREAMS")
        }
        Error::FiltersTooLarge { principal, limit } => {
            metadata.push(("principal", principal.clone()));
            metadata.push(("limit", limit.to_string()));
            (Code::ResourceExhausted, "FILTERS_TOO_LARGE")
        }
        Error::PrincipalRemoved => (Code::Unauthenticated, "PRINCIPAL_REMOVED"),
        Error::PolicyChanged => (Code::Unavailable, "POLICY_CHANGED"),
        Error::Draining => (Code::Unavailable, "DRAINING"),
        Error::Log(_) => (Code::Unavailable, "LOG_UNREADABLE"),
    };
    let mut details = error_info(reason, metadata);
    if matches!(code, Code::Unavailable | Code::ResourceExhausted) {
        details.set_retry_info(Some(retry::delay(crowd)));
    }
    problem(code, &message, details)
}

fn error_info(
    reason: &str,
    metadata: impl IntoIterator<Item = (&'static str, String)>,
) -> ErrorDetails {
    let metadata = metadata.into_iter();
    let metadata = metadata.map(|(key, value)| (key.to_owned(), cut(&value, VALUE_BYTES_MAX)));
    ErrorDetails::with_error_info(reason, DOMAIN, metadata.collect::<HashMap<_, _>>())
}

/// A status that every client can read.
fn problem(code: Code, message: &str, mut details: ErrorDetails) -> Status {
    let message = cut(message, MESSAGE_BYTES_MAX);
    loop {
        let status = Status::with_error_details(code, message.clone(), details.clone());
        if status.details().len() <= DETAILS_BYTES_MAX {
            return status;
        }
        let violations = details.bad_request().map(|it| it.field_violations.clone());
        let mut violations = violations.unwrap_or_default();
        if violations.pop().is_none() {
            return Status::new(code, message);
        }
        details.set_bad_request(violations);
    }
}

/// The text, or as much of it as `bytes_max` allows, with a mark that some is missing.
fn cut(text: &str, bytes_max: usize) -> String {
    const MARK: &str = "…";
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes_max - MARK.len());
    let mut cut = text.get(..end).unwrap_or_default().to_owned();
    cut.push_str(MARK);
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Violation;

    #[test]
    fn a_status_is_bounded_whatever_it_says() {
        let violation = |length: usize| Violation {
            field: "filter.types[9999]".to_owned(),
            description: "é".repeat(length),
        };
        for (count, length) in [(1, 1), (1, 100_000), (10, 1_000), (10_000, 300)] {
            let status = invalid(Violations {
                reported: (0..count).map(|_| violation(length)).collect(),
                more: 0,
            });
            assert!(status.message().len() <= MESSAGE_BYTES_MAX, "{count}");
            assert!(status.details().len() <= DETAILS_BYTES_MAX, "{count}");
            let details = status.get_error_details();
            let shown = details.bad_request().expect("shown").field_violations.len();
            assert!(shown >= count.min(5), "{shown} of {count}");
            assert_eq!(status.message().contains("and 9990 more"), count == 10_000);
        }
        let denied = refused(Refused::NotAllowed {
            principal: "billing".to_owned(),
            asked: "x, ".repeat(100_000),
        });
        assert!(denied.message().len() <= MESSAGE_BYTES_MAX);
        assert!(denied.details().len() <= DETAILS_BYTES_MAX);
        assert!(denied.get_error_details().error_info().is_some());
    }
}
