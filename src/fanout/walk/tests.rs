use std::future::poll_fn;
use std::ops::ControlFlow;
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use proptest::prelude::*;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::super::hub::Config;
use super::super::metrics::Metrics;
use super::super::sink::RecordSink;
use super::super::{feed, names};
use super::*;
use crate::event::{Attributes, Epoch, Run, UnixMillis};
use crate::filter::{Scope, Spec};
use crate::log::{
    Batch, Bounds, Description, Entry, Follower, Lineage, Predicate, Read, ReadError, Reader,
    Record, Scan, Tally,
};

const TYPES: [&str; 3] = ["user.created", "user.deleted", "session.created"];
/// How often a scan is not ready before it answers.
const SCAN_PENDING: usize = 3;
/// A scan shows at most this many records.
const SCAN_ROWS: usize = 7;
/// Longer than any test.
const PATIENCE: Duration = Duration::from_secs(86_400);

/// A log in memory, whose scans take several polls.
#[derive(Debug)]
struct MemoryLog {
    kept: Mutex<Kept>,
    batches: broadcast::Sender<Arc<Batch>>,
}

#[derive(Debug, Default)]
struct Kept {
    records: Vec<Record>,
    trimmed: Position,
    last: Position,
    /// Scans that do not reach the log.
    away: usize,
}

impl MemoryLog {
    fn new() -> Self {
        Self {
            kept: Mutex::default(),
            batches: broadcast::Sender::new(1),
        }
    }

    /// Appends a batch of records of these types.
    fn append(&self, types: &[usize]) -> Arc<Batch> {
        let mut kept = self.kept.lock();
        let after = kept.last;
        let records: Vec<Record> = (after.number() + 1..)
            .zip(types)
            .map(|(number, event_type)| record(number, TYPES[*event_type]))
            .collect();
        kept.records.extend(records.iter().cloned());
        kept.last = records.last().map_or(after, |record| record.position);
        Arc::new(Batch { after, records })
    }

    /// Removes the oldest records, as retention does.
    fn trim(&self, count: usize) {
        let mut kept = self.kept.lock();
        let count = count.min(kept.records.len());
        let removed = kept.records.drain(..count).last();
        kept.trimmed = removed.map_or(kept.trimmed, |record| record.position);
    }

    fn show(&self, scan: &Scan, reader: &mut dyn Reader) -> Result<Position, ReadError> {
        let mut kept = self.kept.lock();
        if kept.away > 0 {
            kept.away -= 1;
            return Err(ReadError::Unreachable("away".to_owned()));
        }
        if kept.trimmed > scan.after {
            let trimmed = kept.trimmed;
            return Err(ReadError::Expired { trimmed });
        }
        let mut through = scan.after;
        let left = kept
            .records
            .iter()
            .filter(|record| record.position > scan.after);
        for record in left.take(SCAN_ROWS) {
            through = record.position;
            let record = record.view();
            if reader.wants(record.attributes) && reader.take(record) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(through)
    }
}

fn record(number: u64, event_type: &str) -> Record {
    Record {
        position: Position::new(number),
        run: Run::NONE,
        entry: Entry {
            id: format!("msg_{number}"),
            attributes: Attributes {
                event_type: event_type.to_owned(),
                ..Attributes::default()
            },
            receive_time: UnixMillis::new(0),
            event: Bytes::from(vec![0; 200]),
            decoding: crate::clerk::decoding(),
            payload: Bytes::new(),
        },
    }
}

impl Read for MemoryLog {
    fn epoch(&self) -> Epoch {
        Epoch::new(1)
    }

    fn bounds(&self) -> Bounds {
        let kept = self.kept.lock();
        Bounds {
            trimmed: kept.trimmed,
            last: kept.last,
            last_receive_time: UnixMillis::new(0),
        }
    }

    fn confirmed_bounds(&self, _: Position) -> BoxFuture<'_, Result<Bounds, ReadError>> {
        Box::pin(std::future::ready(Ok(self.bounds())))
    }

    fn run_at(&self, _: Position) -> Run {
        Run::NONE
    }

    fn lineage(&self, _: Position, _: Run) -> BoxFuture<'_, Result<Lineage, ReadError>> {
        Box::pin(std::future::ready(Ok(Lineage::Same)))
    }

    fn tallies(&self) -> Vec<Tally> {
        Vec::new()
    }

    fn names_version(&self) -> u64 {
        0
    }

    fn scan(
        &self,
        scan: Scan,
        mut reader: Box<dyn Reader>,
    ) -> BoxFuture<'_, Result<Position, ReadError>> {
        Box::pin(async move {
            for _ in 0..SCAN_PENDING {
                tokio::task::yield_now().await;
            }
            self.show(&scan, &mut *reader)
        })
    }

    fn find(&self, _: String, _: Predicate) -> BoxFuture<'_, Result<Option<Record>, ReadError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn position_before(&self, _: UnixMillis) -> BoxFuture<'_, Result<Position, ReadError>> {
        Box::pin(std::future::ready(Ok(Position::START)))
    }

    fn describe(&self) -> BoxFuture<'_, Result<Description, ReadError>> {
        Box::pin(std::future::ready(Ok(Description::default())))
    }

    fn follow(&self) -> Follower {
        self.batches.subscribe().into()
    }
}

/// A walk on a memory log, and what it has returned.
struct Walker {
    log: Arc<MemoryLog>,
    hub: Arc<Hub>,
    walk: Walk<RecordSink>,
    /// Every record that was appended.
    appended: Vec<Record>,
    returned: Vec<Position>,
    removed: Vec<(Position, Position)>,
    fell_behind: usize,
    caught_up: usize,
}

impl Walker {
    /// A walk through a log with these records of history. The ring holds a few.
    fn begin(history: &[usize], filter: Filter, sink: RecordSink) -> Self {
        let log = Arc::new(MemoryLog::new());
        let batch = log.append(history);
        let config = Config {
            ring_bytes_max: 3_000,
            subscribers_max: 1,
            sources: Vec::new(),
        };
        let metrics = Metrics::register(&mut Registry::default());
        let reads = Arc::<MemoryLog>::clone(&log);
        let hub = Arc::new(Hub::new(reads, config, metrics, CancellationToken::new()));
        let route = Route {
            from: Position::START,
            until: log.bounds().last,
            follows_oldest: false,
            stops_at_history: false,
            on_expired: OnExpired::Earliest,
        };
        let walker = (filter, "someone");
        let walk = Walk::begin(Arc::clone(&hub), 0, walker, route, sink).expect("small");
        Self {
            log,
            hub,
            walk,
            appended: batch.records.clone(),
            returned: Vec::new(),
            removed: Vec::new(),
            fell_behind: 0,
            caught_up: 0,
        }
    }

    fn append(&mut self, types: &[usize]) {
        let batch = self.log.append(types);
        self.appended.extend(batch.records.iter().cloned());
        feed::publish(&self.hub, &batch);
    }

    fn note(&mut self, step: Step<Vec<Record>>) {
        match step {
            Step::Batch(records) => {
                assert!(!records.is_empty(), "a batch has records");
                let positions = records.iter().map(|record| record.position);
                self.returned.extend(positions);
            }
            Step::Removed { from, to } => {
                assert!(from < to);
                self.removed.push((from, to));
            }
            Step::FellBehind => self.fell_behind += 1,
            Step::CaughtUp => self.caught_up += 1,
            Step::Quiet => {}
        }
    }

    /// Polls one step at most this many times, and drops it.
    async fn poll(&mut self, times: usize) {
        let mut step = Box::pin(self.walk.step(Instant::now() + PATIENCE));
        let mut found = None;
        for _ in 0..times {
            let polled = poll_fn(|context| Poll::Ready(step.as_mut().poll(context))).await;
            if let Poll::Ready(step) = polled {
                found = Some(step.expect("the log is there"));
                break;
            }
        }
        drop(step);
        if let Some(step) = found {
            self.note(step);
        }
    }

    /// Walks to the end of the log.
    async fn finish(&mut self) {
        while self.walk.position() < self.log.bounds().last {
            let step = pin!(self.walk.step(Instant::now() + PATIENCE)).await;
            self.note(step.expect("the log is there"));
        }
    }

    /// What a scan of all that was appended finds, but for what retention removed first.
    fn expected(&self) -> Vec<Position> {
        let is_removed = |position: Position| {
            let mut removed = self.removed.iter();
            removed.any(|(from, to)| position > *from && position <= *to)
        };
        let filter = self.walk.filter();
        let matching = self
            .appended
            .iter()
            .filter(|record| filter.matches(record.entry.attributes.as_ref()));
        let positions = matching.map(|record| record.position);
        positions.filter(|it| !is_removed(*it)).collect()
    }
}

fn filter(types: &[&str]) -> Filter {
    let known = names::known_names([], &[]);
    let spec = Spec {
        types: types.iter().map(|it| (*it).to_owned()).collect(),
        ..Spec::default()
    };
    Filter::compile(&spec, &known, &Scope::default()).expect("valid")
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(test);
}

#[test]
fn a_walk_returns_each_matching_record_once_in_order() {
    block_on(async {
        let history: Vec<usize> = (0..100).map(|number| number % 3).collect();
        let users = filter(&["user.*"]);
        let mut walker = Walker::begin(&history, users, RecordSink::new(10, usize::MAX));
        walker.finish().await;
        // The next step finds that it has caught up, and waits: nothing has come.
        walker.poll(2).await;
        assert_eq!(walker.caught_up, 1);
        walker.append(&[2, 0, 1]);
        walker.finish().await;
        for _ in 0..20 {
            walker.append(&[0, 2]);
        }
        walker.finish().await;
        assert_eq!(walker.fell_behind, 1, "the ring holds a few");
        assert_eq!(walker.returned, walker.expected());
        assert!(walker.removed.is_empty());
    });
}

/// Whatever the number of polls after which every step is dropped: behind the ring, in it, at
/// its end, and while the log is away.
#[test]
fn a_walk_is_cancel_safe_at_every_await() {
    for polls in 1..=2 * (SCAN_PENDING + 2) {
        block_on(async {
            let sink = RecordSink::new(4, usize::MAX);
            let users = filter(&["user.created"]);
            let mut walker = Walker::begin(&[0, 1, 2, 0, 1, 0, 0, 0, 2, 0], users, sink);
            for round in 0..60 {
                walker.poll(polls).await;
                if round % 3 == 0 {
                    walker.append(&[round % 2, 0]);
                }
                if round % 10 == 0 {
                    walker.log.kept.lock().away = 1;
                }
            }
            walker.finish().await;
            assert_eq!(walker.returned, walker.expected(), "after {polls} polls");
        });
    }
}

#[derive(Clone, Debug)]
enum Happening {
    Append(Vec<usize>),
    Trim(usize),
    /// A step that is dropped after so many polls.
    Poll(usize),
    Finish,
}

fn happenings() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => prop::collection::vec(0..TYPES.len(), 1..6).prop_map(Happening::Append),
        1 => (0..12_usize).prop_map(Happening::Trim),
        6 => (1..3 * SCAN_PENDING).prop_map(Happening::Poll),
        1 => Just(Happening::Finish),
    ]
}

proptest! {
    /// Random appends, trims, filters and dropped futures.
    #[test]
    fn a_walk_and_a_scan_agree(
        history in prop::collection::vec(0..TYPES.len(), 0..40),
        types in prop::sample::subsequence(TYPES.to_vec(), 0..TYPES.len()),
        records_max in 1..9_usize,
        happenings in prop::collection::vec(happenings(), 1..60),
    ) {
        block_on(async {
            let sink = RecordSink::new(records_max, usize::MAX);
            let mut walker = Walker::begin(&history, filter(&types), sink);
            for happening in happenings {
                match happening {
                    Happening::Append(types) => walker.append(&types),
                    Happening::Trim(count) => walker.log.trim(count),
                    Happening::Poll(times) => walker.poll(times).await,
                    Happening::Finish => walker.finish().await,
                }
            }
            walker.finish().await;
            assert_eq!(walker.returned, walker.expected());
        });
    }
}
