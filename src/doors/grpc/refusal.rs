//! A trace of each call of a known caller that is answered with an error.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prost::Message as _;
use tonic::Status;
use tonic_types::StatusExt as _;

use super::code::code_name;
use super::metrics::Metrics;
use super::path::{method_of, service_of};
use crate::access::{Principal, audit};
use crate::api;
use crate::proto;
use crate::proto::method::{event_service, subscription_service};
use crate::telemetry::LogLimit;

/// What gRPC puts before each message: a flag, and the length in four bytes.
const PREFIX_BYTES: usize = 5;

/// Counts and logs refusals; clones share what they know.
#[derive(Clone, Debug)]
pub(super) struct Refusals {
    metrics: Metrics,
    /// By principal, as many as the configuration names: one that goes astray must not hide
    /// what happens to another.
    lines: Arc<Mutex<BTreeMap<String, Arc<LogLimit>>>>,
}

impl Refusals {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            lines: Arc::default(),
        }
    }

    /// The caller is not known; the guard has logged it.
    pub(super) fn count_unknown(&self, status: &Status) {
        self.metrics.count_refused("", &reason(status));
    }

    /// A known caller is answered with an error. `asked` is its message, with gRPC's prefix.
    pub(super) fn note(
        &self,
        principal: &Principal,
        peer: &str,
        method: &str,
        status: &Status,
        asked: &[u8],
    ) {
        let reason = reason(status);
        self.metrics.count_refused(principal.name(), &reason);
        let Some(unlogged) = self.lines_of(principal.name()).admit() else {
            return;
        };
        audit::refused(&audit::Refusal {
            principal: principal.name(),
            peer,
            method: api::filter::shown_word(method_of(method)),
            code: code_name(status.code()),
            reason: &reason,
            asked: &what_was_asked(method, asked),
            unlogged,
        });
    }

    fn lines_of(&self, principal: &str) -> Arc<LogLimit> {
        let mut lines = self.lines.lock();
        if let Some(limit) = lines.get(principal) {
            return Arc::clone(limit);
        }
        let limit = Arc::default();
        lines.insert(principal.to_owned(), Arc::clone(&limit));
        limit
    }
}

/// The reason of its `ErrorInfo`; the code where it has none.
fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    match details.error_info() {
        Some(info) => info.reason.clone(),
        None => code_name(status.code()).to_owned(),
    }
}

/// What can be shown of a request: a filter, the id of an event, or the name of a subscription.
fn what_was_asked(method: &str, asked: &[u8]) -> String {
    let message = asked.get(PREFIX_BYTES..).unwrap_or_default();
    let shown = match method {
        event_service::SUBSCRIBE => proto::SubscribeRequest::decode(message)
            .map(|request| api::filter::shown(request.filter)),
        event_service::LIST_EVENTS => proto::ListEventsRequest::decode(message)
            .map(|request| api::filter::shown(request.filter)),
        event_service::GET_EVENT => proto::GetEventRequest::decode(message)
            .map(|request| format!("id={}", api::filter::shown_word(&request.id))),
        subscription_service::CREATE_SUBSCRIPTION => {
            proto::CreateSubscriptionRequest::decode(message)
                .map(|request| api::shown_creation(request.subscription))
        }
        // A name is the first field of all others. Of several, the last is shown.
        _ if service_of(method) == proto::service::SUBSCRIPTION_SERVICE => {
            proto::DeleteSubscriptionRequest::decode(message)
                .map(|request| format!("name={}", api::filter::shown_word(&request.name)))
        }
        _ => return String::new(),
    };
    shown.unwrap_or_else(|_| "(not a request)".to_owned())
}
