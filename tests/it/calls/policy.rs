//! A policy holds for each call, at the moment at which something is sent.

use std::time::{Duration, Instant};

use clerkcast::proto;
use tonic_types::StatusExt as _;

use super::raw::{Outcome, Raw, RawCall, Unread, framed};
use super::{is_end_of_policy, message, methods};
use crate::access::{Guarded, new_token};
use crate::harness::{Gateway, body, eventually};

const LIST: &str = "clerkcast.v1.EventService/ListEvents";
const SUBSCRIBE: &str = "clerkcast.v1.EventService/Subscribe";
/// Calls that one connection may have under way.
const CALLS_MAX: usize = 64;
/// Wide enough for any answer here.
const WIDE: u32 = 1 << 20;

/// Whether a call ended with its policy, or was reset with it, and was sent nothing since.
#[track_caller]
fn ended_with_its_policy(outcome: &Outcome, what: &str) {
    match outcome {
        Outcome::Reset(_) => {}
        Outcome::Answered(bytes) => panic!("{what} is answered with {} bytes", bytes.len()),
        Outcome::Refused(status) => {
            let details = status.get_error_details();
            let reason = details.error_info().map_or("", |info| info.reason.as_str());
            // One that waits for a place may have waited for too long.
            assert!(
                is_end_of_policy(status.code(), reason) || reason == "TOO_MANY_CALLS",
                "{what}: {status:?}"
            );
        }
    }
}

/// Calls of one principal in each state in which a call can be.
struct UnderWay {
    head: RawCall,
    half: RawCall,
    queued: RawCall,
    unread: Unread,
    connections: [Raw; 3],
    _before_it: Vec<Unread>,
}

impl UnderWay {
    async fn start(gateway: &Gateway, token: &str) -> Self {
        let list = proto::ListEventsRequest::default();
        let mut open = Raw::connect(&gateway.grpc, Some(token), WIDE).await;
        let head = open.head(LIST).await;
        let mut half = open.head(LIST).await;
        half.send(&framed(&list)[..3], false);
        let mut closed = Raw::connect(&gateway.grpc, Some(token), 0).await;
        let unread = closed.unread(LIST, &list).await.expect("answered");
        let mut crowded = Raw::connect(&gateway.grpc, Some(token), 0).await;
        let mut before_it = Vec::new();
        for _ in 0..CALLS_MAX {
            before_it.push(crowded.unread(LIST, &list).await.expect("answered"));
        }
        let mut queued = crowded.head(LIST).await;
        queued.send(&framed(&list), true);
        // The gateway looks at calls in their order: it has admitted those before.
        for connection in [&mut open, &mut crowded] {
            let unknown = connection.call("no.Such/Method", &list).await;
            assert_eq!(unknown.status().code(), tonic::Code::Unimplemented);
        }
        Self {
            head,
            half,
            queued,
            unread,
            connections: [open, closed, crowded],
            _before_it: before_it,
        }
    }

    /// Goes on with all of them, and says how they ended.
    async fn finish(mut self) -> Vec<(&'static str, Outcome)> {
        let list = framed(&proto::ListEventsRequest::default());
        self.head.send(&list, true);
        self.half.send(&list[3..], true);
        for connection in &self.connections {
            connection.open_windows(WIDE);
        }
        vec![
            ("a call whose head was sent", self.head.outcome().await),
            ("half a message", self.half.outcome().await),
            ("a call that waited", self.queued.outcome().await),
            ("an unread answer", self.unread.read().await),
        ]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_under_way_obeys_the_new_policy() {
    let [witness, changing] = ["witness", "changing"].map(new_token);
    for (change, policy) in [
        ("removed", None),
        ("narrowed", Some("types = [\"session.*\"]")),
        ("redacted", Some("redact = [\"contact\"]")),
    ] {
        let before = format!("{}\n\n{}\n", witness.stanza, changing.stanza);
        let guarded = Guarded::start(&before);
        let gateway = &guarded.gateway;
        gateway
            .accept("msg_1", body("user.created", "user_1"))
            .await;
        let calls = UnderWay::start(gateway, &changing.secret).await;
        let after = policy.map(|policy| format!("{}\n{policy}\n", changing.stanza));
        let after = after.unwrap_or_default();
        guarded
            .reloaded(&format!("{}\n\n{after}\n", witness.stanza))
            .await;
        gateway
            .accept("msg_2", body("user.created", "user_2"))
            .await;
        for (state, outcome) in calls.finish().await {
            ended_with_its_policy(&outcome, &format!("{change}: {state}"));
        }
        let mut other = Raw::connect(&gateway.grpc, Some(&witness.secret), WIDE).await;
        let served = other.call(LIST, &proto::ListEventsRequest::default()).await;
        assert!(matches!(served, Outcome::Answered(_)), "{served:?}");
        if policy.is_some() {
            let mut again = Raw::connect(&gateway.grpc, Some(&changing.secret), WIDE).await;
            let served = again.call(LIST, &proto::ListEventsRequest::default()).await;
            assert!(matches!(served, Outcome::Answered(_)), "{served:?}");
        }
        let dropped = "clerkcast_grpc_answers_dropped_total{reason=\"policy\"}";
        assert!(gateway.metric(dropped).await >= 1.0);
    }
}

/// Whatever a service is given tomorrow.
#[tokio::test]
async fn every_rpc_is_asked_again() {
    let [witness, removed] = ["witness", "removed"].map(new_token);
    let guarded = Guarded::start(&format!("{}\n\n{}\n", removed.stanza, witness.stanza));
    let gateway = &guarded.gateway;
    let mut caller = Raw::connect(&gateway.grpc, Some(&removed.secret), WIDE).await;
    let all = [methods(false), methods(true)].concat();
    let mut calls = Vec::new();
    for method in &all {
        calls.push(caller.head(method).await);
    }
    // Those that the gateway has seen are those that it must ask again.
    let seen = caller
        .call(LIST, &proto::ListEventsRequest::default())
        .await;
    assert!(matches!(seen, Outcome::Answered(_)), "{seen:?}");
    guarded.reloaded(&format!("{}\n", witness.stanza)).await;
    for (method, mut call) in all.iter().zip(calls) {
        call.send(&framed(&message(method)), true);
        let outcome = call.outcome().await;
        let status = outcome.status();
        assert_eq!(status.code(), tonic::Code::Unauthenticated, "{method}");
        assert!(all.len() >= 6);
    }
}

async fn subscribers(gateway: &Gateway, token: &str) -> usize {
    let mut caller = Raw::connect(&gateway.grpc, Some(token), WIDE).await;
    let asked = proto::ListSubscribersRequest::default();
    let method = "clerkcast.v1.EventService/ListSubscribers";
    match caller.call(method, &asked).await {
        Outcome::Answered(bytes) => {
            let listed: proto::ListSubscribersResponse =
                prost::Message::decode(bytes).expect("a response");
            listed.subscribers.len()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_principal_that_never_reads_is_gone() {
    const STREAMS: usize = 50;
    let [witness, removed] = ["witness", "removed"].map(new_token);
    let witness_stanza = format!("{}\nall_subscribers = true\n", witness.stanza);
    let guarded = Guarded::start_with(
        &format!("{}\n\n{witness_stanza}", removed.stanza),
        &["--max-subscribers", &STREAMS.to_string()],
    );
    let gateway = &guarded.gateway;
    let mut caller = Raw::connect(&gateway.grpc, Some(&removed.secret), 0).await;
    let mut unread = Vec::new();
    for _ in 0..STREAMS {
        let asked = proto::SubscribeRequest::default();
        unread.push(caller.unread(SUBSCRIBE, &asked).await.expect("open"));
    }
    assert_eq!(subscribers(gateway, &witness.secret).await, STREAMS);
    guarded.reloaded(&witness_stanza).await;
    let removed_at = Instant::now();
    eventually("their places are free", || async {
        subscribers(gateway, &witness.secret).await == 0
    })
    .await;
    // Long before they are reset.
    let held_for = removed_at.elapsed();
    assert!(held_for < Duration::from_secs(4), "{held_for:?}");
    let mut other = Raw::connect(&gateway.grpc, Some(&witness.secret), WIDE).await;
    for _ in 0..STREAMS {
        let asked = proto::SubscribeRequest::default();
        let opened = other.unread(SUBSCRIBE, &asked).await;
        assert!(opened.is_ok(), "the limit counts those that are gone");
    }
    for stream in unread {
        stream.reset().await;
    }
    let ended = r#"clerkcast_subscriptions_ended_total{reason="access_ended"}"#;
    assert_eq!(gateway.metric(ended).await, 50.0);
}

/// Six, and what a loaded machine adds; the deadline for a stop is a minute here.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_takes_six_seconds_at_most_whoever_does_not_read() {
    let mut gateway =
        Gateway::start_with(crate::harness::Options::args(&["--drain-timeout", "60s"]));
    let mut caller = Raw::connect(&gateway.grpc, None, 0).await;
    let mut unread = Vec::new();
    for _ in 0..20 {
        let asked = proto::SubscribeRequest::default();
        unread.push(caller.unread(SUBSCRIBE, &asked).await.expect("open"));
        let asked = proto::ListEventsRequest::default();
        unread.push(caller.unread(LIST, &asked).await.expect("answered"));
    }
    let _never_sent = caller.head(LIST).await;
    let asked_at = Instant::now();
    gateway.signal("-TERM");
    assert_eq!(gateway.wait().code(), Some(0), "{}", gateway.log_text());
    let took = asked_at.elapsed();
    assert!(took < Duration::from_secs(12), "{took:?}");
    drop(unread);
}
