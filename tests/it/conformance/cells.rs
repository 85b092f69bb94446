//! The laws of cells, each for any store.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use clerkcast::event::UnixMillis;
use clerkcast::log::cells::{LIST_BYTES_MAX, SWAP_CHANGES_MAX, VALUE_BYTES_MAX};
use clerkcast::log::{
    AppendError, Cell, Cells, Change, Changed, Entry, Log, ReadError, Revision, Swapped,
};
use futures_util::future::join_all;
use tokio::sync::broadcast::Receiver;
use tokio::task::JoinSet;

use super::{Retention, Store, append, record};
use crate::harness::eventually;

pub(crate) fn put(name: &str, expected: Option<Revision>, value: &[u8]) -> Change {
    Change {
        name: name.to_owned(),
        expected,
        value: Some(Bytes::copy_from_slice(value)),
    }
}

pub(crate) fn delete(name: &str, expected: Option<Revision>) -> Change {
    Change {
        name: name.to_owned(),
        expected,
        value: None,
    }
}

/// Swaps, and returns the new revisions.
pub(crate) async fn stored(cells: &dyn Cells, changes: Vec<Change>) -> Vec<Option<Revision>> {
    match cells.swap(changes).await.expect("answered") {
        Swapped::Stored(revisions) => revisions,
        Swapped::Conflict(name) => panic!("{name} has another revision"),
    }
}

/// Stores one value, and returns its revision.
pub(crate) async fn stored_as(
    cells: &dyn Cells,
    name: &str,
    expected: Option<Revision>,
    value: &[u8],
) -> Revision {
    let revisions = stored(cells, vec![put(name, expected, value)]).await;
    revisions[0].expect("a revision")
}

/// Swaps, and returns the name that was refused.
async fn refused(cells: &dyn Cells, changes: Vec<Change>) -> String {
    match cells.swap(changes).await.expect("answered") {
        Swapped::Stored(revisions) => panic!("stored as {revisions:?}"),
        Swapped::Conflict(name) => name,
    }
}

pub(crate) async fn value(cells: &dyn Cells, name: &str) -> Option<Vec<u8>> {
    let cell = cells.read(name).await.expect("read");
    cell.map(|cell| cell.value.to_vec())
}

async fn read(log: &dyn Log, name: &str) -> Option<Cell> {
    Cells::read(log, name).await.expect("read")
}

/// Lists page after page, each of at most `max` cells.
pub(crate) async fn list_all(cells: &dyn Cells, prefix: &str, max: usize) -> Vec<Cell> {
    let mut all: Vec<Cell> = Vec::new();
    loop {
        let after = all.last().map_or("", |cell| &cell.name).to_owned();
        let page = cells.list(prefix, &after, max).await.expect("listed");
        if page.is_empty() {
            return all;
        }
        assert!(page.len() <= max);
        all.extend(page);
    }
}

pub(super) async fn swapped_a_change_is_stored_only_from_the_current_revision<S: Store>() {
    let store = S::new(Retention::default());
    let log = store.open().await;
    let name = "state/crm";
    assert_eq!(read(&*log, name).await, None);
    assert_eq!(
        refused(&*log, vec![put(name, Some(Revision::new(7)), b"x")]).await,
        name
    );
    let first = stored_as(&*log, name, None, b"first").await;
    assert_eq!(refused(&*log, vec![put(name, None, b"x")]).await, name);
    assert_eq!(refused(&*log, vec![delete(name, None)]).await, name);
    let cell = read(&*log, name).await.expect("there");
    assert_eq!(
        (&*cell.name, cell.revision, &cell.value[..]),
        (name, first, &b"first"[..])
    );

    let second = stored_as(&*log, name, Some(first), b"second").await;
    assert!(second > first);
    for stale in [put(name, Some(first), b"x"), delete(name, Some(first))] {
        assert_eq!(refused(&*log, vec![stale]).await, name);
    }
    let cell = read(&*log, name).await.expect("there");
    assert_eq!((cell.revision, &cell.value[..]), (second, &b"second"[..]));

    let empty = stored_as(&*log, name, Some(second), b"").await;
    assert_eq!(value(&*log, name).await.as_deref(), Some(&b""[..]));
    assert_eq!(stored(&*log, vec![delete(name, Some(empty))]).await, [None]);
    assert_eq!(read(&*log, name).await, None);
    assert_eq!(refused(&*log, vec![delete(name, Some(empty))]).await, name);
    assert_eq!(stored(&*log, vec![delete(name, None)]).await, [None]);
    assert_eq!(stored(&*log, Vec::new()).await, []);
}

pub(super) async fn swapped_changes_are_stored_in_order_and_all_or_none<S: Store>() {
    let store = S::new(Retention::default());
    let log = store.open().await;
    let old = stored_as(&*log, "b", None, b"old").await;
    let changes = vec![
        put("a", None, b"1"),
        put("b", Some(old), b"2"),
        put("c", None, b"3"),
    ];
    let revisions = stored(&*log, changes).await;
    for (name, revision) in ["a", "b", "c"].into_iter().zip(revisions) {
        assert_eq!(read(&*log, name).await.map(|cell| cell.revision), revision);
    }
    // The first that is refused is named, and nothing is stored, before it or after it.
    let changes = vec![
        put("new", None, b"x"),
        delete("c", read(&*log, "c").await.map(|cell| cell.revision)),
        put("b", Some(old), b"x"),
        put("a", None, b"x"),
    ];
    assert_eq!(refused(&*log, changes).await, "b");
    let all = list_all(&*log, "", 10).await;
    let all: Vec<_> = all
        .iter()
        .map(|cell| (&*cell.name, &cell.value[..]))
        .collect();
    assert_eq!(all, [("a", &b"1"[..]), ("b", b"2"), ("c", b"3")]);
}

pub(super) async fn swapped_a_revision_never_comes_again_for_a_name<S: Store>() {
    let store = S::new(Retention::default());
    let name = "state/crm";
    let mut seen = HashSet::new();
    for _ in 0..3 {
        let log = store.open().await;
        for _ in 0..4 {
            let mut revision = None;
            for _ in 0..4 {
                let next = stored_as(&*log, name, revision, b"x").await;
                assert!(seen.insert(next), "{next:?} came again");
                revision = Some(next);
            }
            assert_eq!(stored(&*log, vec![delete(name, revision)]).await, [None]);
            for stale in &seen {
                assert_eq!(
                    refused(&*log, vec![put(name, Some(*stale), b"x")]).await,
                    name
                );
            }
        }
        log.close().await;
    }
}

pub(super) async fn swapped_of_racing_writers_exactly_one_wins_each_revision<S: Store>() {
    const WRITERS: usize = 3;
    const STEPS: usize = 20;
    let store = S::new(Retention::default());
    let log = store.open().await;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let log = std::sync::Arc::clone(&log);
        writers.spawn(async move {
            let mut won = Vec::new();
            while won.len() < STEPS {
                let current = read(&*log, "state/crm").await;
                let expected = current.as_ref().map(|cell| cell.revision);
                let mut value = current.map_or_else(Vec::new, |cell| cell.value.to_vec());
                value.push(u8::try_from(writer).expect("few"));
                let change = put("state/crm", expected, &value);
                if let Swapped::Stored(_) = log.swap(vec![change]).await.expect("answered") {
                    won.push(expected);
                }
            }
            won
        });
    }
    let won = writers.join_all().await.concat();
    let revisions: HashSet<_> = won.iter().collect();
    assert_eq!(revisions.len(), won.len(), "two won from one revision");
    // Each value is made of the one before it: none was lost.
    let last = value(&*log, "state/crm").await.expect("there");
    for writer in 0..WRITERS {
        let of_writer = last.iter().filter(|it| usize::from(**it) == writer);
        assert_eq!(of_writer.count(), STEPS);
    }
}

pub(super) async fn swapped_what_no_log_stores_is_refused_in_words<S: Store>() {
    let store = S::new(Retention::default());
    let log = store.open().await;
    let too_large = vec![0; VALUE_BYTES_MAX + 1];
    let many: Vec<_> = (0..=SWAP_CHANGES_MAX)
        .map(|number| put(&format!("a/{number}"), None, b""))
        .collect();
    for (changes, words) in [
        (
            vec![put("a", None, &too_large)],
            "4194305 bytes (at most 4194304)",
        ),
        (
            vec![put("a.b", None, b"")],
            "`a.b` is not the name of a cell",
        ),
        (vec![put("", None, b"")], "not the name of a cell"),
        (vec![put("a/*", None, b"")], "not the name of a cell"),
        (vec![put("A", None, b"")], "not the name of a cell"),
        (
            vec![put("a", None, b"1"), put("a", None, b"2")],
            "changed twice",
        ),
        (many, "changes of cells in one swap (at most 1024)"),
    ] {
        // A change that is well formed, before the one that is not.
        let changes = [vec![put("well-formed", None, b"")], changes].concat();
        let error = log.swap(changes).await.expect_err(words);
        assert!(matches!(error, AppendError::InvalidCell(_)), "{error:?}");
        assert!(!error.is_retryable());
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!(list_all(&*log, "", 10).await, []);
    let malformed = Cells::read(&*log, "a.b").await;
    assert!(matches!(malformed, Err(ReadError::InvalidCell(_))));
    let malformed = log.list("a", "", 10).await;
    assert!(matches!(malformed, Err(ReadError::InvalidCell(_))));
}

pub(super) async fn swapped_a_swap_is_decided_though_its_caller_has_gone<S: Store>() {
    let store = S::new(Retention::default());
    let log = store.open().await;
    let revision = stored_as(&*log, "a", None, b"0").await;
    drop(log.swap(vec![put("a", Some(revision), b"1")]));
    eventually("it is stored", || async {
        value(&*log, "a").await.as_deref() == Some(b"1")
    })
    .await;
    assert_eq!(
        refused(&*log, vec![put("a", Some(revision), b"2")]).await,
        "a"
    );
}

pub(super) async fn durable_cells_are_there_after_reopening<S: Store>() {
    let store = S::new(Retention::default());
    let log = store.open().await;
    let large: Vec<u8> = (0..=250).cycle().take(3 << 20).collect();
    let swaps = (0..40).map(|number| {
        let name = format!("dead/crm/{number:016x}");
        log.swap(vec![put(&name, None, name.as_bytes())])
    });
    for swapped in join_all(swaps.collect::<Vec<_>>()).await {
        assert!(matches!(swapped, Ok(Swapped::Stored(_))), "{swapped:?}");
    }
    let revision = stored_as(&*log, "state/crm", None, &large).await;
    stored(
        &*log,
        vec![delete("dead/crm/0000000000000007", {
            let cell = read(&*log, "dead/crm/0000000000000007").await;
            cell.map(|cell| cell.revision)
        })],
    )
    .await;
    let before = list_all(&*log, "", 7).await;
    assert_eq!(before.len(), 40);
    log.close().await;
    drop(log);
    let log = store.open().await;
    assert_eq!(list_all(&*log, "", 100).await, before);
    let cell = read(&*log, "state/crm").await.expect("there");
    assert_eq!((cell.revision, &cell.value[..]), (revision, &large[..]));
    stored_as(&*log, "state/crm", Some(revision), b"next").await;
}

pub(super) async fn retention_never_removes_a_cell<S: Store>() {
    let hour = Duration::from_secs(3600);
    let store = S::new(Retention {
        keep_for: Some(hour),
        keep_bytes: Some(1),
    });
    let log = store.open().await;
    let revision = stored_as(&*log, "state/crm", None, &[7; 100_000]).await;
    let old = Entry {
        receive_time: UnixMillis::now().before(hour * 2),
        ..record("msg_1", "user.created", None)
    };
    append(&*log, old).await;
    log.apply_retention().await.expect("applied");
    let cell = read(&*log, "state/crm").await.expect("there");
    assert_eq!((cell.revision, cell.value.len()), (revision, 100_000));
    let described = log.describe().await.expect("described");
    assert!(described.counted_bytes < 50_000, "{described:?}");
}

pub(super) async fn listed_cells_are_those_of_a_prefix_in_order<S: Store>() {
    let store = S::new(Retention::default());
    let log = store.open().await;
    let mut names: Vec<String> = (0..25).map(|it| format!("dead/crm/{it:016x}")).collect();
    // Neighbors of the prefix, on both sides.
    let others = [
        "dead-crm",
        "dead/crm",
        "dead/crm-eu/0",
        "dead/crm0",
        "dead/crl/9",
        "dead_",
        "state/crm",
        "subscription/crm",
        "z",
    ];
    let all = names.iter().map(String::as_str).chain(others).rev();
    for name in all {
        stored_as(&*log, name, None, name.as_bytes()).await;
    }
    let listed = async |prefix: &str, after: &str, max| -> Vec<String> {
        let page = log.list(prefix, after, max).await.expect("listed");
        assert!(page.iter().all(|cell| cell.value == cell.name.as_bytes()));
        page.into_iter().map(|cell| cell.name).collect()
    };
    assert_eq!(listed("dead/crm/", "", 100).await, names);
    assert_eq!(listed("dead/crm/", "", 7).await, names[..7]);
    assert_eq!(listed("dead/crm/", &names[6], 7).await, names[7..14]);
    assert_eq!(
        listed("dead/crm/", "dead/crm/0000000000000007x", 2).await,
        names[8..10]
    );
    assert_eq!(listed("dead/crm/", &names[24], 7).await, [""; 0]);
    assert_eq!(listed("dead/crm/", "zz", 7).await, [""; 0]);
    assert_eq!(listed("dead/crm/", "a", 1).await, names[..1]);
    assert_eq!(listed("absent/", "", 7).await, [""; 0]);
    assert_eq!(listed("dead/crm-eu/", "", 7).await, ["dead/crm-eu/0"]);
    names.extend(others.map(str::to_owned));
    names.sort_unstable();
    let everything = list_all(&*log, "", 4).await;
    let everything: Vec<_> = everything.into_iter().map(|cell| cell.name).collect();
    assert_eq!(everything, names);
}

/// A page of large cells ends before it has as many as were asked for.
pub(super) async fn listed_pages_are_bounded_in_bytes<S: Store>() {
    let store = S::new(Retention::default());
    let log = store.open().await;
    for name in ["a/1", "a/2", "a/3", "a/4", "a/5"] {
        stored_as(&*log, name, None, &vec![0; LIST_BYTES_MAX / 2]).await;
    }
    let page = log.list("a/", "", 100).await.expect("listed");
    assert_eq!(
        page.len(),
        2,
        "it ends with the cell that reaches the bound"
    );
    assert_eq!(list_all(&*log, "a/", 100).await.len(), 5);
}

/// The next change that is published.
async fn next(changes: &mut Receiver<Changed>) -> (String, Option<Revision>) {
    let within = Duration::from_secs(30);
    let changed = tokio::time::timeout(within, changes.recv()).await;
    let changed = changed.expect("in time").expect("not late");
    (changed.name.to_string(), changed.revision)
}

pub(super) async fn watched_every_stored_change_is_published_in_order<S: Store>() {
    let store = S::new(Retention::default());
    let log = store.open().await;
    stored_as(&*log, "before", None, b"").await;
    let mut changes = log.watch();
    let revision = stored_as(&*log, "a", None, b"1").await;
    let mut expected = vec![("a".to_owned(), Some(revision))];
    refused(&*log, vec![put("a", None, b"2")]).await;
    let revisions = stored(
        &*log,
        vec![put("b", None, b"2"), put("a", Some(revision), b"3")],
    )
    .await;
    for (name, revision) in ["b", "a"].into_iter().zip(&revisions) {
        expected.push((name.to_owned(), *revision));
    }
    stored(&*log, vec![delete("a", revisions[1])]).await;
    expected.push(("a".to_owned(), None));
    let again = stored_as(&*log, "a", None, b"4").await;
    expected.push(("a".to_owned(), Some(again)));
    let mut published = Vec::new();
    while published.len() < expected.len() {
        let changed = next(&mut changes).await;
        // It may come late, to a store that others write to.
        if changed.0 != "before" {
            published.push(changed);
        }
    }
    assert_eq!(published, expected);
}

pub(super) async fn a_closed_log_refuses_swaps<S: Store>() {
    let store = S::new(Retention::default());
    let log = store.open().await;
    stored_as(&*log, "a", None, b"1").await;
    log.close().await;
    let refused = log.swap(vec![put("b", None, b"1")]).await;
    assert_eq!(refused, Err(AppendError::Closed));
}
