//! Subscribers by name, connected and away.

use clerkcast::proto::SubscribeRequest;

use super::values::shown;
use crate::access::{Caller, Guarded, new_token};
use crate::harness::{Gateway, Stream, body, eventually, from_earliest, now_seconds, types};

fn named(name: &str) -> SubscribeRequest {
    SubscribeRequest {
        subscriber_name: name.to_owned(),
        ..from_earliest()
    }
}

/// A metric of a subscriber, if it is shown.
async fn of(gateway: &Gateway, metric: &str, subscriber: &str) -> Option<f64> {
    let labels = format!("subscriber=\"{subscriber}\",principal=\"anonymous\"");
    shown(
        gateway,
        &format!("clerkcast_subscriber_{metric}{{{labels}}}"),
    )
    .await
}

/// Closes a stream, and waits until it is away.
async fn leave(gateway: &Gateway, stream: Stream, subscriber: &str) {
    drop(stream);
    eventually("it is away", || async {
        of(gateway, "connected", subscriber).await == Some(0.0)
    })
    .await;
}

async fn post(gateway: &Gateway, ids: impl Iterator<Item = u32>) {
    for id in ids {
        let event = body("user.created", "user_1");
        gateway.accept(&format!("msg_{id}"), event).await;
    }
}

#[tokio::test]
async fn a_subscriber_that_is_away_still_lags() {
    let gateway = Gateway::start();
    post(&gateway, 1..=2).await;
    let mut stream = gateway.subscribe(named("billing")).await;
    stream.caught_up().await;
    let before = now_seconds();
    for (metric, value) in [
        ("connected", 1.0),
        ("lag_events", 0.0),
        ("lag_seconds", 0.0),
        ("delivered_events_total", 2.0),
    ] {
        assert_eq!(
            of(&gateway, metric, "billing").await,
            Some(value),
            "{metric}"
        );
    }
    leave(&gateway, stream, "billing").await;
    assert_eq!(of(&gateway, "lag_events", "billing").await, Some(0.0));
    post(&gateway, 3..=5).await;
    assert_eq!(of(&gateway, "lag_events", "billing").await, Some(3.0));
    let mut next = 6..;
    eventually("its lag grows with the time", || {
        let id = next.next().expect("a number");
        let gateway = &gateway;
        async move {
            post(gateway, id..=id).await;
            of(gateway, "lag_seconds", "billing").await > Some(1.0)
        }
    })
    .await;
    let last_seen = "last_seen_timestamp_seconds";
    let seen = of(&gateway, last_seen, "billing").await.expect("shown");
    let newest = shown(&gateway, "clerkcast_log_newest_timestamp_seconds").await;
    assert!(
        seen < newest.expect("shown") && seen >= f64::from(u32::try_from(before).expect("fits"))
    );

    // What it is sent when it is back adds to what it was sent before.
    let mut stream = gateway.subscribe(named("billing")).await;
    stream.caught_up().await;
    assert_eq!(of(&gateway, "connected", "billing").await, Some(1.0));
    assert_eq!(of(&gateway, "lag_events", "billing").await, Some(0.0));
    let log_events = gateway.metric("clerkcast_log_events").await;
    let delivered = of(&gateway, "delivered_events_total", "billing").await;
    assert_eq!(delivered, Some(2.0 + log_events));
}

#[tokio::test]
async fn a_subscriber_lags_only_behind_what_it_has_not_judged() {
    let gateway = Gateway::start();
    let mut stream = gateway
        .subscribe(SubscribeRequest {
            filter: types(&["session.*"]),
            ..named("sessions")
        })
        .await;
    stream.caught_up().await;
    post(&gateway, 1..=3).await;
    eventually("it has judged all that came", || async {
        of(&gateway, "lag_events", "sessions").await == Some(0.0)
    })
    .await;
    leave(&gateway, stream, "sessions").await;
    assert_eq!(of(&gateway, "lag_events", "sessions").await, Some(0.0));
    post(&gateway, 4..=4).await;
    assert_eq!(of(&gateway, "lag_events", "sessions").await, Some(1.0));
}

#[tokio::test]
async fn only_subscribers_with_a_name_are_remembered_and_each_by_its_principal() {
    let (eu, us) = (new_token("eu"), new_token("us"));
    let config = format!("{}\n{}\n", eu.stanza, us.stanza);
    let guarded = Guarded::start(&config);
    let gateway = &guarded.gateway;
    let series = |subscriber: &str, principal: &str| {
        format!(
            "clerkcast_subscriber_connected{{subscriber=\"{subscriber}\",principal=\"{principal}\"}}"
        )
    };
    let (mut first, mut second) = (
        Caller::of(gateway, &eu).await,
        Caller::of(gateway, &us).await,
    );
    let open = async |caller: &mut Caller, name: &str| {
        let request = caller.request(named(name));
        caller.client.subscribe(request).await.expect("subscribed")
    };
    let of_first = open(&mut first, "crm").await;
    let _of_second = open(&mut second, "crm").await;
    let unnamed = open(&mut first, "").await;
    for (name, principal) in [("crm", "eu"), ("crm", "us"), ("unnamed", "eu")] {
        let connected = shown(gateway, &series(name, principal)).await;
        assert_eq!(connected, Some(1.0), "{name} of {principal}");
    }
    drop((of_first, unnamed));
    eventually("both have left", || async {
        shown(gateway, &series("unnamed", "eu")).await.is_none()
            && shown(gateway, &series("crm", "eu")).await == Some(0.0)
    })
    .await;
    assert_eq!(shown(gateway, &series("crm", "us")).await, Some(1.0));
}
