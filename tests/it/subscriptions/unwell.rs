//! Workers that die, hang, are cut off or never read: only their own events wait.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clerkcast::event::UnixMillis;
use clerkcast::proto::{Delivery, ReceiveRequest, Subscription};
use tokio::time::timeout;

use super::{Caller, Worker, event_id, named, seconds, until, worker_of};
use crate::harness::{Gateway, binary, body};

async fn gateway_with_events(events: usize, ack_deadline: i64) -> (Gateway, Caller) {
    let gateway = Gateway::start();
    for number in 0..events {
        let body = body("user.updated", &format!("user_{number}"));
        gateway.accept(&format!("msg_{number}"), body).await;
    }
    let mut caller = Caller::of(&gateway).await;
    let created = caller
        .create(Subscription {
            ack_deadline: seconds(ack_deadline),
            ..named("crm")
        })
        .await;
    created.expect("created");
    (gateway, caller)
}

fn at_most(outstanding: i32) -> ReceiveRequest {
    ReceiveRequest {
        max_outstanding: outstanding,
        ..worker_of("crm")
    }
}

async fn acknowledge(caller: &mut Caller, delivery: &Delivery) {
    let lost = caller.acknowledge("crm", &[&delivery.ack_id]).await;
    assert_eq!(lost.expect("stored"), [""; 0]);
}

/// A process that prints events and acknowledges them.
struct Printer(Child);

impl Printer {
    fn start(gateway: &Gateway) -> Self {
        let process = binary()
            .args(["tail", "--subscription", "crm", "--server"])
            .arg(format!("http://{}", gateway.grpc))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(process.expect("the binary starts"))
    }

    fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status();
        assert!(status.expect("kill runs").success());
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redelivered_to_others_after_the_deadline_of_a_worker_that_is_cut_off() {
    let (gateway, mut caller) = gateway_with_events(4, 3).await;
    let mut gone = caller.receive(at_most(2)).await.expect("opened");
    let held = [gone.delivery().await, gone.delivery().await];
    // Its connection is gone, and nothing was heard of what it had.
    drop(gone);
    let mut other = Caller::of(&gateway).await;
    let mut worker = other.worker("crm").await;
    let mut again = Vec::new();
    let mut fresh = 0;
    while again.len() < 2 || fresh < 2 {
        let delivery = worker.delivery().await;
        let before = held
            .iter()
            .find(|held| event_id(held) == event_id(&delivery));
        if let Some(before) = before {
            let deadline = before.deadline.as_ref().expect("a deadline");
            assert!(
                UnixMillis::now() >= deadline.into(),
                "not before its deadline"
            );
            assert_eq!(delivery.attempt, 2);
            again.push(event_id(&delivery).to_owned());
        } else {
            assert_eq!(delivery.attempt, 1);
            fresh += 1;
        }
        acknowledge(&mut other, &delivery).await;
    }
    // It is handled, so that a late acknowledgement is answered as done.
    acknowledge(&mut caller, &held[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn elastic_a_stopped_process_delays_no_other_worker() {
    let (gateway, mut caller) = gateway_with_events(0, 3).await;
    let printer = Printer::start(&gateway);
    until(&mut caller, "crm", "it is connected", |found| {
        found.worker_count == 1
    })
    .await;
    printer.signal("-STOP");
    for number in 0..40 {
        let body = body("user.updated", &format!("user_{number}"));
        gateway.accept(&format!("msg_{number}"), body).await;
    }
    let mut worker = caller.worker("crm").await;
    let mut first_attempts = 0;
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 40 {
        let delivery = worker.delivery().await;
        first_attempts += usize::from(delivery.attempt == 1);
        seen.insert(event_id(&delivery).to_owned());
        acknowledge(&mut caller, &delivery).await;
    }
    // The stopped one was given at most what it asks for at once.
    assert!(first_attempts >= 40 - 16, "{first_attempts}");
    printer.signal("-CONT");
    let handled = until(&mut caller, "crm", "all is handled", |found| {
        found.outstanding_count + found.retrying_count + found.blocked_count == 0
    })
    .await;
    assert_eq!(handled.dead_count, 0);
    assert_eq!(handled.acknowledged_count, 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn elastic_nothing_is_leased_into_a_window_that_is_full() {
    const EVENTS: usize = 600;
    let gateway = Gateway::start();
    let filler = "x".repeat(20_000);
    for number in 0..EVENTS {
        let mut body: serde_json::Value =
            serde_json::from_str(&body("user.updated", &format!("user_{number}"))).expect("JSON");
        body["data"]["first_name"] = filler.clone().into();
        gateway
            .accept(&format!("msg_{number}"), body.to_string())
            .await;
    }
    let mut caller = Caller::of(&gateway).await;
    let created = caller
        .create(Subscription {
            ack_deadline: seconds(3600),
            ..named("crm")
        })
        .await;
    created.expect("created");
    let mut stuck = caller.receive(at_most(1000)).await.expect("opened");
    let _held = stuck.delivery().await;
    // It is never read again. Its window holds 2 MiB, and a step gives it 256 KiB.
    let mut other = Caller::of(&gateway).await;
    let mut worker = other.receive(at_most(1000)).await.expect("opened");
    let mut handled = 0;
    while handled < EVENTS - 200 {
        let delivery = worker.delivery().await;
        assert_eq!(delivery.attempt, 1);
        acknowledge(&mut other, &delivery).await;
        handled += 1;
    }
    let mut looking = Caller::of(&gateway).await;
    let outstanding = looking.look("crm").await.outstanding_count;
    assert!(outstanding <= 300, "{outstanding}");
}

#[tokio::test(flavor = "multi_thread")]
async fn elastic_workers_that_join_share_what_is_left() {
    let (gateway, mut caller) = gateway_with_events(12, 30).await;
    let mut workers: Vec<Worker> = Vec::new();
    for _ in 0..3 {
        let mut caller = Caller::of(&gateway).await;
        workers.push(caller.receive(at_most(4)).await.expect("opened"));
    }
    let mut ids = Vec::new();
    for worker in &mut workers {
        for _ in 0..4 {
            ids.push(event_id(&worker.delivery().await).to_owned());
        }
        let more = timeout(Duration::from_millis(300), worker.delivery()).await;
        assert!(more.is_err(), "no more than it asked for");
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 12);
    assert_eq!(caller.look("crm").await.outstanding_count, 12);
}
