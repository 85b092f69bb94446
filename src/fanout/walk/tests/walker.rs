//! A walk on a memory log, held to what it promises after each step and each dropped one.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Buf as _, BytesMut};
use prometheus_client::registry::Registry;
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use super::super::*;
use super::memory_log::MemoryLog;
use crate::event::Cursor;
use crate::fanout::frame::View;
use crate::fanout::hub::Config;
use crate::fanout::metrics::Metrics;
use crate::fanout::outbox::Outbox;
use crate::fanout::page_cache::Page;
use crate::fanout::sink::{FrameSink, RecordSink};
use crate::fanout::{feed, names};
use crate::filter::{Scope, Spec};
use crate::log::{Read as _, Record};
use crate::proto::SubscribeResponse;
use crate::proto::subscribe_response::Kind;

/// Longer than any test.
const PATIENCE: Duration = Duration::from_secs(86_400);
const RING_BYTES_MAX: usize = 3_000;

/// A sink whose batches can be looked into.
pub(super) trait OpenSink: Sink {
    /// Where the records of a batch lie.
    fn positions(batch: Self::Batch) -> Vec<Position>;
}

impl OpenSink for RecordSink {
    fn positions(records: Vec<Record>) -> Vec<Position> {
        records.iter().map(|record| record.position).collect()
    }
}

impl OpenSink for FrameSink {
    fn positions(outbox: Outbox) -> Vec<Position> {
        let mut bytes = BytesMut::new();
        for run in outbox.runs {
            bytes.extend_from_slice(&run.bytes());
        }
        assert_eq!(bytes.len(), outbox.event_bytes);
        assert!(outbox.received.is_some());
        let mut positions = Vec::new();
        while !bytes.is_empty() {
            assert_eq!(bytes.get_u8(), 0, "not compressed");
            let length = bytes.get_u32() as usize;
            let frame = SubscribeResponse::decode(bytes.split_to(length)).expect("a frame");
            let cursor: Cursor = frame.cursor.parse().expect("a cursor");
            let Some(Kind::Event(event)) = frame.kind else {
                panic!("not an event's");
            };
            let number = event.id.trim_start_matches("msg_").parse();
            assert_eq!(
                number,
                Ok(cursor.position.number()),
                "the event at its cursor"
            );
            positions.push(cursor.position);
        }
        assert_eq!(positions.len() as u64, outbox.events);
        positions
    }
}

/// A log, and who shares it.
#[derive(Clone)]
pub(super) struct World {
    pub(super) log: Arc<MemoryLog>,
    hub: Arc<Hub>,
}

impl World {
    /// A log with records of these types, whose ring holds a few.
    pub(super) fn new(history: &[usize], event_bytes: usize) -> Self {
        let log = Arc::new(MemoryLog::new(history, event_bytes));
        let config = Config {
            ring_bytes_max: RING_BYTES_MAX,
            subscribers_max: 1,
            sources: Vec::new(),
        };
        let metrics = Metrics::register(&mut Registry::default());
        let reads = Arc::<MemoryLog>::clone(&log);
        let hub = Arc::new(Hub::new(reads, config, metrics, CancellationToken::new()));
        Self { log, hub }
    }

    /// From the beginning of the log to its end, and further.
    pub(super) fn route(&self) -> Route {
        Route {
            from: Position::START,
            until: self.log.bounds().last,
            follows_oldest: false,
            stops_at_history: false,
            on_expired: OnExpired::Earliest,
        }
    }

    /// Begins a walk.
    pub(super) fn walk<S: OpenSink>(
        &self,
        number: u64,
        filter: Filter,
        sink: S,
        route: Route,
    ) -> Walker<S> {
        let walker = (filter, "someone");
        let walk = Walk::begin(Arc::clone(&self.hub), number, walker, route, sink);
        Walker {
            world: self.clone(),
            number,
            walk: walk.expect("small"),
            route,
            history_end: route.until,
            unread: route.follows_oldest.then_some(route.from),
            sink_max: usize::MAX,
            records_max: usize::MAX,
            returned: Vec::new(),
            removed: Vec::new(),
            fell_behind: 0,
            caught_up: 0,
        }
    }

    /// Appends a batch, which the feed hears of at once.
    pub(super) fn append(&self, types: &[usize]) {
        self.log.append(types);
        self.publish();
    }

    /// Appends a batch that the feed misses, and one that it hears of.
    pub(super) fn miss(&self, missed: &[usize], next: &[usize]) {
        self.log.append(missed);
        self.log.miss();
        self.append(next);
    }

    /// Reads the first page of history.
    pub(super) async fn read_page(&self, filter: Filter, view: &View) -> Arc<Page> {
        let key = PageKey {
            after: Position::START,
            filter,
            events_max: u64::MAX,
        };
        let page = self.hub.history.read(key, view).await;
        page.expect("the log is there")
    }

    /// Has the feed hear of what was appended.
    pub(super) fn publish(&self) {
        for batch in self.log.take_unpublished() {
            feed::publish(&self.hub, &batch);
        }
    }
}

/// What there was before a step.
struct Before {
    position: Position,
    trimmed: Position,
    scans: usize,
}

/// A walk, and what it has returned.
pub(super) struct Walker<S: Sink> {
    pub(super) world: World,
    number: u64,
    walk: Walk<S>,
    route: Route,
    /// Where the walk is live at the earliest.
    history_end: Position,
    /// Where the oldest record is what it asks for: it has read nothing yet.
    unread: Option<Position>,
    /// The most records that the sink keeps.
    pub(super) sink_max: usize,
    records_max: usize,
    pub(super) returned: Vec<Position>,
    /// What retention removed before the walk came to it: after the first, up to the second.
    pub(super) removed: Vec<(Position, Position)>,
    pub(super) fell_behind: usize,
    pub(super) caught_up: usize,
}

impl<S: OpenSink> Walker<S> {
    /// Has each step return at most this many records.
    pub(super) fn limit(&mut self, records_max: usize) {
        self.records_max = records_max;
        self.walk.limit(records_max);
    }

    /// Polls one step at most this many times, and drops it.
    pub(super) async fn poll(&mut self, times: usize) {
        self.poll_across(times, || (), 0).await;
    }

    /// Polls one step at most this many times, then at most `further` times after `happening`,
    /// and drops it. If the step waited, the first match among what happened wakes it.
    pub(super) async fn poll_across(
        &mut self,
        times: usize,
        happening: impl FnOnce(),
        further: usize,
    ) {
        let before = self.before();
        let is_live = self.walk.is_live();
        let World { log, hub } = self.world.clone();
        let filter = self.walk.filter().clone();
        let mut step = Box::pin(self.walk.step(Instant::now() + PATIENCE));
        let mut poll = async |times: usize| {
            for _ in 0..times {
                let polled = poll_fn(|context| Poll::Ready(step.as_mut().poll(context))).await;
                if let Poll::Ready(step) = polled {
                    return Some(step.expect("the log is there"));
                }
            }
            None
        };
        let mut found = poll(times).await;
        let mut is_woken = false;
        if found.is_none() {
            let waits = hub.waiters.caught_up_to(self.number).is_some();
            assert!(waits || !is_live, "it waits where it is woken");
            let last = log.bounds().last;
            happening();
            let newest_match = log.matching(&filter).last().copied();
            is_woken = waits && newest_match.is_some_and(|position| position > last);
            found = poll(if is_woken { 1 } else { further }).await;
            assert!(!is_woken || found.is_some(), "what matches wakes the walk");
        }
        drop(step);
        if let Some(step) = found {
            assert!(!is_woken || self.walk.has_waited());
            self.note(&before, step);
        }
        self.check(&before);
    }

    /// Walks to the end of the log, of which the feed has heard.
    pub(super) async fn finish(&mut self) {
        self.world.publish();
        while self.walk.position() < self.world.log.bounds().last {
            let before = self.before();
            let patience = Instant::now() + PATIENCE;
            let step = pin!(self.walk.step(patience)).await;
            assert!(Instant::now() < patience, "there is more to find");
            self.note(&before, step.expect("the log is there"));
            self.check(&before);
        }
    }

    fn before(&self) -> Before {
        Before {
            position: self.walk.position(),
            trimmed: self.world.log.bounds().trimmed,
            scans: self.world.log.scans(),
        }
    }

    /// What a step returned is what it promises.
    fn note(&mut self, before: &Before, step: Step<S::Batch>) {
        let position = self.walk.position();
        let bounds = self.world.log.bounds();
        match step {
            Step::Batch(batch) => {
                let positions = S::positions(batch);
                let most = self.records_max.min(self.sink_max);
                assert!((1..=most).contains(&positions.len()));
                self.returned.extend(positions);
            }
            Step::Removed { from, to } => {
                let expected = match self.route.on_expired {
                    OnExpired::Latest => bounds.last,
                    OnExpired::Fail | OnExpired::Earliest => bounds.trimmed,
                };
                assert!(from < bounds.trimmed && to == expected && to == position);
                // There, the oldest record is what it asks for.
                assert!(!self.route.follows_oldest || from > self.route.from);
                self.removed.push((from, to));
            }
            Step::FellBehind => {
                assert!(!self.world.hub.ring().covers(position));
                self.history_end = bounds.last;
                self.fell_behind += 1;
            }
            Step::CaughtUp => {
                assert!(position >= self.history_end);
                assert!(self.route.stops_at_history || self.world.hub.ring().covers(position));
                self.caught_up += 1;
            }
            Step::Quiet => assert!(position > before.position, "it gives up early"),
        }
    }

    /// All that matches up to the walk's position was returned, and nothing else. One page at
    /// most was read, and the walk waits nowhere but at the end of its history.
    fn check(&mut self, before: &Before) {
        let Before {
            position: before,
            trimmed,
            scans,
        } = *before;
        let position = self.walk.position();
        let World { log, hub } = &self.world;
        assert!(log.scans() <= scans + 1, "a step reads a page");
        let waits = hub.waiters.caught_up_to(self.number).is_some();
        assert!(
            !waits || position >= self.history_end,
            "there is history left"
        );
        if position != before {
            let asked = self.unread.take();
            let is_skipped = asked == Some(before) && trimmed > before && position >= trimmed;
            let has_none_of_it = self.returned.first().is_none_or(|first| *first > trimmed);
            if is_skipped && has_none_of_it {
                self.removed.push((before, trimmed));
                self.unread = Some(trimmed).filter(|trimmed| *trimmed == position);
            }
        }
        let is_removed = |position: Position| {
            let mut removed = self.removed.iter();
            removed.any(|(from, to)| position > *from && position <= *to)
        };
        let mut expected = log.matching(self.walk.filter());
        expected.retain(|candidate| *candidate <= position && !is_removed(*candidate));
        assert_eq!(self.returned, expected, "up to {position}");
    }
}

pub(super) fn filter(types: &[&str]) -> Filter {
    let known = names::known_names([], &[]);
    let spec = Spec {
        types: types.iter().map(|name| (*name).to_owned()).collect(),
        ..Spec::default()
    };
    Filter::compile(&spec, &known, &Scope::default()).expect("valid")
}

pub(super) fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(test);
}
