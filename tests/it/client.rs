//! The library's reconnecting subscriber.

use clerkcast::proto::subscribe_response::Kind;
use clerkcast::proto::{SubscribeRequest, SubscribeResponse};
use clerkcast_client::{Error, Subscriber};

use crate::harness::{Gateway, Options, PATIENCE, body, from_earliest, types};

async fn next_event(subscriber: &mut Subscriber) -> String {
    loop {
        let frame = tokio::time::timeout(PATIENCE, subscriber.next()).await;
        let frame: Option<SubscribeResponse> = frame.expect("in time").expect("not refused");
        if let Some(Kind::Event(event)) = frame.expect("no end").kind {
            return event.id;
        }
    }
}

/// A port that stays the same across restarts.
pub(crate) fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").to_string()
}

#[tokio::test]
async fn a_subscriber_resumes_at_its_cursor_when_the_gateway_comes_back() {
    let address = free_port();
    let mut gateway = Gateway::start_with(Options::args(&["--grpc-listen", &address]));
    let mut subscriber =
        Subscriber::new(&format!("http://{address}"), from_earliest()).expect("an address");
    for round in 0..3 {
        for number in 0..3 {
            gateway
                .accept(
                    &format!("msg_{round}_{number}"),
                    body("user.created", "user_1"),
                )
                .await;
        }
        for number in 0..3 {
            assert_eq!(
                next_event(&mut subscriber).await,
                format!("msg_{round}_{number}")
            );
        }
        // Killed in one round, stopped in the next.
        if round % 2 == 0 {
            gateway.kill();
        } else {
            gateway.signal("-TERM");
            gateway.wait();
        }
        gateway = gateway.restarted();
    }
}

#[tokio::test]
async fn a_subscriber_from_now_on_misses_nothing_while_it_is_cut_off() {
    let address = free_port();
    let mut gateway = Gateway::start_with(Options::args(&["--grpc-listen", &address]));
    let mut subscriber = Subscriber::new(&format!("http://{address}"), SubscribeRequest::default())
        .expect("an address");
    let started = subscriber
        .next()
        .await
        .expect("not refused")
        .expect("no end");
    assert!(matches!(started.kind, Some(Kind::Started(_))));
    gateway
        .accept("msg_unseen", body("user.created", "user_1"))
        .await;
    gateway.kill();
    let gateway = gateway.restarted();
    gateway
        .accept("msg_after", body("user.created", "user_1"))
        .await;
    assert_eq!(next_event(&mut subscriber).await, "msg_unseen");
    assert_eq!(next_event(&mut subscriber).await, "msg_after");
}

#[tokio::test]
async fn a_subscriber_ends_as_asked_and_reports_permanent_errors() {
    let gateway = Gateway::start();
    for number in 0..3 {
        gateway
            .accept(&format!("msg_{number}"), body("user.created", "user_1"))
            .await;
    }
    let address = format!("http://{}", gateway.grpc);
    let request = SubscribeRequest {
        max_events: 2,
        ..from_earliest()
    };
    let mut subscriber = Subscriber::new(&address, request).expect("an address");
    next_event(&mut subscriber).await;
    next_event(&mut subscriber).await;
    assert!(subscriber.next().await.expect("not refused").is_none());

    let wrong = SubscribeRequest {
        filter: types(&["user.craeted"]),
        ..SubscribeRequest::default()
    };
    let mut subscriber = Subscriber::new(&address, wrong).expect("an address");
    let error = subscriber.next().await.expect_err("refused");
    assert!(matches!(error, Error::Refused(_)));
    assert!(error.to_string().contains("did you mean user.created?"));
}
