//! Time of the processors that one scrape of `/metrics` takes while 1,000 named subscribers are
//! connected, and once as many more are away; beside a gateway without any.

use std::net::SocketAddr;

use bytes::Bytes;
use clerkcast::proto::SubscribeRequest;
use prost::Message as _;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::clients::Clients;
use crate::support::process::Server;
use crate::support::served::SUBSCRIBE;
use crate::support::{Row, count, table};

const ROUNDS: usize = 3;
const SUBSCRIBERS: usize = 1_000;
const CONNECTIONS: usize = 10;
const SCRAPES: usize = 200;
/// Started and caught up.
const OPENING_FRAMES: usize = 2;

pub(crate) async fn run() {
    let mut connected = Row::new("1,000 connected");
    let mut away = Row::new("1,000 connected, 1,000 away");
    for _ in 0..ROUNDS {
        let directory = TempDir::new().expect("a directory");
        let gateway = Server::gateway(directory.path());
        let alone = milliseconds(&gateway).await;
        let former = subscribe(&gateway, "former").await;
        connected.push(milliseconds(&gateway).await, alone);
        former.close().await;
        let _open = subscribe(&gateway, "subscriber").await;
        away.push(milliseconds(&gateway).await, alone);
    }
    table(
        "scrape, ms of the processors for one (goal: at most 20 with 1,000 connected)",
        "without subscribers",
        &[connected, away],
    );
}

async fn subscribe(gateway: &Server, name: &str) -> Clients {
    let request = |number| {
        let request = SubscribeRequest {
            subscriber_name: format!("{name} {number}"),
            ..SubscribeRequest::default()
        };
        Bytes::from(request.encode_to_vec())
    };
    let requests = (0..SUBSCRIBERS).map(request).collect();
    let path = SUBSCRIBE;
    Clients::connect(gateway.grpc, path, CONNECTIONS, requests, OPENING_FRAMES).await
}

async fn milliseconds(gateway: &Server) -> f64 {
    let used = || gateway.processor_seconds().into_values().sum::<f64>();
    scrape(gateway.admin).await;
    let before = used();
    for _ in 0..SCRAPES {
        scrape(gateway.admin).await;
    }
    (used() - before) * 1e3 / count(SCRAPES)
}

async fn scrape(admin: SocketAddr) {
    let mut connection = TcpStream::connect(admin).await.expect("connected");
    let request = "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    connection
        .write_all(request.as_bytes())
        .await
        .expect("sent");
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.expect("answered");
    assert!(answer.ends_with(b"# EOF\n"), "it is cut short");
}
