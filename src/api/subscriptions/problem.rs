//! Why a call about a subscription is not answered, as a problem.

use super::request;
use crate::access::Principal;
use crate::api::problem::{Code, Problem, reason};
use crate::api::service::Api;
use crate::subscriptions::{Error, Name};

impl Api {
    /// Why a call of this principal's that writes is not answered.
    pub(super) fn refusal_of_write(&self, principal: &Principal, error: Error) -> Problem {
        self.refusal(principal, &error.of_write())
    }

    /// Why a call of this principal's is not answered.
    pub(super) fn refusal(&self, principal: &Principal, error: &Error) -> Problem {
        let new = |code, reason| Problem::new(code, reason, &error.to_string());
        let named = |problem: Problem, name: &Name| problem.with("name", name.as_str());
        match error {
            Error::NotFound { name, nearest } => {
                let problem = named(new(Code::NotFound, reason::SUBSCRIPTION_NOT_FOUND), name);
                match nearest {
                    Some(nearest) => problem.with("nearest", nearest.as_str()),
                    None => problem,
                }
            }
            Error::Exists {
                name,
                differing_fields,
            } => {
                let problem = named(new(Code::AlreadyExists, reason::SUBSCRIPTION_EXISTS), name);
                if differing_fields.is_empty() {
                    return problem;
                }
                problem.with("differing_fields", &differing_fields.join(","))
            }
            Error::Deleted(name) => named(new(Code::NotFound, reason::SUBSCRIPTION_DELETED), name),
            // Without RetryInfo: waiting does not help.
            Error::TooMany(limit) => new(Code::ResourceExhausted, reason::TOO_MANY_SUBSCRIPTIONS)
                .with("limit", &limit.to_string()),
            Error::TooManyOfPrincipal { principal, limit } => {
                new(Code::ResourceExhausted, reason::TOO_MANY_SUBSCRIPTIONS)
                    .with("principal", principal)
                    .with("limit", &limit.to_string())
            }
            Error::NotOwner {
                principal, method, ..
            } => new(Code::PermissionDenied, reason::NOT_ALLOWED)
                .with("principal", principal)
                .with("asked", method),
            Error::NotAllowed { principal, asked } => Problem::not_allowed(principal, asked),
            Error::Expired {
                name,
                oldest,
                newest,
            } => named(new(Code::OutOfRange, reason::CURSOR_EXPIRED), name)
                .with("oldest_cursor", &oldest.to_string())
                .with("newest_cursor", &newest.to_string()),
            Error::OtherLog {
                name,
                found,
                expected,
            } => named(
                new(Code::FailedPrecondition, reason::CURSOR_OF_ANOTHER_LOG),
                name,
            )
            .with("cursor_epoch", &found.to_string())
            .with("log_epoch", &expected.to_string()),
            Error::AheadOfLog { name, newest } => named(
                new(Code::FailedPrecondition, reason::CURSOR_AHEAD_OF_LOG),
                name,
            )
            .with("newest_cursor", &newest.to_string()),
            Error::Seek(_) => new(Code::FailedPrecondition, reason::CURSOR_OF_ANOTHER_LOG),
            Error::NotStored(_) => {
                new(Code::Unavailable, reason::NOT_STORED).again(self.fanout.streams())
            }
            Error::Settings(errors) => request::bounds_problem(errors),
            Error::Stream(error) => self.problem(error, principal),
        }
    }
}
