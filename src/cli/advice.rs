//! What to do when a gateway refuses a call about a subscription.

use clerkcast_client::Error;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::failure::Failure;
use crate::api::reason;

/// How the command fails: what is wrong, then what to do.
pub(super) fn failure(error: &Error, subscription: &str) -> Failure {
    let Error::Refused(status) = error else {
        return Failure::Failed(error.to_string());
    };
    let message = described(status);
    match remedy(status, subscription) {
        Some(remedy) => Failure::Failed(format!("{message}; {remedy}")),
        None => Failure::Failed(message),
    }
}

/// The status's message and what caused it, each once.
fn described(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

fn remedy(status: &Status, subscription: &str) -> Option<String> {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.as_str());
    let text = match reason {
        Some(reason::SUBSCRIPTION_NOT_FOUND) => {
            "`clerkcast subscription list` shows your subscriptions".to_owned()
        }
        Some(reason::SUBSCRIPTION_EXISTS) => format!(
            "`clerkcast subscription update {subscription}` changes settings; for another --order-by, delete it and create it with --after"
        ),
        Some(reason::TOO_MANY_SUBSCRIPTIONS) => {
            "delete one that is not needed, or raise --max-subscriptions".to_owned()
        }
        Some(reason::NOT_STORED) => "repeat the command".to_owned(),
        Some(reason::NO_CREDENTIALS | reason::UNKNOWN_TOKEN) => {
            "pass --token, or set CLERKCAST_TOKEN".to_owned()
        }
        Some(
            reason::CURSOR_EXPIRED | reason::CURSOR_OF_ANOTHER_LOG | reason::CURSOR_AHEAD_OF_LOG,
        ) if !status.message().contains("subscription seek") => {
            format!(
                "choose where to go on: `clerkcast subscription seek {subscription} --to earliest`"
            )
        }
        Some(_) => return None,
        None if status.code() == Code::Unavailable => {
            "is the gateway running? --server names another".to_owned()
        }
        None if status.code() == Code::Unimplemented => {
            "this gateway is of a version without subscriptions".to_owned()
        }
        None => return None,
    };
    Some(text)
}
