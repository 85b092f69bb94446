//! Errors as `google.rpc.Status`: the one place that chooses codes.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use super::request::Refused;
use crate::access::Unknown;
use crate::fanout::{Error, Violation};
use crate::log;

const DOMAIN: &str = "clerkcast";
/// Long enough for a load balancer to notice, short enough for nobody to be paged.
const RECONNECT_DELAY: Duration = Duration::from_secs(1);

pub(super) fn refused(refused: Refused) -> Status {
    match refused {
        Refused::Invalid(violations) => invalid(violations),
        Refused::NotAllowed { principal, asked } => {
            let message = format!("the policy of {principal} allows nothing of this: {asked}");
            let metadata = [("principal", principal), ("asked", asked)];
            let metadata = metadata.map(|(key, value)| (key.to_owned(), value));
            Status::with_error_details(
                Code::PermissionDenied,
                message,
                error_info("NOT_ALLOWED", metadata.into()),
            )
        }
    }
}

/// For a caller that is nobody whom the gateway knows.
pub(super) fn unauthenticated(unknown: Unknown) -> Status {
    let reason = match unknown {
        Unknown::NoCredentials => "NO_CREDENTIALS",
        Unknown::Token => "UNKNOWN_TOKEN",
        Unknown::Certificate => "UNKNOWN_CERTIFICATE",
    };
    let details = error_info(reason, HashMap::new());
    Status::with_error_details(Code::Unauthenticated, unknown.to_string(), details)
}

fn invalid(violations: Vec<Violation>) -> Status {
    let message: Vec<&str> = violations
        .iter()
        .map(|one| one.description.as_str())
        .collect();
    let message = match &violations[..] {
        [one] => format!("{}: {}", one.field, one.description),
        _ => message.join("; "),
    };
    let violations = violations
        .into_iter()
        .map(|one| FieldViolation::new(one.field, one.description));
    let mut details = error_info("INVALID_REQUEST", HashMap::new());
    details.set_bad_request(violations.collect::<Vec<_>>());
    Status::with_error_details(Code::InvalidArgument, message, details)
}

pub(super) fn no_such_event(id: &str) -> Status {
    let metadata = HashMap::from([("id".to_owned(), id.to_owned())]);
    Status::with_error_details(
        Code::NotFound,
        "no event with this id is in the log; it may have been removed by retention",
        error_info("EVENT_NOT_FOUND", metadata),
    )
}

/// What a search for one event ended with.
pub(super) fn from_search(principal: &str, error: &Error) -> Status {
    match error {
        Error::Log(log::Error::TooManySearches { limit }) => too_many_calls(principal, *limit),
        _ => from_fanout(error),
    }
}

pub(super) fn too_many_calls(principal: &str, limit: usize) -> Status {
    let metadata = [
        ("principal", principal.to_owned()),
        ("limit", limit.to_string()),
    ];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value));
    let mut details = error_info("TOO_MANY_CALLS", metadata.into());
    details.set_retry_info(Some(RECONNECT_DELAY));
    let message =
        format!("at most {limit} calls of this kind are worked on at once; try again later");
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

pub(super) fn from_fanout(error: &Error) -> Status {
    let message = error.to_string();
    let mut metadata = HashMap::new();
    let (code, reason) = match error {
        Error::CursorExpired { oldest, newest } => {
            metadata.insert("oldest_cursor".to_owned(), oldest.to_string());
            metadata.insert("newest_cursor".to_owned(), newest.to_string());
            (Code::OutOfRange, "CURSOR_EXPIRED")
        }
        Error::OtherEpoch { found, expected } => {
            metadata.insert("cursor_epoch".to_owned(), found.to_string());
            metadata.insert("log_epoch".to_owned(), expected.to_string());
            (Code::FailedPrecondition, "CURSOR_OF_ANOTHER_LOG")
        }
        Error::AheadOfLog { newest } => {
            metadata.insert("newest_cursor".to_owned(), newest.to_string());
            (Code::FailedPrecondition, "CURSOR_AHEAD_OF_LOG")
        }
        Error::OtherHistory { common } => {
            if let Some(common) = common {
                metadata.insert("common_cursor".to_owned(), common.to_string());
            }
            (Code::FailedPrecondition, "CURSOR_OF_ANOTHER_LOG")
        }
        Error::TooManySubscribers(limit) => {
            metadata.insert("limit".to_owned(), limit.to_string());
            (Code::ResourceExhausted, "TOO_MANY_SUBSCRIBERS")
        }
        Error::TooManyStreams { principal, limit } => {
            metadata.insert("principal".to_owned(), principal.clone());
            metadata.insert("limit".to_owned(), limit.to_string());
            (Code::ResourceExhausted, "TOO_MANY_STREAMS")
        }
        Error::FiltersTooLarge { principal, limit } => {
            metadata.insert("principal".to_owned(), principal.clone());
            metadata.insert("limit".to_owned(), limit.to_string());
            (Code::ResourceExhausted, "FILTERS_TOO_LARGE")
        }
        Error::PrincipalRemoved => (Code::Unauthenticated, "PRINCIPAL_REMOVED"),
        Error::PolicyChanged => (Code::Unavailable, "POLICY_CHANGED"),
        Error::Draining => (Code::Unavailable, "DRAINING"),
        Error::Log(_) => (Code::Unavailable, "LOG_UNREADABLE"),
    };
    let mut details = error_info(reason, metadata);
    if matches!(code, Code::Unavailable | Code::ResourceExhausted) {
        details.set_retry_info(Some(RECONNECT_DELAY));
    }
    Status::with_error_details(code, message, details)
}

fn error_info(reason: &str, metadata: HashMap<String, String>) -> ErrorDetails {
    ErrorDetails::with_error_info(reason, DOMAIN, metadata)
}
