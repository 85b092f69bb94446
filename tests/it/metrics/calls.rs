//! Calls by method and code, and refusals from the first on.

use clerkcast::proto::{
    DESCRIPTORS, GetEventRequest, GetLogInfoRequest, ListEventsRequest, SubscribeRequest,
};
use tonic::Code;

use super::values::shown;
use crate::access::{Guarded, new_token};
use crate::harness::{Gateway, body, eventually, from_earliest};

async fn calls(gateway: &Gateway, method: &str, code: &str) -> Option<f64> {
    let labels = format!("method=\"{method}\",code=\"{code}\"");
    shown(gateway, &format!("clerkcast_grpc_calls_total{{{labels}}}")).await
}

/// A call of a method that the service does not have.
async fn call_nonsense(gateway: &Gateway) -> Code {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", gateway.grpc));
    let channel = channel.expect("a URI").connect().await.expect("connected");
    let mut raw = tonic::client::Grpc::new(channel);
    raw.ready().await.expect("ready");
    let path = http::uri::PathAndQuery::from_static("/clerkcast.v1.EventService/Nonsense");
    let codec = tonic_prost::ProstCodec::<GetLogInfoRequest, GetLogInfoRequest>::default();
    let request = tonic::Request::new(GetLogInfoRequest {});
    let answer = raw.unary(request, path, codec).await;
    answer.expect_err("no such method").code()
}

#[tokio::test]
async fn calls_are_counted_by_method_and_code_once_they_have_ended() {
    let gateway = Gateway::start();
    for service in DESCRIPTORS.services() {
        for method in service.methods() {
            let calls = calls(&gateway, method.name(), "OK").await;
            assert_eq!(calls, Some(0.0), "{}", method.name());
        }
    }
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let mut client = gateway.client().await;
    let listed = client.list_events(ListEventsRequest::default()).await;
    listed.expect("listed");
    let refused = client.get_event(GetEventRequest::default()).await;
    assert_eq!(refused.expect_err("no id").code(), Code::InvalidArgument);
    assert_eq!(gateway.history(from_earliest()).await.len(), 1);
    assert_eq!(call_nonsense(&gateway).await, Code::Unimplemented);
    let mut open = gateway.subscribe(SubscribeRequest::default()).await;
    open.caught_up().await;
    let ended = [
        ("ListEvents", "OK"),
        ("GetEvent", "INVALID_ARGUMENT"),
        ("Subscribe", "OK"),
        ("other", "UNIMPLEMENTED"),
    ];
    for (method, code) in ended {
        eventually("the call is counted", || async {
            calls(&gateway, method, code).await == Some(1.0)
        })
        .await;
    }
    assert_eq!(calls(&gateway, "Subscribe", "CANCELLED").await, None);
    drop(open);
    eventually("the stream that was given up is counted", || async {
        calls(&gateway, "Subscribe", "CANCELLED").await == Some(1.0)
    })
    .await;
    assert_eq!(calls(&gateway, "GetEvent", "OK").await, Some(0.0));
}

#[tokio::test]
async fn refusals_of_a_principal_count_from_0_also_after_a_reload() {
    let (first, second) = (new_token("first"), new_token("second"));
    let guarded = Guarded::start(&first.stanza);
    let refusals = async |principal: &str, reason: &str| {
        let labels = format!("principal=\"{principal}\",reason=\"{reason}\"");
        let series = format!("clerkcast_grpc_calls_refused_total{{{labels}}}");
        shown(&guarded.gateway, &series).await
    };
    for reason in ["too_many_streams", "policy_changed", "unimplemented"] {
        assert_eq!(refusals("first", reason).await, Some(0.0), "{reason}");
        assert_eq!(refusals("second", reason).await, None, "{reason}");
    }
    for reason in ["no_credentials", "unknown_token", "unknown_certificate"] {
        assert_eq!(refusals("", reason).await, Some(0.0), "{reason}");
        assert_eq!(refusals("first", reason).await, None, "{reason}");
    }
    let both = format!("{}\n{}", first.stanza, second.stanza);
    guarded.reloaded(&both).await;
    assert_eq!(refusals("second", "too_many_streams").await, Some(0.0));

    let mut client = guarded.gateway.client().await;
    let refused = client.get_log_info(GetLogInfoRequest {}).await;
    assert_eq!(refused.expect_err("no token").code(), Code::Unauthenticated);
    assert_eq!(refusals("", "no_credentials").await, Some(1.0));
    let unauthenticated = calls(&guarded.gateway, "GetLogInfo", "UNAUTHENTICATED").await;
    assert_eq!(unauthenticated, Some(1.0));
}
