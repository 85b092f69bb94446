//! The unary calls: listing, fetching, describing; health and unknown methods.

use clerkcast::proto::{
    EventFilter, GetEventRequest, GetLogInfoRequest, ListEventTypesRequest, ListEventsRequest,
    ListSubscribersRequest, SubscribeRequest, SubscriberState,
};
use tonic::Code;

use crate::harness::{Gateway, Options, after, body, eventually, from_earliest, types};
use crate::subscribe::reason;

#[tokio::test]
async fn list_events_pages_through_matches_and_its_cursor_continues_live() {
    let gateway = Gateway::start();
    for number in 0..25 {
        let name = if number % 5 == 0 {
            "user.created"
        } else {
            "user.updated"
        };
        gateway
            .accept(&format!("msg_{number}"), body(name, "user_1"))
            .await;
    }
    let mut client = gateway.client().await;
    let mut request = ListEventsRequest {
        filter: types(&["user.updated"]),
        page_size: 7,
        ..ListEventsRequest::default()
    };
    let mut listed = Vec::new();
    let mut sizes = Vec::new();
    let cursor = loop {
        let page = client
            .list_events(request.clone())
            .await
            .expect("listed")
            .into_inner();
        sizes.push(page.events.len());
        listed.extend(page.events.into_iter().map(|event| event.id));
        if page.next_page_token.is_empty() {
            break page.cursor;
        }
        request.page_token = page.next_page_token;
    };
    let expected: Vec<String> = (0..25)
        .filter(|number| number % 5 != 0)
        .map(|number| format!("msg_{number}"))
        .collect();
    assert_eq!(listed, expected);
    assert_eq!(sizes, [7, 7, 6]);
    gateway
        .accept("msg_live", body("user.updated", "user_1"))
        .await;
    assert_eq!(gateway.history(after(&cursor)).await.len(), 1);

    let error = client
        .list_events(ListEventsRequest {
            page_size: -1,
            ..ListEventsRequest::default()
        })
        .await;
    assert_eq!(error.expect_err("refused").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn get_event_finds_by_id_and_reports_a_missing_one() {
    let gateway = Gateway::start();
    let event = body("user.created", "user_1");
    gateway.accept("msg_1", event.clone()).await;
    let mut client = gateway.client().await;
    let request = GetEventRequest {
        id: "msg_1".to_owned(),
        include_payload: true,
        ..GetEventRequest::default()
    };
    let found = client.get_event(request).await.expect("found").into_inner();
    assert_eq!(found.event.expect("set").payload_json, Some(event));
    assert!(gateway.history(after(&found.cursor)).await.is_empty());

    let missing = client
        .get_event(GetEventRequest {
            id: "msg_2".to_owned(),
            ..GetEventRequest::default()
        })
        .await;
    let missing = missing.expect_err("there is none");
    assert_eq!(missing.code(), Code::NotFound);
    assert_eq!(reason(&missing), "EVENT_NOT_FOUND");
    let other_source = GetEventRequest {
        id: "msg_1".to_owned(),
        source: "eu".to_owned(),
        ..GetEventRequest::default()
    };
    assert_eq!(
        client
            .get_event(other_source)
            .await
            .expect_err("not from there")
            .code(),
        Code::NotFound
    );
    let empty = client
        .get_event(GetEventRequest::default())
        .await
        .expect_err("no id");
    assert_eq!(empty.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_log_its_types_and_its_subscribers_are_described() {
    let gateway = Gateway::start_with(Options::args(&[
        "--retain-for",
        "48h",
        "--retain-bytes",
        "1GiB",
    ]));
    let mut client = gateway.client().await;
    let empty = client
        .get_log_info(GetLogInfoRequest {})
        .await
        .expect("described")
        .into_inner();
    assert_eq!(empty.oldest_cursor, empty.newest_cursor);
    assert_eq!(empty.event_count, 0);
    assert_eq!(empty.oldest_receive_time, None);
    for number in 0..3 {
        gateway
            .accept(&format!("msg_{number}"), body("user.created", "user_1"))
            .await;
    }
    gateway
        .accept("msg_3", r#"{"type":"planet.created"}"#)
        .await;
    let info = client
        .get_log_info(GetLogInfoRequest {})
        .await
        .expect("described")
        .into_inner();
    assert_eq!(info.event_count, 4);
    assert_eq!(info.retain_for.expect("set").seconds, 48 * 3600);
    assert_eq!(info.retain_bytes, 1 << 30);
    assert!(info.size_bytes > 0);
    assert!(info.oldest_receive_time.is_some() && info.newest_receive_time.is_some());
    assert_eq!(gateway.history(after(&info.oldest_cursor)).await.len(), 4);
    assert!(gateway.history(after(&info.newest_cursor)).await.is_empty());

    let types = client
        .list_event_types(ListEventTypesRequest {})
        .await
        .expect("listed")
        .into_inner()
        .event_types;
    assert_eq!(types.len(), 47, "46 declared, one that only the log knows");
    let named = |name: &str| types.iter().find(|one| one.name == name).expect("listed");
    assert_eq!(
        (
            named("user.created").message.as_str(),
            named("user.created").count
        ),
        ("clerkcast.clerk.v1.User", 3)
    );
    assert_eq!(
        named("user.deleted").message,
        "clerkcast.clerk.v1.DeletedObject"
    );
    assert_eq!(
        (
            named("planet.created").message.as_str(),
            named("planet.created").count
        ),
        ("google.protobuf.Struct", 1)
    );

    let filter = EventFilter {
        user_ids: vec!["user_1".to_owned()],
        ..EventFilter::default()
    };
    let request = SubscribeRequest {
        filter: Some(filter.clone()),
        subscriber_name: "billing".to_owned(),
        ..from_earliest()
    };
    let mut stream = gateway.subscribe(request).await;
    stream.caught_up().await;
    eventually("the subscriber is listed as live", || {
        let (mut client, filter) = (client.clone(), filter.clone());
        async move {
            let listed = client
                .list_subscribers(ListSubscribersRequest::default())
                .await;
            let listed = listed.expect("listed").into_inner().subscribers;
            let [one] = &listed[..] else { return false };
            assert_eq!(one.name, "billing");
            assert_eq!(one.filter, Some(filter));
            assert!(one.peer.starts_with("127.0.0.1:"));
            one.state() == SubscriberState::Live
                && one.delivered_count == 3
                && one.lag.is_some_and(|lag| lag.events == 0)
        }
    })
    .await;
}

#[tokio::test]
async fn unknown_methods_are_unimplemented_and_health_is_served() {
    let gateway = Gateway::start();
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", gateway.grpc))
        .expect("a URI")
        .connect()
        .await
        .expect("connected");
    let mut raw = tonic::client::Grpc::new(channel.clone());
    raw.ready().await.expect("ready");
    let path = http::uri::PathAndQuery::from_static("/clerkcast.v1.EventService/Nonsense");
    let codec = tonic_prost::ProstCodec::<GetLogInfoRequest, GetLogInfoRequest>::default();
    let answer = raw
        .unary(tonic::Request::new(GetLogInfoRequest {}), path, codec)
        .await;
    assert_eq!(
        answer.expect_err("no such method").code(),
        Code::Unimplemented
    );

    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    for service in [
        "",
        "clerkcast.v1.EventService",
        "clerkcast.v1.SubscriptionService",
    ] {
        let request = tonic_health::pb::HealthCheckRequest {
            service: service.to_owned(),
        };
        let answer = health.check(request).await.expect("answered").into_inner();
        assert_eq!(
            answer.status(),
            tonic_health::pb::health_check_response::ServingStatus::Serving
        );
    }
}

/// What grpcurl and other tools ask for, in either version of the protocol.
#[tokio::test]
async fn reflection_serves_every_file_under_its_canonical_name_in_both_versions() {
    let gateway = Gateway::start();
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", gateway.grpc));
    let channel = channel.expect("a URI").connect_lazy();
    macro_rules! found {
        ($version:ident, $file:expr) => {{
            use tonic_reflection::pb::$version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest,
                server_reflection_response::MessageResponse,
            };
            let request = ServerReflectionRequest {
                host: String::new(),
                message_request: Some(MessageRequest::FileByFilename($file.to_owned())),
            };
            let mut client = ServerReflectionClient::new(channel.clone());
            let answers = client
                .server_reflection_info(tokio_stream::iter([request]))
                .await;
            let mut answers = answers.expect("answered").into_inner();
            let answer = answers
                .message()
                .await
                .expect("answered")
                .expect("one answer");
            matches!(
                answer.message_response,
                Some(MessageResponse::FileDescriptorResponse(_))
            )
        }};
    }
    for file in [
        "clerkcast/v1/event_service.proto",
        "clerkcast/clerk/v1/user.proto",
        "google/rpc/error_details.proto",
        "grpc/health/v1/health.proto",
        "google/protobuf/struct.proto",
    ] {
        assert!(found!(v1, file), "{file} in v1");
        assert!(found!(v1alpha, file), "{file} in v1alpha");
    }
}
