//! Answers to the sender. Clerk's dashboard shows the body of each answer, so it is
//! written for the person who looks there.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::rejection::Rejection;
use crate::intake::{AppendError, Error};

/// Svix waits at least as long as its schedule demands, and up to twice that.
const RETRY_AFTER_SECONDS: &str = "5";

/// 200: the event is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// The event's `svix-id`.
    pub id: String,
    /// Whether it was durable before this delivery.
    pub duplicate: bool,
}

/// Every other answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    /// The delivery could not be verified.
    #[error(transparent)]
    NotVerified(#[from] Rejection),
    /// The allow-list does not hold the sender's network.
    #[error(
        "requests from this address are not allowed: add its network to --http-allow-from, or, where a proxy of your own stands before the gateway, the proxy's to --http-trusted-proxies"
    )]
    SourceNotAllowed,
    /// The body names another Clerk instance than the source's.
    #[error(
        "the body's instance_id is not the one configured for this source: was this endpoint set up in the right Clerk instance (development or production)?"
    )]
    OtherInstance,
    /// The sender closed the connection, or sent less than it announced.
    #[error("the body ended before it was complete")]
    BodyCutShort,
    /// The body took too long.
    #[error("the body did not arrive within {} s", .0.as_secs_f64())]
    BodyTooSlow(Duration),
    /// The body is too large.
    #[error("the body is larger than {0} bytes, the limit set by --body-limit")]
    BodyTooLarge(usize),
    /// The URL names no configured source.
    #[error(
        "no such source: the URL's last part must be the name of a configured source, or be left out for \"default\""
    )]
    UnknownSource,
    /// Not a path of this service.
    #[error(
        "nothing here: webhooks are received at /webhooks/clerk and /webhooks/clerk/{{source}}"
    )]
    WrongPath,
    /// Neither POST nor GET.
    #[error("webhooks are delivered with POST")]
    WrongMethod,
    /// Too much is on its way into the log.
    #[error("too many deliveries at once; retry")]
    Busy,
    /// The gateway stops.
    #[error("shutting down; retry")]
    Draining,
    /// The log did not make it durable.
    #[error("the event could not be stored: {0}; retry")]
    NotStored(AppendError),
}

impl Refusal {
    /// Every [`Refusal::name`].
    pub(super) const NAMES: [&'static str; 17] = [
        "missing_header",
        "malformed_header",
        "timestamp_too_old",
        "timestamp_too_new",
        "signature_mismatch",
        "body_not_utf8",
        "source_not_allowed",
        "instance_mismatch",
        "body_cut_short",
        "body_too_slow",
        "body_too_large",
        "unknown_source",
        "not_found",
        "method_not_allowed",
        "overloaded",
        "draining",
        "not_stored",
    ];

    /// The name in the response body and in metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotVerified(rejection) => rejection.name(),
            Self::SourceNotAllowed => "source_not_allowed",
            Self::OtherInstance => "instance_mismatch",
            Self::BodyCutShort => "body_cut_short",
            Self::BodyTooSlow(_) => "body_too_slow",
            Self::BodyTooLarge(_) => "body_too_large",
            Self::UnknownSource => "unknown_source",
            Self::WrongPath => "not_found",
            Self::WrongMethod => "method_not_allowed",
            Self::Busy | Self::NotStored(AppendError::Overloaded) => "overloaded",
            Self::Draining | Self::NotStored(AppendError::Closed) => "draining",
            Self::NotStored(_) => "not_stored",
        }
    }

    /// The status that it is answered with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotVerified(_) | Self::OtherInstance | Self::BodyCutShort => {
                StatusCode::BAD_REQUEST
            }
            Self::SourceNotAllowed => StatusCode::FORBIDDEN,
            Self::BodyTooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnknownSource | Self::WrongPath => StatusCode::NOT_FOUND,
            Self::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::Busy | Self::Draining | Self::NotStored(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Whether the sender should try again: it is answered 503.
    pub(super) fn is_temporary(&self) -> bool {
        self.status() == StatusCode::SERVICE_UNAVAILABLE
    }
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Accepted,
    Duplicate,
    Rejected,
    /// Answered 503.
    Unavailable,
}

impl Outcome {
    pub(super) fn of(answer: &Result<Receipt, Refusal>) -> Self {
        match answer {
            Ok(receipt) if receipt.duplicate => Self::Duplicate,
            Ok(_) => Self::Accepted,
            Err(refusal) if refusal.is_temporary() => Self::Unavailable,
            Err(_) => Self::Rejected,
        }
    }

    /// As metrics and traces have it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Rejected => "rejected",
            Self::Unavailable => "unavailable",
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::OtherInstance { .. } => Self::OtherInstance,
            Error::Append(error) => Self::NotStored(error),
        }
    }
}

impl IntoResponse for Receipt {
    fn into_response(self) -> Response {
        Json(self).into_response()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            error: &'static str,
            message: String,
        }
        let status = self.status();
        let body = Body {
            error: self.name(),
            message: self.to_string(),
        };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        if self.is_temporary() {
            let seconds = HeaderValue::from_static(RETRY_AFTER_SECONDS);
            headers.insert(header::RETRY_AFTER, seconds);
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
        }
        response
    }
}
