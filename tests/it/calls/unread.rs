//! What is made and not read is bounded, and costs nobody else.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use clerkcast::proto;
use futures_util::future::select_all;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::raw::{Outcome, Raw, framed};
use super::{message, unary_methods};
use crate::harness::{Gateway, PATIENCE, body, eventually};

const WIDE: u32 = 1 << 20;
const GET: &str = "clerkcast.v1.EventService/GetEvent";
const DESCRIBE: &str = "clerkcast.v1.EventService/GetLogInfo";
/// Calls of one connection that are worked on or unread.
const CALLS_MAX: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn patient_unread_answers_cost_nobody_else() {
    const UNREAD: usize = 1_000;
    let gateway = Gateway::start();
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let mut held = Vec::new();
    let create = "clerkcast.v1.SubscriptionService/CreateSubscription";
    let mut caller = Raw::connect(&gateway.grpc, None, WIDE).await;
    let created = caller.call(create, &message(create)).await;
    assert!(matches!(created, Outcome::Answered(_)), "{created:?}");
    // A subscription is deleted once.
    let repeatable = |method: &String| !method.ends_with("/DeleteSubscription");
    for method in unary_methods().into_iter().filter(repeatable) {
        let mut caller = Raw::connect(&gateway.grpc, None, 0).await;
        for number in 0..UNREAD {
            if number % CALLS_MAX == CALLS_MAX - 1 {
                caller = Raw::connect(&gateway.grpc, None, 0).await;
            }
            let unread = caller.unread(&method, &message(&method)).await;
            held.push(unread.unwrap_or_else(|outcome| panic!("{method}: {outcome:?}")));
        }
        // The same principal, on another connection.
        let mut other = Raw::connect(&gateway.grpc, None, WIDE).await;
        let asking = other.call(DESCRIBE, &proto::GetLogInfoRequest {});
        let answered = tokio::time::timeout(PATIENCE / 20, asking).await;
        let answered = answered.expect("at once");
        assert!(matches!(answered, Outcome::Answered(_)), "{answered:?}");
    }
    let unread = gateway.metric("clerkcast_grpc_unread_answer_bytes").await;
    assert!(unread > 0.0, "{unread}");
    drop(held);
    eventually("what is given up is not counted", || async {
        gateway.metric("clerkcast_grpc_unread_answer_bytes").await == 0.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_beyond_the_limit_of_a_connection_are_refused() {
    let gateway = Gateway::start();
    let mut caller = Raw::connect(&gateway.grpc, None, 0).await;
    let asked = proto::GetLogInfoRequest {};
    let mut held = Vec::new();
    for _ in 0..CALLS_MAX {
        held.push(caller.unread(DESCRIBE, &asked).await.expect("answered"));
    }
    let refused = caller.call(DESCRIBE, &asked).await;
    let status = refused.status();
    assert_eq!(status.code(), Code::ResourceExhausted);
    let details = status.get_error_details();
    let info = details.error_info().expect("a reason");
    assert_eq!(info.reason, "TOO_MANY_CALLS");
    assert_eq!(info.metadata["limit"], "64");
    assert_eq!(info.metadata["principal"], "anonymous");
    assert!(details.retry_info().is_some());
    // Those that are read make room.
    caller.open_windows(WIDE);
    for unread in held {
        let outcome = unread.read().await;
        assert!(matches!(outcome, Outcome::Answered(_)), "{outcome:?}");
    }
    let answered = caller.call(DESCRIBE, &asked).await;
    assert!(matches!(answered, Outcome::Answered(_)), "{answered:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_answers_go_after_thirty_seconds() {
    let gateway = Gateway::start();
    let asked = proto::GetLogInfoRequest {};
    let mut caller = Raw::connect(&gateway.grpc, None, 0).await;
    let unread = caller.unread(DESCRIBE, &asked).await.expect("answered");
    // A byte more than gRPC's prefix: HTTP/2 is handed all of the answer, and keeps it.
    let mut other = Raw::connect(&gateway.grpc, None, 6).await;
    let held = other.unread(DESCRIBE, &asked).await.expect("answered");
    assert!(gateway.metric("clerkcast_grpc_unread_answer_bytes").await > 100.0);
    unread.reset().await;
    held.reset().await;
    eventually("they are not counted any more", || async {
        gateway.metric("clerkcast_grpc_unread_answer_bytes").await == 0.0
    })
    .await;
    let dropped = "clerkcast_grpc_answers_dropped_total{reason=\"not_read\"}";
    assert_eq!(gateway.metric(dropped).await, 2.0);
    // The connection that was handed nothing has done nothing wrong.
    caller.open_windows(WIDE);
    let answered = caller.call(DESCRIBE, &asked).await;
    assert!(matches!(answered, Outcome::Answered(_)), "{answered:?}");
}

/// Requests whose length is known and whose bytes do not come.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_do_not_arrive_give_way() {
    const CALLS: usize = 40;
    let gateway = Gateway::start();
    let mut calls = Vec::new();
    for _ in 0..2 {
        let mut caller = Raw::connect(&gateway.grpc, None, WIDE).await;
        for _ in 0..CALLS {
            let mut call = caller.head("clerkcast.v1.EventService/ListEvents").await;
            call.send(&[0, 0, 0x0f, 0xff, 0xff, 0], false);
            calls.push(call);
        }
    }
    // 64 MiB of them stay. Which ones give way depends on which connection is read first.
    let outcomes = calls.into_iter().map(|call| Box::pin(call.outcome()));
    let (outcome, _, _waiting) = select_all(outcomes).await;
    let details = outcome.status().get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone());
    assert_eq!(reason.as_deref(), Some("TOO_MANY_CALLS"));
    let mut other = Raw::connect(&gateway.grpc, None, WIDE).await;
    let answered = other.call(DESCRIBE, &proto::GetLogInfoRequest {}).await;
    assert!(matches!(answered, Outcome::Answered(_)), "{answered:?}");
    // Health is asked with a name: a message of a megabyte is refused at its length.
    let mut health = other.head("grpc.health.v1.Health/Check").await;
    health.send(&[0, 0, 0x0f, 0xff, 0xff], false);
    health.send(&[0; 5000], false);
    let refused = health.outcome().await;
    assert_eq!(refused.status().code(), Code::OutOfRange);
}

/// Answers of a megabyte, on connections that may hold sixteen each: the gateway keeps 256,
/// and those that have waited longest give way.
#[tokio::test(flavor = "multi_thread")]
async fn unread_answers_are_bounded_in_bytes() {
    const CONNECTIONS: usize = 20;
    const OF_ONE: usize = 16;
    const UNREAD_MAX: f64 = (256 << 20) as f64;
    let gateway = Gateway::start();
    let text = "x".repeat(500 << 10);
    let large = format!(r#"{{"type":"user.imported","data":{{"id":"user_1","text":"{text}"}}}}"#);
    gateway.accept("msg_1", large).await;
    let before = gateway.memory();
    let asked = proto::GetEventRequest {
        id: "msg_1".to_owned(),
        include_payload: true,
        ..proto::GetEventRequest::default()
    };
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut caller = Raw::connect(&gateway.grpc, None, 0).await;
        for _ in 0..OF_ONE {
            held.push(caller.unread(GET, &asked).await.expect("answered"));
        }
        let unread = gateway.metric("clerkcast_grpc_unread_answer_bytes").await;
        assert!(unread <= UNREAD_MAX, "{unread}");
        if held.len() == OF_ONE {
            let refused = caller.call(GET, &asked).await;
            let details = refused.status().get_error_details();
            let reason = details.error_info().map(|info| info.reason.clone());
            assert_eq!(reason.as_deref(), Some("TOO_MANY_CALLS"));
        }
    }
    let gave_way = "clerkcast_grpc_answers_dropped_total{reason=\"gave_way\"}";
    assert!(gateway.metric(gave_way).await >= 1.0);
    let growth = gateway.memory().saturating_sub(before);
    assert!(growth < 400 << 20, "grew by {} MiB", growth >> 20);
    held.swap_remove(0).reset().await;
}

/// A socket of which nothing is read once `is_deaf`.
struct Deaf {
    stream: TcpStream,
    is_deaf: Arc<AtomicBool>,
}

impl AsyncRead for Deaf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_deaf.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Deaf {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// HTTP/2 has room for all of them, and the socket for none.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_the_socket_does_not_take_count_as_unread() {
    const CALLS: usize = 600;
    let gateway = Gateway::start();
    let text = "x".repeat(150 << 10);
    let large = format!(r#"{{"type":"user.imported","data":{{"id":"user_1","text":"{text}"}}}}"#);
    gateway.accept("msg_1", large).await;
    let asked = proto::GetEventRequest {
        id: "msg_1".to_owned(),
        include_payload: true,
        ..proto::GetEventRequest::default()
    };
    let before = gateway.memory();
    let stream = TcpStream::connect(&gateway.grpc).await.expect("connected");
    let is_deaf = Arc::new(AtomicBool::new(false));
    let deaf = Deaf {
        stream,
        is_deaf: Arc::clone(&is_deaf),
    };
    let mut caller = Raw::over(deaf, None, 1 << 30).await;
    let heard = caller.call(GET, &asked).await;
    assert!(matches!(heard, Outcome::Answered(_)), "{heard:?}");
    is_deaf.store(true, Ordering::Relaxed);
    let mut calls = Vec::new();
    for _ in 0..CALLS {
        let mut call = caller.head(GET).await;
        call.send(&framed(&asked), true);
        calls.push(call);
    }
    let refused =
        r#"clerkcast_grpc_calls_refused_total{principal="anonymous",reason="too_many_calls"}"#;
    eventually("most of them are refused", || async {
        gateway.metric(refused).await >= (CALLS - 2 * CALLS_MAX) as f64
    })
    .await;
    let growth = gateway.memory().saturating_sub(before);
    assert!(growth < 96 << 20, "grew by {} MiB", growth >> 20);
    // A connection that takes nothing and holds no subscriber is closed.
    eventually("what it held is gone", || async {
        gateway.metric("clerkcast_grpc_unread_answer_bytes").await == 0.0
    })
    .await;
}
