//! The library's worker and the commands that use it, against a service that does what the test
//! has it do.

mod fake;
pub(crate) mod work;

use std::sync::Arc;
use std::time::Duration;

use clerkcast::proto::{AcknowledgeRequest, ReceiveRequest, SubscriptionState};
use clerkcast_client::{Delivery, Error, Failure, Notice, Settlement, Worker};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::time::timeout;
use tonic::Status;

use crate::harness::{PATIENCE, eventually};
use fake::Fake;

const HANDLING_MAX: Duration = Duration::from_secs(600);

fn request() -> ReceiveRequest {
    ReceiveRequest {
        subscription: "crm".to_owned(),
        ..ReceiveRequest::default()
    }
}

/// A worker of the fake, and its notices, as text.
fn worker(
    fake: &Fake,
    request: ReceiveRequest,
    handling_max: Duration,
) -> (Worker, Arc<Mutex<Vec<String>>>) {
    let notices = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&notices);
    let worker = Worker::new(&fake.address, request, handling_max).expect("an address");
    let worker = worker.watch(move |notice: &Notice| noted.lock().push(format!("{notice:?}")));
    (worker, notices)
}

async fn noticed(notices: &Mutex<Vec<String>>, text: &str) {
    eventually(text, async || {
        notices.lock().iter().any(|notice| notice.contains(text))
    })
    .await;
}

async fn next(worker: &mut Worker) -> Delivery {
    let next = timeout(PATIENCE, worker.next()).await;
    next.expect("in time")
        .expect("not refused")
        .expect("an event")
}

/// Sends these events, and waits until the worker has them all.
async fn received(fake: &Fake, worker: &mut Worker, notices: &Mutex<Vec<String>>, ids: &[&str]) {
    // It connects when first asked, and asking can be given up.
    let _nothing_yet = timeout(Duration::ZERO, worker.next()).await;
    fake.opened(1).await;
    for id in ids {
        fake.deliver(id);
    }
    fake.heartbeat(SubscriptionState::Active);
    noticed(notices, "Heartbeat").await;
}

#[tokio::test]
async fn an_acknowledgement_is_repeated_until_the_gateway_answers() {
    let fake = Fake::start().await;
    let (mut worker, notices) = worker(&fake, request(), HANDLING_MAX);
    received(&fake, &mut worker, &notices, &["a"]).await;
    for _ in 0..3 {
        fake.refuse(Status::unavailable("NOT_STORED"));
    }
    let answer = next(&mut worker).await.acknowledge();
    let answer = timeout(PATIENCE, answer).await.expect("answered");
    assert_eq!(answer, Settlement::Recorded);
    let calls = fake.calls();
    assert_eq!(calls.len(), 4, "{calls:?}");
    assert!(calls.iter().all(|call| call.ack_ids == ["ack-a"]));
    noticed(&notices, "Unanswered").await;
}

#[tokio::test]
async fn what_arrives_while_a_call_is_in_progress_goes_with_the_next() {
    let fake = Fake::start().await;
    let (mut worker, notices) = worker(&fake, request(), HANDLING_MAX);
    received(&fake, &mut worker, &notices, &["a", "b", "c", "d"]).await;
    fake.hold_calls();
    next(&mut worker).await.acknowledge();
    eventually("the first call arrives", async || fake.calls().len() == 1).await;
    next(&mut worker).await.acknowledge();
    next(&mut worker).await.fail(Failure {
        reason: "no".to_owned(),
        retry_delay: Some(Duration::from_secs(5)),
        dead: false,
    });
    next(&mut worker).await.release();
    fake.answer_calls();
    eventually("the second call arrives", async || fake.calls().len() >= 2).await;
    let calls = fake.calls();
    assert_eq!(calls[0].ack_ids, ["ack-a"]);
    assert_eq!(calls[1].ack_ids, ["ack-b"]);
    assert_eq!(calls[1].release_ack_ids, ["ack-d"]);
    let failure = &calls[1].failures[0];
    assert_eq!(
        (failure.ack_id.as_str(), failure.reason.as_str()),
        ("ack-c", "no")
    );
    assert_eq!(failure.retry_delay.map(|delay| delay.seconds), Some(5));
}

#[tokio::test]
async fn a_lease_is_extended_while_its_event_is_handled_and_never_beyond_the_maximum() {
    let fake = Fake::with_short_leases().await;
    let handling_max = Duration::from_millis(1200);
    let (mut worker, notices) = worker(&fake, request(), handling_max);
    received(&fake, &mut worker, &notices, &["a"]).await;
    let held = next(&mut worker).await;
    let extensions = |id: &'static str| {
        let extended = move |call: &AcknowledgeRequest| {
            let ids = call.extend_ack_ids.iter();
            ids.filter(|ack_id| **ack_id == format!("ack-{id}")).count()
        };
        fake.count(extended)
    };
    eventually("a is extended", async || extensions("a") >= 1).await;
    // Others come later, each for long enough to be extended.
    for id in ["b", "c", "d", "e", "f", "g", "h"] {
        fake.deliver(id);
        let other = next(&mut worker).await;
        eventually(id, async || extensions(id) >= 1).await;
        other.acknowledge();
    }
    // Within 1.2 s, at most every three eighths of a second.
    assert!(extensions("a") <= 3, "{:?}", fake.calls());
    assert!(!held.is_lost());
    held.acknowledge();
    fake.acknowledged(&["a", "b", "c", "d", "e", "f", "g", "h"])
        .await;
    // What is settled is not extended, so nothing is in two lists of a call.
    for call in fake.calls() {
        assert!(
            !call
                .extend_ack_ids
                .iter()
                .any(|id| call.ack_ids.contains(id))
        );
    }
}

#[tokio::test]
async fn what_is_not_begun_is_given_back_at_a_stop() {
    let fake = Fake::start().await;
    let (mut worker, notices) = worker(&fake, request(), HANDLING_MAX);
    received(&fake, &mut worker, &notices, &["a", "b", "c"]).await;
    let begun = next(&mut worker).await;
    let stopping = tokio::spawn(worker.stop());
    fake.released(&["b", "c"]).await;
    assert!(!stopping.is_finished(), "an event is in the caller's hands");
    begun.acknowledge();
    fake.acknowledged(&["a"]).await;
    let stopped = timeout(PATIENCE, stopping).await.expect("in time");
    stopped.expect("no panic").expect("all is answered");
    assert_eq!(fake.streams(), 1);
}

#[tokio::test]
async fn what_is_not_begun_is_given_back_by_a_worker_that_is_dropped() {
    let fake = Fake::start().await;
    let (mut worker, notices) = worker(&fake, request(), HANDLING_MAX);
    received(&fake, &mut worker, &notices, &["a", "b"]).await;
    let begun = next(&mut worker).await;
    drop(worker);
    fake.released(&["b"]).await;
    begun.acknowledge();
    fake.acknowledged(&["a"]).await;
}

#[tokio::test]
async fn a_stop_fails_if_outcomes_are_not_answered() {
    let fake = Fake::start().await;
    let (mut worker, notices) = worker(&fake, request(), HANDLING_MAX);
    received(&fake, &mut worker, &notices, &["a"]).await;
    fake.refuse(Status::not_found("no subscription crm"));
    let answer = next(&mut worker).await.acknowledge();
    // Refused for good, so there is nothing to wait for.
    let Err(error) = worker.next().await else {
        panic!("the worker is refused");
    };
    assert!(matches!(error, Error::Refused(_)), "{error}");
    assert_eq!(answer.await, Settlement::Unanswered);
    let stopped = worker.stop().await;
    assert!(matches!(
        stopped,
        Err(Error::Unanswered { outcomes: 1, .. })
    ));
}

#[tokio::test]
async fn a_worker_connects_again_and_gives_back_what_the_lost_stream_had_left() {
    let fake = Fake::start().await;
    let limited = ReceiveRequest {
        max_events: 3,
        ..request()
    };
    let (mut worker, notices) = worker(&fake, limited, HANDLING_MAX);
    received(&fake, &mut worker, &notices, &["a", "b"]).await;
    let begun = next(&mut worker).await;
    fake.end(Status::unavailable("DRAINING"));
    fake.released(&["b"]).await;
    fake.opened(2).await;
    fake.deliver("b");
    fake.deliver("c");
    assert_eq!(next(&mut worker).await.event.id, "b");
    next(&mut worker).await.acknowledge();
    assert!(worker.next().await.expect("not refused").is_none());
    begun.acknowledge();
    worker.stop().await.expect("all is answered");
    fake.acknowledged(&["a", "c"]).await;
    // Dropped without an outcome, though a handler had begun with it.
    let failures = fake.failed(&["b"]).await;
    assert_eq!(failures[0].reason, "the handler ended without an outcome");
    let limits: Vec<i64> = fake
        .requests()
        .iter()
        .map(|request| request.max_events)
        .collect();
    assert_eq!(limits, [3, 2]);
}

#[tokio::test]
async fn a_lost_outcome_and_a_lost_lease_are_reported() {
    let fake = Fake::with_short_leases().await;
    let (mut worker, notices) = worker(&fake, request(), HANDLING_MAX);
    received(&fake, &mut worker, &notices, &["a", "b"]).await;
    let (late, held) = (next(&mut worker).await, next(&mut worker).await);
    fake.lose("a");
    fake.lose("b");
    assert_eq!(late.acknowledge().await, Settlement::Lost);
    noticed(&notices, "Lost { event_id: \"a\" }").await;
    eventually("the lease is lost", async || held.is_lost()).await;
    // What is given back too late is in other hands, which is no news.
    assert_eq!(held.release().await, Settlement::Lost);
    assert!(!notices.lock().iter().any(|notice| notice.contains("\"b\"")));
}

#[tokio::test]
async fn a_worker_that_extends_no_lease_is_handed_what_arrives() {
    let fake = Fake::start().await;
    let (mut worker, notices) = worker(&fake, request(), Duration::ZERO);
    received(&fake, &mut worker, &notices, &["a", "b"]).await;
    for _ in 0..2 {
        let answer = next(&mut worker).await.acknowledge();
        assert_eq!(answer.await, Settlement::Recorded);
    }
    fake.acknowledged(&["a", "b"]).await;
    let calls = fake.calls();
    let is_plain = |call: &AcknowledgeRequest| {
        call.release_ack_ids.is_empty() && call.extend_ack_ids.is_empty()
    };
    assert!(calls.iter().all(is_plain), "{calls:?}");
}

#[tokio::test]
async fn a_reason_is_cut_at_a_character_to_what_the_gateway_keeps() {
    let fake = Fake::start().await;
    let (mut worker, notices) = worker(&fake, request(), HANDLING_MAX);
    received(&fake, &mut worker, &notices, &["a", "b"]).await;
    let whole = "x".repeat(1024);
    // Its 1024th byte is the first of two.
    let long = format!("x{}", "é".repeat(600));
    for reason in [&whole, &long] {
        next(&mut worker).await.fail(reason.as_str());
    }
    let failures = fake.failed(&["a", "b"]).await;
    assert_eq!(failures[0].reason, whole);
    assert_eq!(failures[1].reason, format!("x{}", "é".repeat(511)));
}

#[tokio::test]
async fn outcomes_are_settled_in_calls_that_the_gateway_takes() {
    const EVENTS: usize = 1100;
    let fake = Fake::start().await;
    let (mut worker, notices) = worker(&fake, request(), HANDLING_MAX);
    let ids: Vec<String> = (0..EVENTS).map(|number| number.to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    received(&fake, &mut worker, &notices, &ids).await;
    fake.hold_calls();
    next(&mut worker).await.acknowledge();
    eventually("the first call arrives", async || fake.calls().len() == 1).await;
    let mut answers = Vec::new();
    for _ in 1..EVENTS {
        answers.push(next(&mut worker).await.fail("x".repeat(2000)));
    }
    fake.answer_calls();
    for answer in answers {
        assert_eq!(answer.await, Settlement::Recorded);
    }
    fake.failed(&ids[1..]).await;
    let calls = fake.calls();
    let sizes = calls.iter().map(|call| {
        assert!(call.encoded_len() < 1 << 20, "a gateway refuses it");
        call.failures.len()
    });
    assert_eq!(sizes.collect::<Vec<_>>(), [0, 500, 500, 99]);
}
