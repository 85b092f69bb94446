//! HTTP/2 as no well-meaning client speaks it.

use bytes::{BufMut as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::{Witness, connect};
use crate::harness::{Gateway, PATIENCE, eventually};

// HTTP/2 frames (RFC 9113, section 6) as no well-meaning client sends them.

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_uint(payload.len() as u64, 3);
    frame.put_u8(kind);
    frame.put_u8(flags);
    frame.put_u32(stream);
    frame.put_slice(payload);
    frame
}

/// The head of a call, each field a literal without indexing (RFC 7541, section 6.2.2).
fn call_head() -> Vec<u8> {
    // :method POST, :scheme http
    let mut block = vec![0x83, 0x86];
    let path = b"/clerkcast.v1.EventService/Subscribe";
    for (name_index, value) in [(4, &path[..]), (1, b"x")] {
        block.push(name_index);
        block.push(u8::try_from(value.len()).expect("short"));
        block.extend(value);
    }
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("short"));
            block.extend(text.as_bytes());
        }
    }
    block
}

pub(super) async fn open_http2(address: &str) -> TcpStream {
    let mut stream = connect(address).await;
    let mut opening = BytesMut::from(&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..]);
    opening.extend(frame(SETTINGS, 0, 0, &[]));
    let _closed = stream.write_all(&opening).await;
    stream
}

/// Sends until the other end closes the connection, or so many bytes are taken.
async fn send_until_closed(
    address: &str,
    opening: &[u8],
    mut next: impl FnMut(u32) -> BytesMut,
) -> usize {
    const ENOUGH: usize = 256 << 20;
    let mut stream = open_http2(address).await;
    let (mut reading, mut writing) = stream.split();
    let flooding = async {
        let mut sent = 0;
        let mut number = 0;
        if writing.write_all(opening).await.is_err() {
            return sent;
        }
        while sent < ENOUGH {
            let mut batch = BytesMut::new();
            while batch.len() < 64 << 10 {
                batch.extend(next(number));
                number += 1;
            }
            match timeout(PATIENCE, writing.write_all(&batch)).await {
                Ok(Ok(())) => sent += batch.len(),
                Ok(Err(_closed)) => break,
                Err(_) => panic!("neither taken nor closed"),
            }
        }
        sent
    };
    // Reads as well, so that it is not our own full buffers that stop the flood.
    let draining = async {
        let mut buffer = vec![0; 16 << 10];
        while matches!(reading.read(&mut buffer).await, Ok(count) if count > 0) {}
        std::future::pending::<usize>().await
    };
    tokio::select! {
        sent = flooding => sent,
        sent = draining => sent,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_floods_are_cut_off_and_others_are_served() {
    let gateway = Gateway::start();
    let mut witness = Witness::of(&gateway).await;
    let call = call_head();
    for address in [&gateway.grpc, &gateway.http] {
        // CVE-2023-44487: streams opened and reset before they can be answered.
        let rapid_reset = send_until_closed(address, &[], |number| {
            let mut both = frame(HEADERS, END_HEADERS, number * 2 + 1, &call);
            both.extend(frame(RST_STREAM, 0, number * 2 + 1, &8_u32.to_be_bytes()));
            both
        });
        assert!(rapid_reset.await < 64 << 20, "a rapid reset is not cut off");
        witness.is_served(&gateway).await;

        // CVE-2024-27316 and others: a head that never ends.
        let endless = frame(HEADERS, 0, 1, &call);
        let field = {
            let mut field = vec![0, 1, b'x', 126];
            field.resize(field.len() + 126, b'y');
            field
        };
        let continuation = send_until_closed(address, &endless, |_| {
            frame(CONTINUATION, 0, 1, &field.repeat(100))
        });
        assert!(
            continuation.await < 64 << 20,
            "an endless head is not cut off"
        );
        witness.is_served(&gateway).await;
    }
    witness.saw_bounded_memory(&gateway);
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_control_frames_end_their_connection() {
    let gateway = Gateway::start();
    let mut witness = Witness::of(&gateway).await;
    for (kind, payload) in [(PING, vec![0; 8]), (SETTINGS, vec![0, 4, 0, 0, 255, 255])] {
        let flood = send_until_closed(&gateway.grpc, &[], |_| frame(kind, 0, 0, &payload));
        assert!(flood.await < 64 << 20, "a flood of {kind} is not cut off");
        witness.is_served(&gateway).await;
    }
    witness.saw_bounded_memory(&gateway);
}

/// Some clients ping once for each round trip.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_pings_with_a_call_open_stays() {
    const PINGS: usize = 5_000;
    let gateway = Gateway::start();
    let mut stream = open_http2(&gateway.grpc).await;
    let mut call = frame(HEADERS, END_HEADERS, 1, &call_head());
    call.extend(frame(DATA, END_STREAM, 1, &[0; 5]));
    for _ in 0..PINGS {
        call.extend(frame(PING, 0, 0, &[7; 8]));
    }
    stream.write_all(&call).await.expect("taken");
    let mut acknowledged = 0;
    while acknowledged < PINGS {
        let mut header = [0; 9];
        let read = timeout(PATIENCE, stream.read_exact(&mut header)).await;
        read.expect("in time").expect("still open");
        let length = usize::from(header[1]) << 8 | usize::from(header[2]);
        let mut payload = vec![0; length];
        let read = timeout(PATIENCE, stream.read_exact(&mut payload)).await;
        read.expect("in time").expect("still open");
        assert_ne!(header[3], GOAWAY, "{payload:?}");
        acknowledged += usize::from(header[3] == PING && header[4] == ACK);
    }
}

/// Anybody may ask for them, so they are few.
#[tokio::test(flavor = "multi_thread")]
async fn streams_without_credentials_are_bounded() {
    const OF_A_CONNECTION: usize = 16;
    const IN_ALL: usize = 1000;
    let gateway = Gateway::start();
    let mut witness = Witness::of(&gateway).await;
    let mut open = Vec::new();
    while open.len() < IN_ALL {
        let channel = Endpoint::new(format!("http://{}", gateway.grpc)).expect("a URL");
        let channel = channel.connect().await.expect("connected");
        let mut client = HealthClient::new(channel);
        let mut held = 0;
        let refused = loop {
            match client.watch(HealthCheckRequest::default()).await {
                Ok(watch) => open.push((watch, client.clone())),
                Err(status) => break status,
            }
            held += 1;
        };
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert_eq!(crate::access::reason(&refused), "TOO_MANY_STREAMS");
        assert!(held == OF_A_CONNECTION || open.len() == IN_ALL, "{held}");
    }
    let channel = Endpoint::new(format!("http://{}", gateway.grpc)).expect("a URL");
    let mut client = HealthClient::new(channel.connect().await.expect("connected"));
    let refused = client.watch(HealthCheckRequest::default()).await;
    assert!(refused.is_err(), "one more than the gateway has");
    let checked = client.check(HealthCheckRequest::default()).await;
    checked.expect("asking once is no stream");
    drop(open);
    eventually("those that have ended make room", || async {
        let mut client = client.clone();
        client.watch(HealthCheckRequest::default()).await.is_ok()
    })
    .await;
    witness.is_served(&gateway).await;
}
