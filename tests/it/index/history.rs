//! Random histories of a log, and random questions to it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use clerkcast::event::{Attributes, Position, UnixMillis, Values};
use clerkcast::log::{Entry, Query, Read as _};
use proptest::prelude::*;
use proptest::sample::Index;

use super::Kind;
use super::damage::Damage;
use super::store::Store;
use crate::conformance::{everything_after, read_all};

/// What the gateway's clock does while records come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Clock {
    Advances,
    Stands,
    /// It is set back once, by this many milliseconds.
    GoesBack(i64),
    /// It is ahead by this many milliseconds, until it is set right.
    IsAhead(i64),
}

/// What happens to a log.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Append {
        count: usize,
        users: u32,
        clock: Clock,
    },
    /// The indexer has the time to do all that there is to do.
    Settle,
    SettleAmongCommits,
    /// Records go that are older than one of them.
    RetainFor(Index),
    /// Records go until a part of the bytes is left.
    RetainBytes(Index),
    Reopen(Option<Damage>),
    Damage(Damage),
}

fn append(count: std::ops::Range<usize>) -> impl Strategy<Value = Step> {
    let users = prop_oneof![Just(3_u32), Just(100), Just(100_000)];
    let clock = prop_oneof![
        3 => Just(Clock::Advances),
        1 => Just(Clock::Stands),
        2 => (1_i64..20_000).prop_map(Clock::GoesBack),
        2 => (1_i64..10_000_000).prop_map(Clock::IsAhead),
    ];
    (count, users, clock).prop_map(|(count, users, clock)| Step::Append {
        count,
        users,
        clock,
    })
}

/// The first step, which has all levels of merges reached in half of the histories.
pub(super) fn begin() -> impl Strategy<Value = Step> {
    prop_oneof![append(1..200), append(1_020..1_300)]
}

/// Steps that leave the file as the log wrote it.
pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => append(1..300),
        1 => Just(Step::Settle),
        2 => Just(Step::SettleAmongCommits),
        1 => any::<Index>().prop_map(Step::RetainFor),
        1 => any::<Index>().prop_map(Step::RetainBytes),
        1 => Just(Step::Reopen(None)),
    ]
}

/// Any step.
pub(super) fn harsh_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => step(),
        1 => any::<Damage>().prop_map(Step::Damage),
        1 => any::<Damage>().prop_map(|damage| Step::Reopen(Some(damage))),
    ]
}

/// A log with a clock.
pub(super) struct Gateway {
    pub(super) store: Store,
    clock: i64,
}

impl Gateway {
    pub(super) fn new(segment_records: u64) -> Self {
        // Retention goes by the real clock.
        let begin = UnixMillis::now().before(Duration::from_secs(6 * 3600));
        Self {
            store: Store::new(segment_records),
            clock: begin.milliseconds(),
        }
    }

    pub(super) async fn take(&mut self, step: &Step) {
        match step {
            Step::Append {
                count,
                users,
                clock,
            } => {
                if let Clock::GoesBack(by) = clock {
                    self.clock -= by;
                }
                let entries = (0..*count).map(|number| self.receive(number, *users, *clock));
                let entries: Vec<Entry> = entries.collect();
                self.store.append(entries).await;
            }
            Step::Settle => self.store.settle().await,
            Step::SettleAmongCommits => self.store.settle_among_commits().await,
            Step::RetainFor(oldest) => {
                if let Some(oldest) = nth(&self.store.records, oldest) {
                    let age = UnixMillis::now().since(oldest.received);
                    self.store.retain(Some(age), None).await;
                }
            }
            Step::RetainBytes(part) => {
                let described = self.store.log().describe().await.expect("described");
                let bytes = described.size_bytes / 100 * part.index(100) as u64;
                self.store.retain(None, Some(bytes)).await;
            }
            Step::Reopen(damage) => {
                let strike = |file: &_| damage.iter().for_each(|damage| damage.strike(file));
                self.store.reopen(strike).await;
            }
            Step::Damage(damage) => damage.strike(&self.store.file),
        }
    }

    fn receive(&mut self, number: usize, users: u32, clock: Clock) -> Entry {
        let ahead = match clock {
            Clock::Stands => 0,
            Clock::Advances | Clock::GoesBack(_) => {
                self.clock += [0, 1, 0, 30, 900][number % 5];
                0
            }
            Clock::IsAhead(by) => by,
        };
        let received = UnixMillis::new(self.clock + ahead);
        self.store.entry(users, received)
    }
}

fn nth<'a, T>(items: &'a [T], index: &Index) -> Option<&'a T> {
    (!items.is_empty()).then(|| index.get(items))
}

/// A question to the log.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    kind: Kind,
    /// Records whose values are asked for.
    like: Vec<Index>,
    /// Values that no record has.
    absent: usize,
    after: Index,
    page: usize,
    /// Whether the filter leaves out some of what the index finds.
    is_choosy: bool,
}

pub(super) fn ask() -> impl Strategy<Value = Ask> {
    let kind = prop_oneof![
        Just(Kind::Type),
        Just(Kind::User),
        Just(Kind::Organization),
        Just(Kind::Session),
    ];
    let like = prop_oneof![
        2 => prop::collection::vec(any::<Index>(), 1),
        2 => prop::collection::vec(any::<Index>(), 2..7),
        1 => Just(Vec::new()),
    ];
    let many = prop::collection::vec(any::<Index>(), 40..64);
    let values = prop_oneof![
        3 => (like, 0_usize..2),
        1 => many.prop_map(|like| { let absent = 64 - like.len(); (like, absent) }),
    ];
    let page = prop_oneof![1_usize..5, 5_usize..100, Just(10_000)];
    (kind, values, any::<Index>(), page, any::<bool>()).prop_map(
        |(kind, (like, absent), after, page, is_choosy)| Ask {
            kind,
            like,
            absent,
            after,
            page,
            is_choosy,
        },
    )
}

impl Ask {
    /// Asks the log, and compares with all that is known.
    pub(super) async fn check(&self, store: &Store) {
        let kind = self.kind;
        let like = self
            .like
            .iter()
            .filter_map(|index| nth(&store.records, index));
        let like = like.filter_map(|known| kind.value(known.attributes.as_ref()));
        let absent = (0..self.absent).map(|number| format!("absent_{number}"));
        let values: Values = like.map(str::to_owned).chain(absent).collect();
        let bounds = store.log().bounds();
        let readable = bounds.last.distance_from(bounds.trimmed);
        let readable = usize::try_from(readable).expect("fits");
        let after = bounds.trimmed.number() + self.after.index(readable + 1) as u64;
        let after = Position::new(after);
        let (is_choosy, wanted) = (self.is_choosy, values.clone());
        let matches = move |attributes: Attributes<&str>| {
            let value = kind.value(attributes);
            value.is_some_and(|value| wanted.contains(value))
                && !(is_choosy && attributes.event_type == "type.0")
        };
        let naive = store
            .records
            .iter()
            .filter(|known| known.position > after && matches(known.attributes.as_ref()));
        let naive: Vec<Position> = naive.map(|known| known.position).collect();
        let query = Query {
            narrow: kind.hint(values),
            matches: Arc::new(matches),
            records_max: self.page,
            ..everything_after(after)
        };
        let found = read_all(store.log(), query).await;
        let found: Vec<Position> = found.iter().map(|record| record.position).collect();
        assert_eq!(found, naive, "{self:?} after {after:?}");
    }
}

/// Times to look for: those of records, and before, between and after them.
pub(super) async fn check_seeks(store: &Store, like: &[Index]) {
    let received = store.records.iter().map(|record| record.received);
    let received: BTreeSet<i64> = received.map(UnixMillis::milliseconds).collect();
    let received: Vec<i64> = received.into_iter().collect();
    let mut times = vec![i64::MIN, 0, i64::MAX];
    times.extend(received.first().map(|first| first - 1));
    times.extend(received.last().map(|last| last + 1));
    times.extend(received.last());
    for index in like {
        let time = nth(&received, index).copied().unwrap_or_default();
        times.extend([time - 1, time, time + 1]);
    }
    for time in times {
        store.check_seek(UnixMillis::new(time)).await;
    }
}
