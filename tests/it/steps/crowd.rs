//! Many workers at several gateways whose cells fail at random: the laws hold, whatever happens.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use clerkcast::event::Position;
use clerkcast::subscriptions::{
    AskedSettings, Delivery, Outcome, Report, StepError, Worker, WorkerFrame, list_dead_letters,
};
use parking_lot::{Mutex, RwLock};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::faulty::Faults;
use super::random::Random;
use super::watcher::Watcher;
use super::world::{Gateway, World, name, options, settings};

const MAX_DELIVERIES: u32 = 5;
const GATEWAYS: usize = 3;
const USERS: u64 = 7;

struct Crowd {
    world: World,
    /// Each with the skew of its clock.
    gateways: RwLock<Vec<(Arc<Gateway>, i64)>>,
    watcher: Mutex<Watcher>,
    random: Mutex<Random>,
    over: CancellationToken,
}

impl Crowd {
    fn new(seed: u64, faults: Faults) -> Arc<Self> {
        let asked = AskedSettings {
            ack_deadline: Some(Duration::from_secs(2)),
            max_deliveries: Some(MAX_DELIVERIES.cast_signed()),
            min_retry_delay: Some(Duration::from_millis(100)),
            max_retry_delay: Some(Duration::from_secs(1)),
            ..AskedSettings::default()
        };
        let world = World::new(settings(asked));
        let gateways = (0..GATEWAYS).map(|index| {
            let skew_ms = [0, 400, -400][index];
            let seed = seed * 31 + index as u64;
            let gateway = world.gateway_with(faults, seed, skew_ms);
            (Arc::new(gateway), skew_ms)
        });
        let gateways = gateways.collect();
        Arc::new(Self {
            world,
            gateways: RwLock::new(gateways),
            watcher: Mutex::new(Watcher::new(MAX_DELIVERIES)),
            random: Mutex::new(Random::new(seed)),
            over: CancellationToken::new(),
        })
    }

    fn below(&self, bound: u64) -> u64 {
        self.random.lock().below(bound)
    }

    fn happens(&self, percent: u64) -> bool {
        self.random.lock().happens(percent)
    }

    fn any_gateway(&self) -> (Arc<Gateway>, i64) {
        let index = usize::try_from(self.below(GATEWAYS as u64)).expect("few");
        self.gateways.read()[index].clone()
    }

    async fn append(&self, events: usize) {
        for _ in 0..events {
            let user = format!("user_{}", self.below(USERS));
            {
                // Nothing can be delivered before it is noted.
                let mut watcher = self.watcher.lock();
                let appended = futures_util::FutureExt::now_or_never(self.world.append(&user));
                let position = appended.expect("a log in memory");
                watcher.note_appended(position, &user);
            }
            sleep(Duration::from_millis(self.below(20))).await;
        }
    }

    /// Workers that come and go, one after the other.
    async fn work(self: Arc<Self>) {
        let mut handlers = JoinSet::new();
        while !self.over.is_cancelled() {
            let (gateway, skew_ms) = self.any_gateway();
            let outstanding_max = 1 + usize::try_from(self.below(6)).expect("few");
            let opened = gateway.running.receive(options(outstanding_max)).await;
            let Ok(mut worker) = opened else {
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            let mut left = 1 + self.below(30);
            while left > 0 && self.receive(&mut worker, skew_ms, &mut handlers).await {
                left -= 1;
            }
        }
    }

    /// Takes one frame. Returns whether the worker stays.
    async fn receive(
        self: &Arc<Self>,
        worker: &mut Worker,
        skew_ms: i64,
        handlers: &mut JoinSet<()>,
    ) -> bool {
        match timeout(Duration::from_secs(3), worker.next()).await {
            Ok(Some(Ok(WorkerFrame::Delivery(delivery)))) => {
                let now = self.world.now();
                self.watcher.lock().note_delivered(&delivery, now, skew_ms);
                handlers.spawn(Arc::clone(self).handle(*delivery));
                true
            }
            Ok(Some(Ok(_))) => true,
            Ok(Some(Err(_)) | None) | Err(_) => false,
        }
    }

    async fn handle(self: Arc<Self>, delivery: Delivery) {
        sleep(Duration::from_millis(self.below(200))).await;
        if self.happens(5) {
            return;
        }
        let failed = Outcome::Failed { delay: None };
        let (extended, outcome) = match self.below(20) {
            0..13 => (false, Outcome::Done),
            13 => (true, Outcome::Done),
            14 => (false, Outcome::Rejected),
            15 => (false, Outcome::Released),
            _ => (false, failed),
        };
        if extended {
            let _may_be_lost = self.report(&delivery, Outcome::Extended).await;
            sleep(Duration::from_millis(self.below(2_500))).await;
        }
        let position = delivery.grant.ack_id.position;
        for _ in 0..20 {
            match self.report(&delivery, outcome).await {
                Ok(lost) if lost.is_empty() && outcome == Outcome::Done => {
                    self.watcher.lock().note_acknowledged(position);
                    return;
                }
                Ok(_) => return,
                Err(_) => sleep(Duration::from_millis(self.below(300))).await,
            }
        }
    }

    async fn report(
        &self,
        delivery: &Delivery,
        outcome: Outcome,
    ) -> Result<Vec<clerkcast::subscriptions::AckId>, StepError> {
        let ack_id = delivery.grant.ack_id;
        let (gateway, _) = self.any_gateway();
        self.watcher.lock().note_reporting(ack_id.position, outcome);
        let report = Report {
            ack_id,
            outcome,
            reason: "at random".to_owned(),
        };
        gateway.running.settle(vec![report]).await
    }

    /// A gateway dies at any moment, and another one takes its place.
    fn crash(&self, seed: u64, faults: Faults) {
        let index = usize::try_from(self.below(GATEWAYS as u64)).expect("few");
        let (dead, skew_ms) = self.gateways.read()[index].clone();
        dead.log.set_faults(Faults::DEAD);
        dead.drain.cancel();
        let gateway = self.world.gateway_with(faults, seed, skew_ms);
        self.gateways.write()[index] = (Arc::new(gateway), skew_ms);
    }

    async fn check_end(&self) {
        let last = Position::new(self.watcher.lock().matching());
        let is_handled = |status: &clerkcast::subscriptions::Status| {
            let counts = status.counts;
            let pending = counts.outstanding + counts.retrying + counts.blocked;
            pending == 0 && status.cursor >= last
        };
        let status = self.world.wait_for("all is handled", is_handled).await;
        let counts = status.counts;
        let log = self.world.healthy_log();
        let generation = self.world.definition().first_generation();
        let mut dead = BTreeSet::new();
        let mut after = Position::START;
        loop {
            let listed = list_dead_letters(&*log, &name(), generation, after, 3).await;
            let page = listed.expect("readable");
            for letter in page.letters {
                let position = letter.record.position;
                assert!(dead.insert(position), "parked once: {position}");
                let known = [(1..=MAX_DELIVERIES).contains(&letter.deliveries)];
                assert_eq!(known, [true]);
                assert!(["at random", "deadline passed"].contains(&letter.reason.as_str()));
                assert!(
                    letter
                        .record
                        .entry
                        .payload
                        .starts_with(b"{\"type\":\"user.updated\"")
                );
            }
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        let watcher = self.watcher.lock();
        watcher.check_end(&dead);
        assert_eq!(counts.dead, dead.len() as u64);
        let accounted = counts.acknowledged + counts.dead + counts.passed_over;
        assert_eq!(accounted, watcher.matching(), "accounted: {counts:?}");
    }
}

async fn run(seed: u64, faults: Faults, crashes: u64) -> usize {
    let crowd = Crowd::new(seed, faults);
    let mut workers = JoinSet::new();
    for _ in 0..4 {
        workers.spawn(Arc::clone(&crowd).work());
    }
    for crash in 0..=crashes {
        crowd.append(60).await;
        if crash < crashes {
            crowd.crash(seed * 1000 + crash, faults);
        }
    }
    for (gateway, _) in crowd.gateways.read().iter() {
        gateway.log.set_faults(Faults::default());
    }
    crowd.check_end().await;
    crowd.over.cancel();
    while let Some(ended) = workers.join_next().await {
        ended.expect("no law is broken");
    }
    crowd.watcher.lock().deliveries
}

#[tokio::test(start_paused = true)]
async fn delivered_exclusive_keyed_and_accounted_at_three_gateways() {
    for seed in 1..=5 {
        let deliveries = run(seed, Faults::default(), 0).await;
        assert!(deliveries >= 60, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn delivered_exclusive_keyed_and_accounted_while_cells_fail_and_gateways_die() {
    for seed in 1..=10 {
        let deliveries = run(seed, Faults::MANY, 3).await;
        assert!(deliveries >= 240, "seed {seed}");
    }
}
