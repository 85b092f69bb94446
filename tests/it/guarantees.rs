//! The guarantees, by their names, against the real binary.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clerkcast::event::{Cursor, Position};
use clerkcast::proto::subscribe_response::Kind;
use clerkcast::proto::{EventFilter, SubscribeRequest};
use futures_util::stream::{self, StreamExt as _};

use crate::harness::{Gateway, Options, after, body, eventually, from_earliest, types};
use crate::nats::Place;

/// Runs every guarantee on both logs.
macro_rules! on_both_logs {
    ($($guarantee:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $guarantee() {
                super::$guarantee(super::Place::embedded()).await;
            })*
        }
        mod nats {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $guarantee() {
                super::$guarantee(super::Place::nats()).await;
            })*
        }
    };
}

on_both_logs!(
    durable_a_200_survives_kill_9_at_once,
    unique_one_id_enters_once_however_often_and_however_concurrently,
    unique_holds_across_a_restart,
    ordered_every_subscriber_sees_the_same_strictly_increasing_positions,
    reliable_resuming_from_any_frame_misses_nothing_and_repeats_nothing,
    resumable_across_a_restart_of_the_gateway,
    bookmarkable_a_heartbeat_moves_past_what_does_not_match,
    bookmarkable_a_history_without_a_match_ends_at_the_newest_cursor,
    filtered_only_what_matches_is_sent_from_history_and_live,
    patient_a_subscriber_that_stops_reading_is_kept_and_slows_no_other,
    patient_readers_that_give_up_do_not_disturb_the_others,
    unique_a_type_that_is_asked_for_twice_is_sent_once,
    lossless_the_body_is_delivered_byte_for_byte,
    live_events_arrive_without_waiting_for_a_heartbeat,
    a_subscriber_that_leaves_is_forgotten,
);

fn position(cursor: &str) -> Position {
    cursor.parse::<Cursor>().expect("a cursor").position
}

/// Posts `count` events with ids `msg_0`…, many at a time.
async fn post_many(gateway: &Gateway, prefix: &str, count: usize) {
    stream::iter(0..count)
        .for_each_concurrent(64, |number| async move {
            let event = body("user.updated", &format!("user_{}", number % 10));
            gateway.accept(&format!("{prefix}_{number}"), event).await;
        })
        .await;
}

async fn durable_a_200_survives_kill_9_at_once(place: Place) {
    let mut gateway = place.start();
    for round in 0..5 {
        let id = format!("msg_{round}");
        gateway.accept(&id, body("user.created", "user_1")).await;
        gateway.kill();
        gateway = gateway.restarted();
        let ids: Vec<String> = gateway
            .history(from_earliest())
            .await
            .into_iter()
            .map(|event| event.id)
            .collect();
        assert_eq!(ids.len(), round + 1);
        assert_eq!(ids.last(), Some(&id));
    }
}

async fn unique_one_id_enters_once_however_often_and_however_concurrently(place: Place) {
    let gateway = place.start();
    let event = body("user.created", "user_1");
    let answers = stream::iter(0..200).map(|number| {
        let (gateway, event) = (&gateway, event.clone());
        async move { gateway.post(&format!("msg_{}", number % 4), event).await }
    });
    let answers: Vec<_> = answers.buffer_unordered(50).collect().await;
    let first = answers
        .iter()
        .filter(|answer| answer.json()["duplicate"] == false);
    assert_eq!(first.count(), 4);
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(gateway.history(from_earliest()).await.len(), 4);
}

async fn unique_holds_across_a_restart(place: Place) {
    let gateway = place.start();
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let gateway = gateway.restarted();
    let again = gateway.post("msg_1", body("user.created", "user_1")).await;
    assert_eq!(again.json()["duplicate"], true);
}

async fn ordered_every_subscriber_sees_the_same_strictly_increasing_positions(place: Place) {
    let gateway = place.start();
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(gateway.subscribe(SubscribeRequest::default()).await);
    }
    for stream in &mut streams {
        stream.caught_up().await;
    }
    post_many(&gateway, "msg", 300).await;
    let mut orders = Vec::new();
    for stream in &mut streams {
        let mut order = Vec::new();
        let mut last = Position::START;
        for _ in 0..300 {
            let (cursor, event) = stream.next_event().await;
            assert!(position(&cursor) > last);
            last = position(&cursor);
            order.push(event.id);
        }
        orders.push(order);
    }
    assert_eq!(orders[0], orders[1]);
    assert_eq!(orders[1], orders[2]);
    let from_log = gateway.history(from_earliest()).await;
    let from_log: Vec<String> = from_log.into_iter().map(|event| event.id).collect();
    assert_eq!(orders[0], from_log);
}

async fn reliable_resuming_from_any_frame_misses_nothing_and_repeats_nothing(place: Place) {
    let gateway = place.start();
    post_many(&gateway, "msg", 40).await;
    let mut stream = gateway
        .subscribe(SubscribeRequest {
            stop_when_caught_up: true,
            ..from_earliest()
        })
        .await;
    // Every frame's cursor, control frames too, with the events that came up to it.
    let mut frames = Vec::new();
    let mut seen = Vec::new();
    while let Some(frame) = stream.next().await {
        if let Some(Kind::Event(event)) = frame.kind {
            seen.push(event.id);
        }
        frames.push((frame.cursor, seen.len()));
    }
    assert_eq!(seen.len(), 40);
    for (cursor, handled) in frames {
        let rest = gateway.history(after(&cursor)).await;
        let rest: Vec<String> = rest.into_iter().map(|event| event.id).collect();
        assert_eq!(rest, seen[handled..], "after {handled} events");
    }
}

async fn resumable_across_a_restart_of_the_gateway(place: Place) {
    let gateway = place.start();
    post_many(&gateway, "before", 10).await;
    let mut stream = gateway.subscribe(from_earliest()).await;
    let mut cursor = String::new();
    for _ in 0..7 {
        cursor = stream.next_event().await.0;
    }
    drop(stream);
    let gateway = gateway.restarted();
    post_many(&gateway, "after", 5).await;
    assert_eq!(gateway.history(after(&cursor)).await.len(), 8);
}

async fn bookmarkable_a_heartbeat_moves_past_what_does_not_match(place: Place) {
    let gateway = place.start();
    let mut stream = gateway
        .subscribe(SubscribeRequest {
            filter: types(&["session.*"]),
            heartbeat_interval: Some(prost_types::Duration {
                seconds: 1,
                nanos: 0,
            }),
            ..SubscribeRequest::default()
        })
        .await;
    let start = position(&stream.caught_up().await);
    post_many(&gateway, "msg", 25).await;
    let newest = loop {
        let frame = stream.next().await.expect("no end");
        assert!(matches!(frame.kind, Some(Kind::Heartbeat(_))), "{frame:?}");
        if position(&frame.cursor) > start {
            break frame.cursor;
        }
    };
    // Nothing that matches lies before the bookmark.
    gateway
        .accept("msg_match", body("session.created", "sess_1"))
        .await;
    let events = gateway
        .history(SubscribeRequest {
            filter: types(&["session.*"]),
            ..after(&newest)
        })
        .await;
    assert_eq!(events.len(), 1);
}

async fn bookmarkable_a_history_without_a_match_ends_at_the_newest_cursor(place: Place) {
    let gateway = place.start();
    post_many(&gateway, "msg", 500).await;
    let request = SubscribeRequest {
        filter: types(&["sms.created"]),
        stop_when_caught_up: true,
        ..from_earliest()
    };
    let mut stream = gateway.subscribe(request).await;
    let (started, kind) = stream.next_kind().await;
    let Kind::Started(details) = kind else {
        panic!("Started comes first")
    };
    let (caught_up, kind) = stream.next_kind().await;
    assert!(matches!(kind, Kind::CaughtUp(_)), "{kind:?}");
    assert_eq!(caught_up, details.newest_cursor);
    assert!(position(&caught_up) > position(&started));
    assert!(stream.next().await.is_none());
}

async fn filtered_only_what_matches_is_sent_from_history_and_live(place: Place) {
    let gateway = place.start();
    let filters = [
        EventFilter {
            types: vec!["user.*".into()],
            ..EventFilter::default()
        },
        EventFilter {
            types: vec!["user.created".into(), "session.created".into()],
            ..EventFilter::default()
        },
        EventFilter {
            user_ids: vec!["user_1".into(), "user_3".into()],
            ..EventFilter::default()
        },
        EventFilter {
            exclude_types: vec!["user.updated".into()],
            user_ids: vec!["user_2".into()],
            ..EventFilter::default()
        },
        EventFilter {
            organization_ids: vec!["org_1".into()],
            ..EventFilter::default()
        },
        EventFilter {
            session_ids: vec!["sess_1".into()],
            ..EventFilter::default()
        },
        EventFilter {
            instance_ids: vec!["ins_9".into()],
            ..EventFilter::default()
        },
        EventFilter {
            sources: vec!["default".into()],
            types: vec!["*".into()],
            ..EventFilter::default()
        },
    ];
    let mut live = Vec::new();
    for filter in &filters {
        let request = SubscribeRequest {
            filter: Some(filter.clone()),
            ..SubscribeRequest::default()
        };
        let mut stream = gateway.subscribe(request).await;
        stream.caught_up().await;
        live.push(stream);
    }
    let session = |id: &str, user: &str| {
        format!(
            r#"{{"type":"session.created","instance_id":"ins_9","data":{{"id":"{id}","user_id":"{user}","last_active_organization_id":"org_1"}}}}"#
        )
    };
    let bodies = [
        body("user.created", "user_1"),
        body("user.updated", "user_2"),
        body("user.created", "user_2"),
        body("user.updated", "user_3"),
        session("sess_1", "user_1"),
        session("sess_2", "user_2"),
        r#"{"type":"organization.created","data":{"id":"org_1"}}"#.to_owned(),
        r#"{"success":true}"#.to_owned(),
    ];
    for (number, event) in bodies.iter().enumerate() {
        gateway
            .accept(&format!("msg_{number}"), event.clone())
            .await;
    }
    let expected: [&[usize]; 8] = [
        &[0, 1, 2, 3],
        &[0, 2, 4, 5],
        &[0, 3, 4],
        &[2, 5],
        &[4, 5, 6],
        &[4],
        &[4, 5],
        &[0, 1, 2, 3, 4, 5, 6, 7],
    ];
    // Ends every live stream's wait: what does not match never arrives before this does.
    for ((filter, expected), stream) in filters.iter().zip(expected).zip(&mut live) {
        let expected: Vec<String> = expected
            .iter()
            .map(|number| format!("msg_{number}"))
            .collect();
        let request = SubscribeRequest {
            filter: Some(filter.clone()),
            ..from_earliest()
        };
        let history = gateway.history(request).await;
        let history: Vec<String> = history.into_iter().map(|event| event.id).collect();
        assert_eq!(history, expected, "history of {filter:?}");
        let mut received = Vec::new();
        while received.len() < expected.len() {
            received.push(stream.next_event().await.1.id);
        }
        assert_eq!(received, expected, "live of {filter:?}");
    }
}

/// The subscriber stops reading while 50,000 events pass. It is told that it fell
/// behind, loses nothing, and meanwhile another subscriber is served as if alone.
async fn patient_a_subscriber_that_stops_reading_is_kept_and_slows_no_other(place: Place) {
    const EVENTS: usize = 50_000;
    let gateway = Arc::new(place.start_with(Options::args(&["--ring-size", "4MiB"])));
    let mut stuck = gateway.subscribe(SubscribeRequest::default()).await;
    stuck.caught_up().await;
    let mut quick = gateway.subscribe(SubscribeRequest::default()).await;
    quick.caught_up().await;

    let reading = tokio::spawn(async move {
        let mut ids = HashSet::new();
        while ids.len() < EVENTS {
            let (_, event) = quick.next_event().await;
            assert!(ids.insert(event.id), "sent twice");
        }
    });
    post_many(&gateway, "msg", EVENTS).await;
    reading
        .await
        .expect("the quick one gets everything while the other reads nothing");

    let started = Instant::now();
    let mut ids = HashSet::new();
    let mut fell_behind = 0;
    let mut last = Position::START;
    while ids.len() < EVENTS {
        let (cursor, kind) = stuck.next_kind().await;
        match kind {
            Kind::Event(event) => {
                assert!(position(&cursor) > last);
                last = position(&cursor);
                assert!(ids.insert(event.id), "sent twice");
            }
            Kind::FellBehind(fell) => {
                assert!(fell.lag.expect("it says how far").events > 0);
                fell_behind += 1;
            }
            Kind::CaughtUp(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!(fell_behind > 0, "it was told");
    stuck.caught_up().await;
    gateway
        .accept("msg_live", body("user.created", "user_1"))
        .await;
    assert_eq!(stuck.next_event().await.1.id, "msg_live");
    println!("caught up on {EVENTS} events in {:?}", started.elapsed());
}

/// Readers that come and go must not take the log's connections with them.
async fn patient_readers_that_give_up_do_not_disturb_the_others(place: Place) {
    let gateway = Arc::new(place.start());
    post_many(&gateway, "msg", 3000).await;
    let mut impatient = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let mut client = gateway.client().await;
        impatient.spawn(async move {
            for _ in 0..30 {
                let request = clerkcast::proto::ListEventsRequest {
                    filter: types(&["sms.created"]),
                    ..clerkcast::proto::ListEventsRequest::default()
                };
                let call = client.list_events(request);
                let _gave_up = tokio::time::timeout(Duration::from_millis(2), call).await;
            }
        });
    }
    for _ in 0..10 {
        assert_eq!(gateway.history(from_earliest()).await.len(), 3000);
    }
    impatient.join_all().await;
}

async fn unique_a_type_that_is_asked_for_twice_is_sent_once(place: Place) {
    let gateway = place.start();
    post_many(&gateway, "msg", 40).await;
    gateway.accept("msg_rare", body("sms.created", "")).await;
    let request = SubscribeRequest {
        filter: types(&["sms.created", "sms.created"]),
        ..from_earliest()
    };
    assert_eq!(gateway.history(request).await.len(), 1);
}

async fn lossless_the_body_is_delivered_byte_for_byte(place: Place) {
    let gateway = place.start();
    let bodies = [
        "{ \"type\" : \"user.created\",\n\t\"data\": {\"id\":\"user_1\", \"id\":\"user_2\"}, \"tomorrow\": [1.0, 1e2] }",
        r#"{"success":true}"#,
        r#"{"type":"planet.created","data":{"id":"planet_1","rings":7}}"#,
        r#"{"type":"some string","data":{"id":"some string"},"timestamp":42}"#,
        "not JSON at all \u{1f980}",
        "",
        "{}",
        r#"{"type":42,"data":[1,2]}"#,
        "\u{feff}{\"type\":\"user.created\"}",
    ];
    for (number, text) in bodies.iter().enumerate() {
        gateway.accept(&format!("msg_{number}"), *text).await;
    }
    let request = SubscribeRequest {
        include_payload: true,
        ..from_earliest()
    };
    let events = gateway.history(request).await;
    let payloads: Vec<&str> = events
        .iter()
        .map(|event| event.payload_json.as_deref().expect("asked for"))
        .collect();
    assert_eq!(payloads, bodies);
    let types: Vec<&str> = events.iter().map(|event| event.r#type.as_str()).collect();
    assert_eq!(
        types,
        [
            "user.created",
            "",
            "planet.created",
            "some string",
            "",
            "",
            "",
            "",
            "user.created"
        ]
    );
}

async fn live_events_arrive_without_waiting_for_a_heartbeat(place: Place) {
    let gateway = place.start();
    let mut stream = gateway.subscribe(SubscribeRequest::default()).await;
    stream.caught_up().await;
    for number in 0..20 {
        let id = format!("msg_{number}");
        gateway.accept(&id, body("user.created", "user_1")).await;
        let event = tokio::time::timeout(Duration::from_secs(10), stream.next_event()).await;
        assert_eq!(event.expect("well before the heartbeat at 15 s").1.id, id);
    }
}

async fn a_subscriber_that_leaves_is_forgotten(place: Place) {
    let gateway = place.start();
    let stream = gateway.subscribe(SubscribeRequest::default()).await;
    drop(stream);
    let mut client = gateway.client().await;
    eventually("no subscriber is listed", || {
        let mut client = client.clone();
        async move {
            let listed = client
                .list_subscribers(clerkcast::proto::ListSubscribersRequest::default())
                .await;
            listed.expect("listed").into_inner().subscribers.is_empty()
        }
    })
    .await;
    client
        .get_log_info(clerkcast::proto::GetLogInfoRequest {})
        .await
        .expect("still serving");
}
