//! Gateways over one log, in one process: what one of them changes, the others obey.

use std::sync::Arc;
use std::time::Duration;

use clerkcast::access::{Access, AccessConfig, Policy, Principal};
use clerkcast::event::UnixMillis;
use clerkcast::fanout::{self, Fanout, Start};
use clerkcast::log::{Cells as _, Change};
use clerkcast::subscriptions::{
    self, AckId, AskedSettings, Clock, Error, Limits, Metrics, Name, Outcome, Receive,
    ReceiveOptions, Report, Settings, StreamFrame, Subscriptions, Surroundings, WorkerStream,
};
use prometheus_client::registry::Registry;
use tokio::sync::Barrier;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::harness::{PATIENCE, eventually};
use crate::memory_log::{Memory, MemoryLog};
use crate::steps::faulty::{Faults, FaultyLog};
use crate::steps::world::World;

/// A gateway, as far as subscriptions are concerned.
struct Gateway {
    subscriptions: Subscriptions,
    log: Arc<FaultyLog>,
    caller: Principal,
    keeping: JoinHandle<()>,
}

impl Gateway {
    /// A gateway whose cells take up to 3 ms to answer.
    fn start(log: &Arc<MemoryLog>, subscriptions_max: usize) -> Self {
        let place = (Arc::clone(log), Arc::default());
        let log = Arc::new(FaultyLog::new(place, Faults::default(), 1));
        let drain = CancellationToken::new();
        let mut registry = Registry::default();
        let (fanout, _feed) = Fanout::start(
            log.clone(),
            fanout::Config::default(),
            fanout::Metrics::register(&mut registry),
            drain.clone(),
        );
        let access = Access::new(AccessConfig {
            anonymous: Some(Policy::default()),
            ..AccessConfig::default()
        });
        let caller = access.principal(clerkcast::access::ANONYMOUS);
        let (subscriptions, keeping) = Subscriptions::start(
            Surroundings {
                log: log.clone(),
                fanout,
                clock: Clock::new(UnixMillis::now),
                limits: Limits::default(),
                metrics: Metrics::register(&mut registry),
                drain,
            },
            access,
            subscriptions::Config { subscriptions_max },
        );
        Self {
            subscriptions,
            log,
            caller: caller.expect("let in"),
            keeping,
        }
    }

    async fn create(&self, name: &str) -> Result<bool, Error> {
        let settings = Settings::default();
        let created = self
            .subscriptions
            .create(&self.caller, &named(name), settings, Start::Earliest)
            .await;
        created.map(|(_, is_new)| is_new)
    }

    async fn delete(&self, name: &str) {
        let deleted = self.subscriptions.delete(&self.caller, &named(name)).await;
        deleted.expect("deleted");
    }

    async fn receive(&self, name: &str) -> WorkerStream {
        let receive = Receive {
            principal: self.caller.clone(),
            peer: String::new(),
            worker_name: "worker".to_owned(),
            options: ReceiveOptions {
                outstanding_max: 16,
                events_max: None,
                heartbeat_interval: Duration::from_secs(3600),
                stop_when_handled: false,
            },
            includes_payload: false,
        };
        let opened = self.subscriptions.receive(&named(name), receive).await;
        opened.expect("open")
    }

    async fn cells(&self, prefix: &str) -> Vec<String> {
        let cells = self.log.list(prefix, "", 1000).await.expect("readable");
        cells.into_iter().map(|cell| cell.name).collect()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

fn named(name: &str) -> Name {
    name.parse().expect("a name")
}

async fn next(worker: &mut WorkerStream) -> Result<StreamFrame, Error> {
    let next = tokio::time::timeout(PATIENCE, worker.next()).await;
    next.expect("in time").expect("no end")
}

async fn delivered(worker: &mut WorkerStream) -> AckId {
    match next(worker).await.expect("no error") {
        StreamFrame::Delivery(delivery) => delivery.grant.ack_id,
        frame => panic!("{frame:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_gateway_changes_the_others_obey() {
    let log = Arc::new(MemoryLog::open(Memory::default(), None, None));
    let [one, other] = [(); 2].map(|()| Gateway::start(&log, 100));
    assert!(one.create("crm").await.expect("created"));
    assert!(!other.create("crm").await.expect("there already"));
    let mut worker = one.receive("crm").await;
    let first = next(&mut worker).await.expect("no error");
    assert!(matches!(first, StreamFrame::Started(..)), "{first:?}");

    let paused = AskedSettings {
        paused: Some(true),
        ..AskedSettings::default()
    };
    let crm = named("crm");
    let updated = other.subscriptions.update(&other.caller, &crm, &paused);
    assert!(updated.await.expect("updated").status.is_paused);
    match next(&mut worker).await.expect("no error") {
        StreamFrame::Heartbeat(condition, _) => assert!(condition.is_paused),
        frame => panic!("{frame:?}"),
    }
    let listed = one.subscriptions.list(&one.caller, &[]).await;
    assert!(listed.expect("listed")[0].definition.settings.paused);

    other.delete("crm").await;
    let ended = next(&mut worker).await.expect_err("it is gone");
    assert!(matches!(ended, Error::Deleted(_)), "{ended:?}");
    let reports = one.subscriptions.acknowledge(&one.caller, &crm, Vec::new());
    assert!(matches!(reports.await, Err(Error::NotFound { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_step_of_one_gateway_reaches_the_others_by_one_watch_of_each() {
    let world = World::new(Settings::default());
    let [one, other] = [(); 2].map(|()| Gateway::start(&world.log, 100));
    let mut workers = Vec::new();
    for name in ["crm", "crm-eu", "crm-us"] {
        one.create(name).await.expect("created");
        let mut worker = one.receive(name).await;
        let first = next(&mut worker).await.expect("no error");
        assert!(matches!(first, StreamFrame::Started(..)), "{first:?}");
        workers.push(worker);
    }
    for _ in 0..2 {
        world.append("user_1").await;
    }
    // The second waits for the first, of each subscription.
    let mut held = Vec::new();
    for worker in &mut workers {
        let ack_id = delivered(worker).await;
        held.push((worker.name().clone(), ack_id));
    }
    let began = Instant::now();
    for (name, ack_id) in held {
        let report = Report {
            ack_id,
            outcome: Outcome::Done,
            reason: String::new(),
        };
        let caller = &other.caller;
        let acknowledged = other.subscriptions.acknowledge(caller, &name, vec![report]);
        assert_eq!(acknowledged.await.expect("stored"), []);
    }
    for worker in &mut workers {
        assert_eq!(delivered(worker).await.position.number(), 2);
    }
    // Without the hint, the states would be read again after 5 s.
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!((one.log.watches(), other.log.watches()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn gateways_that_create_the_last_subscriptions_at_once_keep_to_the_limit() {
    const LIMIT: usize = 3;
    const ROUNDS: usize = 20;
    let log = Arc::new(MemoryLog::open(Memory::default(), None, None));
    let gateways: Vec<Arc<Gateway>> = (0..4)
        .map(|_| Arc::new(Gateway::start(&log, LIMIT)))
        .collect();
    for name in ["first", "second"] {
        gateways[0].create(name).await.expect("room");
    }
    for round in 0..ROUNDS {
        let together = Arc::new(Barrier::new(gateways.len()));
        let creating = gateways.iter().enumerate().map(|(at, gateway)| {
            let (gateway, together) = (Arc::clone(gateway), Arc::clone(&together));
            tokio::spawn(async move {
                let name = format!("last-{round}-{at}");
                together.wait().await;
                gateway.create(&name).await.map(|_| name)
            })
        });
        let created = futures_util::future::join_all(creating).await;
        let created = created.into_iter().map(|joined| joined.expect("no panic"));
        let names: Vec<String> = created.filter_map(Result::ok).collect();
        let left = gateways[0].cells("subscription/").await;
        assert!(left.len() <= LIMIT, "{left:?}");
        assert_eq!(left.len(), 2 + names.len(), "what is answered is there");
        for name in names {
            gateways[0].delete(&name).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_deleted_subscription_leaves_is_removed_and_a_new_life_is_spared() {
    let log = Arc::new(MemoryLog::open(Memory::default(), None, None));
    let gateway = Gateway::start(&log, 100);
    let leave = |names: Vec<String>| {
        let changes = names.into_iter().map(|name| Change {
            name,
            expected: None,
            value: Some("left".into()),
        });
        gateway.log.swap(changes.collect())
    };
    let letters = |name: &str, count: u64| -> Vec<String> {
        let letters = (0..count).map(|position| format!("dead/{name}/{position:016x}"));
        letters.collect()
    };
    gateway.create("crm").await.expect("created");
    gateway.create("crm-eu").await.expect("created");
    leave(letters("crm", 1000)).await.expect("stored");
    leave(letters("crm", 1020).split_off(1000))
        .await
        .expect("stored");
    leave(letters("crm-eu", 3)).await.expect("stored");
    gateway.delete("crm").await;
    eventually("what it left is removed", || async {
        gateway.cells("dead/crm/").await.is_empty()
    })
    .await;
    assert_eq!(gateway.cells("state/").await.len(), 0, "none was made");
    assert_eq!(gateway.cells("dead/crm-eu/").await.len(), 3, "another's");

    // Created anew at once: nothing of before is left when that answers.
    leave(letters("crm", 600)).await.expect("stored");
    gateway.create("crm").await.expect("created anew");
    assert_eq!(gateway.cells("dead/crm/").await, [""; 0]);
    leave(letters("crm", 2)).await.expect("stored");
    leave(letters("gone", 5)).await.expect("stored");
    let swept = Gateway::start(&log, 100);
    eventually("a start sweeps", || async {
        swept.cells("dead/gone/").await.is_empty()
    })
    .await;
    assert_eq!(swept.cells("dead/crm/").await.len(), 2, "of its own life");
}
