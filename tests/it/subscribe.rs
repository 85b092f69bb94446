//! The contract of `Subscribe`: starts, ends, and errors with their details.

use clerkcast::event::Cursor;
use clerkcast::proto::subscribe_request::Start;
use clerkcast::proto::subscribe_response::Kind;
use clerkcast::proto::{EventFilter, ExpiredCursorPolicy, StartPosition, SubscribeRequest};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{Gateway, Options, after, body, eventually, from_earliest, types};

async fn refused(gateway: &Gateway, request: SubscribeRequest) -> Status {
    let mut client = gateway.client().await;
    match client.subscribe(request).await {
        Err(status) => status,
        Ok(response) => {
            let mut frames = response.into_inner();
            frames.message().await.expect_err("refused")
        }
    }
}

pub(crate) fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().expect("every error has an ErrorInfo");
    assert_eq!(info.domain, "clerkcast");
    info.reason.clone()
}

#[tokio::test]
async fn an_empty_request_starts_now_and_confirms_it_at_once() {
    let gateway = Gateway::start();
    gateway
        .accept("msg_before", body("user.created", "user_1"))
        .await;
    let mut stream = gateway.subscribe(SubscribeRequest::default()).await;
    let started = stream.next().await.expect("a frame");
    let Some(Kind::Started(details)) = started.kind else {
        panic!("Started comes first")
    };
    assert_eq!(details.heartbeat_interval.expect("set").seconds, 15);
    assert_eq!(details.newest_cursor, started.cursor);
    assert!(matches!(
        stream.next().await.expect("a frame").kind,
        Some(Kind::CaughtUp(_))
    ));
    gateway
        .accept("msg_after", body("user.created", "user_1"))
        .await;
    assert_eq!(stream.next_event().await.1.id, "msg_after");
}

#[tokio::test]
async fn every_start_yields_the_history_that_it_names() {
    let gateway = Gateway::start();
    for number in 0..5 {
        gateway
            .accept(&format!("msg_{number}"), body("user.created", "user_1"))
            .await;
    }
    let ids = |events: Vec<clerkcast::proto::Event>| {
        events.into_iter().map(|event| event.id).collect::<Vec<_>>()
    };
    let start = |start| SubscribeRequest {
        start: Some(start),
        ..SubscribeRequest::default()
    };
    let all = gateway.history(from_earliest()).await;
    let third_received = all[2].receive_time.expect("set");
    assert_eq!(ids(all), ["msg_0", "msg_1", "msg_2", "msg_3", "msg_4"]);
    for position in [StartPosition::Unspecified, StartPosition::Latest] {
        let request = start(Start::StartPosition(position.into()));
        assert!(gateway.history(request).await.is_empty());
    }
    let since = ids(gateway
        .history(start(Start::StartTime(third_received)))
        .await);
    assert!(since.ends_with(&["msg_2".to_owned(), "msg_3".to_owned(), "msg_4".to_owned()]));
    let past = prost_types::Timestamp {
        seconds: 0,
        nanos: 0,
    };
    assert_eq!(
        gateway.history(start(Start::StartTime(past))).await.len(),
        5
    );
    let future = prost_types::Timestamp {
        seconds: 4_000_000_000,
        nanos: 0,
    };
    assert!(
        gateway
            .history(start(Start::StartTime(future)))
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn stop_when_caught_up_and_max_events_end_with_ok() {
    let gateway = Gateway::start();
    for number in 0..5 {
        gateway
            .accept(&format!("msg_{number}"), body("user.created", "user_1"))
            .await;
    }
    let mut stream = gateway
        .subscribe(SubscribeRequest {
            stop_when_caught_up: true,
            ..from_earliest()
        })
        .await;
    let mut kinds = Vec::new();
    while let Some(frame) = stream.next().await {
        kinds.push(frame.kind.expect("a kind"));
    }
    assert!(matches!(kinds[0], Kind::Started(_)));
    assert!(matches!(kinds[6], Kind::CaughtUp(_)));
    assert_eq!(kinds.len(), 7);

    let mut stream = gateway
        .subscribe(SubscribeRequest {
            max_events: 2,
            ..from_earliest()
        })
        .await;
    let mut events = 0;
    while let Some(frame) = stream.next().await {
        events += usize::from(matches!(frame.kind, Some(Kind::Event(_))));
    }
    assert_eq!(events, 2);
}

#[tokio::test]
async fn a_bad_request_is_reported_field_by_field_with_the_nearest_valid_name() {
    let gateway = Gateway::start();
    let request = SubscribeRequest {
        filter: types(&["user.craeted", "us*er"]),
        start: Some(Start::AfterCursor("nonsense".to_owned())),
        max_events: -1,
        heartbeat_interval: Some(prost_types::Duration {
            seconds: 0,
            nanos: 5,
        }),
        ..SubscribeRequest::default()
    };
    let status = refused(&gateway, request).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(reason(&status), "INVALID_REQUEST");
    let details = status.get_error_details();
    let violations = &details
        .bad_request()
        .expect("fields are at fault")
        .field_violations;
    let fields: Vec<&str> = violations.iter().map(|one| one.field.as_str()).collect();
    let expected = [
        "filter.types[0]",
        "filter.types[1]",
        "after_cursor",
        "max_events",
        "heartbeat_interval",
    ];
    assert_eq!(fields, expected);
    assert_eq!(
        violations[0].description,
        "unknown event type user.craeted; did you mean user.created?"
    );

    let status = refused(
        &gateway,
        SubscribeRequest {
            filter: types(&["user.craeted"]),
            ..SubscribeRequest::default()
        },
    )
    .await;
    assert!(
        status
            .message()
            .contains("unknown event type user.craeted; did you mean user.created?"),
        "{}",
        status.message()
    );
}

#[tokio::test]
async fn a_type_that_only_the_log_knows_can_be_asked_for() {
    let gateway = Gateway::start();
    let request = || SubscribeRequest {
        filter: types(&["planet.created"]),
        ..from_earliest()
    };
    assert_eq!(
        refused(&gateway, request()).await.code(),
        Code::InvalidArgument
    );
    gateway
        .accept(
            "msg_1",
            r#"{"type":"planet.created","data":{"id":"planet_1","user_id":"user_7","rings":7}}"#,
        )
        .await;
    let events = gateway.history(request()).await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].user_id, "user_7");
    let Some(clerkcast::proto::event::Data::Untyped(data)) = &events[0].data else {
        panic!("untyped")
    };
    assert_eq!(
        data.fields["rings"].kind,
        Some(prost_types::value::Kind::NumberValue(7.0))
    );
}

#[tokio::test]
async fn a_cursor_of_another_log_or_ahead_of_this_one_is_refused() {
    let gateway = Gateway::start();
    let other = Gateway::start();
    other.accept("msg_1", body("user.created", "user_1")).await;
    let (cursor, _) = other.subscribe(from_earliest()).await.next_event().await;
    let status = refused(&gateway, after(&cursor)).await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(reason(&status), "CURSOR_OF_ANOTHER_LOG");

    let mut ahead: Cursor = other
        .subscribe(SubscribeRequest::default())
        .await
        .caught_up()
        .await
        .parse()
        .expect("a cursor");
    ahead.position = ahead.position.next();
    let status = refused(&other, after(&ahead.to_string())).await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(reason(&status), "CURSOR_AHEAD_OF_LOG");
}

/// A log whose retention has removed the first events.
async fn trimmed_gateway() -> (Gateway, String, String) {
    let gateway = Gateway::start_with(Options::args(&["--retain-for", "1s"]));
    let mut stream = gateway.subscribe(SubscribeRequest::default()).await;
    let before = stream.caught_up().await;
    gateway
        .accept("msg_old", body("user.created", "user_1"))
        .await;
    drop(stream);
    // Retention runs at start and then every minute.
    eventually("the event is old enough to go", || async {
        let events = gateway.history(from_earliest()).await;
        let received = events[0].receive_time.expect("set");
        crate::harness::now_seconds() - received.seconds > 2
    })
    .await;
    let gateway = gateway.restarted();
    eventually("retention has removed it", || async {
        gateway.metric("clerkcast_log_events").await == 0.0
    })
    .await;
    gateway
        .accept("msg_new", body("user.created", "user_1"))
        .await;
    let newest = gateway
        .subscribe(SubscribeRequest::default())
        .await
        .caught_up()
        .await;
    (gateway, before, newest)
}

#[tokio::test]
async fn events_removed_by_retention_are_reported_as_the_request_asks() {
    let (gateway, before, newest) = trimmed_gateway().await;
    let status = refused(&gateway, after(&before)).await;
    assert_eq!(status.code(), Code::OutOfRange);
    assert_eq!(reason(&status), "CURSOR_EXPIRED");
    let details = status.get_error_details();
    let metadata = &details.error_info().expect("an ErrorInfo").metadata;
    assert_eq!(metadata["newest_cursor"], newest);
    let oldest = metadata["oldest_cursor"].clone();
    let rest = gateway.history(after(&oldest)).await;
    assert_eq!(rest.len(), 1, "the oldest cursor yields what is left");

    for (policy, expected) in [
        (ExpiredCursorPolicy::Earliest, 1),
        (ExpiredCursorPolicy::Latest, 0),
    ] {
        let request = SubscribeRequest {
            on_expired: policy.into(),
            stop_when_caught_up: true,
            ..after(&before)
        };
        let mut stream = gateway.subscribe(request).await;
        let started = stream.next().await.expect("a frame");
        assert!(matches!(started.kind, Some(Kind::Started(_))));
        assert_eq!(started.cursor, before, "nothing is skipped yet");
        let gap = stream.next().await.expect("a frame");
        let Some(Kind::Gap(range)) = gap.kind else {
            panic!("a gap is told")
        };
        assert_eq!(range.from, before);
        assert_eq!(range.to, gap.cursor);
        let mut events = 0;
        while let Some(frame) = stream.next().await {
            events += usize::from(matches!(frame.kind, Some(Kind::Event(_))));
        }
        assert_eq!(events, expected);
    }
    // Whoever asks for the oldest there is has no cursor that could expire.
    assert_eq!(gateway.history(from_earliest()).await.len(), 1);
    // The id is remembered for longer than the event.
    assert_eq!(
        gateway
            .post("msg_old", body("user.created", "user_1"))
            .await
            .json()["duplicate"],
        true
    );
}

#[tokio::test]
async fn too_many_subscribers_are_refused_until_one_leaves() {
    let gateway = Gateway::start_with(Options::args(&["--max-subscribers", "1"]));
    let mut first = gateway.subscribe(SubscribeRequest::default()).await;
    first.caught_up().await;
    let status = refused(&gateway, SubscribeRequest::default()).await;
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(reason(&status), "TOO_MANY_SUBSCRIBERS");
    drop(first);
    eventually("there is room again", || async {
        gateway
            .client()
            .await
            .subscribe(SubscribeRequest::default())
            .await
            .is_ok()
    })
    .await;
}

/// Comparing them with every known name, or keeping them, would be the caller's to decide.
#[tokio::test]
async fn a_filter_that_is_too_large_is_refused_without_repeating_it() {
    let gateway = Gateway::start();
    let long = "x".repeat(300);
    let many = (0..4000).map(|number| format!("{number:0>200}")).collect();
    for filter in [
        EventFilter {
            types: vec![long.clone()],
            ..EventFilter::default()
        },
        EventFilter {
            user_ids: vec![long.clone()],
            ..EventFilter::default()
        },
        EventFilter {
            sources: vec![long.clone()],
            ..EventFilter::default()
        },
        EventFilter {
            session_ids: many,
            ..EventFilter::default()
        },
    ] {
        let request = SubscribeRequest {
            filter: Some(filter),
            ..SubscribeRequest::default()
        };
        let refused = gateway.client().await.subscribe(request).await;
        let refused = refused.expect_err("refused");
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("accepted"), "{refused}");
        assert!(!refused.message().contains(&long));
    }
}
