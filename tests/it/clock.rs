//! A clock that jumps, under the real binary.

use clerkcast::proto::SubscribeRequest;
use tempfile::TempDir;

use crate::harness::{
    Gateway, Options, SECRET, after, body, eventually, from_earliest, now_seconds, sign,
};
use crate::preload::{compile, preloaded};

const DAY: i64 = 24 * 60 * 60;

/// The events stay in order and stay there, no stream ends or stalls, and a delivery is
/// refused only while the clock is wrong, with what to check.
#[tokio::test]
async fn reliable_while_the_clock_jumps_back_and_forth() {
    let directory = TempDir::new().expect("a temporary directory");
    let library = compile("clock", directory.path());
    let offset = directory.path().join("offset");
    std::fs::write(&offset, "0").expect("written");
    let gateway = Gateway::start_with(Options {
        args: Vec::new(),
        env: preloaded(&library, "CLERKCAST_CLOCK", &offset),
    });
    let mut live = gateway.subscribe(SubscribeRequest::default()).await;
    let begin = live.caught_up().await;
    let mut accepted = Vec::new();
    for (round, days) in [0, 400, -400, 400, -9_000, 0].into_iter().enumerate() {
        std::fs::write(&offset, (days * DAY).to_string()).expect("written");
        let id = format!("msg_{round}");
        let body = body("user.updated", "user_1");
        // Svix's clock is right.
        let answer = gateway.post(&id, body.clone()).await;
        if days == 0 {
            assert_eq!(answer.status, 200, "{}", answer.text);
        } else {
            assert_eq!(answer.status, 400);
            assert!(answer.text.contains("check this machine's clock"));
        }
        // And here it is as wrong as the gateway's.
        let id = format!("msg_wrong_{round}");
        let timestamp = (now_seconds() + days * DAY).max(0);
        let headers = sign(SECRET, &id, timestamp, body.as_bytes());
        let answer = gateway.request("POST", "/webhooks/clerk", &headers, body.into());
        let answer = answer.await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text);
        if days == 0 {
            accepted.push(format!("msg_{round}"));
        }
        accepted.push(id);
    }
    let mut seen = Vec::new();
    while seen.len() < accepted.len() {
        seen.push(live.next_event().await.1.id);
    }
    assert_eq!(seen, accepted);
    for request in [from_earliest(), after(&begin)] {
        let history = gateway.history(request).await;
        let history: Vec<String> = history.into_iter().map(|event| event.id).collect();
        assert_eq!(history, accepted);
    }
    let again = gateway.post("msg_0", body("user.updated", "user_1")).await;
    assert_eq!(again.json()["duplicate"], true);
    assert!(
        !gateway.log_text().contains("panicked"),
        "{}",
        gateway.log_text()
    );
    eventually("it is ready", || async {
        gateway.admin_get("/readyz").await.status == 200
    })
    .await;
}

/// As Svix's library has it, which reads the clock itself.
#[tokio::test]
async fn the_tolerance_is_300_seconds_both_ways_inclusive() {
    let directory = TempDir::new().expect("a temporary directory");
    let library = compile("clock", directory.path());
    let clock = directory.path().join("clock");
    let now = now_seconds();
    std::fs::write(&clock, format!("@{now}")).expect("written");
    let gateway = Gateway::start_with(Options {
        args: Vec::new(),
        env: preloaded(&library, "CLERKCAST_CLOCK", &clock),
    });
    let body = body("user.updated", "user_1");
    for (offset, error) in [
        (-301, Some("timestamp_too_old")),
        (-300, None),
        (0, None),
        (300, None),
        (301, Some("timestamp_too_new")),
    ] {
        let id = format!("msg_{offset}");
        let headers = sign(SECRET, &id, now + offset, body.as_bytes());
        let answer = gateway.request("POST", "/webhooks/clerk", &headers, body.clone().into());
        let answer = answer.await.expect("an answer");
        let refusal = answer.json()["error"].as_str().map(str::to_owned);
        assert_eq!(refusal.as_deref(), error, "{offset}: {}", answer.text);
        assert_eq!(answer.status, if error.is_none() { 200 } else { 400 });
        if error.is_some() {
            let message = answer.json()["message"].to_string();
            assert!(message.contains("signed 301 s "), "{message}");
        }
    }
    let history = gateway.history(from_earliest()).await;
    let history: Vec<String> = history.into_iter().map(|event| event.id).collect();
    assert_eq!(history, ["msg_-300", "msg_0", "msg_300"]);
}
