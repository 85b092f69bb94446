//! Retention that is faster than a subscription, for each of its policies.

use std::cell::Cell;

use clerkcast::proto::create_subscription_request::Start;
use clerkcast::proto::{
    AcknowledgeRequest, ExpiredCursorPolicy, Failure, ListDeadLettersRequest, ReceiveRequest,
    StartPosition, Subscription, SubscriptionState,
};
use tonic::Code;

use super::operating::shown;
use super::{Caller, event_id, named, refusal, seconds, until, worker_of};
use crate::harness::{Gateway, Options, body, eventually};
use crate::nats::Place;

const POLICIES: [ExpiredCursorPolicy; 3] = [
    ExpiredCursorPolicy::Fail,
    ExpiredCursorPolicy::Earliest,
    ExpiredCursorPolicy::Latest,
];

async fn post(gateway: &Gateway, number: usize, user: &str) {
    let event = body("user.updated", user);
    gateway.accept(&format!("msg_{number}"), event).await;
}

async fn gateway_with(users: &[&str]) -> Gateway {
    let gateway = Gateway::start_with(Options::args(&["--retain-for", "1h"]));
    for (number, user) in (1..).zip(users) {
        post(&gateway, number, user).await;
    }
    gateway
}

/// Has retention remove the events up to a position.
async fn without(gateway: Gateway, through: u32, left: f64) -> Gateway {
    let stopped = gateway.stopped();
    let database = rusqlite::Connection::open(stopped.database()).expect("opens");
    let age = "UPDATE record SET receive_time_ms = receive_time_ms - 7200000 WHERE position <= ?1";
    database.execute(age, [through]).expect("aged");
    drop(database);
    let gateway = stopped.restarted();
    eventually("retention has removed them", || async {
        gateway.metric("clerkcast_log_events").await == left
    })
    .await;
    gateway
}

async fn create(caller: &mut Caller, policy: ExpiredCursorPolicy) {
    let created = caller
        .create(Subscription {
            on_expired: policy.into(),
            ..named(&name_of(policy))
        })
        .await;
    created.expect("created");
}

fn name_of(policy: ExpiredCursorPolicy) -> String {
    format!("crm-{}", policy as i32)
}

async fn expired(gateway: &Gateway, name: &str) -> f64 {
    let metric = "clerkcast_subscription_expired_events_total";
    gateway
        .metric(&format!("{metric}{{subscription=\"{name}\"}}"))
        .await
}

async fn is_stalled(caller: &mut Caller, name: &str) {
    let seen = caller.look(name).await;
    assert_eq!(seen.state(), SubscriptionState::Stalled);
    assert!(seen.stall_reason.contains("retention"), "{seen:?}");
    let refused = caller.receive(worker_of(name)).await.err();
    let (code, reason, _) = refusal(&refused.expect("it is stalled"));
    assert_eq!((code, &*reason), (Code::OutOfRange, "CURSOR_EXPIRED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_that_passes_the_frontier_stops_a_subscription_or_is_followed() {
    let gateway = gateway_with(&["user_1", "user_2", "user_3"]).await;
    let mut caller = Caller::of(&gateway).await;
    for policy in POLICIES {
        create(&mut caller, policy).await;
    }
    let gateway = without(gateway, 2, 1.0).await;
    let mut caller = Caller::of(&gateway).await;
    // The end of the log is where it is when a worker comes.
    for (policy, end, passed) in [
        (ExpiredCursorPolicy::Earliest, 3, 2.0),
        (ExpiredCursorPolicy::Latest, 4, 4.0),
    ] {
        let name = name_of(policy);
        let mut worker = caller.worker(&name).await;
        eventually("it follows", || async {
            expired(&gateway, &name).await > 0.0
        })
        .await;
        post(&gateway, end + 1, "user_4").await;
        if policy == ExpiredCursorPolicy::Earliest {
            assert_eq!(event_id(&worker.delivery().await), "msg_3");
        }
        let new = worker.delivery().await;
        assert_eq!(event_id(&new), format!("msg_{}", end + 1));
        assert_eq!(expired(&gateway, &name).await, passed);
        assert_eq!(caller.look(&name).await.state(), SubscriptionState::Active);
    }
    assert_eq!(
        gateway
            .log_text()
            .matches("retention removed events that a subscription had not handled")
            .count(),
        2
    );
    is_stalled(&mut caller, &name_of(ExpiredCursorPolicy::Fail)).await;
    let has_logged = |line: &'static str| {
        let gateway = &gateway;
        let count = move || gateway.log_text().matches(line).count();
        eventually(line, move || async move { count() == 1 })
    };
    has_logged("a subscription is stalled, and hands out nothing new").await;
    let stalled = name_of(ExpiredCursorPolicy::Fail);
    caller.seek_to_earliest(&stalled).await.expect("moved");
    has_logged("a subscription is no longer stalled").await;
}

/// Fails the first event, acknowledges the second and gives the third up. The fourth waits for
/// the first.
async fn handle(caller: &mut Caller, name: &str) {
    let three = ReceiveRequest {
        max_events: 3,
        ..worker_of(name)
    };
    let mut worker = caller.receive(three).await.expect("opened");
    let first = worker.delivery().await;
    let second = worker.delivery().await;
    let third = worker.delivery().await;
    let failure = |ack_id: String, dead| Failure {
        ack_id,
        retry_delay: seconds(0),
        dead,
        ..Failure::default()
    };
    let lost = caller
        .settle(AcknowledgeRequest {
            subscription: name.to_owned(),
            ack_ids: vec![second.ack_id],
            failures: vec![
                failure(first.ack_id, false),
                Failure {
                    retry_delay: None,
                    ..failure(third.ack_id, true)
                },
            ],
            ..AcknowledgeRequest::default()
        })
        .await;
    assert_eq!(lost.expect("stored"), [""; 0]);
    let seen = caller.look(name).await;
    assert_eq!((seen.acknowledged_count, seen.dead_count), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_that_takes_one_pending_event_stops_a_subscription_or_drops_it() {
    let gateway = gateway_with(&["user_1", "user_2", "user_3", "user_1"]).await;
    let mut caller = Caller::of(&gateway).await;
    for policy in POLICIES {
        create(&mut caller, policy).await;
        handle(&mut caller, &name_of(policy)).await;
    }
    let gateway = without(gateway, 3, 1.0).await;
    let mut caller = Caller::of(&gateway).await;
    for policy in POLICIES {
        let name = name_of(policy);
        let letters = ListDeadLettersRequest {
            subscription: name.clone(),
            include_payload: true,
            ..ListDeadLettersRequest::default()
        };
        let (letters, _) = caller.letters(letters).await.expect("listed");
        let event = letters[0].event.as_ref().expect("whole");
        let payload = event.payload_json.as_deref().expect("asked for");
        assert!(payload.contains("user_3"), "{payload}");
        if policy == ExpiredCursorPolicy::Fail {
            is_stalled(&mut caller, &name).await;
            continue;
        }
        let mut worker = caller.worker(&name).await;
        let next = worker.delivery().await;
        assert_eq!((event_id(&next), next.attempt), ("msg_4", 1), "not msg_1");
        let lost = caller.acknowledge(&name, &[&next.ack_id]).await;
        assert_eq!(lost.expect("stored"), [""; 0]);
        assert_eq!(expired(&gateway, &name).await, 1.0);
        let seen = until(&mut caller, &name, "all is handled", |it| {
            it.lag.as_ref().is_some_and(|lag| lag.events == 0)
        })
        .await;
        let counts = (seen.acknowledged_count, seen.dead_count);
        assert_eq!(counts, (2, 1), "{name}");
        assert_eq!(seen.blocked_count + seen.retrying_count, 0);
    }
}

const LIMIT: f64 = 16_777_216.0;

/// The headroom of a subscription, in bytes, once it is as it should be.
async fn headroom_once(gateway: &Gateway, name: &str, holds: impl Fn(f64) -> bool) -> f64 {
    let seen = Cell::new(0.0);
    eventually("the headroom is as it should be", || async {
        let headroom = shown(gateway, "retention_headroom_bytes", name).await;
        seen.set(headroom.unwrap_or_default());
        headroom.is_some_and(&holds)
    })
    .await;
    seen.get()
}

async fn post_large(gateway: &Gateway, number: usize) {
    let padding = "x".repeat(250_000);
    let event = format!(r#"{{"type":"planet.created","data":{{"name":"{padding}"}}}}"#);
    gateway.accept(&format!("msg_{number}"), event).await;
}

fn latest() -> Option<Start> {
    Some(Start::StartPosition(StartPosition::Latest.into()))
}

/// `crm` handles nothing, `half` is created halfway, and `new` has nothing to handle.
async fn retention_by_bytes_is_foreseen(place: Place) {
    let gateway = place.start_with(Options::args(&["--retain-bytes", "16MiB"]));
    let mut caller = Caller::of(&gateway).await;
    caller.create(named("crm")).await.expect("created");
    let one = ReceiveRequest {
        max_events: 1,
        ..worker_of("crm")
    };
    let mut worker = caller.receive(one).await.expect("opened");
    let mut left = headroom_once(&gateway, "crm", |bytes| bytes == LIMIT).await;
    // Neither what a subscription keeps counts, nor the page of each empty table.
    eventually("nothing is used but a few pages", || async {
        gateway.metric("clerkcast_log_used_bytes").await < 16_384.0
    })
    .await;
    let (mut posted, mut before_half) = (0, 0);
    while left >= LIMIT / 10.0 {
        posted += 1;
        post_large(&gateway, posted).await;
        left = headroom_once(&gateway, "crm", |bytes| bytes < left).await;
        if before_half == 0 && left < LIMIT / 2.0 {
            let half = caller.create_at(named("half"), latest()).await;
            half.expect("created");
            before_half = posted;
        }
    }
    assert!(left > 0.0, "it is near before it is reached");
    assert_eq!(gateway.metric("clerkcast_log_events").await, posted as f64);
    assert_eq!(caller.look("crm").await.state(), SubscriptionState::Active);
    // What `half` has handled goes first.
    let share = (posted - before_half) as f64 / posted as f64;
    let expected = LIMIT - (LIMIT - left) * share;
    let is_expected = |bytes: f64| (bytes - expected).abs() < 0.01 * LIMIT;
    headroom_once(&gateway, "half", is_expected).await;
    let new = caller.create_at(named("new"), latest()).await;
    new.expect("created");
    headroom_once(&gateway, "new", |bytes| bytes == LIMIT).await;

    assert_eq!(event_id(&worker.delivery().await), "msg_1");
    for number in 1..=20 {
        post_large(&gateway, posted + number).await;
    }
    let is_stalled = |it: &Subscription| it.state() == SubscriptionState::Stalled;
    until(&mut caller, "crm", "it has lost an event", is_stalled).await;
    headroom_once(&gateway, "crm", |bytes| bytes < LIMIT / 10.0).await;
    assert_eq!(caller.look("new").await.state(), SubscriptionState::Active);
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_by_bytes_is_near_before_a_subscription_loses_events() {
    retention_by_bytes_is_foreseen(Place::embedded()).await;
    retention_by_bytes_is_foreseen(Place::nats()).await;
}
