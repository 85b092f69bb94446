//! Three gateways on three servers, under load, while something breaks: every 2xx is
//! delivered exactly once to every subscriber, in one order.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use clerkcast::event::{Cursor, Position};
use clerkcast::proto::SubscribeRequest;
use clerkcast::proto::event_service_client::EventServiceClient;
use clerkcast::proto::subscribe_response::Kind;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::place::on;
use super::server::Server;
use crate::harness::{Gateway, PATIENCE, Poster, after, body, eventually, from_earliest};

/// Webhooks under way at once, each at two gateways.
const POSTERS: usize = 6;
/// What must be accepted before something breaks, and again after it did.
const ENOUGH: usize = 150;

struct Site {
    servers: [Server; 3],
    gateways: Vec<Gateway>,
    accepted: Accepted,
}

/// The ids that were answered 200, and how often as the first copy.
type Accepted = Arc<Mutex<BTreeMap<String, usize>>>;

impl Site {
    fn start() -> Self {
        Self::on(Server::cluster())
    }

    fn on(servers: [Server; 3]) -> Self {
        let gateways = (0..3).map(|first| {
            let order = [first, (first + 1) % 3, (first + 2) % 3];
            gateway_on(&order.map(|index| &servers[index]))
        });
        Self {
            gateways: gateways.collect(),
            servers,
            accepted: Accepted::default(),
        }
    }

    /// All gateways begin at the server that leads the stream.
    async fn on_leader(servers: [Server; 3]) -> Self {
        let mut site = Self::on(servers);
        let leader = site.leader().await;
        let gateways = (0..3).map(|_| gateway_on(&[&site.servers[leader]]));
        site.gateways = gateways.collect();
        site
    }

    /// Posts and reads while `fault` happens, then compares what everybody saw.
    async fn survives(mut self, fault: impl AsyncFnOnce(&mut Self)) {
        let (stop, posted) = (CancellationToken::new(), CancellationToken::new());
        let mut load = self.load(&stop);
        let mut readers = self.readers(&posted);
        self.accepted_more().await;
        fault(&mut self).await;
        self.accepted_more().await;
        stop.cancel();
        while let Some(ended) = load.join_next().await {
            ended.expect("no panic");
        }
        posted.cancel();
        let mut orders = Vec::new();
        while let Some(ended) = readers.join_next().await {
            orders.push(ended.expect("no panic"));
        }
        let accepted = self.accepted.lock();
        for (id, first_copies) in &*accepted {
            assert!(*first_copies <= 1, "{id} entered {first_copies} times");
        }
        for order in &orders {
            let ids: HashSet<&String> = order.iter().map(|(_, id)| id).collect();
            assert_eq!(ids.len(), order.len(), "nothing is repeated");
            assert!(order.is_sorted_by(|(a, _), (b, _)| a < b), "in one order");
            let lost = accepted.keys().find(|id| !ids.contains(id));
            assert_eq!(lost, None, "every 2xx is delivered");
            // What was stored and not answered may follow on the last that was.
            let common = order.len().min(orders[0].len());
            assert_eq!(
                order[..common],
                orders[0][..common],
                "everybody sees the same"
            );
        }
    }

    /// Each event at two gateways at the same instant, again until one says that it has it.
    fn load(&self, stop: &CancellationToken) -> JoinSet<()> {
        let posters: Vec<Poster> = self.gateways.iter().map(|it| it.poster.clone()).collect();
        let mut load = JoinSet::new();
        for poster in 0..POSTERS {
            let (posters, stop) = (posters.clone(), stop.clone());
            let accepted = Arc::clone(&self.accepted);
            load.spawn(async move {
                let mut number = 0;
                while !stop.is_cancelled() {
                    let id = format!("msg_{poster}_{number}");
                    let first_copies = deliver(&posters, &id, poster + number).await;
                    accepted.lock().insert(id, first_copies);
                    number += 1;
                }
            });
        }
        load
    }

    /// A subscriber at each gateway, which goes on at another one when its own is gone.
    fn readers(&self, posted: &CancellationToken) -> JoinSet<Vec<(Position, String)>> {
        let addresses: Vec<String> = self.gateways.iter().map(|it| it.grpc.clone()).collect();
        let mut readers = JoinSet::new();
        for first in 0..addresses.len() {
            let reader = Reader {
                addresses: addresses.clone(),
                at: first,
                cursor: None,
                seen: Vec::new(),
                accepted: Arc::clone(&self.accepted),
                posted: posted.clone(),
            };
            readers.spawn(reader.read());
        }
        readers
    }

    async fn accepted_more(&self) {
        let count = || self.accepted.lock().len();
        let target = count() + ENOUGH;
        eventually("webhooks are accepted", || async { count() >= target }).await;
    }

    /// Which server leads the stream.
    async fn leader(&self) -> usize {
        let urls: Vec<String> = self.servers.iter().map(Server::url).collect();
        let client = async_nats::connect(urls).await.expect("connects");
        let context = async_nats::jetstream::new(client);
        let mut found = None;
        eventually("the stream has a leader", || {
            let context = context.clone();
            async move { leader_of(&context).await.is_some() }
        })
        .await;
        while found.is_none() {
            found = leader_of(&context).await;
        }
        let names: Vec<&str> = self.servers.iter().map(Server::name).collect();
        let found = found.expect("just found");
        names
            .iter()
            .position(|name| *name == found)
            .expect("one of them")
    }

    /// Until every server has the whole stream, so that the next may go.
    async fn replicated(&self) {
        let urls: Vec<String> = self.servers.iter().map(Server::url).collect();
        let client = async_nats::connect(urls).await.expect("connects");
        let context = async_nats::jetstream::new(client);
        eventually("every replica is current", || {
            let context = context.clone();
            async move {
                let stream = context.get_stream("CLERKCAST").await;
                let info = stream.ok().map(|stream| stream.cached_info().clone());
                let cluster = info.and_then(|info| info.cluster);
                cluster.is_some_and(|cluster| {
                    cluster.replicas.len() == 2
                        && cluster.replicas.iter().all(|it| it.current && !it.offline)
                })
            }
        })
        .await;
    }
}

fn gateway_on(servers: &[&Server]) -> Gateway {
    let mut options = on(servers);
    options
        .args
        .extend(["--nats-replicas".to_owned(), "3".to_owned()]);
    Gateway::start_with(options)
}

async fn leader_of(context: &async_nats::jetstream::Context) -> Option<String> {
    let stream = context.get_stream("CLERKCAST").await.ok()?;
    stream.cached_info().cluster.clone()?.leader
}

/// Returns how often it was taken for the first copy.
async fn deliver(posters: &[Poster], id: &str, first: usize) -> usize {
    let event = body("user.updated", "user_1");
    let mut first_copies = 0;
    for attempt in first.. {
        let [one, other] = [attempt, attempt + 1].map(|index| &posters[index % posters.len()]);
        let answers = tokio::join!(
            one.post(id, event.clone().into()),
            other.post(id, event.clone().into())
        );
        let taken: Vec<_> = [answers.0, answers.1]
            .into_iter()
            .flatten()
            .filter(|answer| answer.status == 200)
            .collect();
        let new = taken
            .iter()
            .filter(|answer| answer.json()["duplicate"] == false);
        first_copies += new.count();
        if !taken.is_empty() {
            break;
        }
        // As a sender would, if faster.
        sleep(Duration::from_millis(50)).await;
    }
    first_copies
}

struct Reader {
    addresses: Vec<String>,
    at: usize,
    cursor: Option<String>,
    seen: Vec<(Position, String)>,
    accepted: Accepted,
    posted: CancellationToken,
}

impl Reader {
    /// Reads until it has seen all that was accepted, when no more will be. Only from then on
    /// is it late: how long the fault takes is for the others to say.
    async fn read(mut self) -> Vec<(Position, String)> {
        let posted = self.posted.clone();
        let late = async {
            posted.cancelled().await;
            sleep(PATIENCE).await;
        };
        let reading = async {
            while !self.has_all() {
                // Whatever ended it: the cursor goes on elsewhere.
                let _ended = self.follow().await;
                self.at += 1;
                sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = reading => {}
            () = late => panic!("not all is delivered in time"),
        }
        self.seen
    }

    fn has_all(&self) -> bool {
        if !self.posted.is_cancelled() {
            return false;
        }
        let seen: HashSet<&String> = self.seen.iter().map(|(_, id)| id).collect();
        let accepted = self.accepted.lock();
        accepted.keys().all(|id| seen.contains(id))
    }

    async fn follow(&mut self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let address = &self.addresses[self.at % self.addresses.len()];
        let mut client = EventServiceClient::connect(format!("http://{address}")).await?;
        let request = self.cursor.as_deref().map_or_else(from_earliest, after);
        let request = SubscribeRequest {
            heartbeat_interval: Some(prost_types::Duration {
                seconds: 1,
                nanos: 0,
            }),
            ..request
        };
        let mut frames = client.subscribe(request).await?.into_inner();
        while let Some(frame) = timeout(PATIENCE, frames.message()).await?? {
            if let Some(Kind::Event(event)) = frame.kind {
                let position = frame.cursor.parse::<Cursor>()?.position;
                self.seen.push((position, event.id));
            }
            self.cursor = Some(frame.cursor);
            if self.has_all() {
                break;
            }
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_a_server_that_follows_is_killed() {
    let fault = async |site: &mut Site| {
        let follower = (site.leader().await + 1) % 3;
        site.servers[follower].kill();
        site.accepted_more().await;
        site.servers[follower].run();
        site.replicated().await;
    };
    Site::start().survives(fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_the_server_that_leads_is_killed() {
    let fault = async |site: &mut Site| {
        let leader = site.leader().await;
        site.servers[leader].kill();
        site.accepted_more().await;
        site.servers[leader].run();
        site.replicated().await;
    };
    Site::start().survives(fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_a_gateway_is_killed() {
    let fault = async |site: &mut Site| site.gateways[1].kill();
    Site::start().survives(fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_its_servers_are_restarted_one_after_the_other() {
    let fault = async |site: &mut Site| {
        for index in 0..3 {
            site.servers[index].stop();
            site.servers[index].run();
            site.replicated().await;
        }
    };
    Site::start().survives(fault).await;
}

/// The leader hangs, its connections still open, and goes on when there is another one.
#[tokio::test(flavor = "multi_thread")]
async fn cluster_the_leader_hangs() {
    let fault = async |site: &mut Site| {
        let leader = site.leader().await;
        site.servers[leader].freeze();
        site.accepted_more().await;
        site.servers[leader].signal("-CONT");
        site.replicated().await;
    };
    Site::start().survives(fault).await;
}

/// The leader does not reach the other servers, and its gateway still reaches it: what it
/// is told there must not be taken for the log.
#[tokio::test(flavor = "multi_thread")]
async fn cluster_the_network_is_cut_between_the_leader_and_the_others() {
    let (servers, links) = Server::linked_cluster();
    let fault = async |site: &mut Site| {
        let leader = site.leader().await;
        links.cut_off(leader);
        for _ in 0..3 {
            site.accepted_more().await;
        }
        links.mend();
    };
    Site::on(servers).survives(fault).await;
}

/// The same, where no gateway has a connection to the others: each must find them.
#[tokio::test(flavor = "multi_thread")]
async fn cluster_gateways_leave_a_server_that_is_cut_off_from_the_others() {
    let (servers, links) = Server::linked_cluster();
    let fault = async |site: &mut Site| {
        let leader = site.leader().await;
        links.cut_off(leader);
        site.accepted_more().await;
        links.mend();
        site.replicated().await;
    };
    Site::on_leader(servers).await.survives(fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_all_its_servers_are_killed_at_once() {
    let fault = async |site: &mut Site| {
        for server in &mut site.servers {
            server.kill();
        }
        for server in &mut site.servers {
            server.run();
        }
        site.replicated().await;
    };
    Site::start().survives(fault).await;
}
