//! Creating, changing, moving, deleting and listing.

use clerkcast::proto::receive_response::Kind;
use clerkcast::proto::seek_subscription_request::To;
use clerkcast::proto::{
    self, EventFilter, ExpiredCursorPolicy, OrderBy, StartPosition, Subscription,
    SubscriptionState, UpdateSubscriptionRequest,
};
use tonic::Code;

use super::{Caller, earliest, event_id, named, refusal, seconds, until, worker_of};
use crate::harness::{Gateway, body, types};

async fn update(caller: &mut Caller, request: UpdateSubscriptionRequest) -> Subscription {
    let request = caller.request(request);
    let updated = caller.client.update_subscription(request).await;
    let updated = updated.expect("updated").into_inner();
    updated.subscription.expect("always there")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_enough_to_create_and_every_default_is_shown() {
    let gateway = Gateway::start();
    gateway
        .accept("msg_before", body("user.created", "user_1"))
        .await;
    let mut caller = Caller::of(&gateway).await;
    let created = caller.create_at(named("crm"), None).await;
    let created = created.expect("created");
    assert_eq!(created.name, "crm");
    assert_eq!(created.owner, "anonymous");
    assert_eq!(created.order_by(), OrderBy::User);
    assert_eq!(created.ack_deadline, seconds(30));
    assert_eq!(created.max_deliveries, 10);
    assert_eq!(created.min_retry_delay, seconds(1));
    assert_eq!(created.max_retry_delay, seconds(600));
    assert_eq!(created.on_expired(), ExpiredCursorPolicy::Fail);
    assert_eq!(created.state(), SubscriptionState::Active);
    assert!(created.create_time.is_some() && !created.paused);
    // It begins with the end of the log.
    assert_eq!(created.lag.expect("known").events, 0);
    assert_eq!(created.expire_time, None, "nothing waits");
    gateway
        .accept("msg_after", body("user.created", "user_1"))
        .await;
    let mut worker = caller.worker("crm").await;
    let delivery = worker.delivery().await;
    assert_eq!(event_id(&delivery), "msg_after");
    assert_eq!(delivery.attempt, 1);
    let seen = caller.look("crm").await;
    assert_eq!((seen.outstanding_count, seen.worker_count), (1, 1));
    assert_eq!(seen.lag.expect("known").events, 1);
    assert!(seen.expire_time.is_some(), "the log keeps 30 days");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_is_created_again_stays_as_it_is() {
    let gateway = Gateway::start();
    let mut caller = Caller::of(&gateway).await;
    let subscription = |types: &[&str], paused| Subscription {
        filter: Some(EventFilter {
            types: types.iter().map(|name| (*name).to_owned()).collect(),
            ..EventFilter::default()
        }),
        paused,
        ..named("crm")
    };
    let first = caller
        .create_at(subscription(&["user.*", "session.*"], true), None)
        .await
        .expect("created");
    // Values in another order, another start, and not paused.
    let again = subscription(&["session.*", "user.*", "user.*"], false);
    let again = caller.create(again).await.expect("the same");
    assert_eq!(again.create_time, first.create_time);
    assert_eq!(again.cursor, first.cursor);
    assert!(again.paused);

    let other = Subscription {
        ack_deadline: seconds(60),
        order_by: OrderBy::None.into(),
        ..subscription(&["user.*"], true)
    };
    let refused = caller.create(other).await.expect_err("other settings");
    let (code, reason, metadata) = refusal(&refused);
    assert_eq!(code, Code::AlreadyExists);
    assert_eq!(reason, "SUBSCRIPTION_EXISTS");
    assert_eq!(metadata["name"], "crm");
    assert_eq!(metadata["differing_fields"], "filter,order_by,ack_deadline");
}

#[tokio::test(flavor = "multi_thread")]
async fn updated_settings_hold_and_others_stay_as_they_are() {
    let gateway = Gateway::start();
    let mut caller = Caller::of(&gateway).await;
    let created = Subscription {
        max_retry_delay: seconds(5),
        ..named("crm")
    };
    caller.create(created).await.expect("created");
    let updated = update(
        &mut caller,
        UpdateSubscriptionRequest {
            name: "crm".to_owned(),
            filter: types(&["user.*"]),
            ack_deadline: seconds(120),
            max_deliveries: Some(3),
            on_expired: Some(ExpiredCursorPolicy::Earliest.into()),
            ..UpdateSubscriptionRequest::default()
        },
    )
    .await;
    assert_eq!(updated.filter, types(&["user.*"]));
    assert_eq!(updated.ack_deadline, seconds(120));
    assert_eq!(updated.max_deliveries, 3);
    assert_eq!(updated.on_expired(), ExpiredCursorPolicy::Earliest);
    assert_eq!(updated.max_retry_delay, seconds(5));
    let everything = update(
        &mut caller,
        UpdateSubscriptionRequest {
            name: "crm".to_owned(),
            filter: Some(EventFilter::default()),
            ..UpdateSubscriptionRequest::default()
        },
    )
    .await;
    assert_eq!(everything.filter, Some(EventFilter::default()));
    // Within bounds by itself, and not beside what stays.
    let request = caller.request(UpdateSubscriptionRequest {
        name: "crm".to_owned(),
        min_retry_delay: seconds(6),
        ..UpdateSubscriptionRequest::default()
    });
    let refused = caller.client.update_subscription(request).await;
    let refused = refused.expect_err("more than the longest delay");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        refused.message().starts_with("max_retry_delay: "),
        "{}",
        refused.message()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_changes_judges_what_was_not_looked_at() {
    let gateway = Gateway::start();
    let mut caller = Caller::of(&gateway).await;
    let users = Subscription {
        filter: types(&["user.*"]),
        ..named("crm")
    };
    caller.create(users).await.expect("created");
    let mut worker = caller.worker("crm").await;
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let first = worker.delivery().await;
    update(
        &mut caller,
        UpdateSubscriptionRequest {
            name: "crm".to_owned(),
            filter: types(&["session.*"]),
            ..UpdateSubscriptionRequest::default()
        },
    )
    .await;
    gateway
        .accept("msg_2", body("user.created", "user_2"))
        .await;
    gateway
        .accept("msg_3", body("session.created", "user_3"))
        .await;
    assert_eq!(event_id(&worker.delivery().await), "msg_3");
    // What was looked at before is not judged again.
    let lost = caller.acknowledge("crm", &[&first.ack_id]).await;
    assert_eq!(lost.expect("stored"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_subscription_hands_nothing_out_and_says_so_at_once() {
    let gateway = Gateway::start();
    let mut caller = Caller::of(&gateway).await;
    caller.create(named("crm")).await.expect("created");
    let mut worker = caller.worker("crm").await;
    let pause = |paused| UpdateSubscriptionRequest {
        name: "crm".to_owned(),
        paused: Some(paused),
        ..UpdateSubscriptionRequest::default()
    };
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let delivery = worker.delivery().await;
    let paused = update(&mut caller, pause(true)).await;
    assert_eq!(paused.state(), SubscriptionState::Paused);
    loop {
        match worker.next().await.expect("no error").expect("no end") {
            Kind::Heartbeat(heartbeat) if heartbeat.state() == SubscriptionState::Paused => break,
            Kind::Heartbeat(_) => {}
            other => panic!("handed out while paused: {other:?}"),
        }
    }
    gateway
        .accept("msg_2", body("user.created", "user_2"))
        .await;
    // What is handed out can still be acknowledged.
    let lost = caller.acknowledge("crm", &[&delivery.ack_id]).await;
    assert_eq!(lost.expect("stored"), [""; 0]);
    let seen = caller.look("crm").await;
    assert_eq!((seen.outstanding_count, seen.acknowledged_count), (0, 1));
    update(&mut caller, pause(false)).await;
    assert_eq!(event_id(&worker.delivery().await), "msg_2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sought_subscription_goes_on_from_the_new_place_on_open_streams() {
    let gateway = Gateway::start();
    for number in 1..=3 {
        gateway
            .accept(&format!("msg_{number}"), body("user.created", "user_1"))
            .await;
    }
    let mut caller = Caller::of(&gateway).await;
    caller.create(named("crm")).await.expect("created");
    let mut worker = caller.worker("crm").await;
    let first = worker.delivery().await;
    assert_eq!(event_id(&first), "msg_1");
    caller
        .acknowledge("crm", &[&first.ack_id])
        .await
        .expect("stored");
    let second = worker.delivery().await;
    let earliest = To::StartPosition(StartPosition::Earliest.into());
    // The answer may come before or after the next delivery.
    caller.seek("crm", earliest).await.expect("moved");
    let again = worker.delivery().await;
    assert_eq!((event_id(&again), again.attempt), ("msg_1", 1));
    // A delivery from before the seek is lost, be it for the first time or again.
    let lost = caller
        .acknowledge("crm", &[&second.ack_id, &first.ack_id])
        .await;
    assert_eq!(
        lost.expect("answered"),
        [second.ack_id.clone(), first.ack_id.clone()]
    );
    // A cursor is exclusive.
    let cursor = caller.look("crm").await.cursor;
    let sought = caller.seek("crm", To::AfterCursor(cursor.clone())).await;
    assert_eq!(sought.expect("moved").cursor, cursor);
    assert_eq!(event_id(&worker.delivery().await), "msg_1");
    let latest = To::StartPosition(StartPosition::Latest.into());
    let sought = caller.seek("crm", latest).await.expect("moved");
    assert_eq!(sought.lag.expect("known").events, 0);
    gateway
        .accept("msg_4", body("user.created", "user_1"))
        .await;
    assert_eq!(event_id(&worker.delivery().await), "msg_4");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_subscription_ends_its_workers_and_leaves_nothing_to_a_new_one() {
    let gateway = Gateway::start();
    for number in 1..=2 {
        let user = format!("user_{number}");
        gateway
            .accept(&format!("msg_{number}"), body("user.created", &user))
            .await;
    }
    let mut caller = Caller::of(&gateway).await;
    caller.create(named("crm")).await.expect("created");
    let mut worker = caller.worker("crm").await;
    let (dead, held) = (worker.delivery().await, worker.delivery().await);
    caller.reject("crm", &dead, "broken").await;
    caller.delete("crm").await.expect("deleted");
    let (code, reason, metadata) = refusal(&worker.ended().await);
    assert_eq!((code, &*reason), (Code::NotFound, "SUBSCRIPTION_DELETED"));
    assert_eq!(metadata["name"], "crm");
    assert_eq!(caller.list(&[]).await.expect("listed"), []);
    let gone = caller.delete("crm").await.expect_err("gone");
    assert_eq!(refusal(&gone).1, "SUBSCRIPTION_NOT_FOUND");
    let gone = caller.acknowledge("crm", &[&held.ack_id]).await;
    assert_eq!(
        refusal(&gone.expect_err("gone")).1,
        "SUBSCRIPTION_NOT_FOUND"
    );

    let created = caller.create(named("crm")).await.expect("created anew");
    let counts = (created.dead_count, created.acknowledged_count);
    assert_eq!(counts, (0, 0), "{created:?}");
    let listed = caller.letters(proto::ListDeadLettersRequest {
        subscription: "crm".to_owned(),
        ..proto::ListDeadLettersRequest::default()
    });
    assert_eq!(listed.await.expect("listed"), (Vec::new(), String::new()));
    let lost = caller.acknowledge("crm", &[&held.ack_id]).await;
    assert_eq!(lost.expect("answered"), [held.ack_id], "of a former life");
    let mut worker = caller.worker("crm").await;
    let delivery = worker.delivery().await;
    assert_eq!((event_id(&delivery), delivery.attempt), ("msg_1", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_are_listed_by_name_whether_they_have_workers_or_not() {
    let gateway = Gateway::start();
    for number in 0..3 {
        gateway
            .accept(&format!("msg_{number}"), body("user.created", "user_1"))
            .await;
    }
    let mut caller = Caller::of(&gateway).await;
    for name in ["crm", "billing", "audit"] {
        caller.create(named(name)).await.expect("created");
    }
    let names = |listed: Vec<Subscription>| -> Vec<String> {
        listed.into_iter().map(|it| it.name).collect()
    };
    let all = caller.list(&[]).await.expect("listed");
    assert!(
        all.iter()
            .all(|it| it.lag.as_ref().expect("known").events == 3)
    );
    assert_eq!(names(all), ["audit", "billing", "crm"]);
    let two = caller.list(&["crm", "audit", "crm"]).await.expect("listed");
    assert_eq!(names(two), ["audit", "crm"]);
    let missing = caller.list(&["crm", "biling"]).await.expect_err("missing");
    let (code, reason, metadata) = refusal(&missing);
    assert_eq!((code, &*reason), (Code::NotFound, "SUBSCRIPTION_NOT_FOUND"));
    assert_eq!(metadata["name"], "biling");
    assert_eq!(metadata["nearest"], "billing");

    // Counts judge leases by now: the worker is gone, and so is its stream.
    let short = Subscription {
        ack_deadline: seconds(1),
        ..named("short")
    };
    caller.create(short).await.expect("created");
    let mut worker = caller.worker("short").await;
    worker.delivery().await;
    drop(worker);
    let seen = until(&mut caller, "short", "the lease runs out", |it| {
        it.retrying_count == 1
    })
    .await;
    assert_eq!((seen.outstanding_count, seen.worker_count), (0, 0));
    assert_eq!(seen.blocked_count, 2, "they are of the same user");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_survives_a_restart_and_its_leases_too() {
    let gateway = Gateway::start();
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let mut caller = Caller::of(&gateway).await;
    let before = caller.create(named("crm")).await.expect("created");
    let mut worker = caller.worker("crm").await;
    let delivery = worker.delivery().await;
    let gateway = gateway.restarted();
    let mut caller = Caller::of(&gateway).await;
    let seen = caller.look("crm").await;
    assert_eq!(seen.create_time, before.create_time);
    assert_eq!(seen.outstanding_count, 1);
    let lost = caller.acknowledge("crm", &[&delivery.ack_id]).await;
    assert_eq!(lost.expect("stored"), [""; 0]);
    let mut request = worker_of("crm");
    request.stop_when_handled = true;
    let mut worker = caller.receive(request).await.expect("open");
    while let Some(kind) = worker.next().await.expect("no error") {
        assert!(!matches!(kind, Kind::Delivery(_)), "handed out again");
    }
    assert_eq!(caller.look("crm").await.acknowledged_count, 1);
    let again = caller.create_at(named("crm"), Some(earliest())).await;
    assert_eq!(again.expect("the same").create_time, before.create_time);
}
