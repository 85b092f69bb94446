mod meddler;
mod memory_log;
mod walker;

use proptest::prelude::*;

use super::super::frame::{Encoding, Payload, View};
use super::super::sink::{FrameSink, RecordSink};
use super::*;
use crate::access::Redaction;
use meddler::Meddler;
use memory_log::{SCAN_PENDING, TYPES};
use walker::{OpenSink, World, block_on, filter};

/// Of which the ring holds a few.
const SMALL_EVENT_BYTES: usize = 200;
/// Three of them fill a page.
const LARGE_EVENT_BYTES: usize = 100_000;

fn frames(payload: Payload) -> FrameSink {
    FrameSink::new(view(payload))
}

fn view(payload: Payload) -> View {
    View {
        payload,
        redaction: Redaction::default(),
        encoding: Encoding::Proto,
    }
}

#[test]
fn a_walk_returns_each_matching_record_once_in_order() {
    block_on(async {
        let history: Vec<usize> = (0..100).map(|number| number % 3).collect();
        let world = World::new(&history, SMALL_EVENT_BYTES);
        let users = filter(&["user.*"]);
        let mut walker = world.walk(0, users, RecordSink::new(10, usize::MAX), world.route());
        walker.finish().await;
        // The next step finds that it has caught up, and the one after it waits.
        walker.poll(2).await;
        assert_eq!(walker.caught_up, 1);
        walker.poll_across(1, || world.append(&[2, 0, 1]), 1).await;
        walker.finish().await;
        for _ in 0..20 {
            world.append(&[0, 2]);
        }
        walker.finish().await;
        assert_eq!(walker.fell_behind, 1, "the ring holds a few");
        assert!(walker.removed.is_empty());
    });
}

/// Whatever the number of polls after which every step is dropped: behind the ring, in it, at
/// its end, and while the log is away.
#[test]
fn a_walk_is_cancel_safe_at_every_await() {
    for polls in 1..=2 * (SCAN_PENDING + 2) {
        block_on(async {
            let world = World::new(&[0, 1, 2, 0, 1, 0, 0, 0, 2, 0], SMALL_EVENT_BYTES);
            let sink = RecordSink::new(4, usize::MAX);
            let mut walker = world.walk(0, filter(&["user.created"]), sink, world.route());
            for round in 0..60 {
                walker.poll(polls).await;
                if round % 3 == 0 {
                    world.append(&[round % 2, 0]);
                }
                if round % 10 == 0 {
                    world.log.go_away(1);
                }
            }
            walker.finish().await;
        });
    }
}

/// A start at the oldest event is where retention has moved it, until something was read.
#[test]
fn a_walk_from_the_oldest_record_reports_what_is_removed_once_it_has_read() {
    block_on(async {
        let world = World::new(&[0; 30], SMALL_EVENT_BYTES);
        let route = Route {
            follows_oldest: true,
            ..world.route()
        };
        let sink = RecordSink::new(4, usize::MAX);
        let mut walker = world.walk(0, filter(&[]), sink, route);
        let scan = SCAN_PENDING + 1;
        world.log.trim(5);
        walker.poll(scan).await;
        walker.poll(scan - 1).await;
        world.log.trim(5);
        walker.poll(scan).await;
        walker.poll(scan).await;
        assert_eq!(walker.returned, [11, 12, 13, 14].map(Position::new));
        world.log.trim(10);
        walker.finish().await;
        let removed = [(0, 5), (5, 10), (14, 20)];
        let removed = removed.map(|(from, to)| (Position::new(from), Position::new(to)));
        assert_eq!(walker.removed, removed);
    });
}

/// So does one that has read from the ring alone, or has waited for what it wants.
#[test]
fn a_walk_from_the_oldest_record_reports_what_is_removed_once_it_was_live() {
    for first in [&[0, 0], &[2, 2]] {
        block_on(async {
            let world = World::new(&[], SMALL_EVENT_BYTES);
            let route = Route {
                follows_oldest: true,
                ..world.route()
            };
            let sink = RecordSink::new(4, usize::MAX);
            let mut walker = world.walk(0, filter(&["user.*"]), sink, route);
            walker.poll(1).await;
            assert_eq!(walker.caught_up, 1);
            walker.poll_across(1, || world.append(first), 1).await;
            for _ in 0..20 {
                world.append(&[0]);
            }
            world.log.trim(10);
            walker.finish().await;
            assert_eq!(walker.fell_behind, 1);
            assert_eq!(walker.removed, [(Position::new(2), Position::new(10))]);
        });
    }
}

/// For a moment after a commit, the log is ahead of the ring.
#[test]
fn a_walk_reads_from_the_log_what_the_ring_does_not_have_yet() {
    block_on(async {
        let world = World::new(&[], SMALL_EVENT_BYTES);
        world.log.append(&[0, 0]);
        let sink = RecordSink::new(4, usize::MAX);
        let mut walker = world.walk(0, filter(&[]), sink, world.route());
        walker.poll(SCAN_PENDING + 1).await;
        assert_eq!(walker.returned, [1, 2].map(Position::new));
        walker.poll(1).await;
        assert_eq!(walker.caught_up, 1);
        walker.poll(1).await;
        walker.poll_across(1, || world.append(&[0]), 1).await;
        assert_eq!(walker.returned, [1, 2, 3].map(Position::new));
    });
}

/// What it took of the ring comes before the news that the ring was faster.
#[test]
fn a_walk_that_is_overtaken_returns_first_what_it_took() {
    block_on(async {
        let world = World::new(&[], SMALL_EVENT_BYTES);
        let overtaking = world.clone();
        let sink = Meddler::after_take(move || {
            for _ in 0..20 {
                overtaking.append(&[0]);
            }
        });
        let mut walker = world.walk(0, filter(&[]), sink, world.route());
        walker.poll(1).await;
        world.append(&[0]);
        walker.poll(1).await;
        assert_eq!(walker.returned, [Position::new(1)]);
        walker.finish().await;
        assert_eq!(walker.fell_behind, 1);
    });
}

/// What arrives after the last look at the ring and before the walk waits.
#[test]
fn a_walk_waits_for_nothing_that_has_arrived() {
    block_on(async {
        let world = World::new(&[], SMALL_EVENT_BYTES);
        let appending = world.clone();
        let sink = Meddler::at_end(move || appending.append(&[0]));
        let mut walker = world.walk(0, filter(&[]), sink, world.route());
        walker.poll(1).await;
        assert_eq!(walker.caught_up, 1);
        walker.poll(1).await;
        assert_eq!(walker.returned, [Position::new(1)]);
    });
}

#[test]
fn a_page_that_is_not_full_is_read_again() {
    block_on(async {
        let world = World::new(&[0, 0], LARGE_EVENT_BYTES);
        let mut events = Vec::new();
        for _ in 0..3 {
            let page = world.read_page(filter(&[]), &view(Payload::Omitted)).await;
            events.push(page.events);
            world.append(&[0]);
        }
        assert_eq!(events, [2, 3, 3], "three of them fill a page");
    });
}

#[test]
fn walks_share_pages_with_their_equals_alone() {
    block_on(async {
        let history: Vec<usize> = (0..20).map(|number| number % 2).collect();
        let world = World::new(&history, LARGE_EVENT_BYTES);
        let created = filter(&["user.created"]);
        let users = filter(&["user.*"]);
        let deleted = filter(&["user.deleted"]);
        let mut scans = Vec::new();
        for (number, filter) in (0..).zip([&created, &users, &created, &deleted]) {
            let before = world.log.scans();
            let sink = frames(Payload::Omitted);
            let mut walker = world.walk(number, filter.clone(), sink, world.route());
            walker.finish().await;
            scans.push(world.log.scans() - before);
        }
        assert!(scans[2] <= 1 && scans[0] > 3, "{scans:?}");

        let mut limited = world.walk(4, users.clone(), frames(Payload::Omitted), world.route());
        limited.limit(2);
        limited.finish().await;

        let [without, with] = [Payload::Omitted, Payload::Included].map(view);
        let mut pages = Vec::new();
        for view in [&without, &with] {
            let page = world.read_page(users.clone(), view).await;
            let runs = page.runs.iter().map(|run| run.size());
            pages.push(runs.sum::<usize>());
        }
        assert!(pages[0] < pages[1], "with payloads: {pages:?}");

        world.log.trim(12);
        let mut late = world.walk(5, users, frames(Payload::Omitted), world.route());
        late.finish().await;
        assert_eq!(late.removed, [(Position::START, Position::new(12))]);
    });
}

#[derive(Clone, Debug)]
enum Happening {
    /// The feed hears of it at once, and of what was committed before.
    Append(Vec<usize>),
    /// The log is ahead of the ring.
    Commit(Vec<usize>),
    /// The feed never hears of the first, or of what was committed before.
    Miss(Vec<usize>, Vec<usize>),
    Trim(usize),
    /// The next scans do not reach the log.
    GoAway(usize),
    /// Each step returns at most this many records.
    Limit(usize),
    /// A step that is dropped after this many polls.
    Poll(usize),
    /// The same, and something is appended after the first of them.
    PollAcross(usize, Vec<usize>),
    /// The same, and the feed misses some.
    PollAcrossMiss(usize, Vec<usize>, Vec<usize>),
    Finish,
}

fn happenings() -> impl Strategy<Value = Happening> {
    let types = || prop::collection::vec(0..TYPES.len(), 1..6);
    let polls = || 1..3 * SCAN_PENDING;
    prop_oneof![
        4 => types().prop_map(Happening::Append),
        1 => types().prop_map(Happening::Commit),
        1 => (types(), types()).prop_map(|(missed, next)| Happening::Miss(missed, next)),
        1 => (0..12_usize).prop_map(Happening::Trim),
        1 => (1..3_usize).prop_map(Happening::GoAway),
        1 => (1..6_usize).prop_map(Happening::Limit),
        6 => polls().prop_map(Happening::Poll),
        2 => (polls(), types()).prop_map(|(polls, types)| Happening::PollAcross(polls, types)),
        1 => (polls(), types(), types())
            .prop_map(|(polls, missed, next)| Happening::PollAcrossMiss(polls, missed, next)),
        1 => Just(Happening::Finish),
    ]
}

#[derive(Clone, Debug)]
struct Case {
    history: Vec<usize>,
    types: Vec<&'static str>,
    route: (bool, bool, OnExpired),
    happenings: Vec<Happening>,
}

fn cases() -> impl Strategy<Value = Case> {
    let on_expired = prop::sample::select(vec![OnExpired::Earliest, OnExpired::Latest]);
    let fields = (
        prop::collection::vec(0..TYPES.len(), 0..40),
        prop::sample::subsequence(TYPES.to_vec(), 0..TYPES.len()),
        (any::<bool>(), any::<bool>(), on_expired),
        prop::collection::vec(happenings(), 1..60),
    );
    fields.prop_map(|(history, types, route, happenings)| Case {
        history,
        types,
        route,
        happenings,
    })
}

fn walk_and_scan<S: OpenSink>(case: Case, sink: S, sink_max: usize) {
    block_on(async {
        let world = World::new(&case.history, SMALL_EVENT_BYTES);
        let (follows_oldest, stops_at_history, on_expired) = case.route;
        let route = Route {
            follows_oldest,
            stops_at_history,
            on_expired,
            ..world.route()
        };
        let mut walker = world.walk(0, filter(&case.types), sink, route);
        walker.sink_max = sink_max;
        for happening in case.happenings {
            match happening {
                Happening::Append(types) => world.append(&types),
                Happening::Commit(types) => world.log.append(&types),
                Happening::Miss(missed, next) => world.miss(&missed, &next),
                Happening::Trim(count) => world.log.trim(count),
                Happening::GoAway(scans) => world.log.go_away(scans),
                Happening::Limit(most) => walker.limit(most),
                Happening::Poll(times) => walker.poll(times).await,
                Happening::PollAcross(times, types) => {
                    let happening = || world.append(&types);
                    walker.poll_across(times, happening, times).await;
                }
                Happening::PollAcrossMiss(times, missed, next) => {
                    let happening = || world.miss(&missed, &next);
                    walker.poll_across(times, happening, times).await;
                }
                Happening::Finish => walker.finish().await,
            }
        }
        walker.finish().await;
    });
}

proptest! {
    /// Random appends, trims, filters and dropped futures. After each of them, what was
    /// returned is what a scan finds up to the walk's position.
    #[test]
    fn a_walk_and_a_scan_agree(case in cases(), records_max in 1..9_usize) {
        walk_and_scan(case, RecordSink::new(records_max, usize::MAX), records_max);
    }

    #[test]
    fn a_walk_of_frames_and_a_scan_agree(case in cases()) {
        walk_and_scan(case, frames(Payload::Omitted), usize::MAX);
    }
}
