//! What becomes of deliveries: repeated, late, foreign and forged ids.

use clerkcast::proto::{AcknowledgeRequest, Failure};
use tonic::Code;
use tonic_types::StatusExt as _;

use super::{Caller, event_id, named, refusal, seconds, until};
use crate::harness::{Gateway, body};

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_an_event_is_not_handed_out_again_and_a_repeated_call_is_harmless() {
    let gateway = Gateway::start();
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    gateway
        .accept("msg_2", body("user.created", "user_1"))
        .await;
    let mut caller = Caller::of(&gateway).await;
    caller.create(named("crm")).await.expect("created");
    let mut worker = caller.worker("crm").await;
    let first = worker.delivery().await;
    for _ in 0..2 {
        let lost = caller.acknowledge("crm", &[&first.ack_id]).await;
        assert_eq!(lost.expect("stored"), [""; 0]);
    }
    assert_eq!(event_id(&worker.delivery().await), "msg_2");
    assert_eq!(caller.look("crm").await.acknowledged_count, 1);
    // An empty call is fine.
    assert_eq!(caller.acknowledge("crm", &[]).await.expect("fine"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_with_one_wrong_id_records_nothing() {
    let gateway = Gateway::start();
    for number in 1..=2 {
        let user = format!("user_{number}");
        gateway
            .accept(&format!("msg_{number}"), body("user.created", &user))
            .await;
    }
    let mut caller = Caller::of(&gateway).await;
    for name in ["crm", "billing"] {
        caller.create(named(name)).await.expect("created");
    }
    let mut worker = caller.worker("crm").await;
    let (first, second) = (worker.delivery().await, worker.delivery().await);
    let foreign = caller.worker("billing").await.delivery().await.ack_id;
    let mut forged = first.ack_id.clone();
    forged.replace_range(10..11, if &forged[10..11] == "x" { "y" } else { "x" });
    let (first, second) = (&*first.ack_id, &*second.ack_id);
    for (ids, field) in [
        (vec![first, second, &foreign], "ack_ids[2]"),
        (vec![first, &forged], "ack_ids[1]"),
        (vec![first, second, first], "ack_ids[2]"),
        (vec![first, ""], "ack_ids[1]"),
    ] {
        let refused = caller.acknowledge("crm", &ids).await.expect_err(field);
        assert_eq!(refusal(&refused).1, "INVALID_REQUEST");
        assert!(
            refused.message().starts_with(&format!("{field}: ")),
            "{}",
            refused.message()
        );
    }
    let both = AcknowledgeRequest {
        subscription: "crm".to_owned(),
        ack_ids: vec![first.to_owned()],
        release_ack_ids: vec![first.to_owned()],
        ..AcknowledgeRequest::default()
    };
    let refused = caller.settle(both).await.expect_err("twice");
    let details = refused.get_error_details();
    let named = &details.bad_request().expect("named").field_violations[0].field;
    assert_eq!(named, "release_ack_ids[0]");
    let seen = caller.look("crm").await;
    assert_eq!((seen.outstanding_count, seen.acknowledged_count), (2, 0));
    let lost = caller.acknowledge("crm", &[first, second]).await;
    assert_eq!(lost.expect("stored"), [""; 0]);
    let unknown = caller.acknowledge("crmm", &[first]).await;
    assert_eq!(
        unknown.expect_err("of another").code(),
        Code::InvalidArgument
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn redelivered_a_released_event_comes_at_once_and_does_not_count() {
    let gateway = Gateway::start();
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let mut caller = Caller::of(&gateway).await;
    caller.create(named("crm")).await.expect("created");
    let mut worker = caller.worker("crm").await;
    let first = worker.delivery().await;
    let release = AcknowledgeRequest {
        subscription: "crm".to_owned(),
        release_ack_ids: vec![first.ack_id.clone()],
        ..AcknowledgeRequest::default()
    };
    let lost = caller.settle(release.clone()).await;
    assert_eq!(lost.expect("stored"), [""; 0]);
    let again = worker.delivery().await;
    assert_eq!(again.attempt, 1);
    assert_ne!(again.ack_id, first.ack_id);
    // Of the first delivery, nothing can be said any more.
    let lost = caller.settle(release).await.expect("answered");
    assert_eq!(lost, std::slice::from_ref(&first.ack_id));
    let lost = caller.acknowledge("crm", &[&first.ack_id]).await;
    assert_eq!(lost.expect("answered"), [first.ack_id]);

    let failed = AcknowledgeRequest {
        subscription: "crm".to_owned(),
        failures: vec![Failure {
            ack_id: again.ack_id,
            reason: "try later".to_owned(),
            retry_delay: seconds(0),
            dead: false,
        }],
        ..AcknowledgeRequest::default()
    };
    assert_eq!(caller.settle(failed).await.expect("stored"), [""; 0]);
    assert_eq!(worker.delivery().await.attempt, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extended_deadline_is_as_long_again() {
    let gateway = Gateway::start();
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let mut caller = Caller::of(&gateway).await;
    let mut short = named("crm");
    short.ack_deadline = seconds(2);
    short.min_retry_delay = seconds(1);
    caller.create(short).await.expect("created");
    let mut worker = caller.worker("crm").await;
    let delivery = worker.delivery().await;
    let extend = AcknowledgeRequest {
        subscription: "crm".to_owned(),
        extend_ack_ids: vec![delivery.ack_id.clone()],
        ..AcknowledgeRequest::default()
    };
    assert_eq!(
        caller.settle(extend.clone()).await.expect("stored"),
        [""; 0]
    );
    until(&mut caller, "crm", "the extension is over", |it| {
        it.outstanding_count == 0
    })
    .await;
    // Late: it is lost, but an acknowledgement is taken until the event is handed out again.
    let lost = caller.settle(extend).await.expect("answered");
    assert_eq!(lost, [delivery.ack_id]);
    let again = worker.delivery().await;
    assert_eq!(again.attempt, 2);
    let lost = caller.acknowledge("crm", &[&again.ack_id]).await;
    assert_eq!(lost.expect("stored"), [""; 0]);
}
