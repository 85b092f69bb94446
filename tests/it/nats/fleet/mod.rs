//! Workers of one subscription at three gateways, under load, while something breaks.

mod ledger;
mod majority;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clerkcast::proto::create_subscription_request::Start;
use clerkcast::proto::subscription_service_client::SubscriptionServiceClient;
use clerkcast::proto::{
    CreateSubscriptionRequest, ListSubscriptionsRequest, StartPosition, Subscription,
};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use self::ledger::Ledger;
use self::worker::Worker;
use super::links::Link;
use super::place::on;
use super::server::Server;
use crate::harness::{Gateway, Options, Poster, body, eventually};
use crate::preload::{compile, preloaded};

const NAME: &str = "crm";
const ACK_DEADLINE: Duration = Duration::from_secs(2);
/// The delay before an event is handed out again. A longer one would hide a lease that ends early.
const RETRY_DELAY_MIN: Duration = Duration::from_millis(100);
/// Users whose events are posted, each a key.
const KEYS: usize = 8;
/// Workers at each gateway when nothing is broken.
const WORKERS: usize = 2;
/// What each key must have acknowledged before something breaks, and again after it did.
const ENOUGH: usize = 5;
/// What is waited for an answer, before another gateway is asked.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
const RETRY_DELAY: Duration = Duration::from_millis(50);

struct Fleet {
    gateways: Vec<Gateway>,
    clocks: [i64; 3],
    /// Between the last gateway and NATS; absent where there is more than one server.
    link: Option<Link>,
    ledger: Arc<Mutex<Ledger>>,
    servers: Vec<Server>,
    _directory: Option<TempDir>,
}

impl Fleet {
    /// Three gateways, whose clocks are ahead by so many seconds.
    async fn start(clocks: [i64; 3]) -> Self {
        let server = Server::start();
        let link = Link::to(server.port());
        let directory = TempDir::new().expect("a temporary directory");
        let library = compile("clock", directory.path());
        let gateways = [0, 1, 2].map(|index| {
            let mut options = if index == 2 {
                Options::args(&["--log", "nats", "--nats-url", &link.url()])
            } else {
                on(&[&server])
            };
            let file: PathBuf = directory.path().join(index.to_string());
            std::fs::write(&file, clocks[index].to_string()).expect("written");
            if clocks[index] != 0 {
                options.env = preloaded(&library, "CLERKCAST_CLOCK", &file);
            }
            start(options)
        });
        let fleet = Self {
            gateways: gateways.into(),
            clocks,
            link: Some(link),
            ledger: Arc::default(),
            servers: vec![server],
            _directory: Some(directory),
        };
        fleet.created().await
    }

    /// Three gateways on a cluster of three servers, each of which has the whole stream.
    async fn on_cluster() -> Self {
        let servers = Server::cluster();
        let gateways = [0, 1, 2].map(|first| {
            let order = [first, (first + 1) % 3, (first + 2) % 3];
            let mut options = on(&order.map(|index| &servers[index]));
            let replicas = ["--nats-replicas", "3"].map(str::to_owned);
            options.args.extend(replicas);
            start(options)
        });
        let fleet = Self {
            gateways: gateways.into(),
            clocks: [0; 3],
            link: None,
            ledger: Arc::default(),
            servers: servers.into(),
            _directory: None,
        };
        fleet.created().await
    }

    /// The same fleet, with the subscription.
    async fn created(self) -> Self {
        let create = CreateSubscriptionRequest {
            subscription: Some(Subscription {
                name: NAME.to_owned(),
                ack_deadline: ACK_DEADLINE.try_into().ok(),
                max_deliveries: 100,
                min_retry_delay: RETRY_DELAY_MIN.try_into().ok(),
                max_retry_delay: RETRY_DELAY_MIN.try_into().ok(),
                ..Subscription::default()
            }),
            start: Some(Start::StartPosition(StartPosition::Earliest.into())),
        };
        let mut client = connect(&self.gateways[0].grpc).await;
        let created = client.create_subscription(create);
        created.await.expect("created");
        self
    }

    /// Posts and works while `fault` happens, then holds what was seen to the laws.
    async fn survives(mut self, fault: impl AsyncFnOnce(&mut Self)) {
        let stop = CancellationToken::new();
        let mut load = self.load(&stop);
        let mut workers = self.work();
        self.each_key_goes_on().await;
        fault(&mut self).await;
        self.each_key_goes_on().await;
        stop.cancel();
        while let Some(ended) = load.join_next().await {
            ended.expect("no panic");
        }
        eventually("every event is acknowledged", || async {
            self.ledger.lock().is_finished()
        })
        .await;
        workers.abort_all();
        while let Some(ended) = workers.join_next().await {
            assert!(ended.is_err_and(|error| error.is_cancelled()), "no panic");
        }
        let posted = self.ledger.lock().check();
        self.is_accounted(posted).await;
    }

    /// A poster for each key, which posts its events in order, each until a gateway has it.
    fn load(&self, stop: &CancellationToken) -> JoinSet<()> {
        let posters: Vec<Poster> = self.gateways.iter().map(|it| it.poster.clone()).collect();
        let mut load = JoinSet::new();
        for key in 0..KEYS {
            let (posters, stop) = (posters.clone(), stop.clone());
            let ledger = Arc::clone(&self.ledger);
            load.spawn(async move {
                let mut number = 0;
                while !stop.is_cancelled() {
                    post(&posters, key, number).await;
                    ledger.lock().note_posted(key, number);
                    number += 1;
                    // Handling is slower than posting, and the backlog must not grow.
                    while ledger.lock().backlog(key) > ENOUGH && !stop.is_cancelled() {
                        sleep(RETRY_DELAY).await;
                    }
                }
            });
        }
        load
    }

    fn work(&self) -> JoinSet<()> {
        let addresses: Vec<String> = self.gateways.iter().map(|it| it.grpc.clone()).collect();
        let mut workers = JoinSet::new();
        for number in 0..WORKERS * addresses.len() {
            let worker = Worker {
                number,
                addresses: addresses.clone(),
                clocks: self.clocks,
                ledger: Arc::clone(&self.ledger),
            };
            workers.spawn(worker.work());
        }
        workers
    }

    /// Waits until more events of each key are acknowledged.
    async fn each_key_goes_on(&self) {
        let counts = || self.ledger.lock().acknowledged_per_key();
        let before = counts();
        eventually("each key goes on", || async {
            let mut pairs = counts().into_iter().zip(before);
            pairs.all(|(now, before)| now >= before + ENOUGH)
        })
        .await;
    }

    /// What the subscription counts is what was posted.
    async fn is_accounted(&self, posted: usize) {
        eventually("all is acknowledged, and nothing is pending", || async {
            let mut client = connect(&self.gateways[0].grpc).await;
            let listed = client.list_subscriptions(ListSubscriptionsRequest {
                names: vec![NAME.to_owned()],
            });
            let listed = listed.await.expect("listed").into_inner().subscriptions;
            let pending =
                |it: &Subscription| it.outstanding_count + it.retrying_count + it.blocked_count;
            let is_accounted = |it: &Subscription| {
                usize::try_from(it.acknowledged_count) == Ok(posted)
                    && pending(it) + it.dead_count == 0
            };
            listed.iter().all(is_accounted)
        })
        .await;
    }
}

fn start(mut options: Options) -> Gateway {
    // Less than the servers have room for where disks are small.
    let room = ["--retain-bytes", "256MiB"].map(str::to_owned);
    options.args.extend(room);
    Gateway::start_with(options)
}

async fn connect(address: &str) -> SubscriptionServiceClient<Channel> {
    let client = SubscriptionServiceClient::connect(format!("http://{address}")).await;
    client.expect("gRPC connects")
}

async fn post(posters: &[Poster], key: usize, number: usize) {
    let id = format!("msg_{key}_{number}");
    let event = body("user.updated", &format!("user_{key}"));
    for attempt in key + number.. {
        let poster = &posters[attempt % posters.len()];
        let answer = timeout(ANSWERED_WITHIN, poster.post(&id, event.clone().into())).await;
        if matches!(answer, Ok(Ok(answer)) if answer.status == 200) {
            return;
        }
        sleep(RETRY_DELAY).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fleet_every_law_holds_with_acknowledgements_at_any_gateway() {
    let fleet = Fleet::start([0; 3]).await;
    fleet.survives(async |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fleet_every_law_holds_with_clocks_a_second_apart() {
    let fleet = Fleet::start([0, 1, 0]).await;
    fleet.survives(async |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fleet_every_law_holds_when_a_gateway_is_killed() {
    let fault = async |fleet: &mut Fleet| fleet.gateways[1].kill();
    Fleet::start([0; 3]).await.survives(fault).await;
}

/// It goes on with leases that have gone to others meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn fleet_every_law_holds_when_a_gateway_is_paused() {
    let fault = async |fleet: &mut Fleet| {
        fleet.gateways[1].signal("-STOP");
        fleet.each_key_goes_on().await;
        fleet.gateways[1].signal("-CONT");
    };
    Fleet::start([0; 3]).await.survives(fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fleet_every_law_holds_when_a_gateway_is_cut_off_from_nats() {
    let fault = async |fleet: &mut Fleet| {
        let link = fleet.link.as_ref().expect("one server");
        link.cut();
        fleet.each_key_goes_on().await;
        link.mend();
    };
    Fleet::start([0; 3]).await.survives(fault).await;
}
