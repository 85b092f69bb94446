//! A stream that was restored from a snapshot, as `nats stream backup` and `restore` do it.

use async_nats::jetstream::Context;
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tonic_types::StatusExt as _;

use super::place::on;
use super::server::Server;
use crate::harness::{Gateway, after, body, from_earliest};

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
