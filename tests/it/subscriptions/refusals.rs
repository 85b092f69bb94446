//! Each refusal by its code, its reason and its metadata.

use clerkcast::event::{Cursor, Epoch, Position};
use clerkcast::proto::create_subscription_request::Start;
use clerkcast::proto::{
    self, ListSubscriptionsRequest, ReceiveRequest, Subscription, UpdateSubscriptionRequest,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{Caller, named, refusal, seconds, worker_of};
use crate::access::{Guarded, new_token};
use crate::harness::{Gateway, Options, body, types};

fn violations(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument);
    let details = status.get_error_details();
    let request = details.bad_request().expect("a BadRequest");
    let violations = request.field_violations.iter();
    violations
        .map(|violation| violation.field.clone())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_request_is_named_field_by_field() {
    let gateway = Gateway::start();
    let mut caller = Caller::of(&gateway).await;
    let wrong = Subscription {
        name: "Crm".to_owned(),
        filter: types(&["user.craeted"]),
        ack_deadline: seconds(3601),
        max_deliveries: -1,
        ..Subscription::default()
    };
    let refused = caller.create(wrong).await.expect_err("wrong");
    assert_eq!(
        violations(&refused),
        [
            "subscription.filter.types[0]",
            "subscription.name",
            "subscription.ack_deadline",
            "subscription.max_deliveries",
        ]
    );
    assert!(refused.message().contains("did you mean user.created?"));
    let huge = Subscription {
        filter: Some(proto::EventFilter {
            user_ids: (0..10_001).map(|number| format!("user_{number}")).collect(),
            ..proto::EventFilter::default()
        }),
        ..named("crm")
    };
    let refused = caller.create(huge).await.expect_err("too many ids");
    assert_eq!(violations(&refused), ["subscription.filter.user_ids"]);
    caller.create(named("crm")).await.expect("created");
    let update = UpdateSubscriptionRequest {
        name: "crm".to_owned(),
        filter: types(&["user.craeted"]),
        ack_deadline: Some(prost_types::Duration {
            seconds: 1,
            nanos: -1_000_000_000,
        }),
        ..UpdateSubscriptionRequest::default()
    };
    let refused = caller.client.update_subscription(update).await;
    assert_eq!(
        violations(&refused.expect_err("wrong")),
        ["filter.types[0]", "ack_deadline"]
    );
    for (request, field) in [
        (
            ReceiveRequest {
                max_outstanding: 1001,
                ..worker_of("crm")
            },
            "max_outstanding",
        ),
        (
            ReceiveRequest {
                heartbeat_interval: seconds(0),
                ..worker_of("crm")
            },
            "heartbeat_interval",
        ),
        (worker_of(""), "subscription"),
    ] {
        let refused = caller.receive(request).await.err().expect(field);
        assert_eq!(violations(&refused), [field]);
    }
    let listed = caller.list(&["crm", "-"]).await;
    assert_eq!(violations(&listed.expect_err("no name")), ["names[1]"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_keeps_a_bounded_number_of_subscriptions_that_are_created_at_once() {
    const LIMIT: usize = 5;
    let gateway = Gateway::start_with(Options::args(&["--max-subscriptions", &LIMIT.to_string()]));
    let creating = (0..3 * LIMIT).map(|number| {
        let gateway = &gateway;
        async move {
            let mut caller = Caller::of(gateway).await;
            caller.create(named(&format!("crm-{number}"))).await
        }
    });
    let created = futures_util::future::join_all(creating).await;
    let refused: Vec<_> = created.into_iter().filter_map(Result::err).collect();
    assert_eq!(refused.len(), 2 * LIMIT);
    for status in &refused {
        let (code, reason, metadata) = refusal(status);
        assert_eq!(code, Code::ResourceExhausted);
        assert_eq!(reason, "TOO_MANY_SUBSCRIPTIONS");
        assert_eq!(metadata["limit"], LIMIT.to_string());
        let details = status.get_error_details();
        assert!(details.retry_info().is_none(), "waiting does not help");
    }
    let mut caller = Caller::of(&gateway).await;
    let listed = caller.list(&[]).await.expect("listed");
    assert_eq!(listed.len(), LIMIT);
    // One that is there can be created again, and one that goes makes room.
    let first = &listed[0].name;
    caller.create(named(first)).await.expect("the same");
    caller.delete(first).await.expect("deleted");
    caller.create(named("another")).await.expect("room");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_principals_leaves_room_for_the_others() {
    let [owner, other, operator] = ["owner", "other", "operator"].map(new_token);
    let operators = format!("{}\nall_subscriptions = true\n", operator.stanza);
    // The file that is left must not look like the start of this one.
    let config = format!("{}\n{operators}\n{}", other.stanza, owner.stanza);
    let guarded = Guarded::start_with(&config, &["--max-subscriptions", "5"]);
    let gateway = &guarded.gateway;
    let mut caller = Caller::with(gateway, &owner).await;
    let mut other = Caller::with(gateway, &other).await;
    let mut operator = Caller::with(gateway, &operator).await;
    for name in ["a", "b", "c"] {
        caller.create(named(name)).await.expect("at most half");
    }
    let refused = caller.create(named("d")).await.expect_err("more than half");
    let (code, reason, metadata) = refusal(&refused);
    assert_eq!(code, Code::ResourceExhausted);
    assert_eq!(reason, "TOO_MANY_SUBSCRIPTIONS");
    assert_eq!(metadata["limit"], "3");
    assert_eq!(metadata["principal"], "owner");
    caller.create(named("c")).await.expect("there already");
    other.create(named("d")).await.expect("room is left");
    operator.create(named("e")).await.expect("room is left");
    let full = operator.create(named("f")).await.expect_err("full");
    assert_eq!(refusal(&full).2.get("principal"), None);

    // The operator of all of them may have more than half.
    for (name, other) in [("a", "f"), ("b", "g"), ("c", "h")] {
        caller.delete(name).await.expect("deleted");
        operator.create(named(other)).await.expect("room");
    }
    // So may the only one there is.
    for name in ["d", "e", "f", "g", "h"] {
        operator.delete(name).await.expect("deleted");
    }
    guarded.reloaded(&owner.stanza).await;
    for name in ["a", "b", "c", "d", "e"] {
        caller.create(named(name)).await.expect("all are its own");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_count_as_streams() {
    let token = new_token("owner");
    let guarded = Guarded::start_with(
        &format!("{}\nmax_streams = 1\n", token.stanza),
        &["--max-subscribers", "2"],
    );
    let gateway = &guarded.gateway;
    let mut owner = Caller::with(gateway, &token).await;
    owner.create(named("crm")).await.expect("created");
    let worker = owner.worker("crm").await;
    let refused = owner.receive(worker_of("crm")).await.err();
    let refused = refused.expect("one too many");
    let (code, reason, metadata) = refusal(&refused);
    assert_eq!(code, Code::ResourceExhausted);
    assert_eq!(reason, "TOO_MANY_STREAMS");
    assert_eq!(metadata["limit"], "1");
    assert!(refused.get_error_details().retry_info().is_some());
    drop(worker);
    crate::harness::eventually("it makes room", || async {
        let mut owner = Caller::with(gateway, &token).await;
        owner.receive(worker_of("crm")).await.is_ok()
    })
    .await;

    let gateway = Gateway::start_with(Options::args(&["--max-subscribers", "1"]));
    let mut caller = Caller::of(&gateway).await;
    caller.create(named("crm")).await.expect("created");
    let _worker = caller.worker("crm").await;
    let mut client = gateway.client().await;
    let refused = client.subscribe(proto::SubscribeRequest::default()).await;
    assert_eq!(
        refusal(&refused.expect_err("a worker has the place")).1,
        "TOO_MANY_SUBSCRIBERS"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_cannot_be_honored_is_refused() {
    let gateway = Gateway::start();
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let mut caller = Caller::of(&gateway).await;
    let created = caller.create(named("crm")).await.expect("created");
    let own: Cursor = created.cursor.parse().expect("a cursor");
    let ahead = Cursor {
        position: Position::new(own.position.number() + 1000),
        ..own
    };
    let foreign = Cursor {
        epoch: Epoch::new(7),
        ..own
    };
    for (cursor, expected) in [
        (ahead, "CURSOR_AHEAD_OF_LOG"),
        (foreign, "CURSOR_OF_ANOTHER_LOG"),
    ] {
        let start = Some(Start::AfterCursor(cursor.to_string()));
        let refused = caller.create_at(named("billing"), start).await;
        let (code, reason, _) = refusal(&refused.expect_err(expected));
        assert_eq!((code, &*reason), (Code::FailedPrecondition, expected));
        let seek = proto::SeekSubscriptionRequest {
            name: "crm".to_owned(),
            to: Some(proto::seek_subscription_request::To::AfterCursor(
                cursor.to_string(),
            )),
        };
        let refused = caller.client.seek_subscription(seek).await;
        assert_eq!(refusal(&refused.expect_err(expected)).1, expected);
    }
    let request = ListSubscriptionsRequest::default();
    let listed = caller.client.list_subscriptions(request).await;
    assert_eq!(listed.expect("listed").into_inner().subscriptions.len(), 1);
}
