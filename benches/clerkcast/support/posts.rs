//! Signed webhooks, a client that posts them without doing much itself, and the least
//! that a receiver has to do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::post;
use bytes::Bytes;
use clerkcast::clerk::samples::SAMPLES;
use clerkcast::event::UnixMillis;
use serde_json::{Value, json};
use svix::webhooks::Webhook;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

pub(crate) const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
/// The body of a `user.created`, in the 1.2 kB that it has in Clerk's examples: without
/// the settings that newer instances add.
pub(crate) fn user_created() -> String {
    const NEWER: [&str; 18] = [
        "backup_code_enabled",
        "bypass_client_trust",
        "create_organization_enabled",
        "create_organizations_limit",
        "delete_self_enabled",
        "deprovisioned",
        "enterprise_accounts",
        "has_image",
        "legal_accepted_at",
        "locale",
        "locked",
        "lockout_expires_in_seconds",
        "mfa_disabled_at",
        "mfa_enabled_at",
        "passkeys",
        "password_last_updated_at",
        "totp_enabled",
        "verification_attempts_remaining",
    ];
    let sample = SAMPLES.iter().find(|it| it.event_type == "user.created");
    let mut body: Value = serde_json::from_str(sample.expect("a sample").body).expect("JSON");
    let data = body["data"].as_object_mut().expect("an object");
    data.retain(|key, _| !NEWER.contains(&key.as_str()));
    let envelope = body.as_object_mut().expect("an object");
    envelope.remove("event_attributes");
    body.to_string()
}

/// Requests with ids that no request of this process had before, signed now.
pub(crate) fn signed(count: usize, body: &str) -> Arc<[Vec<u8>]> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let key = Webhook::new(SECRET).expect("a secret");
    let timestamp = UnixMillis::now().milliseconds() / 1000;
    let requests = (0..count).map(|_| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        request(&key, number, timestamp, body)
    });
    requests.collect()
}

/// The id of a request: as long as Svix's, and ascending as theirs.
pub(crate) fn id(number: u64) -> String {
    format!("msg_{number:027}")
}

pub(crate) fn request(key: &Webhook, number: u64, timestamp: i64, body: &str) -> Vec<u8> {
    let id = id(number);
    let signature = key.sign(&id, timestamp, body.as_bytes()).expect("text");
    format!(
        "POST /webhooks/clerk HTTP/1.1\r\nhost: localhost\r\n\
         content-type: application/json\r\nuser-agent: Svix-Webhooks/1.62 (sender)\r\n\
         svix-id: {id}\r\nsvix-timestamp: {timestamp}\r\nsvix-signature: {signature}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Posts every request once, over so many connections, and returns how long it took.
pub(crate) async fn post_all(
    address: SocketAddr,
    connections: usize,
    requests: &Arc<[Vec<u8>]>,
) -> Duration {
    let next = Arc::new(AtomicUsize::new(0));
    let mut opened = Vec::new();
    for _ in 0..connections {
        opened.push(Connection::open(address).await);
    }
    let started = Instant::now();
    let mut posting = JoinSet::new();
    for mut connection in opened {
        let next = Arc::clone(&next);
        let requests = Arc::clone(requests);
        posting.spawn(async move {
            while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                let status = connection.exchange(request).await;
                assert_eq!(status, 200, "accepted");
            }
        });
    }
    posting.join_all().await;
    started.elapsed()
}

/// One connection, kept open.
pub(crate) struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("connected");
        stream.set_nodelay(true).expect("a TCP socket");
        Self {
            stream,
            answer: Vec::with_capacity(1024),
        }
    }

    /// Sends a request and waits for the whole answer. Returns its status.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> u16 {
        self.stream.write_all(request).await.expect("sent");
        self.answer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.answer).await;
            assert_ne!(read.expect("an answer"), 0, "the server closed");
            if let Some(status) = complete(&self.answer) {
                return status;
            }
        }
    }
}

/// The status of an answer, once all of it is there.
fn complete(answer: &[u8]) -> Option<u16> {
    let head_bytes = answer.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&answer[..head_bytes]).expect("text");
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().expect("a length"))
    });
    let is_complete = answer.len() >= head_bytes + length.unwrap_or(0);
    is_complete.then(|| head[9..12].parse().expect("a status"))
}

/// The baseline of receiving: verifies, parses and stores nothing.
pub(crate) async fn serve_bare(listener: TcpListener) {
    let key = Arc::new(Webhook::new(SECRET).expect("a secret"));
    let router = Router::new()
        .route("/webhooks/clerk", post(receive))
        .with_state(key);
    axum::serve(listener, router).await.expect("serves");
}

async fn receive(
    State(key): State<Arc<Webhook>>,
    headers: HeaderMap,
    body: Bytes,
) -> axum::response::Response {
    if key.verify(&body, &headers).is_err() {
        return StatusCode::BAD_REQUEST.into_response();
    }
    match serde_json::from_slice::<Value>(&body) {
        Ok(event) => axum::Json(json!({ "type": event["type"] })).into_response(),
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}
