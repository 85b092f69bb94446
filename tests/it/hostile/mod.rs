//! What strangers can do to the two public ports, against the real binary: others go on
//! being served, and memory stays bounded.

mod admin;
mod http2;

use std::time::Duration;

use bytes::Bytes;
use clerkcast::proto::{ListSubscribersRequest, SubscribeRequest};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Code;

use crate::harness::{
    Gateway, Options, PATIENCE, SECRET, Stream, body, eventually, from_earliest, now_seconds, sign,
};
use crate::soak::{Figure, figure};

/// Far more than the noise of the allocator, and far less than what an unbounded buffer
/// would take in.
const GROWTH_MAX: u64 = 96 << 20;

/// Each of them needs a file descriptor of the test's own, too.
fn flood() -> usize {
    let allowed = clerkcast::net::raise_limit();
    let count = figure(Figure::FloodConnections);
    assert!(
        count < allowed,
        "raise the limit on open files (ulimit -Hn)"
    );
    count
}

impl Gateway {
    /// Resident memory, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|rest| rest.trim().split(' ').next()?.parse::<u64>().ok());
        kilobytes.expect("a size") << 10
    }
}

/// Somebody who behaves, and is to be served meanwhile.
struct Witness {
    stream: Stream,
    posted: usize,
    memory: u64,
}

impl Witness {
    async fn of(gateway: &Gateway) -> Self {
        let mut stream = gateway.subscribe(SubscribeRequest::default()).await;
        stream.caught_up().await;
        let mut witness = Self {
            stream,
            posted: 0,
            memory: 0,
        };
        witness.is_served(gateway).await;
        witness.memory = gateway.memory();
        witness
    }

    /// A webhook of its own comes out at its own stream, and at a new one.
    async fn is_served(&mut self, gateway: &Gateway) {
        self.posted += 1;
        let id = format!("msg_witness_{}", self.posted);
        gateway.accept(&id, body("user.created", "user_1")).await;
        assert_eq!(self.stream.next_event().await.1.id, id);
        let history = gateway.history(from_earliest()).await;
        assert_eq!(history.len(), self.posted);
    }

    fn saw_bounded_memory(&self, gateway: &Gateway) {
        let growth = gateway.memory().saturating_sub(self.memory);
        assert!(growth < GROWTH_MAX, "grew by {} MiB", growth >> 20);
    }
}

async fn connect(address: &str) -> TcpStream {
    let connected = timeout(PATIENCE, TcpStream::connect(address)).await;
    connected.expect("in time").expect("connected")
}

/// Until the other end closes: by an end, or by a reset.
async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    let outcome = timeout(PATIENCE, stream.read_to_end(&mut read)).await;
    let _reset = outcome.expect("the gateway closes the connection");
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_silent_connections_are_closed_and_others_are_served() {
    let limit = "500";
    let gateway = Gateway::start_with(Options::args(&[
        "--http-max-connections",
        limit,
        "--grpc-max-connections",
        limit,
    ]));
    let mut witness = Witness::of(&gateway).await;
    let mut silent = Vec::new();
    for _ in 0..flood() / 2 {
        silent.push(connect(&gateway.http).await);
        silent.push(connect(&gateway.grpc).await);
    }
    witness.is_served(&gateway).await;
    for port in ["http", "grpc"] {
        let refused =
            format!("clerkcast_connections_refused_total{{port=\"{port}\",reason=\"limit\"}}");
        assert!(gateway.metric(&refused).await >= 1.0);
    }
    for stream in &mut silent {
        assert!(read_to_end(stream).await.is_empty());
    }
    witness.is_served(&gateway).await;
    witness.saw_bounded_memory(&gateway);
    eventually("those that are gone are not counted", || async {
        gateway.metric("clerkcast_connections{port=\"grpc\"}").await < 10.0
    })
    .await;
}

/// They speak, and never show that they are one of those whom the port is for; those who
/// did keep their connection.
#[tokio::test(flavor = "multi_thread")]
async fn busy_unauthenticated_connections_give_way_to_new_ones() {
    let limit = 50;
    let gateway = Gateway::start_with(Options::args(&[
        "--http-max-connections",
        &limit.to_string(),
        "--grpc-max-connections",
        &limit.to_string(),
    ]));
    let mut witness = Witness::of(&gateway).await;
    let mut strangers = Vec::new();
    for _ in 0..2 * limit {
        let mut http = connect(&gateway.http).await;
        let get = b"GET /webhooks/clerk HTTP/1.1\r\nhost: x\r\n\r\n";
        http.write_all(get).await.expect("taken");
        let mut answer = [0; 12];
        let read = timeout(PATIENCE, http.read_exact(&mut answer)).await;
        read.expect("in time").expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 200");
        strangers.push(http);
        let mut grpc = http2::open_http2(&gateway.grpc).await;
        let mut settings = [0; 9];
        let read = timeout(PATIENCE, grpc.read_exact(&mut settings)).await;
        read.expect("in time").expect("served");
        strangers.push(grpc);
    }
    // On the connection and the stream that it had before, and on new ones.
    witness.is_served(&gateway).await;
    for stranger in &mut strangers[..limit] {
        read_to_end(stranger).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_sent_a_byte_at_a_time_are_ended_and_others_are_served() {
    let gateway = Gateway::start_with(Options::args(&["--body-timeout", "2s"]));
    let mut witness = Witness::of(&gateway).await;
    let mut slow = JoinSet::new();
    for _ in 0..100 {
        let address = gateway.http.clone();
        slow.spawn(async move {
            let mut stream = connect(&address).await;
            let headers = sign(SECRET, "msg_slow", now_seconds(), b"{}");
            let head = head("POST /webhooks/clerk", &headers, "content-length: 100000");
            stream.write_all(head.as_bytes()).await.expect("taken");
            let (mut reading, mut writing) = stream.split();
            let trickle = async {
                let mut pace = tokio::time::interval(Duration::from_millis(100));
                while writing.write_all(b"x").await.is_ok() {
                    pace.tick().await;
                }
                std::future::pending::<()>().await;
            };
            let mut answer = Vec::new();
            tokio::select! {
                () = trickle => {}
                _ = reading.read_to_end(&mut answer) => {}
            }
            String::from_utf8(answer).expect("text")
        });
    }
    witness.is_served(&gateway).await;
    for answer in slow.join_all().await {
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
    witness.is_served(&gateway).await;
}

fn head(request: &str, headers: &[(String, String)], more: &str) -> String {
    let headers = headers.iter();
    let headers: String = headers
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!("{request} HTTP/1.1\r\nhost: x\r\n{headers}{more}\r\n\r\n")
}

#[tokio::test]
async fn a_body_of_a_gigabyte_is_refused_long_before_its_end() {
    let gateway = Gateway::start();
    let mut witness = Witness::of(&gateway).await;
    let mut stream = connect(&gateway.http).await;
    let headers = sign(SECRET, "msg_large", now_seconds(), b"{}");
    let head = head(
        "POST /webhooks/clerk",
        &headers,
        "transfer-encoding: chunked",
    );
    stream.write_all(head.as_bytes()).await.expect("taken");
    let mut chunk = b"100000\r\n".to_vec();
    chunk.resize(chunk.len() + (1 << 20), b'x');
    chunk.extend(b"\r\n");
    let mut sent = 0;
    for _ in 0..1024 {
        match timeout(PATIENCE, stream.write_all(&chunk)).await {
            Ok(Ok(())) => sent += chunk.len(),
            Ok(Err(_closed)) => break,
            Err(_) => panic!("neither taken nor closed"),
        }
    }
    assert!(sent < 64 << 20, "{sent} bytes were taken");
    witness.is_served(&gateway).await;
    witness.saw_bounded_memory(&gateway);
}

#[tokio::test]
async fn heads_beyond_the_limit_are_a_431() {
    let gateway = Gateway::start();
    let large = format!("x-large: {}", "x".repeat(200_000));
    let many: Vec<String> = (0..5000).map(|number| format!("x-{number}: y")).collect();
    for headers in [large, many.join("\r\n")] {
        let mut stream = connect(&gateway.http).await;
        let head = head("POST /webhooks/clerk", &[], &headers);
        let _refused = stream.write_all(head.as_bytes()).await;
        let mut answer = [0; 12];
        let read = timeout(PATIENCE, stream.read_exact(&mut answer)).await;
        read.expect("in time").expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 431");
    }
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
}

#[tokio::test]
async fn only_listed_networks_are_answered_and_only_trusted_proxies_believed() {
    let gateway = Gateway::start_with(Options::args(&["--http-allow-from", "svix"]));
    let refused = gateway.post("msg_1", body("user.created", "user_1")).await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.json()["error"], "source_not_allowed");
    assert!(refused.text.contains("--http-allow-from"));
    let forged = [("x-forwarded-for".to_owned(), "52.215.16.239".to_owned())];
    for path in ["/webhooks/clerk", "/webhooks/none", "/else"] {
        let answer = gateway.request("GET", path, &forged, Bytes::new()).await;
        assert_eq!(answer.expect("an answer").status, 403);
    }

    let gateway = Gateway::start_with(Options::args(&[
        "--http-allow-from",
        "svix",
        "--http-trusted-proxies",
        "127.0.0.0/8",
    ]));
    for (client, status) in [("52.215.16.239", 200), ("203.0.113.7", 403)] {
        let headers = [("x-forwarded-for".to_owned(), client.to_owned())];
        let answer = gateway.request("GET", "/webhooks/clerk", &headers, Bytes::new());
        assert_eq!(answer.await.expect("an answer").status, status);
    }
    let reason = "clerkcast_webhook_rejected_total{source=\"\",reason=\"source_not_allowed\"}";
    assert_eq!(gateway.metric(reason).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_opens_thousands_of_streams_is_refused_beyond_the_limit() {
    let streams = flood().min(10_000);
    let limit = streams / 3;
    let gateway = Gateway::start_with(Options::args(&["--max-subscribers", &limit.to_string()]));
    let mut witness = Witness::of(&gateway).await;
    let mut open = Vec::new();
    let mut refused = 0;
    let mut client = gateway.client().await;
    for number in 0..streams {
        // As many as a connection may hold.
        if number % 500 == 499 {
            client = gateway.client().await;
        }
        match client.subscribe(SubscribeRequest::default()).await {
            Ok(stream) => open.push(stream),
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted);
                refused += 1;
            }
        }
    }
    assert_eq!(open.len(), limit - 1, "beside the witness");
    assert_eq!(refused, streams - open.len());
    witness.posted += 1;
    let id = format!("msg_witness_{}", witness.posted);
    gateway.accept(&id, body("user.created", "user_1")).await;
    assert_eq!(witness.stream.next_event().await.1.id, id);
    witness.saw_bounded_memory(&gateway);
    drop(open);
    drop(client);
    let client = gateway.client().await;
    let left = || async {
        let mut client = client.clone();
        let listed = client
            .list_subscribers(ListSubscribersRequest::default())
            .await;
        listed.expect("listed").into_inner().subscribers.len()
    };
    eventually("the streams are gone", || async { left().await == 1 }).await;
    witness.is_served(&gateway).await;
}
