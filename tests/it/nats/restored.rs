//! A stream that was restored from a snapshot, as `nats stream backup` and `restore` do it, or
//! that lost its end.

use async_nats::jetstream::Context;
use bytes::Bytes;
use clerkcast::event::Cursor;
use clerkcast::proto::SubscribeRequest;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tonic_types::StatusExt as _;

use super::away::ready;
use super::place::on;
use super::server::Server;
use crate::harness::{Gateway, after, body, from_earliest, types};

/// What `nats stream backup` writes.
struct Snapshot {
    config: Value,
    state: Value,
    chunks: Vec<Bytes>,
}

async fn ask(context: &Context, api: &str, request: &Value) -> Value {
    let client = context.client();
    let answer = client.request(format!("$JS.API.{api}"), request.to_string().into());
    let answer = answer.await.expect("answered").payload;
    let answer: Value = serde_json::from_slice(&answer).expect("JSON");
    assert!(answer.get("error").is_none(), "{api}: {answer}");
    answer
}

async fn backup(context: &Context) -> Snapshot {
    let client = context.client();
    let inbox = client.new_inbox();
    let mut received = client.subscribe(inbox.clone()).await.expect("subscribed");
    let request = json!({ "deliver_subject": inbox, "no_consumers": true });
    let answer = ask(context, "STREAM.SNAPSHOT.CLERKCAST", &request).await;
    let mut chunks = Vec::new();
    while let Some(chunk) = received.next().await {
        if let Some(reply) = chunk.reply {
            client.publish(reply, Bytes::new()).await.expect("sent");
        }
        if chunk.payload.is_empty() {
            break;
        }
        chunks.push(chunk.payload);
    }
    Snapshot {
        config: answer["config"].clone(),
        state: answer["state"].clone(),
        chunks,
    }
}

async fn restore(context: &Context, snapshot: &Snapshot) {
    context.delete_stream("CLERKCAST").await.expect("deleted");
    let request = json!({ "config": snapshot.config, "state": snapshot.state });
    let answer = ask(context, "STREAM.RESTORE.CLERKCAST", &request).await;
    let subject = answer["deliver_subject"]
        .as_str()
        .expect("a subject")
        .to_owned();
    let client = context.client();
    for chunk in snapshot.chunks.iter().cloned().chain([Bytes::new()]) {
        let received = client.request(subject.clone(), chunk).await;
        received.expect("taken");
    }
}

async fn post(gateway: &Gateway, prefix: &str, count: usize) {
    for number in 0..count {
        let event = body("user.updated", "user_1");
        gateway.accept(&format!("{prefix}_{number}"), event).await;
    }
}

/// A restored stream was created at another time, so it is another log: its epoch is not
/// that of any cursor of before, and a position needs no run.
#[tokio::test]
async fn reliable_a_restored_stream_skips_nothing() {
    let mut server = Server::start();
    let mut gateway = Gateway::start_with(on(&[&server]));
    post(&gateway, "kept", 10).await;
    let context = server.jetstream().await;
    let snapshot = backup(&context).await;
    post(&gateway, "lost", 5).await;
    let mut stream = gateway.subscribe(from_earliest()).await;
    let mut cursors = Vec::new();
    for _ in 0..15 {
        cursors.push(stream.next_event().await.0);
    }
    restore(&context, &snapshot).await;

    // The gateway that ran meanwhile takes nothing into another log than it began with.
    assert_eq!(gateway.wait().code(), Some(1));
    // A server knows the ids of what it has when it starts.
    server.stop();
    server.run();
    let gateway = gateway.restarted();
    let known = gateway.post("kept_3", body("user.updated", "user_1")).await;
    assert_eq!(known.json()["duplicate"], true, "{}", known.text);
    // Shorter than before, as long, and longer.
    for more in [1, 4, 7] {
        post(&gateway, &format!("new_{more}"), more).await;
        let mut client = gateway.client().await;
        for cursor in [&cursors[4], &cursors[9], &cursors[14]] {
            let refused = client.subscribe(after(cursor)).await;
            let status = refused.expect_err("a cursor of the lost history");
            assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status}");
            let details = status.get_error_details();
            let reason = &details.error_info().expect("details").reason;
            assert_eq!(reason, "CURSOR_OF_ANOTHER_LOG");
        }
    }
    let history = gateway.history(from_earliest()).await;
    assert_eq!(history.len(), 10 + 12);
}

/// The reason that a cursor is refused for; none if it is not.
async fn refusal(gateway: &Gateway, cursor: &str) -> Option<String> {
    let refused = gateway
        .client()
        .await
        .subscribe(after(cursor))
        .await
        .err()?;
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused}");
    let details = refused.get_error_details();
    Some(details.error_info().expect("details").reason.clone())
}

/// What a power cut can leave, or a person who puts older files of the server back.
#[tokio::test]
async fn reliable_a_stream_without_its_end_hides_no_new_event() {
    let mut server = Server::start();
    let mut gateway = Gateway::start_with(on(&[&server]));
    post(&gateway, "kept", 3).await;
    server.stop();
    let synced = server.copy_of_store();
    server.run();
    ready(&gateway).await;
    post(&gateway, "lost", 3).await;
    let mut cursors = Vec::new();
    let mut stream = gateway.subscribe(from_earliest()).await;
    for _ in 0..6 {
        cursors.push(stream.next_event().await.0);
    }
    // A place that the subscriber has by a frame without an event.
    let picky = SubscribeRequest {
        filter: types(&["session.*"]),
        ..from_earliest()
    };
    cursors.push(gateway.subscribe(picky).await.caught_up().await);
    server.kill();
    server.replace_store(&synced);
    server.run();
    ready(&gateway).await;
    let refused = gateway
        .post("refused", body("user.updated", "user_1"))
        .await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert_eq!(gateway.wait().code(), Some(1));

    let gateway = gateway.restarted();
    let (kept, lost) = cursors.split_at(3);
    for cursor in lost {
        // What was answered 503 may be there after all.
        let refused = refusal(&gateway, cursor).await.expect("refused");
        assert!(["CURSOR_AHEAD_OF_LOG", "CURSOR_OF_ANOTHER_LOG"].contains(&&*refused));
    }
    post(&gateway, "new", 5).await;
    // The second knows what it reads in the stream alone.
    let gateway = check_cursors(gateway, kept, lost).await.restarted();
    check_cursors(gateway, kept, lost).await;
}

/// `kept` continue with all that is new; `lost` have other events at their positions.
async fn check_cursors(gateway: Gateway, kept: &[String], lost: &[String]) -> Gateway {
    for cursor in lost {
        let refused = refusal(&gateway, cursor).await;
        let place = cursor.parse::<Cursor>().expect("a cursor");
        assert_eq!(
            refused.as_deref(),
            Some("CURSOR_OF_ANOTHER_LOG"),
            "{place:?}"
        );
    }
    for (index, cursor) in kept.iter().enumerate() {
        let history = gateway.history(after(cursor)).await;
        let is_new = |event: &&clerkcast::proto::Event| event.id.starts_with("new_");
        assert_eq!(history.iter().filter(is_new).count(), 5);
        assert!(history.len() >= 2 - index + 5);
    }
    gateway
}
