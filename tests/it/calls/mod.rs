//! What a call may cost others, and how it ends: with a client that decides on every byte.

mod numbers;
mod policy;
mod protocol;
pub(crate) mod raw;
mod refusals;
mod spread;
mod unread;

use clerkcast::proto;
use tonic::Code;

/// Each unary method, and an empty request for it.
fn unary_methods() -> Vec<String> {
    methods(false)
}

/// Every method of every service, from the descriptor.
fn methods(streaming: bool) -> Vec<String> {
    let services = proto::DESCRIPTORS.services();
    let methods = services.flat_map(|service| service.methods().collect::<Vec<_>>());
    let methods = methods.filter(|method| method.is_server_streaming() == streaming);
    methods
        .map(|method| format!("{}/{}", method.parent_service().full_name(), method.name()))
        .collect()
}

/// What a message for a method holds: an id where one is asked for.
fn message(method: &str) -> proto::GetEventRequest {
    // The first field of the others is not a string: they take an empty message.
    if method.ends_with("/GetEvent") {
        proto::GetEventRequest {
            id: "msg_1".to_owned(),
            ..proto::GetEventRequest::default()
        }
    } else {
        proto::GetEventRequest::default()
    }
}

fn is_end_of_policy(code: Code, reason: &str) -> bool {
    matches!(
        (code, reason),
        (Code::Unauthenticated, "PRINCIPAL_REMOVED") | (Code::Unavailable, "POLICY_CHANGED")
    )
}
