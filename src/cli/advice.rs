//! What to do when a gateway refuses a call.

use clerkcast_client::Error;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::failure::Failure;
use crate::api::reason;

/// How a command about a subscription fails: what is wrong, then what to do.
pub(super) fn failure(error: &Error, subscription: &str) -> Failure {
    advised(error, |status| {
        about_subscription(status, subscription).or_else(|| about_call(status))
    })
}

/// How any other call fails: what is wrong, then what to do.
pub(super) fn call_failure(error: &Error) -> Failure {
    advised(error, about_call)
}

fn advised(error: &Error, remedy: impl FnOnce(&Status) -> Option<String>) -> Failure {
    let Error::Refused(status) = error else {
        return Failure::Failed(error.to_string());
    };
    let message = clerkcast_client::reason(status);
    match remedy(status) {
        Some(remedy) => Failure::Failed(format!("{message}; {remedy}")),
        None => Failure::Failed(message),
    }
}

fn reason_of(status: &Status) -> Option<String> {
    let details = status.get_error_details();
    details.error_info().map(|info| info.reason.clone())
}

fn about_call(status: &Status) -> Option<String> {
    let text = match reason_of(status).as_deref() {
        Some(reason::NO_CREDENTIALS | reason::UNKNOWN_TOKEN) => {
            "pass --token, or set CLERKCAST_TOKEN"
        }
        None if status.code() == Code::Unavailable => {
            "is the gateway running? --server names another"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

fn about_subscription(status: &Status, subscription: &str) -> Option<String> {
    let details = status.get_error_details();
    let info = details.error_info();
    let reason = info.map(|info| info.reason.as_str());
    let has = |key: &str| info.is_some_and(|info| info.metadata.contains_key(key));
    let text = match reason {
        Some(reason::SUBSCRIPTION_NOT_FOUND) => {
            "`clerkcast subscription list` shows your subscriptions".to_owned()
        }
        // It does not name the fields of another owner's.
        Some(reason::SUBSCRIPTION_EXISTS) if !has("differing_fields") => {
            "choose another name".to_owned()
        }
        Some(reason::SUBSCRIPTION_EXISTS) => format!(
            "`clerkcast subscription update {subscription}` changes settings; for another --order-by, delete it and create it with --after"
        ),
        Some(
            reason::CURSOR_EXPIRED | reason::CURSOR_OF_ANOTHER_LOG | reason::CURSOR_AHEAD_OF_LOG,
            // Of a subscription that is there, the message has the command.
        ) if !has("name") => "choose another place, such as `earliest`".to_owned(),
        None if status.code() == Code::Unimplemented => {
            "this gateway is of a version without subscriptions".to_owned()
        }
        _ => return None,
    };
    Some(text)
}
