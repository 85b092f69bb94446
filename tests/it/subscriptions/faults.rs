//! What cannot be stored, and what retention was faster with.

use clerkcast::proto::create_subscription_request::Start;
use clerkcast::proto::{self, ExpiredCursorPolicy, Subscription, SubscriptionState};
use tonic::Code;
use tonic_types::StatusExt as _;

use super::{Caller, event_id, named, refusal, until, worker_of};
use crate::faults::Faulty;
use crate::harness::{Gateway, Options, body};
use crate::restore::aged;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_disk_does_not_store_is_refused_and_the_same_call_succeeds_later() {
    let faulty = Faulty::start();
    let gateway = &faulty.gateway;
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let mut caller = Caller::of(gateway).await;
    caller.create(named("crm")).await.expect("created");
    let mut worker = caller.worker("crm").await;
    let delivery = worker.delivery().await;
    let pause = proto::UpdateSubscriptionRequest {
        name: "crm".to_owned(),
        max_deliveries: Some(3),
        ..proto::UpdateSubscriptionRequest::default()
    };
    faulty.fail("full");
    let refused = [
        caller.acknowledge("crm", &[&delivery.ack_id]).await.err(),
        caller.create(named("billing")).await.err(),
        caller.client.update_subscription(pause.clone()).await.err(),
        caller.delete("crm").await.err(),
    ];
    for (number, status) in refused.into_iter().enumerate() {
        let status = status.unwrap_or_else(|| panic!("call {number} was stored"));
        let (code, reason, _) = refusal(&status);
        assert_eq!(
            (code, &*reason),
            (Code::Unavailable, "NOT_STORED"),
            "{number}"
        );
        assert!(status.get_error_details().retry_info().is_some());
        assert!(
            status.message().contains("repeat the same call"),
            "{status:?}"
        );
    }
    faulty.fail("");
    crate::harness::eventually("the log takes writes again", || async {
        gateway.admin_get("/readyz").await.status == 200
    })
    .await;
    let lost = caller.acknowledge("crm", &[&delivery.ack_id]).await;
    assert_eq!(lost.expect("stored"), [""; 0]);
    let listed = caller.list(&[]).await.expect("listed");
    assert_eq!(listed.len(), 1, "what was refused is not there");
    caller.create(named("billing")).await.expect("created");
    let updated = caller.client.update_subscription(pause).await;
    updated.expect("updated");
    let seen = caller.look("crm").await;
    assert_eq!((seen.acknowledged_count, seen.max_deliveries), (1, 3));
    caller.delete("crm").await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_retention_has_passed_follows_on_expired() {
    let gateway = Gateway::start_with(Options::args(&["--retain-for", "1h"]));
    for number in 1..=3 {
        gateway
            .accept(&format!("msg_{number}"), body("user.created", "user_1"))
            .await;
    }
    let mut caller = Caller::of(&gateway).await;
    let cursor = caller.create(named("early")).await.expect("created").cursor;
    let gateway = aged(gateway).await;
    gateway
        .accept("msg_4", body("user.created", "user_1"))
        .await;
    let mut caller = Caller::of(&gateway).await;

    let after = || Some(Start::AfterCursor(cursor.clone()));
    let refused = caller.create_at(named("crm"), after()).await;
    let (code, reason, metadata) = refusal(&refused.expect_err("it has expired"));
    assert_eq!((code, &*reason), (Code::OutOfRange, "CURSOR_EXPIRED"));
    assert!(metadata.contains_key("oldest_cursor") && metadata.contains_key("newest_cursor"));
    for (name, policy, lag) in [
        ("earliest", ExpiredCursorPolicy::Earliest, 1),
        ("latest", ExpiredCursorPolicy::Latest, 0),
    ] {
        let subscription = Subscription {
            on_expired: policy.into(),
            ..named(name)
        };
        let created = caller.create_at(subscription, after()).await;
        let created = created.expect("created");
        assert_eq!(created.lag.expect("known").events, lag, "{name}");
    }

    // One whose events were removed stops, and says how to go on.
    let stalled = caller.look("early").await;
    assert_eq!(stalled.state(), SubscriptionState::Stalled);
    assert!(stalled.stall_reason.contains("retention"), "{stalled:?}");
    let metric = "clerkcast_subscription_stalled{subscription=\"early\"}";
    assert_eq!(gateway.metric(metric).await, 1.0);
    let ended = match caller.receive(worker_of("early")).await {
        Err(status) => status,
        Ok(mut worker) => worker.ended().await,
    };
    let (code, reason, metadata) = refusal(&ended);
    assert_eq!((code, &*reason), (Code::OutOfRange, "CURSOR_EXPIRED"));
    assert!(metadata.contains_key("oldest_cursor") && metadata.contains_key("newest_cursor"));
    let command = "clerkcast subscription seek early --to earliest";
    assert!(ended.message().contains(command), "{}", ended.message());
    caller.seek_to_earliest("early").await.expect("moved");
    let mut worker = caller.worker("early").await;
    assert_eq!(event_id(&worker.delivery().await), "msg_4");
    let seen = until(&mut caller, "early", "it goes on", |it| {
        it.outstanding_count == 1
    })
    .await;
    assert_eq!(seen.state(), SubscriptionState::Active);
}
