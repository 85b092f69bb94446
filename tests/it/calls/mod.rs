//! What a call may cost others, and how it ends: with a client that decides on every byte.

mod numbers;
mod policy;
mod protocol;
pub(crate) mod raw;
mod refusals;
mod spread;
mod unread;

use clerkcast::proto;
use clerkcast::proto::seek_subscription_request::To;
use prost::Message as _;
use prost_reflect::DynamicMessage;
use tonic::Code;

const CRM: &str = "crm";
const SUBSCRIPTIONS: &str = "clerkcast.v1.SubscriptionService/";

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

/// A request that the method answers, of a log with the subscription `crm`.
fn message(method: &str) -> DynamicMessage {
    let request = match method.rsplit('/').next().expect("a name") {
        "GetEvent" => proto::GetEventRequest {
            id: "msg_1".to_owned(),
            ..proto::GetEventRequest::default()
        }
        .encode_to_vec(),
        "CreateSubscription" => proto::CreateSubscriptionRequest {
            subscription: Some(proto::Subscription {
                name: CRM.to_owned(),
                ..proto::Subscription::default()
            }),
            start: None,
        }
        .encode_to_vec(),
        "SeekSubscription" => proto::SeekSubscriptionRequest {
            name: CRM.to_owned(),
            to: Some(To::StartPosition(proto::StartPosition::Latest.into())),
        }
        .encode_to_vec(),
        "ResolveDeadLetters" => proto::ResolveDeadLettersRequest {
            subscription: CRM.to_owned(),
            action: proto::DeadLetterAction::Replay.into(),
            all: true,
            ..proto::ResolveDeadLettersRequest::default()
        }
        .encode_to_vec(),
        // The first field of the others is the name of a subscription.
        name if method.starts_with(SUBSCRIPTIONS) && name != "ListSubscriptions" => {
            proto::DeleteSubscriptionRequest {
                name: CRM.to_owned(),
            }
            .encode_to_vec()
        }
        _ => Vec::new(),
    };
    let (service, name) = method.split_once('/').expect("a path");
    let service = proto::DESCRIPTORS.get_service_by_name(service);
    let mut methods = service.expect("known").methods().collect::<Vec<_>>();
    methods.retain(|known| known.name() == name);
    let input = methods.first().expect("known").input();
    DynamicMessage::decode(input, &*request).expect("its own message")
}

fn is_end_of_policy(code: Code, reason: &str) -> bool {
    matches!(
        (code, reason),
        (Code::Unauthenticated, "PRINCIPAL_REMOVED") | (Code::Unavailable, "POLICY_CHANGED")
    )
}
