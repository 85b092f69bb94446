//! Dead letters: listed, replayed, dropped.

use clerkcast::proto::{
    DeadLetterAction, ListDeadLettersRequest, ResolveDeadLettersRequest, Subscription,
};

use super::{Caller, event_id, named, until};
use crate::harness::{Gateway, body};

fn list(page_size: i32, page_token: &str) -> ListDeadLettersRequest {
    ListDeadLettersRequest {
        subscription: "crm".to_owned(),
        page_size,
        page_token: page_token.to_owned(),
        include_payload: true,
    }
}

fn resolve(action: DeadLetterAction, ids: &[&str]) -> ResolveDeadLettersRequest {
    ResolveDeadLettersRequest {
        subscription: "crm".to_owned(),
        action: action.into(),
        event_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        all: ids.is_empty(),
    }
}

/// A gateway with events of this many users, all of them dead letters of `crm`.
async fn with_dead_letters(count: usize) -> (Gateway, Caller) {
    let gateway = Gateway::start();
    let mut caller = Caller::of(&gateway).await;
    caller.create(named("crm")).await.expect("created");
    let mut worker = caller.worker("crm").await;
    for number in 1..=count {
        let user = format!("user_{number}");
        gateway
            .accept(&format!("msg_{number}"), body("user.created", &user))
            .await;
        let delivery = worker.delivery().await;
        caller
            .reject("crm", &delivery, &format!("why {number}"))
            .await;
    }
    (gateway, caller)
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_an_event_is_listed_whole_with_what_its_worker_said() {
    let (_gateway, mut caller) = with_dead_letters(3).await;
    let (first, token) = caller.letters(list(2, "")).await.expect("listed");
    let (rest, end) = caller.letters(list(2, &token)).await.expect("listed");
    assert_eq!(end, "");
    let all: Vec<_> = first.iter().chain(&rest).collect();
    let ids: Vec<&str> = all
        .iter()
        .map(|letter| letter.event.as_ref().expect("whole").id.as_str())
        .collect();
    assert_eq!(ids, ["msg_1", "msg_2", "msg_3"]);
    for (number, letter) in (1..).zip(all) {
        assert_eq!(letter.reason, format!("why {number}"));
        assert_eq!((letter.deliveries, letter.replaying), (1, false));
        assert!(letter.dead_time.is_some());
        let event = letter.event.as_ref().expect("whole");
        assert_eq!(event.r#type, "user.created");
        assert!(event.data.is_some(), "decoded again");
        let payload = event.payload_json.as_deref().expect("asked for");
        assert!(payload.contains(&format!("user_{number}")), "{payload}");
    }
    assert_eq!(caller.look("crm").await.dead_count, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_dead_letter_goes_once_it_is_acknowledged() {
    let (_gateway, mut caller) = with_dead_letters(2).await;
    let mut worker = caller.worker("crm").await;
    let replay = resolve(DeadLetterAction::Replay, &["msg_2", "msg_unknown"]);
    assert_eq!(caller.resolve(replay.clone()).await.expect("replayed"), 1);
    let delivery = worker.delivery().await;
    assert_eq!(event_id(&delivery), "msg_2");
    assert!(delivery.replayed);
    assert_eq!(delivery.attempt, 1, "as if never delivered");
    // It is being handed out already.
    assert_eq!(caller.resolve(replay).await.expect("replayed"), 0);
    let (letters, _) = caller.letters(list(0, "")).await.expect("listed");
    let replaying: Vec<bool> = letters.iter().map(|letter| letter.replaying).collect();
    assert_eq!(replaying, [false, true]);
    let seen = caller.look("crm").await;
    assert_eq!((seen.dead_count, seen.outstanding_count), (2, 1));
    let lost = caller.acknowledge("crm", &[&delivery.ack_id]).await;
    assert_eq!(lost.expect("stored"), [""; 0]);
    let (letters, _) = caller.letters(list(0, "")).await.expect("listed");
    let ids: Vec<&str> = letters
        .iter()
        .map(|letter| letter.event.as_ref().expect("whole").id.as_str())
        .collect();
    assert_eq!(ids, ["msg_1"]);
    let seen = caller.look("crm").await;
    assert_eq!((seen.dead_count, seen.acknowledged_count), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_dead_letters_are_forgotten_also_those_that_a_worker_holds() {
    let (_gateway, mut caller) = with_dead_letters(3).await;
    let mut worker = caller.worker("crm").await;
    let replay = resolve(DeadLetterAction::Replay, &["msg_1"]);
    assert_eq!(caller.resolve(replay).await.expect("replayed"), 1);
    let delivery = worker.delivery().await;
    let drop_one = resolve(DeadLetterAction::Drop, &["msg_3"]);
    assert_eq!(caller.resolve(drop_one).await.expect("dropped"), 1);
    let drop_all = resolve(DeadLetterAction::Drop, &[]);
    assert_eq!(caller.resolve(drop_all.clone()).await.expect("dropped"), 2);
    assert_eq!(caller.resolve(drop_all).await.expect("dropped"), 0);
    let lost = caller.acknowledge("crm", &[&delivery.ack_id]).await;
    assert_eq!(lost.expect("answered as done"), [""; 0]);
    let seen = caller.look("crm").await;
    let counts = (seen.dead_count, seen.outstanding_count);
    assert_eq!(counts, (0, 0));
    assert_eq!(caller.letters(list(0, "")).await.expect("listed").0, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_after_its_last_delivery_an_event_frees_the_next_of_its_key() {
    let gateway = Gateway::start();
    for number in 1..=2 {
        gateway
            .accept(&format!("msg_{number}"), body("user.created", "user_1"))
            .await;
    }
    let mut caller = Caller::of(&gateway).await;
    let twice = Subscription {
        max_deliveries: 2,
        min_retry_delay: Some(prost_types::Duration {
            seconds: 0,
            nanos: 100_000_000,
        }),
        ..named("crm")
    };
    caller.create(twice).await.expect("created");
    let mut worker = caller.worker("crm").await;
    for attempt in 1..=2 {
        let delivery = worker.delivery().await;
        assert_eq!((event_id(&delivery), delivery.attempt), ("msg_1", attempt));
        let failed = clerkcast::proto::AcknowledgeRequest {
            subscription: "crm".to_owned(),
            failures: vec![clerkcast::proto::Failure {
                ack_id: delivery.ack_id,
                reason: format!("attempt {attempt}"),
                ..clerkcast::proto::Failure::default()
            }],
            ..clerkcast::proto::AcknowledgeRequest::default()
        };
        assert_eq!(caller.settle(failed).await.expect("stored"), [""; 0]);
    }
    assert_eq!(event_id(&worker.delivery().await), "msg_2");
    let seen = until(&mut caller, "crm", "one is dead", |it| it.dead_count == 1).await;
    assert_eq!(seen.outstanding_count, 1);
    let (letters, _) = caller.letters(list(0, "")).await.expect("listed");
    assert_eq!(
        (&*letters[0].reason, letters[0].deliveries),
        ("attempt 2", 2)
    );
}
