//! NATS away, slow, or another one than before: what the gateway says meanwhile, and
//! that it goes on by itself.

use clerkcast::event::{Cursor, Position};
use clerkcast::proto::SubscribeRequest;
use clerkcast::proto::subscribe_response::Kind;

use super::place::on;
use super::server::Server;
use crate::harness::{Gateway, Stream, after, body, eventually, from_earliest};

fn position(cursor: &str) -> Position {
    cursor.parse::<Cursor>().expect("a cursor").position
}

fn with_heartbeats(request: SubscribeRequest) -> SubscribeRequest {
    let every_second = prost_types::Duration {
        seconds: 1,
        nanos: 0,
    };
    SubscribeRequest {
        heartbeat_interval: Some(every_second),
        ..request
    }
}

async fn post_all(gateway: &Gateway, prefix: &str, count: usize) {
    for number in 0..count {
        let event = body("user.updated", "user_1");
        gateway.accept(&format!("{prefix}_{number}"), event).await;
    }
}

async fn is_ready(gateway: &Gateway) -> bool {
    gateway.admin_get("/readyz").await.status == 200
}

/// The ids of the next events; between them, nothing but control frames.
async fn next_ids(stream: &mut Stream, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < count {
        ids.push(stream.next_event().await.1.id);
    }
    ids
}

fn ids(prefix: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{prefix}_{number}"))
        .collect()
}

/// The next frames are heartbeats, all at one cursor.
async fn only_heartbeats(stream: &mut Stream, cursor: &str) {
    for _ in 0..2 {
        let frame = stream.next().await.expect("the stream stays open");
        assert!(matches!(frame.kind, Some(Kind::Heartbeat(_))), "{frame:?}");
        assert_eq!(frame.cursor, cursor, "a heartbeat that does not advance");
    }
}

/// Its last lines may still be on their way when a gateway has ended.
async fn is_said(gateway: &Gateway, text: &str) {
    eventually(text, || async { gateway.log_text().contains(text) }).await;
}

#[tokio::test]
async fn durable_nats_away_is_answered_503_and_service_resumes_when_it_is_back() {
    let mut server = Server::start();
    let gateway = Gateway::start_with(on(&[&server]));
    let mut live = gateway.subscribe(with_heartbeats(from_earliest())).await;
    post_all(&gateway, "before", 10).await;
    assert_eq!(next_ids(&mut live, 10).await, ids("before", 10));
    // Its ring begins here, so that whoever wants history from it needs the stream.
    let other = Gateway::start_with(on(&[&server]));

    server.kill();
    for gateway in [&gateway, &other] {
        eventually("it is not ready", || async { !is_ready(gateway).await }).await;
    }
    let refused = gateway
        .post("while_0", body("user.updated", "user_1"))
        .await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert_eq!(refused.json()["error"], "not_stored");
    assert!(refused.headers.contains_key("retry-after"));
    let frame = live.next().await.expect("the stream stays open");
    only_heartbeats(&mut live, &frame.cursor).await;
    let mut history = other.subscribe(with_heartbeats(from_earliest())).await;
    let (started, kind) = history.next_kind().await;
    assert!(matches!(kind, Kind::Started(_)), "{kind:?}");
    only_heartbeats(&mut history, &started).await;

    server.run();
    eventually("it is ready again", || is_ready(&gateway)).await;
    post_all(&gateway, "while", 10).await;
    let mut everything = ids("before", 10);
    everything.extend(ids("while", 10));
    assert_eq!(next_ids(&mut live, 10).await, ids("while", 10));
    assert_eq!(next_ids(&mut history, 20).await, everything);
    // The server has learnt the ids from its events.
    let again = gateway
        .post("before_0", body("user.updated", "user_1"))
        .await;
    assert_eq!(again.json()["duplicate"], true);
    assert_eq!(gateway.history(from_earliest()).await.len(), 20);
    // One line per change, however often the server was looked for meanwhile.
    let lines = gateway.log_text();
    let count = |said: &str| lines.lines().filter(|line| line.contains(said)).count();
    assert_eq!(
        count("\"message\":\"the connection to NATS is lost; reconnecting"),
        1,
        "{lines}"
    );
    assert_eq!(count("connected to NATS"), 2, "{lines}");
    assert_eq!(count("the log refuses writes"), 1, "{lines}");
    assert_eq!(count("the log takes writes again"), 1, "{lines}");
}

/// A server that holds its connections and answers nothing.
#[tokio::test]
async fn durable_nats_that_hangs_is_answered_503_within_seconds() {
    let server = Server::start();
    let gateway = Gateway::start_with(on(&[&server]));
    post_all(&gateway, "before", 3).await;
    server.freeze();
    let refused = gateway
        .post("while_0", body("user.updated", "user_1"))
        .await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    eventually("it is not ready", || async { !is_ready(&gateway).await }).await;
    server.signal("-CONT");
    eventually("it is ready again", || is_ready(&gateway)).await;
    // Whether the refused delivery arrived after all is open, and does not matter.
    let retried = gateway
        .post("while_0", body("user.updated", "user_1"))
        .await;
    assert_eq!(retried.status, 200, "{}", retried.text);
    let events = gateway.history(from_earliest()).await;
    let found: Vec<String> = events.into_iter().map(|event| event.id).collect();
    let mut expected = ids("before", 3);
    expected.push("while_0".to_owned());
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_recreated_stream_ends_the_gateway_and_invalidates_its_cursors() {
    let server = Server::start();
    let mut gateway = Gateway::start_with(on(&[&server]));
    post_all(&gateway, "before", 3).await;
    let mut stream = gateway.subscribe(from_earliest()).await;
    let (cursor, _) = stream.next_event().await;
    assert_eq!(position(&cursor), Position::new(1));

    let client = async_nats::connect(server.url()).await.expect("connects");
    let context = async_nats::jetstream::new(client);
    let found = context.get_stream("CLERKCAST").await.expect("there");
    let settings = found.cached_info().config.clone();
    context.delete_stream("CLERKCAST").await.expect("deleted");
    context.create_stream(settings).await.expect("made");

    assert_eq!(gateway.wait().code(), Some(1));
    is_said(&gateway, "was deleted and made again").await;
    let gateway = gateway.restarted();
    post_all(&gateway, "after", 3).await;
    let mut client = gateway.client().await;
    let refused = client.subscribe(after(&cursor)).await;
    let status = refused.expect_err("a cursor of another log");
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    assert_eq!(gateway.history(from_earliest()).await.len(), 3);
}

#[tokio::test]
async fn a_stream_that_is_deleted_ends_the_gateway() {
    let server = Server::start();
    let mut gateway = Gateway::start_with(on(&[&server]));
    let client = async_nats::connect(server.url()).await.expect("connects");
    let context = async_nats::jetstream::new(client);
    context.delete_stream("CLERKCAST").await.expect("deleted");
    assert_eq!(gateway.wait().code(), Some(1));
    is_said(&gateway, "the stream CLERKCAST is gone").await;
}

/// What a power cut can leave of a stream with one replica, whose server had not synced.
#[tokio::test]
async fn a_truncated_stream_ends_the_gateway() {
    let mut server = Server::start();
    let mut gateway = Gateway::start_with(on(&[&server]));
    post_all(&gateway, "synced", 3).await;
    server.stop();
    let synced = server.copy_of_store();
    server.run();
    ready(&gateway).await;
    post_all(&gateway, "lost", 3).await;
    server.kill();
    server.replace_store(&synced);
    server.run();
    ready(&gateway).await;
    let refused = gateway
        .post("msg_new", body("user.created", "user_1"))
        .await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert_eq!(gateway.wait().code(), Some(1));
    is_said(&gateway, "the stream was truncated").await;
}

pub(super) async fn ready(gateway: &Gateway) {
    eventually("it is ready", || is_ready(gateway)).await;
}
