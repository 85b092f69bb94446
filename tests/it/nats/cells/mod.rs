//! What the law of cells says of NATS in other words than of the embedded log.

mod faults;
mod permissions;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clerkcast::log::jetstream::{Config, JetStreamLog, OpenError};
use clerkcast::log::{
    AppendError, Cell, Cells, Change, Changed, Keep as _, Metrics, Revision, Swapped,
};
use prometheus_client::registry::Registry;
use tokio::sync::broadcast;

use super::server::Server;
use crate::harness::{PATIENCE, POLL_INTERVAL, eventually};

const BUCKET: &str = "KV_CLERKCAST_CELLS";

fn config(servers: &[&Server]) -> Config {
    let urls = servers.iter().map(|server| server.url());
    Config {
        servers: urls.map(|url| url.parse().expect("a URL")).collect(),
        replicas: servers.len(),
        ..Config::default()
    }
}

async fn try_open(config: Config) -> Result<JetStreamLog, OpenError> {
    JetStreamLog::open(config, Metrics::register(&mut Registry::default())).await
}

async fn open(config: Config) -> Arc<JetStreamLog> {
    Arc::new(try_open(config).await.expect("opens"))
}

fn change(name: &str, expected: Option<Revision>, value: Option<&str>) -> Change {
    Change {
        name: name.to_owned(),
        expected,
        value: value.map(|value| Bytes::from(value.to_owned())),
    }
}

/// Makes one change, which must be stored.
async fn store(log: &JetStreamLog, change: Change) -> Option<Revision> {
    let swapped = log.swap(vec![change]).await.expect("answered");
    match swapped {
        Swapped::Stored(revisions) => revisions[0],
        Swapped::Conflict(name) => panic!("{name} has another revision"),
    }
}

async fn read(log: &JetStreamLog, name: &str) -> Option<Cell> {
    Cells::read(log, name).await.expect("readable")
}

fn text(cell: &Cell) -> &str {
    std::str::from_utf8(&cell.value).expect("text")
}

fn conflict(name: &str) -> Result<Swapped, AppendError> {
    Ok(Swapped::Conflict(name.to_owned()))
}

/// The next change that is announced.
async fn announced(changes: &mut broadcast::Receiver<Changed>) -> (String, Option<Revision>) {
    let next = tokio::time::timeout(PATIENCE, changes.recv()).await;
    let Changed { name, revision } = next.expect("in time").expect("it is open");
    (name.to_string(), revision)
}

/// How many messages the bucket holds, those of deleted cells included.
async fn message_count(server: &Server) -> u64 {
    let stream = server.jetstream().await.get_stream(BUCKET).await;
    stream.expect("it is there").cached_info().state.messages
}

/// The old values and revisions of a deleted cell are void, whether its marker is still there.
#[tokio::test]
async fn swapped_a_revision_never_comes_again_after_the_marker_is_removed() {
    let server = Server::start();
    let log = open(Config {
        markers_kept_for: Duration::ZERO,
        ..config(&[&server])
    })
    .await;
    let mut void = Vec::new();
    let mut last = None;
    for round in 0..3 {
        let first = store(&log, change("state/crm", None, Some("first"))).await;
        let second = store(&log, change("state/crm", first, Some("second"))).await;
        assert!(
            first < second && last < first,
            "{last:?} {first:?} {second:?}"
        );
        last = second;
        assert_eq!(store(&log, change("state/crm", second, None)).await, None);
        void.extend([first, second]);
        if round != 1 {
            eventually("the marker is removed", || async {
                message_count(&server).await == 0
            })
            .await;
        }
        assert_eq!(read(&log, "state/crm").await, None);
        for revision in &void {
            let late = log.swap(vec![change("state/crm", *revision, Some("late"))]);
            assert_eq!(late.await, conflict("state/crm"), "{revision:?}");
        }
    }
    for wrong in [0, u64::MAX] {
        let wrong = Some(Revision::new(wrong));
        let swapped = log.swap(vec![change("state/crm", wrong, Some("wrong"))]);
        assert_eq!(swapped.await, conflict("state/crm"));
    }
    assert_eq!(read(&log, "state/crm").await, None);
}

/// A marker stays long enough, and is no cell to whoever reads or lists.
#[tokio::test]
async fn a_deleted_cell_leaves_a_marker_that_no_reader_sees() {
    let server = Server::start();
    let log = open(config(&[&server])).await;
    for number in 0..30 {
        let name = format!("dead/crm/{number:016x}");
        let revision = store(&log, change(&name, None, Some("letter"))).await;
        if number % 3 != 1 {
            store(&log, change(&name, revision, None)).await;
        }
    }
    assert_eq!(message_count(&server).await, 30);
    let mut after = String::new();
    let mut listed = Vec::new();
    loop {
        let page = log.list("dead/crm/", &after, 4).await.expect("listed");
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 4);
        after.clone_from(&last.name);
        listed.extend(page.into_iter().map(|cell| cell.name));
    }
    let expected = (0..30).filter(|number| number % 3 == 1);
    let expected: Vec<_> = expected
        .map(|number| format!("dead/crm/{number:016x}"))
        .collect();
    assert_eq!(listed, expected);
    // Made again over its marker.
    let revision = store(
        &log,
        change("dead/crm/0000000000000000", None, Some("again")),
    )
    .await;
    let cell = read(&log, "dead/crm/0000000000000000")
        .await
        .expect("there");
    assert_eq!((text(&cell), Some(cell.revision)), ("again", revision));
}

/// The first name in the order of the changes is named, and nothing after it is stored.
#[tokio::test]
async fn swapped_a_conflict_names_the_first_change_and_stores_a_prefix() {
    let server = Server::start();
    let log = open(config(&[&server])).await;
    let one = store(&log, change("a", None, Some("1"))).await;
    let wrong = Some(Revision::new(one.expect("stored").number() + 100));
    let swapped = log.swap(vec![
        change("b", None, Some("1")),
        change("a", wrong, Some("2")),
        change("c", None, Some("1")),
    ]);
    assert_eq!(swapped.await, conflict("a"));
    assert!(read(&log, "b").await.is_some(), "a prefix");
    assert_eq!(read(&log, "c").await, None);
    // What must not be there is looked at before anything is stored.
    let swapped = log.swap(vec![
        change("d", None, Some("1")),
        change("a", wrong, Some("2")),
        change("b", None, Some("2")),
    ]);
    assert_eq!(swapped.await, conflict("a"));
    assert_eq!(read(&log, "d").await, None);
    let swapped = log.swap(vec![change("a", one, Some("2")), change("b", None, None)]);
    assert_eq!(swapped.await, conflict("b"));
    assert_eq!(text(&read(&log, "a").await.expect("there")), "1");
}

/// The bound of a value is the server's where that is lower than the log's.
#[tokio::test]
async fn a_value_beyond_max_payload_is_refused_in_words_and_the_largest_fits() {
    let server = Server::start();
    let log = open(config(&[&server])).await;
    let value = |bytes: usize| Bytes::from(vec![7; bytes]);
    let large = |name: &str, bytes: usize| Change {
        value: Some(value(bytes)),
        ..change(name, None, None)
    };
    let most = (4 << 20) - 1024;
    let refused = log.swap(vec![change("a", None, Some("1")), large("b", most + 1)]);
    let message = refused.await.expect_err("too large").to_string();
    assert!(
        message.contains("cell `b` has 4193281 bytes, and the NATS servers' max_payload has room"),
        "{message}"
    );
    assert_eq!(read(&log, "a").await, None, "nothing is stored");
    store(&log, large("large", most)).await;
    assert_eq!(read(&log, "large").await.expect("there").value, value(most));
    let page = log.list("", "", 10).await.expect("listed");
    assert_eq!(page.len(), 1);
    assert_eq!(page[0].value, value(most));
}

/// Of each cell the last change is announced to all, also by a server that was away meanwhile.
/// One that was replaced at once may be passed over.
#[tokio::test]
async fn watched_the_last_change_of_a_cell_is_announced_to_every_process() {
    let mut server = Server::start();
    let writer = open(config(&[&server])).await;
    store(&writer, change("before", None, Some("1"))).await;
    let watcher = open(config(&[&server])).await;
    let mut changes = [writer.watch(), watcher.watch()];
    let mut expected = None;
    for number in 0..5 {
        let by = if number % 2 == 0 { &writer } else { &watcher };
        expected = store(by, change("state/crm", expected, Some("1"))).await;
    }
    for changes in &mut changes {
        announced_as(changes, "state/crm", expected).await;
    }
    store(&watcher, change("state/crm", expected, None)).await;
    for changes in &mut changes {
        announced_as(changes, "state/crm", None).await;
    }
    server.kill();
    server.run();
    let again = loop {
        let swapped = writer
            .swap(vec![change("state/crm", None, Some("3"))])
            .await;
        if let Ok(Swapped::Stored(revisions)) = swapped {
            break revisions[0];
        }
        if let Some(cell) = Cells::read(&*writer, "state/crm").await.ok().flatten() {
            break Some(cell.revision);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    };
    for changes in &mut changes {
        announced_as(changes, "state/crm", again).await;
    }
}

/// Waits until a change is announced, and holds those before it to be older.
async fn announced_as(
    changes: &mut broadcast::Receiver<Changed>,
    name: &str,
    revision: Option<Revision>,
) {
    loop {
        let next = announced(changes).await;
        if next == (name.to_owned(), revision) {
            return;
        }
        assert!(revision.is_none() || next.1 < revision, "{next:?}");
    }
}

/// The consumer of each process goes with it.
#[tokio::test]
async fn a_closed_log_refuses_swaps_and_leaves_no_consumer() {
    let server = Server::start();
    let log = open(config(&[&server])).await;
    let mut changes = log.watch();
    let first = store(&log, change("a", None, Some("1"))).await;
    announced_as(&mut changes, "a", first).await;
    log.close().await;
    let refused = log.swap(vec![change("b", None, Some("1"))]).await;
    assert_eq!(refused, Err(AppendError::Closed));
    let stream = server.jetstream().await.get_stream(BUCKET).await;
    let info = stream.expect("it is there").cached_info().clone();
    assert_eq!(info.state.consumer_count, 0);
}
