//! What an operator sees: health, reflection, a stop in order, metrics and the audit trail.

use clerkcast::proto::{self, DeadLetterAction, Subscription};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::{Caller, earliest, event_id, named, refusal, seconds, worker_of};
use crate::harness::{Gateway, Options, body, eventually, types};

const SERVICE: &str = "clerkcast.v1.SubscriptionService";

#[tokio::test]
async fn health_and_reflection_name_the_service() {
    let gateway = Gateway::start();
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", gateway.grpc));
    let channel = channel.expect("a URI").connect_lazy();
    let mut health = HealthClient::new(channel.clone());
    let request = HealthCheckRequest {
        service: SERVICE.to_owned(),
    };
    let answer = health.check(request).await.expect("answered").into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);
    macro_rules! listed {
        ($version:ident) => {{
            use tonic_reflection::pb::$version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest,
                server_reflection_response::MessageResponse,
            };
            let request = ServerReflectionRequest {
                host: String::new(),
                message_request: Some(MessageRequest::ListServices(String::new())),
            };
            let mut client = ServerReflectionClient::new(channel.clone());
            let stream = tokio_stream::iter([request]);
            let answers = client.server_reflection_info(stream).await;
            let mut answers = answers.expect("answered").into_inner();
            let answer = answers.message().await.expect("no error").expect("one");
            match answer.message_response.expect("an answer") {
                MessageResponse::ListServicesResponse(list) => {
                    list.service.iter().any(|it| it.name == SERVICE)
                }
                other => panic!("{other:?}"),
            }
        }};
    }
    assert!(listed!(v1));
    assert!(listed!(v1alpha));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_stops_takes_the_acknowledgements_of_what_it_handed_out() {
    let mut gateway = Gateway::start();
    for number in 1..=3 {
        let user = format!("user_{number}");
        gateway
            .accept(&format!("msg_{number}"), body("user.created", &user))
            .await;
    }
    let mut caller = Caller::of(&gateway).await;
    caller.create(named("crm")).await.expect("created");
    let mut request = worker_of("crm");
    request.max_outstanding = 2;
    let mut worker = caller.receive(request).await.expect("open");
    let (first, second) = (worker.delivery().await, worker.delivery().await);
    gateway.signal("-TERM");
    let ended = worker.ended().await;
    let (code, reason, _) = refusal(&ended);
    assert_eq!((code, &*reason), (Code::Unavailable, "DRAINING"));
    // A worker has no cursor.
    let told = "the gateway is shutting down; repeat the call (Subscribe: from its last cursor)";
    assert_eq!(ended.message(), told);
    // No new leases.
    let refused = caller.receive(worker_of("crm")).await.err();
    assert_eq!(refusal(&refused.expect("it stops")).1, "DRAINING");
    // On the connection that there is, and on one that is new.
    let lost = caller.acknowledge("crm", &[&first.ack_id]).await;
    assert_eq!(lost.expect("stored"), [""; 0]);
    let mut another = Caller::of(&gateway).await;
    let lost = another.acknowledge("crm", &[&second.ack_id]).await;
    assert_eq!(lost.expect("stored"), [""; 0]);
    // It waits for nothing else.
    assert_eq!(gateway.wait().code(), Some(0), "{}", gateway.log_text());
    assert!(!gateway.log_text().contains("within the deadline"));

    let gateway = gateway.restarted();
    let mut caller = Caller::of(&gateway).await;
    let seen = caller.look("crm").await;
    assert_eq!((seen.acknowledged_count, seen.outstanding_count), (2, 0));
    let mut worker = caller.worker("crm").await;
    assert_eq!(event_id(&worker.delivery().await), "msg_3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_says_nothing_holds_a_stop_up_until_the_deadline_alone() {
    let mut gateway = Gateway::start_with(Options::args(&["--drain-timeout", "1s"]));
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let mut caller = Caller::of(&gateway).await;
    caller.create(named("crm")).await.expect("created");
    let mut worker = caller.worker("crm").await;
    let delivery = worker.delivery().await;
    gateway.signal("-TERM");
    assert_eq!(gateway.wait().code(), Some(0), "{}", gateway.log_text());
    assert!(gateway.log_text().contains("within the deadline"));
    // The lease outlives the gateway.
    let gateway = gateway.restarted();
    let mut caller = Caller::of(&gateway).await;
    assert_eq!(caller.look("crm").await.outstanding_count, 1);
    let lost = caller.acknowledge("crm", &[&delivery.ack_id]).await;
    assert_eq!(lost.expect("stored"), [""; 0]);
}

/// The value of a metric of a subscription; none where it is not shown.
pub(super) async fn shown(gateway: &Gateway, metric: &str, name: &str) -> Option<f64> {
    let text = gateway.admin_get("/metrics").await.text;
    let series = format!("clerkcast_subscription_{metric}{{subscription=\"{name}\"");
    let line = text.lines().find(|line| line.starts_with(&series))?;
    let (_, value) = line.rsplit_once(' ')?;
    Some(value.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_subscription_is_measured_with_workers_or_without() {
    const GAUGES: [&str; 8] = [
        "lag_events",
        "lag_seconds",
        "outstanding",
        "retrying",
        "blocked",
        "dead_letters",
        "stalled",
        "workers",
    ];
    const COUNTERS: [&str; 7] = [
        "deliveries_total",
        "acknowledged_total",
        "redelivered_total",
        "lost_acks_total",
        "dead_total",
        "expired_events_total",
        "ack_seconds_count",
    ];
    let gateway = Gateway::start();
    let mut caller = Caller::of(&gateway).await;
    caller.create(named("crm")).await.expect("created");
    caller.create(named("idle")).await.expect("created");
    for name in ["crm", "idle"] {
        for metric in GAUGES.iter().chain(&COUNTERS) {
            assert_eq!(shown(&gateway, metric, name).await, Some(0.0), "{metric}");
        }
        let headroom = shown(&gateway, "retention_headroom_seconds", name).await;
        assert_eq!(headroom, None, "nothing waits");
        let headroom = shown(&gateway, "retention_headroom_bytes", name).await;
        assert_eq!(headroom, Some(10_737_418_240.0), "nothing waits");
    }
    for number in 1..=3 {
        let user = format!("user_{number}");
        gateway
            .accept(&format!("msg_{number}"), body("user.created", &user))
            .await;
    }
    let mut worker = caller.worker("crm").await;
    let first = worker.delivery().await;
    caller
        .acknowledge("crm", &[&first.ack_id])
        .await
        .expect("stored");
    let second = worker.delivery().await;
    caller.reject("crm", &second, "broken").await;
    worker.delivery().await;
    for (metric, expected) in [
        ("lag_events", 1.0),
        ("outstanding", 1.0),
        ("dead_letters", 1.0),
        ("workers", 1.0),
        ("deliveries_total", 3.0),
        ("acknowledged_total", 1.0),
        ("ack_seconds_count", 1.0),
    ] {
        let value = shown(&gateway, metric, "crm").await;
        assert_eq!(value, Some(expected), "{metric}");
    }
    let rejected = "clerkcast_subscription_dead_total{subscription=\"crm\",reason=\"rejected\"}";
    assert_eq!(gateway.metric(rejected).await, 1.0);
    // Nobody has looked at this one's events, and still it is known how far it is behind.
    assert_eq!(shown(&gateway, "lag_events", "idle").await, Some(3.0));
    let headroom = shown(&gateway, "retention_headroom_seconds", "idle").await;
    let days = headroom.expect("three events wait") / 86_400.0;
    assert!((29.9..=30.0).contains(&days), "{days}");
    let paused = proto::UpdateSubscriptionRequest {
        name: "idle".to_owned(),
        paused: Some(true),
        ..proto::UpdateSubscriptionRequest::default()
    };
    let paused = caller.client.update_subscription(paused).await;
    paused.expect("paused");
    assert_eq!(shown(&gateway, "stalled", "idle").await, Some(0.0));

    caller.delete("idle").await.expect("deleted");
    let headroom = ["retention_headroom_seconds", "retention_headroom_bytes"];
    for metric in GAUGES.iter().chain(&COUNTERS).chain(&headroom) {
        assert_eq!(shown(&gateway, metric, "idle").await, None, "{metric}");
    }
    let unlimited = Options::args(&["--retain-for", "off", "--retain-bytes", "off"]);
    let forever = Gateway::start_with(unlimited);
    forever
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let mut caller = Caller::of(&forever).await;
    caller.create(named("crm")).await.expect("created");
    assert_eq!(shown(&forever, "lag_events", "crm").await, Some(1.0));
    for metric in headroom {
        assert_eq!(shown(&forever, metric, "crm").await, None, "{metric}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_to_a_subscription_is_audited_without_personal_data() {
    let gateway = Gateway::start();
    let mut caller = Caller::of(&gateway).await;
    let users = Subscription {
        filter: types(&["user.*"]),
        ..named("crm")
    };
    caller
        .create_at(users, Some(earliest()))
        .await
        .expect("created");
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let mut request = worker_of("crm");
    request.worker_name = "worker-7".to_owned();
    request.max_events = 1;
    let mut worker = caller.receive(request).await.expect("open");
    let delivery = worker.delivery().await;
    caller
        .reject("crm", &delivery, "ada@example.com bounced")
        .await;
    assert_eq!(worker.next().await.expect("no error"), None, "as asked");
    let update = proto::UpdateSubscriptionRequest {
        name: "crm".to_owned(),
        ack_deadline: seconds(60),
        ..proto::UpdateSubscriptionRequest::default()
    };
    let updated = caller.client.update_subscription(update).await;
    updated.expect("updated");
    let letters = proto::ListDeadLettersRequest {
        subscription: "crm".to_owned(),
        ..proto::ListDeadLettersRequest::default()
    };
    caller.letters(letters).await.expect("listed");
    let drop_all = proto::ResolveDeadLettersRequest {
        subscription: "crm".to_owned(),
        action: DeadLetterAction::Drop.into(),
        all: true,
        ..proto::ResolveDeadLettersRequest::default()
    };
    assert_eq!(caller.resolve(drop_all).await.expect("dropped"), 1);
    let latest =
        proto::seek_subscription_request::To::StartPosition(proto::StartPosition::Latest.into());
    caller.seek("crm", latest).await.expect("moved");
    caller.delete("crm").await.expect("deleted");
    let refused = caller.delete("crm").await.expect_err("gone");
    assert_eq!(refused.code(), Code::NotFound);

    let expected: [(&str, &[(&str, &str)]); 8] = [
        (
            "subscription created",
            &[("filter", "types=user.*"), ("start", "earliest")],
        ),
        ("worker connected", &[("worker", "worker-7")]),
        ("worker left", &[("reason", "as_asked"), ("delivered", "1")]),
        ("subscription changed", &[("paused", "false")]),
        ("dead letters listed", &[("delivered", "1")]),
        (
            "dead letters resolved",
            &[("action", "drop"), ("count", "1")],
        ),
        ("subscription moved", &[("to", "latest")]),
        ("subscription deleted", &[]),
    ];
    eventually("the worker has left", || async {
        gateway.log_text().contains("worker left")
    })
    .await;
    let log = gateway.log_text();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .filter(|line: &serde_json::Value| line["target"] == "clerkcast::audit")
        .collect();
    for (message, fields) in expected {
        let line = lines.iter().find(|line| line["message"] == message);
        let line = line.unwrap_or_else(|| panic!("{message}:\n{log}"));
        assert_eq!(line["principal"], "anonymous", "{line}");
        assert_eq!(line["subscription"], "crm", "{line}");
        assert!(
            line["peer"].as_str().is_some_and(|it| !it.is_empty()),
            "{line}"
        );
        for (field, value) in fields {
            let found = match &line[field] {
                serde_json::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            assert_eq!(found, *value, "{line}");
        }
    }
    let refused = lines.iter().find(|line| line["message"] == "call refused");
    let refused = refused.expect("the second deletion");
    assert_eq!(refused["asked"], "name=crm");
    assert_eq!(refused["reason"], "SUBSCRIPTION_NOT_FOUND");
    assert!(!log.contains("ada@example.com"));
}
