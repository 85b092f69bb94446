//! What all events need is broken: the dead letters fill up, and are worked off once it is mended.

use std::sync::Arc;

use clerkcast::log::sqlite::{Config, SqliteLog};
use clerkcast::log::{Append as _, Metrics};
use clerkcast::proto::receive_response::Kind;
use clerkcast::proto::{
    AcknowledgeRequest, DeadLetterAction, Delivery, Failure, ReceiveRequest,
    ResolveDeadLettersRequest, Subscription, SubscriptionState,
};
use futures_util::future::join_all;
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::Status;

use super::{Caller, Worker, named, refusal, seconds, until, worker_of};
use crate::conformance::record;
use crate::harness::{Gateway, Options, body};

const LETTERS_MAX: usize = 10_000;
/// Events beyond those that become dead letters.
const MORE: usize = 40;
const WORKERS: usize = 4;
/// A log with this many events, each of a user of its own.
async fn log_with(events: usize) -> Arc<TempDir> {
    let directory = TempDir::new().expect("a temporary directory");
    let config = Config {
        data_dir: directory.path().to_owned(),
        ..Config::default()
    };
    let log = SqliteLog::open(config, Metrics::register(&mut Registry::default()));
    let log = log.expect("opens");
    let appends = (0..events).map(|number| {
        let user = format!("user_{number}");
        log.append(record(
            &format!("msg_{number}"),
            "user.updated",
            Some(&user),
        ))
    });
    for answer in join_all(appends).await {
        answer.expect("durable");
    }
    Arc::new(directory)
}

/// Streams that take what there is, and hand it to one that reports it.
struct Workers {
    streams: JoinSet<Worker>,
    deliveries: mpsc::Receiver<Delivery>,
}

impl Workers {
    /// They end when the subscription is as `is_over` has it.
    async fn start(gateway: &Gateway, is_over: fn(SubscriptionState) -> bool) -> Self {
        let (sender, deliveries) = mpsc::channel(1000);
        let mut streams = JoinSet::new();
        for _ in 0..WORKERS {
            let mut caller = Caller::of(gateway).await;
            let many = ReceiveRequest {
                max_outstanding: 1000,
                heartbeat_interval: seconds(1),
                ..worker_of("crm")
            };
            let worker = caller.receive(many).await.expect("opened");
            streams.spawn(pump(worker, sender.clone(), is_over));
        }
        Self {
            streams,
            deliveries,
        }
    }
}

async fn pump(
    mut worker: Worker,
    sender: mpsc::Sender<Delivery>,
    is_over: fn(SubscriptionState) -> bool,
) -> Worker {
    loop {
        match worker.next().await.expect("no error").expect("no end") {
            Kind::Delivery(delivery) => sender.send(delivery).await.expect("taken"),
            Kind::Heartbeat(heartbeat) if is_over(heartbeat.state()) => return worker,
            Kind::Heartbeat(_) | Kind::Started(_) => {}
        }
    }
}

fn rejected(deliveries: Vec<Delivery>) -> AcknowledgeRequest {
    let failures = deliveries.into_iter().map(|delivery| Failure {
        ack_id: delivery.ack_id,
        reason: "the database is down".to_owned(),
        dead: true,
        ..Failure::default()
    });
    AcknowledgeRequest {
        subscription: "crm".to_owned(),
        failures: failures.collect(),
        ..AcknowledgeRequest::default()
    }
}

fn acknowledged(deliveries: Vec<Delivery>) -> AcknowledgeRequest {
    let ids = deliveries.into_iter().map(|delivery| delivery.ack_id);
    AcknowledgeRequest {
        subscription: "crm".to_owned(),
        ack_ids: ids.collect(),
        ..AcknowledgeRequest::default()
    }
}

/// Reports what becomes of deliveries, in each call as many as are there. Returns how many were
/// replayed.
async fn report(
    mut caller: Caller,
    mut deliveries: mpsc::Receiver<Delivery>,
    to_request: fn(Vec<Delivery>) -> AcknowledgeRequest,
) -> usize {
    let mut some = Vec::new();
    let mut replayed = 0;
    while deliveries.recv_many(&mut some, 1000).await > 0 {
        replayed += some.iter().filter(|delivery| delivery.replayed).count();
        let request = to_request(std::mem::take(&mut some));
        loop {
            match caller.settle(request.clone()).await {
                Ok(lost) => break assert_eq!(lost, [""; 0]),
                // On a machine that is busy, a step may take too long.
                Err(status) => assert_eq!(refusal(&status).1, "NOT_STORED"),
            }
        }
    }
    replayed
}

async fn replay_all(caller: &mut Caller) -> Result<i64, Status> {
    let replay = ResolveDeadLettersRequest {
        subscription: "crm".to_owned(),
        action: DeadLetterAction::Replay.into(),
        all: true,
        ..ResolveDeadLettersRequest::default()
    };
    caller.resolve(replay).await
}

/// Waits until everything is acknowledged, and replays what had no room beside what was pending.
async fn drain(caller: &mut Caller) -> Subscription {
    loop {
        let is_handled = |found: &Subscription| {
            let pending = found.outstanding_count + found.retrying_count + found.blocked_count;
            pending == 0 && found.lag.as_ref().is_some_and(|lag| lag.events == 0)
        };
        let before = caller.look("crm").await.acknowledged_count;
        let found = until(caller, "crm", "more is acknowledged", |found| {
            is_handled(found) || found.acknowledged_count >= before + 500
        })
        .await;
        if is_handled(&found) && found.dead_count == 0 {
            return found;
        }
        if is_handled(&found) {
            let _again_where_not_stored = replay_all(caller).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_up_to_ten_thousand_and_stalled_in_words_until_all_are_replayed() {
    let log = log_with(LETTERS_MAX + MORE).await;
    let gateway = Gateway::start_in(log, Options::default());
    let mut caller = Caller::of(&gateway).await;
    let held_for_long = Subscription {
        ack_deadline: seconds(3600),
        ..named("crm")
    };
    caller.create(held_for_long).await.expect("created");
    let is_stalled = |state| state == SubscriptionState::Stalled;
    let failing = Workers::start(&gateway, is_stalled).await;
    let reporter = Caller::of(&gateway).await;
    let reporting = tokio::spawn(report(reporter, failing.deliveries, rejected));
    let mut streams = failing.streams.join_all().await;
    assert_eq!(reporting.await.expect("no panic"), 0);

    let stalled = caller.look("crm").await;
    assert_eq!(stalled.state(), SubscriptionState::Stalled);
    assert_eq!(
        stalled.stall_reason,
        "10,000 dead letters: is something that all events need broken?"
    );
    assert_eq!(usize::try_from(stalled.dead_count), Ok(LETTERS_MAX));
    let metric = "clerkcast_subscription_stalled{subscription=\"crm\"}";
    assert_eq!(gateway.metric(metric).await, 1.0);
    // Nothing new is handed out.
    gateway
        .accept("msg_new", body("user.created", "user_new"))
        .await;
    for _ in 0..2 {
        for stream in &mut streams {
            let frame = stream.next().await.expect("no error").expect("no end");
            assert!(matches!(frame, Kind::Heartbeat(_)), "{frame:?}");
        }
    }
    drop(streams);

    let total = LETTERS_MAX + MORE + 1;
    let pending = stalled.outstanding_count + stalled.retrying_count + stalled.blocked_count;
    let pending = usize::try_from(pending).expect("a count");
    let room = i64::try_from(LETTERS_MAX - pending).expect("a count");
    assert_eq!(replay_all(&mut caller).await.expect("stored"), room);
    let mended = Workers::start(&gateway, |_| false).await;
    let reporter = Caller::of(&gateway).await;
    let reporting = tokio::spawn(report(reporter, mended.deliveries, acknowledged));
    let handled = drain(&mut caller).await;
    drop(mended.streams);
    assert_eq!(reporting.await.expect("no panic"), LETTERS_MAX);
    assert_eq!(usize::try_from(handled.acknowledged_count), Ok(total));
    assert_eq!(handled.state(), SubscriptionState::Active);
    assert_eq!(gateway.metric(metric).await, 0.0);
}
