//! Subscriptions with nothing but a generic client that asks reflection.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Gateway, body};
use crate::interop::tools;

/// Calls a method as `grpcurl -d BODY` does, and returns the messages of the answer.
fn call(gateway: &Gateway, method: &str, request: &Value) -> Result<Vec<Value>, String> {
    // Away from the repository, whose proto files it would otherwise read.
    let elsewhere = tempfile::TempDir::new().expect("a temporary directory");
    let output = Command::new(tools().join("venv/bin/buf"))
        .args(["curl", "--protocol", "grpc", "--http2-prior-knowledge"])
        .args(["-d", &request.to_string()])
        .arg(format!(
            "http://{}/clerkcast.v1.SubscriptionService/{method}",
            gateway.grpc
        ))
        .current_dir(elsewhere.path())
        .output()
        .expect("buf runs");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let messages = serde_json::Deserializer::from_slice(&output.stdout).into_iter();
    Ok(messages.map(|message| message.expect("JSON")).collect())
}

fn answer(gateway: &Gateway, method: &str, request: &Value) -> Value {
    let answered = call(gateway, method, request);
    let mut messages = answered.unwrap_or_else(|error| panic!("{method}: {error}"));
    assert_eq!(messages.len(), 1, "{method}");
    messages.remove(0)
}

/// Receives one event.
fn receive_one(gateway: &Gateway) -> Value {
    let asked = json!({"subscription": "crm", "max_events": 1});
    let frames = call(gateway, "Receive", &asked).expect("a stream");
    assert!(frames[0].get("started").is_some(), "{frames:?}");
    let mut deliveries = frames
        .into_iter()
        .filter_map(|mut frame| frame.get_mut("delivery").map(Value::take));
    deliveries.next().expect("a delivery")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_used_with_a_generic_client_alone() {
    let gateway = Gateway::start();
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    gateway
        .accept("msg_2", body("user.updated", "user_1"))
        .await;
    let create = json!({
        "subscription": {"name": "crm", "filter": {"types": ["user.*"]}},
        "start_position": "START_POSITION_EARLIEST",
    });
    let created = answer(&gateway, "CreateSubscription", &create);
    assert_eq!(created["subscription"]["ackDeadline"], "30s");

    let delivery = receive_one(&gateway);
    assert_eq!(delivery["event"]["id"], "msg_1");
    let acknowledge = json!({"subscription": "crm", "ack_ids": [delivery["ackId"]]});
    assert_eq!(answer(&gateway, "Acknowledge", &acknowledge), json!({}));
    let listed = answer(&gateway, "ListSubscriptions", &json!({}));
    let listed = &listed["subscriptions"][0];
    assert_eq!(listed["acknowledgedCount"], "1");
    assert_eq!(listed["state"], "SUBSCRIPTION_STATE_ACTIVE");

    let delivery = receive_one(&gateway);
    assert_eq!(delivery["event"]["id"], "msg_2");
    let fail = json!({
        "subscription": "crm",
        "failures": [{"ack_id": delivery["ackId"], "reason": "no such customer", "dead": true}],
    });
    assert_eq!(answer(&gateway, "Acknowledge", &fail), json!({}));
    let named = json!({"subscription": "crm"});
    let dead = answer(&gateway, "ListDeadLetters", &named);
    assert_eq!(dead["deadLetters"][0]["reason"], "no such customer");
    let replay = json!({
        "subscription": "crm",
        "action": "DEAD_LETTER_ACTION_REPLAY",
        "all": true,
    });
    assert_eq!(
        answer(&gateway, "ResolveDeadLetters", &replay),
        json!({"count": "1"})
    );
    let delivery = receive_one(&gateway);
    assert_eq!(delivery["replayed"], true);
    let acknowledge = json!({"subscription": "crm", "ack_ids": [delivery["ackId"]]});
    assert_eq!(answer(&gateway, "Acknowledge", &acknowledge), json!({}));
    assert_eq!(answer(&gateway, "ListDeadLetters", &named), json!({}));

    let refused = call(&gateway, "Receive", &json!({"subscription": "crn"}));
    let refused = refused.expect_err("a slip must not become a queue");
    assert!(refused.contains("did you mean crm?"), "{refused}");
    let deleted = answer(&gateway, "DeleteSubscription", &json!({"name": "crm"}));
    assert_eq!(deleted, json!({}));
    assert_eq!(answer(&gateway, "ListSubscriptions", &json!({})), json!({}));
}
