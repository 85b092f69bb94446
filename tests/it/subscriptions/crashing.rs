//! `kill -9` of the gateway under load, with four workers: what they saw keeps the laws.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clerkcast::proto::receive_response::Kind;
use clerkcast::proto::{ReceiveRequest, Subscription};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::ledger::Ledger;
use super::{Caller, event_id, named, seconds, until, worker_of};
use crate::harness::{Gateway, Poster, body, eventually};
use crate::soak::{Figure, figure};

const WORKERS: usize = 4;
const POSTERS: usize = 4;
/// Users, and so keys: fewer than the workers could hold.
const USERS: u64 = 40;
/// How far the posters may be ahead of the workers. A backlog that only grew would make each step
/// as large as a subscription allows, and a thousand rounds endless.
const BACKLOG_MAX: usize = 3_000;

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_exclusive_lease_and_accounted_through_kill_9_under_load() {
    let mut gateway = Gateway::start();
    let mut caller = Caller::of(&gateway).await;
    let created = caller
        .create(Subscription {
            ack_deadline: seconds(2),
            max_deliveries: 100,
            ..named("crm")
        })
        .await;
    created.expect("created");
    let ids = Arc::new(AtomicU64::new(0));
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let rounds = figure(Figure::SubscriptionCrashRounds);
    for round in 0..rounds {
        let load = Load::start(&gateway, &ids, &ledger).await;
        // Varies where the kill falls.
        let enough = ledger.lock().acknowledged + 20 + (round * 37) % 150;
        eventually("enough is acknowledged", || async {
            ledger.lock().acknowledged >= enough
        })
        .await;
        gateway.kill();
        load.end().await;
        gateway = gateway.restarted();
    }

    let mut workers = JoinSet::new();
    let no_poster = Arc::new(Semaphore::new(0));
    for _ in 0..WORKERS {
        let caller = Caller::of(&gateway).await;
        let until_handled = ReceiveRequest {
            stop_when_handled: true,
            ..worker_of("crm")
        };
        let (ledger, backlog) = (Arc::clone(&ledger), Arc::clone(&no_poster));
        workers.spawn(work(caller, until_handled, ledger, backlog));
    }
    workers.join_all().await;
    let events = gateway.history(crate::harness::from_earliest()).await.len();
    let mut caller = Caller::of(&gateway).await;
    let handled = until(&mut caller, "crm", "all is handled", |found| {
        found.outstanding_count + found.retrying_count + found.blocked_count == 0
    })
    .await;
    assert_eq!(handled.dead_count, 0);
    assert_eq!(
        handled.acknowledged_count,
        i64::try_from(events).expect("few")
    );
    let ledger = ledger.lock();
    // Of what was recorded, some answers were lost.
    assert!(ledger.acknowledged <= events);
    assert!(ledger.deliveries >= events);
    println!(
        "{rounds} rounds, {events} events, {} deliveries, {} acknowledgements answered",
        ledger.deliveries, ledger.acknowledged
    );
}

/// Workers and posters, until their gateway is gone.
struct Load {
    tasks: JoinSet<()>,
    backlog: Arc<Semaphore>,
}

impl Load {
    async fn start(gateway: &Gateway, ids: &Arc<AtomicU64>, ledger: &Arc<Mutex<Ledger>>) -> Self {
        let found = Caller::of(gateway).await.look("crm").await;
        let behind = usize::try_from(found.lag.expect("known").events).expect("few");
        let backlog = Arc::new(Semaphore::new(BACKLOG_MAX.saturating_sub(behind)));
        let mut tasks = JoinSet::new();
        for _ in 0..POSTERS {
            let (ids, backlog) = (Arc::clone(ids), Arc::clone(&backlog));
            tasks.spawn(post(gateway.poster.clone(), ids, backlog));
        }
        for _ in 0..WORKERS {
            let caller = Caller::of(gateway).await;
            let (ledger, backlog) = (Arc::clone(ledger), Arc::clone(&backlog));
            tasks.spawn(work(caller, worker_of("crm"), ledger, backlog));
        }
        Self { tasks, backlog }
    }

    async fn end(self) {
        self.backlog.close();
        self.tasks.join_all().await;
    }
}

async fn post(poster: Poster, ids: Arc<AtomicU64>, backlog: Arc<Semaphore>) {
    while let Ok(room) = backlog.acquire().await {
        room.forget();
        let number = ids.fetch_add(1, Ordering::Relaxed);
        let user = format!("user_{}", number * 7 % USERS);
        let body = body("user.updated", &user).into();
        match poster.post(&format!("msg_{number}"), body).await {
            Ok(answer) => assert_eq!(answer.status, 200, "{}", answer.text),
            Err(_) => return,
        }
    }
}

/// Acknowledges what it is handed, one by one, until its stream ends.
async fn work(
    mut caller: Caller,
    request: ReceiveRequest,
    ledger: Arc<Mutex<Ledger>>,
    backlog: Arc<Semaphore>,
) {
    let Ok(mut worker) = caller.receive(request).await else {
        return;
    };
    while let Ok(Some(frame)) = worker.next().await {
        let Kind::Delivery(delivery) = frame else {
            continue;
        };
        ledger.lock().note_delivered(&delivery);
        let id = event_id(&delivery).to_owned();
        ledger.lock().note_acknowledging(&id);
        let Ok(lost) = caller.acknowledge("crm", &[&delivery.ack_id]).await else {
            return;
        };
        if lost.is_empty() {
            ledger.lock().note_acknowledged(&id);
            backlog.add_permits(1);
        }
    }
}
