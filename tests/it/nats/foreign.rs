//! What others publish to the stream.

use async_nats::HeaderMap;
use bytes::Bytes;
use clerkcast::proto::GetEventRequest;

use super::place::on;
use super::server::Server;
use crate::harness::{Gateway, body, eventually, from_earliest};

/// What decodes is not a record for that reason: the header must name its own source and id.
#[tokio::test]
async fn nats_what_the_gateway_did_not_write_is_no_event() {
    let server = Server::start();
    let gateway = Gateway::start_with(on(&[&server]));
    let event = body("user.created", "user_1");
    gateway.accept("msg_1", event.clone()).await;
    let mut live = gateway.subscribe(from_earliest()).await;
    assert_eq!(live.next_event().await.1.id, "msg_1");

    let context = server.jetstream().await;
    let stream = context.get_stream("CLERKCAST").await.expect("there");
    let record = stream.get_raw_message(1).await.expect("stored").payload;
    let abc = Bytes::from_static(b"\x0a\x03abc");
    for (message_id, payload) in [
        (None, Bytes::from_static(b"hello")),
        (None, abc.clone()),
        (Some("default/abc"), abc.clone()),
        (Some("abc"), abc),
        (None, record.clone()),
        (Some("default/msg_2"), record.clone()),
        (Some("other/msg_1"), record),
    ] {
        let mut headers = HeaderMap::new();
        if let Some(id) = message_id {
            headers.insert(async_nats::header::NATS_MESSAGE_ID, id);
        }
        let subject = "clerk.default.user.created";
        let sent = context.publish_with_headers(subject, headers, payload);
        sent.await.expect("sent").await.expect("stored");
    }
    gateway.accept("msg_3", event).await;

    assert_eq!(live.next_event().await.1.id, "msg_3");
    // Also by a gateway that has not followed them.
    let other = Gateway::start_with(on(&[&server]));
    for gateway in [&gateway, &other] {
        let found = gateway.history(from_earliest()).await;
        let ids: Vec<&str> = found.iter().map(|event| event.id.as_str()).collect();
        assert_eq!(ids, ["msg_1", "msg_3"]);
        let mut client = gateway.client().await;
        for id in ["abc", "msg_2"] {
            let got = client.get_event(GetEventRequest {
                id: id.to_owned(),
                ..GetEventRequest::default()
            });
            let none = got.await.expect_err("it is no event");
            assert_eq!(none.code(), tonic::Code::NotFound, "{id}");
        }
        // Each once, however often it was read.
        eventually("they are counted", || async {
            let metric = "clerkcast_log_foreign_messages_total";
            gateway.metric(metric).await == 7.0
        })
        .await;
    }
}
