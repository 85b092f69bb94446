//! Several writers of one cell while servers fail. Each adds its next entry to the value, so the
//! last value shows every swap that was ever stored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use clerkcast::log::ReadError;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::*;

/// Swaps that must be answered before something breaks, and again after it did.
const ENOUGH: usize = 60;

/// What a writer waits after a refusal.
const RETRY_DELAY: Duration = Duration::from_millis(20);

/// What the writers were answered.
#[derive(Default)]
struct Answers {
    stored: AtomicUsize,
    /// The entries whose swap was answered as stored, by the revision that it replaced.
    winners: Mutex<BTreeMap<Option<Revision>, Vec<String>>>,
    /// How many swaps failed, and are known only by reading.
    open: AtomicUsize,
}

impl Answers {
    async fn more(&self) {
        let count = || self.stored.load(Ordering::Relaxed);
        let target = count() + ENOUGH;
        eventually("swaps are stored", || async { count() >= target }).await;
    }
}

/// Adds entries to one cell, each once, until it is stopped.
struct Writer {
    log: Arc<JetStreamLog>,
    number: usize,
    answers: Arc<Answers>,
    stop: CancellationToken,
}

impl Writer {
    /// Returns how many entries it has added.
    async fn write(self) -> usize {
        let mut added = 0;
        while !self.stop.is_cancelled() {
            self.add(&format!("{}:{added}", self.number)).await;
            added += 1;
        }
        added
    }

    /// Swaps until a read, or an answer, shows that the entry is stored.
    async fn add(&self, entry: &str) {
        loop {
            let Ok(cell) = Cells::read(&*self.log, "shared").await else {
                sleep(RETRY_DELAY).await;
                continue;
            };
            let value = cell.as_ref().map_or("", text);
            if entries(value).any(|stored| stored == entry) {
                return;
            }
            let value = format!("{value}{entry}\n");
            let expected = cell.map(|cell| cell.revision);
            let swapped = self
                .log
                .swap(vec![change("shared", expected, Some(&value))]);
            match swapped.await {
                Ok(Swapped::Stored(_)) => {
                    let mut winners = self.answers.winners.lock();
                    winners.entry(expected).or_default().push(entry.to_owned());
                    self.answers.stored.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Ok(Swapped::Conflict(_)) => {}
                Err(_) => {
                    self.answers.open.fetch_add(1, Ordering::Relaxed);
                    sleep(RETRY_DELAY).await;
                }
            }
        }
    }
}

fn entries(value: &str) -> impl Iterator<Item = &str> {
    value.lines()
}

/// Three writers, each with a connection of its own.
struct Writers {
    answers: Arc<Answers>,
    stop: CancellationToken,
    running: JoinSet<usize>,
    logs: Vec<Arc<JetStreamLog>>,
}

impl Writers {
    async fn start(configs: [Config; 3]) -> Self {
        let mut writers = Self {
            answers: Arc::default(),
            stop: CancellationToken::new(),
            running: JoinSet::new(),
            logs: Vec::new(),
        };
        for (number, config) in configs.into_iter().enumerate() {
            let log = open(config).await;
            writers.logs.push(Arc::clone(&log));
            let writer = Writer {
                log,
                number,
                answers: Arc::clone(&writers.answers),
                stop: writers.stop.clone(),
            };
            writers.running.spawn(writer.write());
        }
        writers
    }

    /// Compares what was answered with what is there.
    async fn agree(mut self) {
        self.stop.cancel();
        let mut added = 0;
        while let Some(ended) = self.running.join_next().await {
            added += ended.expect("no panic");
        }
        for (revision, winners) in &*self.answers.winners.lock() {
            assert_eq!(winners.len(), 1, "{revision:?} was replaced by {winners:?}");
        }
        let found = Mutex::new(None);
        eventually("the cell is read", || async {
            let cell = Cells::read(&*self.logs[0], "shared").await.ok().flatten();
            *found.lock() = cell;
            found.lock().is_some()
        })
        .await;
        let cell = found.into_inner().expect("just found");
        let stored: Vec<&str> = entries(text(&cell)).collect();
        let once: BTreeSet<&str> = stored.iter().copied().collect();
        assert_eq!(once.len(), stored.len(), "nothing is stored twice");
        let winners = self.answers.winners.lock();
        let lost = winners
            .values()
            .flatten()
            .find(|it| !once.contains(it.as_str()));
        assert_eq!(lost, None, "what was answered is there");
        assert_eq!(stored.len(), added, "reading reveals the rest");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_three_writers_have_one_winner_of_each_revision() {
    let server = Server::start();
    let writers = Writers::start([(); 3].map(|()| config(&[&server]))).await;
    writers.answers.more().await;
    assert_eq!(writers.answers.open.load(Ordering::Relaxed), 0);
    writers.agree().await;
}

/// The connections of a writer begin at another server each.
fn around(servers: &[Server; 3]) -> [Config; 3] {
    [0, 1, 2].map(|first| {
        let order = [first, (first + 1) % 3, (first + 2) % 3];
        config(&order.map(|index| &servers[index]))
    })
}

/// Which server leads the bucket.
async fn leader(servers: &[Server; 3]) -> usize {
    let urls: Vec<String> = servers.iter().map(Server::url).collect();
    let client = async_nats::connect(urls).await.expect("connects");
    let context = async_nats::jetstream::new(client);
    let found = Mutex::new(None);
    eventually("the bucket has a leader", || async {
        let stream = context.get_stream(BUCKET).await.ok();
        let cluster = stream.and_then(|stream| stream.cached_info().cluster.clone());
        let leader = cluster.and_then(|cluster| cluster.leader);
        let index = servers
            .iter()
            .position(|it| Some(it.name()) == leader.as_deref());
        *found.lock() = index;
        index.is_some()
    })
    .await;
    let leader = *found.lock();
    leader.expect("just found")
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_what_was_answered_survives_a_leader_that_is_killed() {
    let mut servers = Server::cluster();
    let writers = Writers::start(around(&servers)).await;
    for _ in 0..2 {
        writers.answers.more().await;
        let leader = leader(&servers).await;
        servers[leader].kill();
        writers.answers.more().await;
        servers[leader].run();
    }
    writers.answers.more().await;
    writers.agree().await;
}

/// The leader does not reach the others, and answers a writer that still reaches it.
#[tokio::test(flavor = "multi_thread")]
async fn swapped_a_leader_that_is_cut_off_stores_nothing() {
    let (servers, links) = Server::linked_cluster();
    let writers = Writers::start(around(&servers)).await;
    writers.answers.more().await;
    links.cut_off(leader(&servers).await);
    writers.answers.more().await;
    links.mend();
    writers.answers.more().await;
    writers.agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_a_server_that_hangs_fails_a_swap_in_time_and_reading_reveals_it() {
    let server = Server::start();
    let writers = Writers::start([(); 3].map(|()| config(&[&server]))).await;
    writers.answers.more().await;
    server.freeze();
    for log in &writers.logs {
        let refused = log.swap(vec![change("alone", None, Some("1"))]).await;
        assert!(
            matches!(refused, Err(AppendError::Refusing(_))),
            "{refused:?}"
        );
        let refused = Cells::read(&**log, "alone").await;
        assert!(
            matches!(refused, Err(ReadError::Unreachable(_))),
            "{refused:?}"
        );
    }
    server.signal("-CONT");
    writers.answers.more().await;
    writers.agree().await;
}

/// `kill -9` loses nothing that was acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn swapped_what_was_answered_survives_a_server_that_is_killed() {
    let mut server = Server::start();
    let writers = Writers::start([(); 3].map(|()| config(&[&server]))).await;
    for _ in 0..2 {
        writers.answers.more().await;
        server.kill();
        server.run();
    }
    writers.answers.more().await;
    writers.agree().await;
}
