//! Random swaps, several at once, against a naive map of names to revisions and values.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use clerkcast::log::{Change, Changed, Log, Revision, Swapped};
use futures_util::future::join_all;
use proptest::prelude::*;
use tokio::sync::broadcast::Receiver;

use crate::conformance::cells::list_all;
use crate::conformance::{InMemory, Retention, Sqlite, Store, record};

const NAMES: [&str; 4] = ["state/a", "state/b", "dead/a/0", "z"];

/// Which revision a change expects.
#[derive(Clone, Copy, Debug)]
enum Expected {
    /// None: there must be no such cell.
    Absent,
    /// The one that was current when the round began.
    Current,
    /// One of those that the name has had.
    Former(usize),
}

#[derive(Clone, Debug)]
struct Planned {
    name: usize,
    expected: Expected,
    /// Bytes of the value; none deletes.
    value: Option<usize>,
}

#[derive(Clone, Debug)]
enum Round {
    /// Swaps that are asked for at once, each with an event beside it or not.
    Swaps(Vec<(Vec<Planned>, bool)>),
    Reopen,
}

fn planned() -> impl Strategy<Value = Planned> {
    let expected = prop_oneof![
        2 => Just(Expected::Absent),
        6 => Just(Expected::Current),
        1 => (0..20_usize).prop_map(Expected::Former),
    ];
    let value = prop_oneof![
        2 => Just(None),
        5 => (0..50_usize).prop_map(Some),
        1 => (4_000..30_000_usize).prop_map(Some),
    ];
    (0..NAMES.len(), expected, value).prop_map(|(name, expected, value)| Planned {
        name,
        expected,
        value,
    })
}

fn rounds() -> impl Strategy<Value = Vec<Round>> {
    let swaps = prop::collection::vec(
        (prop::collection::vec(planned(), 1..4), any::<bool>()),
        1..6,
    );
    let round = prop_oneof![9 => swaps.prop_map(Round::Swaps), 1 => Just(Round::Reopen)];
    prop::collection::vec(round, 1..25)
}

/// What a cell is now. The revision is known once the swap that made it is answered.
#[derive(Clone, Debug, PartialEq)]
struct Now {
    revision: Option<Revision>,
    value: Bytes,
}

#[derive(Default)]
struct Model {
    cells: BTreeMap<&'static str, Now>,
    /// All that each name has had.
    seen: BTreeMap<&'static str, Vec<Revision>>,
    events: usize,
    values: u8,
}

impl Model {
    fn change(&mut self, planned: &Planned) -> Change {
        let name = NAMES[planned.name];
        let current = self.cells.get(name).and_then(|cell| cell.revision);
        let former = self.seen.get(name).map_or(&[][..], |seen| seen);
        self.values = self.values.wrapping_add(1);
        Change {
            name: name.to_owned(),
            expected: match planned.expected {
                Expected::Absent => None,
                Expected::Current => current,
                Expected::Former(at) => former.get(at % former.len().max(1)).copied(),
            },
            value: planned.value.map(|bytes| vec![self.values; bytes].into()),
        }
    }

    /// The name that is refused, or none, in which case the changes are made.
    fn swap(&mut self, changes: &[Change]) -> Option<String> {
        let is_refused = |change: &&Change| match (self.cells.get(&*change.name), change.expected) {
            (None, expected) => expected.is_some(),
            // What was made by a swap before it, at the same time, has a revision that nobody
            // could expect.
            (Some(cell), expected) => expected.is_none() || cell.revision != expected,
        };
        if let Some(refused) = changes.iter().find(is_refused) {
            return Some(refused.name.clone());
        }
        for change in changes {
            let name = static_name(&change.name);
            match &change.value {
                Some(value) => {
                    let now = Now {
                        revision: None,
                        value: value.clone(),
                    };
                    self.cells.insert(name, now);
                }
                None => drop(self.cells.remove(name)),
            }
        }
        None
    }

    /// Notes the revisions that changes got. None has come before.
    fn learn(&mut self, changes: &[Change], revisions: &[Option<Revision>]) {
        for (change, revision) in changes.iter().zip(revisions) {
            assert_eq!(revision.is_some(), change.value.is_some(), "{change:?}");
            let name = static_name(&change.name);
            let Some(revision) = *revision else { continue };
            let seen = self.seen.entry(name).or_default();
            assert!(!seen.contains(&revision), "{name} had {revision:?} before");
            seen.push(revision);
            if let Some(cell) = self.cells.get_mut(name)
                && Some(&cell.value) == change.value.as_ref()
            {
                cell.revision = Some(revision);
            }
        }
    }
}

fn static_name(name: &str) -> &'static str {
    NAMES
        .into_iter()
        .find(|known| *known == name)
        .expect("known")
}

/// No swap names a cell twice.
fn distinct(planned: &[Planned]) -> Vec<Planned> {
    let mut names = HashSet::new();
    let first = planned.iter().filter(|change| names.insert(change.name));
    first.cloned().collect()
}

async fn check_round(
    log: &Arc<dyn Log>,
    model: &mut Model,
    swaps: &[(Vec<Planned>, bool)],
    published: &mut Receiver<Changed>,
) {
    let mut asked = Vec::new();
    for (planned, _) in swaps {
        let changes = distinct(planned);
        let changes: Vec<Change> = changes.iter().map(|it| model.change(it)).collect();
        asked.push(changes);
    }
    let mut appends = Vec::new();
    let mut answers = Vec::new();
    // They are decided in the order in which they are asked for.
    for (changes, (_, has_event)) in asked.iter().zip(swaps) {
        if *has_event {
            model.events += 1;
            let id = format!("msg_{}", model.events);
            appends.push(log.append(record(&id, "user.created", None)));
        }
        answers.push(log.swap(changes.clone()));
    }
    let answers = join_all(answers).await;
    for appended in join_all(appends).await {
        appended.expect("durable");
    }
    let mut expected = Vec::new();
    let decided: Vec<_> = asked.iter().map(|changes| model.swap(changes)).collect();
    for ((changes, refused), answer) in asked.iter().zip(decided).zip(answers) {
        match (answer.expect("answered"), refused) {
            (Swapped::Conflict(name), Some(refused)) => assert_eq!(name, refused),
            (Swapped::Stored(revisions), None) => {
                model.learn(changes, &revisions);
                let made = changes.iter().zip(revisions);
                let made = made.filter(|(it, _)| it.expected.is_some() || it.value.is_some());
                expected.extend(made.map(|(change, revision)| Changed {
                    name: change.name.as_str().into(),
                    revision,
                }));
            }
            (answer, refused) => panic!("{changes:?}: {answer:?}, not {refused:?}"),
        }
    }
    for expected in expected {
        // It was published before the swap was answered.
        assert_eq!(published.try_recv(), Ok(expected));
    }
    assert!(published.is_empty());
}

async fn check(rounds: Vec<Round>, store: impl Store) {
    let mut model = Model::default();
    let mut log = store.open().await;
    let mut published = log.watch();
    for round in rounds {
        match round {
            Round::Swaps(swaps) => check_round(&log, &mut model, &swaps, &mut published).await,
            Round::Reopen => {
                log.close().await;
                drop(log);
                log = store.open().await;
                published = log.watch();
            }
        }
        let found = list_all(&*log, "", 3).await;
        let found = found.into_iter().map(|cell| {
            let now = Now {
                revision: Some(cell.revision),
                value: cell.value,
            };
            (static_name(&cell.name), now)
        });
        assert_eq!(found.collect::<BTreeMap<_, _>>(), model.cells);
    }
    assert_eq!(log.bounds().last.number(), model.events as u64);
    log.close().await;
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn swapped_random_swaps_agree_with_a_naive_map(rounds in rounds()) {
        run(check(rounds.clone(), InMemory::new(Retention::default())));
        run(check(rounds, Sqlite::new(Retention::default())));
    }
}
