//! Events that always fail: they are parked, and delay only their own key.

use clerkcast::proto::{
    AcknowledgeRequest, DeadLetterAction, Failure, ListDeadLettersRequest,
    ResolveDeadLettersRequest, Subscription, SubscriptionState,
};
use tokio::task::JoinSet;

use super::{Caller, event_id, named, seconds, until};
use crate::harness::{Gateway, body};

#[tokio::test(flavor = "multi_thread")]
async fn parked_after_exactly_max_deliveries_though_gateways_and_workers_die() {
    let mut gateway = Gateway::start();
    for number in 1..=2 {
        gateway
            .accept(&format!("msg_{number}"), body("user.updated", "user_1"))
            .await;
    }
    let mut caller = Caller::of(&gateway).await;
    let created = caller
        .create(Subscription {
            ack_deadline: seconds(1),
            max_deliveries: 3,
            min_retry_delay: Some(prost_types::Duration {
                seconds: 0,
                nanos: 100_000_000,
            }),
            ..named("crm")
        })
        .await;
    created.expect("created");
    for attempt in 1..=3 {
        let mut caller = Caller::of(&gateway).await;
        let mut worker = caller.worker("crm").await;
        let delivery = worker.delivery().await;
        assert_eq!(event_id(&delivery), "msg_1");
        assert_eq!(delivery.attempt, attempt);
        gateway = gateway.restarted();
    }
    let mut caller = Caller::of(&gateway).await;
    let mut worker = caller.worker("crm").await;
    let next = worker.delivery().await;
    assert_eq!(event_id(&next), "msg_2", "the next of its key is free");
    assert_eq!(next.attempt, 1);
    let request = ListDeadLettersRequest {
        subscription: "crm".to_owned(),
        include_payload: true,
        ..ListDeadLettersRequest::default()
    };
    let (letters, _) = caller.letters(request).await.expect("listed");
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].deliveries, 3);
    assert_eq!(letters[0].reason, "deadline passed");
    let event = letters[0].event.as_ref().expect("an event");
    assert_eq!(event.id, "msg_1");
    assert!(
        event
            .payload_json
            .as_ref()
            .is_some_and(|body| body.contains("user_1"))
    );
    // Once its cause is gone, it is handed out as if never delivered.
    let count = caller
        .resolve(ResolveDeadLettersRequest {
            subscription: "crm".to_owned(),
            action: DeadLetterAction::Replay.into(),
            all: true,
            ..ResolveDeadLettersRequest::default()
        })
        .await;
    assert_eq!(count.expect("stored"), 1);
    let lost = caller.acknowledge("crm", &[&next.ack_id]).await;
    assert_eq!(lost.expect("stored"), [""; 0]);
    let again = worker.delivery().await;
    assert_eq!((event_id(&again), again.attempt), ("msg_1", 1));
    assert!(again.replayed);
    let lost = caller.acknowledge("crm", &[&again.ack_id]).await;
    assert_eq!(lost.expect("stored"), [""; 0]);
    let handled = caller.look("crm").await;
    assert_eq!((handled.dead_count, handled.acknowledged_count), (0, 2));
}

async fn post_all(gateway: &Gateway, ids: std::ops::Range<usize>, user: &'static str) {
    let mut posting = JoinSet::new();
    for lane in 0..16 {
        let poster = gateway.poster.clone();
        let lane = ids.clone().skip(lane).step_by(16);
        posting.spawn(async move {
            for number in lane {
                let body = body("user.updated", user).into();
                let posted = poster.post(&format!("msg_{user}_{number}"), body).await;
                assert_eq!(posted.expect("answered").status, 200);
            }
        });
    }
    posting.join_all().await;
}

/// Ten thousand events wait behind one that fails; then one that is worked off is no stall.
#[tokio::test(flavor = "multi_thread")]
async fn unblocked_up_to_ten_thousand_pending_and_stalled_in_words_beyond() {
    let gateway = Gateway::start();
    post_all(&gateway, 0..10_001, "user_hot").await;
    for number in 0..20 {
        let body = body("user.updated", &format!("user_{number}"));
        gateway.accept(&format!("msg_cold_{number}"), body).await;
    }
    let mut caller = Caller::of(&gateway).await;
    let created = caller
        .create(Subscription {
            max_deliveries: 100,
            ..named("crm")
        })
        .await;
    created.expect("created");
    let mut worker = caller.worker("crm").await;
    let hot = worker.delivery().await;
    let stalled = until(&mut caller, "crm", "it is stalled", |found| {
        found.state() == SubscriptionState::Stalled
    })
    .await;
    assert!(
        stalled.stall_reason.contains("10,000 events are pending"),
        "{}",
        stalled.stall_reason
    );
    assert_eq!(stalled.blocked_count + stalled.outstanding_count, 10_000);
    // The same backlog of a key that is worked off is not a stall.
    let mut done = hot;
    for _ in 0..10 {
        let lost = caller.acknowledge("crm", &[&done.ack_id]).await;
        assert_eq!(lost.expect("stored"), [""; 0]);
        done = worker.delivery().await;
    }
    let active = caller.look("crm").await;
    assert_eq!(active.state(), SubscriptionState::Active);
    assert_eq!(active.stall_reason, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn unblocked_a_key_that_fails_for_long_delays_no_other() {
    let gateway = Gateway::start();
    gateway
        .accept("msg_bad", body("user.updated", "user_bad"))
        .await;
    gateway
        .accept("msg_next", body("user.updated", "user_bad"))
        .await;
    let mut caller = Caller::of(&gateway).await;
    let created = caller
        .create(Subscription {
            max_deliveries: 100,
            min_retry_delay: Some(prost_types::Duration {
                seconds: 0,
                nanos: 100_000_000,
            }),
            max_retry_delay: seconds(1),
            ..named("crm")
        })
        .await;
    created.expect("created");
    let mut worker = caller.worker("crm").await;
    let mut failures = 0;
    let mut handled = 0;
    while handled < 200 {
        if handled % 20 == 0 {
            for number in handled..handled + 20 {
                let body = body("user.updated", &format!("user_{number}"));
                gateway.accept(&format!("msg_{number}"), body).await;
            }
        }
        for _ in 0..20 {
            let delivery = worker.delivery().await;
            assert_ne!(event_id(&delivery), "msg_next", "its key is not free");
            if event_id(&delivery) == "msg_bad" {
                failures += 1;
                fail(&mut caller, &delivery.ack_id).await;
                continue;
            }
            assert_eq!(delivery.attempt, 1);
            let lost = caller.acknowledge("crm", &[&delivery.ack_id]).await;
            assert_eq!(lost.expect("stored"), [""; 0]);
            handled += 1;
            if handled % 20 == 0 {
                break;
            }
        }
    }
    assert!(failures >= 1);
    let left = caller.look("crm").await;
    assert_eq!(left.acknowledged_count, 200);
    assert_eq!(left.state(), SubscriptionState::Active);
}

async fn fail(caller: &mut Caller, ack_id: &str) {
    let lost = caller
        .settle(AcknowledgeRequest {
            subscription: "crm".to_owned(),
            failures: vec![Failure {
                ack_id: ack_id.to_owned(),
                reason: "down".to_owned(),
                ..Failure::default()
            }],
            ..AcknowledgeRequest::default()
        })
        .await;
    assert_eq!(lost.expect("stored"), [""; 0]);
}
