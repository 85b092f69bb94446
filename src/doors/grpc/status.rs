//! Problems as `google.rpc.Status`.

use std::collections::HashMap;

use tonic::Status;
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::api::{Code, Problem};

const DOMAIN: &str = "clerkcast";
/// Of details, before base64: clients bound the metadata of an answer, many at 8 KiB, and
/// show nothing of one that is larger.
const DETAILS_BYTES_MAX: usize = 3 << 10;

/// A status that every client can read: of the violations, as many as fit.
pub(super) fn render(problem: Problem) -> Status {
    let Problem {
        code,
        reason,
        message,
        metadata,
        violations,
        retry_after,
    } = problem;
    let code = code_of(code);
    if reason.is_empty() {
        return Status::new(code, message);
    }
    let metadata: HashMap<String, String> = metadata
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
    if retry_after.is_some() {
        details.set_retry_info(retry_after);
    }
    let mut violations: Vec<FieldViolation> = violations
        .into_iter()
        .map(|violation| FieldViolation::new(violation.field, violation.description))
        .collect();
    loop {
        if !violations.is_empty() {
            details.set_bad_request(violations.clone());
        }
        let status = Status::with_error_details(code, message.clone(), details.clone());
        if status.details().len() <= DETAILS_BYTES_MAX {
            return status;
        }
        if violations.pop().is_none() {
            return Status::new(code, message);
        }
    }
}

fn code_of(code: Code) -> tonic::Code {
    match code {
        Code::InvalidArgument => tonic::Code::InvalidArgument,
        Code::NotFound => tonic::Code::NotFound,
        Code::AlreadyExists => tonic::Code::AlreadyExists,
        Code::FailedPrecondition => tonic::Code::FailedPrecondition,
        Code::OutOfRange => tonic::Code::OutOfRange,
        Code::Unauthenticated => tonic::Code::Unauthenticated,
        Code::PermissionDenied => tonic::Code::PermissionDenied,
        Code::ResourceExhausted => tonic::Code::ResourceExhausted,
        Code::Unavailable => tonic::Code::Unavailable,
        Code::Unimplemented => tonic::Code::Unimplemented,
        Code::DeadlineExceeded => tonic::Code::DeadlineExceeded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{MESSAGE_BYTES_MAX, Violation};
    use crate::filter::Violations;

    #[test]
    fn a_status_of_any_content_is_bounded() {
        let violation = |length: usize| Violation {
            field: "filter.types[9999]".to_owned(),
            description: "é".repeat(length),
        };
        for (count, length) in [(1, 1), (1, 100_000), (10, 1_000), (10_000, 300)] {
            let status = render(Problem::invalid(Violations {
                reported: (0..count).map(|_| violation(length)).collect(),
                more: 0,
            }));
            assert!(status.message().len() <= MESSAGE_BYTES_MAX, "{count}");
            assert!(status.details().len() <= DETAILS_BYTES_MAX, "{count}");
            let details = status.get_error_details();
            let shown = details.bad_request().expect("shown").field_violations.len();
            assert!(shown >= count.min(5), "{shown} of {count}");
            assert_eq!(status.message().contains("and 9990 more"), count == 10_000);
        }
        let asked = "x, ".repeat(100_000);
        let denied = render(Problem::not_allowed("billing", &asked));
        assert!(denied.message().len() <= MESSAGE_BYTES_MAX);
        assert!(denied.details().len() <= DETAILS_BYTES_MAX);
        assert!(denied.get_error_details().error_info().is_some());
    }
}
