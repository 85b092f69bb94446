//! Why a call is not answered, whatever door it came through.

use std::collections::BTreeMap;
use std::time::Duration;

use super::retry;
use crate::access::AuthError;
use crate::event::Excerpt;
use crate::fanout::Error;
use crate::filter::{Violation, Violations};

/// Of a message. Clients bound what they take of an error, many at 8 KiB in all, and show
/// nothing of one that is larger.
pub const MESSAGE_BYTES_MAX: usize = 1 << 10;
/// Violations that are named; the others are counted.
const VIOLATIONS_SHOWN: usize = 10;
/// Of a text that the caller wrote, or that has its words in it.
const VALUE_BYTES_MAX: usize = 256;
/// What the number of violations that are not named needs at the end of a message.
const COUNT_BYTES: usize = 64;

/// Declares the reasons as constants of [`reason`].
macro_rules! reasons {
    ($($name:ident),+ $(,)?) => {
        /// The reasons that problems have, as callers read them.
        pub mod reason {
            $(pub(crate) const $name: &str = stringify!($name);)+

            /// Every reason.
            pub const ALL: &[&str] = &[$($name),+];
        }
    };
}

reasons! {
    INVALID_REQUEST,
    EVENT_NOT_FOUND,
    SUBSCRIPTION_NOT_FOUND,
    SUBSCRIPTION_EXISTS,
    SUBSCRIPTION_DELETED,
    TOO_MANY_SUBSCRIPTIONS,
    NOT_STORED,
    CURSOR_EXPIRED,
    CURSOR_OF_ANOTHER_LOG,
    CURSOR_AHEAD_OF_LOG,
    NO_CREDENTIALS,
    UNKNOWN_TOKEN,
    UNKNOWN_CERTIFICATE,
    PRINCIPAL_REMOVED,
    NOT_ALLOWED,
    TOO_MANY_SUBSCRIBERS,
    TOO_MANY_STREAMS,
    TOO_MANY_CALLS,
    FILTERS_TOO_LARGE,
    POLICY_CHANGED,
    DRAINING,
    LOG_UNREADABLE,
    CALL_TIMED_OUT,
}

/// Why a call is not answered. A door renders it and never chooses a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The kind of problem.
    pub code: Code,
    /// One of [`reason::ALL`]; empty where the code is enough.
    pub reason: &'static str,
    /// What is wrong and what to do, of at most [`MESSAGE_BYTES_MAX`].
    pub message: String,
    /// What a program may need to act on the reason.
    pub metadata: BTreeMap<&'static str, String>,
    /// What is wrong with which fields of the request.
    pub violations: Vec<Violation>,
    /// When to call again, where that may help.
    pub retry_after: Option<Duration>,
}

/// The kinds of problems. Each door has its own numbers for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The request is wrong, whatever the log holds.
    InvalidArgument,
    /// What is asked for does not exist.
    NotFound,
    /// What is to be made exists already.
    AlreadyExists,
    /// The log is not what the request takes it for.
    FailedPrecondition,
    /// The cursor is older than the log.
    OutOfRange,
    /// The caller is not known.
    Unauthenticated,
    /// The caller may not.
    PermissionDenied,
    /// A bound is reached.
    ResourceExhausted,
    /// The gateway cannot now.
    Unavailable,
    /// There is no such method.
    Unimplemented,
    /// The caller's own timeout has passed.
    DeadlineExceeded,
}

impl Problem {
    pub(super) fn new(code: Code, reason: &'static str, message: &str) -> Self {
        Self {
            code,
            reason,
            message: cut(message, MESSAGE_BYTES_MAX),
            metadata: BTreeMap::new(),
            violations: Vec::new(),
            retry_after: None,
        }
    }

    pub(super) fn with(mut self, key: &'static str, value: &str) -> Self {
        self.metadata.insert(key, cut(value, VALUE_BYTES_MAX));
        self
    }

    /// To be tried again, as one of `crowd` callers.
    pub(super) fn again(mut self, crowd: usize) -> Self {
        self.retry_after = Some(retry::delay(crowd));
        self
    }

    /// For a request that is wrong: all that is wrong with it at once.
    #[must_use]
    pub fn invalid(violations: Violations) -> Self {
        let Violations {
            reported: mut violations,
            more,
        } = violations;
        let more = more + violations.len().saturating_sub(VIOLATIONS_SHOWN);
        violations.truncate(VIOLATIONS_SHOWN);
        let mut message = match &violations[..] {
            [only] => format!("{}: {}", only.field, only.description),
            _ => {
                let descriptions = violations
                    .iter()
                    .map(|violation| violation.description.as_str());
                descriptions.collect::<Vec<_>>().join("; ")
            }
        };
        if more > 0 {
            message = cut(&message, MESSAGE_BYTES_MAX - COUNT_BYTES);
            message.push_str(&format!("; and {more} more"));
        }
        let mut problem = Self::new(Code::InvalidArgument, reason::INVALID_REQUEST, &message);
        let shown = violations.into_iter().map(|violation| Violation {
            description: cut(&violation.description, VALUE_BYTES_MAX),
            ..violation
        });
        problem.violations = shown.collect();
        problem
    }

    /// For a request that asks for nothing that the caller may receive; `asked` as
    /// `types: email.created`.
    #[must_use]
    pub fn not_allowed(principal: &str, asked: &str) -> Self {
        let message = format!("the policy of {principal} allows nothing of this: {asked}");
        Self::new(Code::PermissionDenied, reason::NOT_ALLOWED, &message)
            .with("principal", principal)
            .with("asked", asked)
    }

    /// For an id that no event has which the caller may receive.
    #[must_use]
    pub fn no_such_event(id: &str) -> Self {
        let message = "no event with this id is in the log; it may have been removed by retention";
        Self::new(Code::NotFound, reason::EVENT_NOT_FOUND, message)
            .with("id", &Excerpt(id).to_string())
    }

    /// For a caller whose calls, or those of its connection, are as many as may be worked
    /// on. `crowd` is how many streams are open.
    #[must_use]
    pub fn too_many_calls(principal: &str, limit: usize, crowd: usize) -> Self {
        let message = format!(
            "the limit of {limit} calls in progress or unread is reached; read their answers, or make fewer calls at once"
        );
        Self::new(Code::ResourceExhausted, reason::TOO_MANY_CALLS, &message)
            .with("principal", principal)
            .with("limit", &limit.to_string())
            .again(crowd)
    }

    /// For a health watch or a reflection stream beyond their number.
    #[must_use]
    pub fn too_many_side_streams(principal: &str, limit: usize, crowd: usize) -> Self {
        let message = "too many health watches and reflection streams are open; end those that are not needed";
        Self::new(Code::ResourceExhausted, reason::TOO_MANY_STREAMS, message)
            .with("principal", principal)
            .with("limit", &limit.to_string())
            .again(crowd)
    }

    /// For a path that names no method.
    #[must_use]
    pub fn no_such_method() -> Self {
        let message = "no such method; `grpcurl HOST:PORT list` lists the services";
        Self::new(Code::Unimplemented, "", message)
    }

    /// For a request that ends before its message.
    #[must_use]
    pub fn no_message() -> Self {
        let message = "the request holds no message; an empty message is valid, and means everything from now on";
        Self::new(Code::InvalidArgument, reason::INVALID_REQUEST, message)
    }

    /// For a call that was not answered in time.
    #[must_use]
    pub fn call_timed_out() -> Self {
        let message = "the call was not answered within 60 s; send the whole request at once, or ask for less";
        Self::new(Code::Unavailable, reason::CALL_TIMED_OUT, message).again(1)
    }

    /// For a call that its caller did not mean to wait for any longer.
    #[must_use]
    pub fn deadline_exceeded() -> Self {
        let message = "the call was not answered within the caller's own timeout";
        Self::new(Code::DeadlineExceeded, "", message)
    }

    /// For a call that reached the service past the guard: no caller is known, and nothing
    /// is shown.
    #[must_use]
    pub fn not_guarded() -> Self {
        Self::new(Code::Unauthenticated, "", "the service is not guarded")
    }

    /// `crowd` is how many streams come back with this one.
    pub(super) fn from_fanout(error: &Error, crowd: usize) -> Self {
        let new = |code, reason| Self::new(code, reason, &error.to_string());
        match error {
            Error::CursorExpired { oldest, newest } => {
                new(Code::OutOfRange, reason::CURSOR_EXPIRED)
                    .with("oldest_cursor", &oldest.to_string())
                    .with("newest_cursor", &newest.to_string())
            }
            Error::OtherEpoch { found, expected } => {
                new(Code::FailedPrecondition, reason::CURSOR_OF_ANOTHER_LOG)
                    .with("cursor_epoch", &found.to_string())
                    .with("log_epoch", &expected.to_string())
            }
            Error::AheadOfLog { newest } => {
                new(Code::FailedPrecondition, reason::CURSOR_AHEAD_OF_LOG)
                    .with("newest_cursor", &newest.to_string())
            }
            Error::OtherEvent => new(Code::FailedPrecondition, reason::CURSOR_OF_ANOTHER_LOG),
            Error::OtherHistory { common } => {
                let problem = new(Code::FailedPrecondition, reason::CURSOR_OF_ANOTHER_LOG);
                match common {
                    Some(common) => problem.with("common_cursor", &common.to_string()),
                    None => problem,
                }
            }
            Error::TooManySubscribers(limit) => {
                new(Code::ResourceExhausted, reason::TOO_MANY_SUBSCRIBERS)
                    .with("limit", &limit.to_string())
                    .again(crowd)
            }
            Error::TooManyStreams { principal, limit } => {
                new(Code::ResourceExhausted, reason::TOO_MANY_STREAMS)
                    .with("principal", principal)
                    .with("limit", &limit.to_string())
                    .again(crowd)
            }
            Error::FiltersTooLarge { principal, limit } => {
                new(Code::ResourceExhausted, reason::FILTERS_TOO_LARGE)
                    .with("principal", principal)
                    .with("limit", &limit.to_string())
                    .again(crowd)
            }
            Error::PrincipalRemoved => new(Code::Unauthenticated, reason::PRINCIPAL_REMOVED),
            Error::PolicyChanged => new(Code::Unavailable, reason::POLICY_CHANGED).again(crowd),
            Error::Draining => new(Code::Unavailable, reason::DRAINING).again(crowd),
            Error::Log(_) => new(Code::Unavailable, reason::LOG_UNREADABLE).again(crowd),
        }
    }
}

/// For a caller that the gateway does not know.
impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        let reason = match error {
            AuthError::NoCredentials => reason::NO_CREDENTIALS,
            AuthError::Token => reason::UNKNOWN_TOKEN,
            AuthError::Certificate => reason::UNKNOWN_CERTIFICATE,
        };
        Self::new(Code::Unauthenticated, reason, &error.to_string())
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
