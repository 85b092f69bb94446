//! Cells in the embedded log: beside events, through crashes, a full disk and a power cut.

mod model;
mod process;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clerkcast::log::sqlite::{Backup, Config, SqliteLog};
use clerkcast::log::{
    Append as _, AppendError, Cell, Cells, Keep as _, Metrics, Read as _, Swapped,
};
use futures_util::future::join_all;
use prometheus_client::registry::Registry;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::conformance::cells::{delete, list_all, put, stored, stored_as, value};
use crate::conformance::{append, record};
use crate::harness::eventually;
use crate::preload::{compile, preloaded};
use crate::reopen::AS_VERSION_4;
use crate::soak::{Figure, figure};

use process::SWAPPERS;
pub(crate) use process::{Load, check, start_swapper};

fn open_counting(data_dir: &Path, registry: &mut Registry) -> SqliteLog {
    let config = Config {
        data_dir: data_dir.to_owned(),
        retain_for: None,
        retain_bytes: None,
        ..Config::default()
    };
    SqliteLog::open(config, Metrics::register(registry)).expect("opens")
}

fn open(data_dir: &Path) -> SqliteLog {
    open_counting(data_dir, &mut Registry::default())
}

async fn read(log: &SqliteLog, name: &str) -> Option<Cell> {
    Cells::read(log, name).await.expect("read")
}

/// A sample of the metrics, without labels or with them.
fn sample(registry: &Registry, name: &str) -> f64 {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).expect("encoded");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0.0, |number| number.parse().expect("a number"))
}

/// Holds the file's lock, for which the writer waits.
fn lock(data_dir: &Path) -> Connection {
    let database = Connection::open(data_dir.join("clerkcast.db")).expect("opens");
    database.execute_batch("BEGIN IMMEDIATE").expect("locked");
    database
}

#[tokio::test]
async fn swapped_a_swap_beside_events_costs_no_commit_of_its_own() {
    let directory = TempDir::new().expect("a temporary directory");
    let mut registry = Registry::default();
    let log = open_counting(directory.path(), &mut registry);
    let revision = stored_as(&log, "state/0", None, b"0").await;
    assert_eq!(sample(&registry, "log_commit_duration_seconds_count"), 1.0);
    // What is asked for while the writer waits is ready once it goes on.
    let lock = lock(directory.path());
    let mut appends = Vec::new();
    let mut swaps = Vec::new();
    for number in 0..40 {
        appends.push(log.append(record(&format!("msg_{number}"), "user.created", None)));
        let name = format!("state/{}", number / 2);
        // Every second one conflicts.
        let expected = (number == 0).then_some(revision);
        swaps.push(log.swap(vec![put(&name, expected, &[0; 5_000])]));
    }
    drop(lock);
    for appended in join_all(appends).await {
        appended.expect("durable");
    }
    let swapped: Vec<_> = join_all(swaps).await.into_iter().flatten().collect();
    let is_stored = |swapped: &&Swapped| matches!(swapped, Swapped::Stored(_));
    assert_eq!(swapped.iter().filter(is_stored).count(), 20);
    assert_eq!(swapped.len(), 40);
    // The writer had taken the first before it waited.
    let commits = sample(&registry, "log_commit_duration_seconds_count");
    assert!(commits <= 3.0, "{commits} commits");
    assert_eq!(sample(&registry, "log_batch_events_sum"), 40.0);
    for (outcome, count) in [("stored", 21.0), ("conflict", 20.0)] {
        let name = format!("cell_swaps_total{{outcome=\"{outcome}\"}}");
        assert_eq!(sample(&registry, &name), count);
    }
    assert_eq!(sample(&registry, "cell_swap_seconds_count"), 41.0);
    log.close().await;
}

/// A batch is as large as one commit may be, whatever it is made of.
#[tokio::test]
async fn swapped_values_count_towards_the_bytes_of_a_batch() {
    let directory = TempDir::new().expect("a temporary directory");
    let mut registry = Registry::default();
    let log = open_counting(directory.path(), &mut registry);
    let lock = lock(directory.path());
    let value = vec![0; 3 << 20];
    let swaps = (0..6).map(|number| log.swap(vec![put(&format!("a/{number}"), None, &value)]));
    let swaps: Vec<_> = swaps.collect();
    drop(lock);
    for swapped in join_all(swaps).await {
        assert!(matches!(swapped, Ok(Swapped::Stored(_))), "{swapped:?}");
    }
    let commits = sample(&registry, "log_commit_duration_seconds_count");
    assert!(commits >= 3.0, "{commits} commits for 18 MiB");
    log.close().await;
}

/// Damage to the cells is not one to the events.
#[tokio::test]
async fn swapped_a_swap_that_fails_does_not_fail_the_events_beside_it() {
    let directory = TempDir::new().expect("a temporary directory");
    let mut registry = Registry::default();
    let log = open_counting(directory.path(), &mut registry);
    append(&log, record("msg_0", "user.created", None)).await;
    let fails = "CREATE TRIGGER fails BEFORE INSERT ON cell WHEN NEW.name = 'broken' \
                 BEGIN SELECT RAISE(ABORT, 'it is broken'); END";
    let database = Connection::open(directory.path().join("clerkcast.db")).expect("opens");
    database.execute_batch(fails).expect("made");

    let lock = lock(directory.path());
    let appends = (1..=20).map(|it| log.append(record(&format!("msg_{it}"), "user.created", None)));
    let appends: Vec<_> = appends.collect();
    let swap = log.swap(vec![put("whole", None, b"1"), put("broken", None, b"2")]);
    drop(lock);
    for appended in join_all(appends).await {
        appended.expect("durable");
    }
    match swap.await {
        Err(AppendError::Refusing(reason)) => assert!(reason.contains("broken"), "{reason}"),
        swapped => panic!("{swapped:?}"),
    }
    assert_eq!(log.bounds().last.number(), 21);
    assert_eq!(
        value(&log, "whole").await,
        None,
        "a refused swap leaves nothing"
    );
    assert_eq!(
        sample(&registry, "cell_swaps_total{outcome=\"failed\"}"),
        1.0
    );
    // Alone, it fails too, and the log takes what is whole.
    log.swap(vec![put("broken", None, b"2")])
        .await
        .expect_err("broken");
    append(&log, record("msg_21", "user.created", None)).await;
    stored_as(&log, "whole", None, b"1").await;
    log.close().await;
}

/// What retention cannot remove is not what it removes events for.
#[tokio::test]
async fn retention_by_size_does_not_count_cells() {
    let directory = TempDir::new().expect("a temporary directory");
    let log = open(directory.path());
    let mut revisions = Vec::new();
    for name in ["a", "b", "c", "d"] {
        revisions.push(stored_as(&log, name, None, &vec![0; 1 << 20]).await);
    }
    for number in 0..20 {
        append(&log, record(&format!("msg_{number}"), "user.created", None)).await;
    }
    log.set_retention(None, Some(1 << 20));
    log.apply_retention().await.expect("applied");
    assert_eq!(log.bounds().trimmed.number(), 0);
    // Nor does what was a cell, and is one no more.
    stored(
        &log,
        vec![
            delete("a", Some(revisions[0])),
            delete("b", Some(revisions[1])),
        ],
    )
    .await;
    log.apply_retention().await.expect("applied");
    assert_eq!(log.bounds().trimmed.number(), 0);
    log.close().await;
}

#[tokio::test]
async fn durable_a_log_of_schema_4_gets_cells() {
    let directory = TempDir::new().expect("a temporary directory");
    let log = open(directory.path());
    append(&log, record("msg_1", "user.created", None)).await;
    log.close().await;
    drop(log);
    let database = Connection::open(directory.path().join("clerkcast.db")).expect("opens");
    database.execute_batch(AS_VERSION_4).expect("rewritten");
    drop(database);

    let log = open(directory.path());
    assert_eq!(log.bounds().last.number(), 1);
    assert_eq!(list_all(&log, "", 10).await, []);
    stored_as(&log, "state/crm", None, b"1").await;
    log.close().await;
    drop(log);
    let log = open(directory.path());
    assert_eq!(value(&log, "state/crm").await.as_deref(), Some(&b"1"[..]));
    log.close().await;
}

#[tokio::test]
async fn backup_has_the_cells_of_the_same_moment() {
    let directory = TempDir::new().expect("a temporary directory");
    let log = Arc::new(open(directory.path()));
    // An event and a cell, each after the other.
    let ends = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writing = tokio::spawn({
        let (log, ends) = (Arc::clone(&log), Arc::clone(&ends));
        async move {
            let mut revision = None;
            let mut number = 0;
            while !ends.load(std::sync::atomic::Ordering::Relaxed) {
                number += 1;
                append(
                    &*log,
                    record(&format!("msg_{number}"), "user.created", None),
                )
                .await;
                let text = number.to_string();
                revision = Some(stored_as(&*log, "state/crm", revision, text.as_bytes()).await);
            }
        }
    });
    eventually("some is written", || async {
        log.bounds().last.number() > 50
    })
    .await;
    let restored = TempDir::new().expect("a temporary directory");
    let (data_dir, file) = (
        directory.path().to_owned(),
        restored.path().join("clerkcast.db"),
    );
    let backup = tokio::task::spawn_blocking(move || {
        Backup::begin(&data_dir, &file)
            .expect("begun")
            .run()
            .expect("made")
    });
    backup.await.expect("no panic");
    ends.store(true, std::sync::atomic::Ordering::Relaxed);
    writing.await.expect("no panic");
    log.close().await;

    let log = open(restored.path());
    let last = log.bounds().last.number();
    let cell = read(&log, "state/crm").await.expect("there");
    let number: u64 = std::str::from_utf8(&cell.value)
        .expect("text")
        .parse()
        .expect("a number");
    assert!(
        last >= 50 && (number == last || number + 1 == last),
        "{number} at {last}"
    );
    stored_as(&log, "state/crm", Some(cell.revision), b"on").await;
    log.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_and_durable_through_kill_9() {
    let directory = TempDir::new().expect("a temporary directory");
    let mut acknowledged = HashSet::new();
    let rounds = figure(Figure::CrashRounds);
    for round in 0..rounds {
        let load = [Load::BesideEvents, Load::Alone][round % 2];
        let swapper = start_swapper(directory.path(), load, Vec::new());
        // Varies where the kill falls.
        swapper.has_acknowledged(1 + (round * 97) % 400).await;
        acknowledged.extend(swapper.kill());
        if round % 5 == 4 || round + 1 == rounds {
            check(directory.path(), &acknowledged).await;
        }
    }
    println!("{rounds} rounds, {} acknowledged", acknowledged.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn durable_a_full_disk_refuses_swaps_until_there_is_room() {
    let directory = TempDir::new().expect("a temporary directory");
    let data_dir = directory.path().join("data");
    let library = compile("fault", directory.path());
    let control = directory.path().join("fault");
    let fail = |fault: &str| std::fs::write(&control, fault).expect("written");
    fail("");
    let swapper = start_swapper(
        &data_dir,
        Load::BesideEvents,
        preloaded(&library, "CLERKCAST_FAULT", &control),
    );
    let is_swap = |id: &&String| id.contains('=');
    let mut before = 0;
    for _ in 0..3 {
        swapper.has_acknowledged(before + 50).await;
        let refused_before = swapper.refused().len();
        fail("full");
        eventually("both are refused", || async {
            let refused = swapper.refused().split_off(refused_before);
            let swaps = refused.iter().filter(is_swap).count();
            swaps >= 6 && refused.len() - swaps >= 4
        })
        .await;
        before = swapper.acknowledged().len();
        fail("");
    }
    swapper.has_acknowledged(before + 50).await;
    let acknowledged: HashSet<String> = swapper.kill().into_iter().collect();
    check(&data_dir, &acknowledged).await;
}

/// What a failed fsync left on disk is not known, and no second one tells.
#[tokio::test(flavor = "multi_thread")]
async fn durable_a_failed_fsync_answers_no_swap_any_more() {
    let directory = TempDir::new().expect("a temporary directory");
    let data_dir = directory.path().join("data");
    let library = compile("fault", directory.path());
    let control = directory.path().join("fault");
    let fail = |fault: &str| std::fs::write(&control, fault).expect("written");
    fail("");
    let env = preloaded(&library, "CLERKCAST_FAULT", &control);
    let swapper = start_swapper(&data_dir, Load::Alone, env);
    swapper.has_acknowledged(50).await;
    fail("fsync");
    // What each has printed before that is noted then.
    eventually("every swapper is refused", || async {
        let refused = swapper.refused();
        let is_refused = |it| {
            refused
                .iter()
                .any(|id| id.starts_with(&format!("state/{it}=")))
        };
        (0..SWAPPERS).all(is_refused)
    })
    .await;
    let acknowledged = swapper.acknowledged();
    let refused = swapper.refused().len();
    fail("");
    eventually("they ask again", || async {
        swapper.refused().len() >= refused + 100
    })
    .await;
    assert_eq!(swapper.acknowledged(), acknowledged);
    swapper.kill();
    check(&data_dir, &acknowledged.into_iter().collect()).await;
}

/// Reads go past the writer, which waits here for a lock.
#[tokio::test]
async fn cells_are_read_while_the_writer_waits() {
    let directory = TempDir::new().expect("a temporary directory");
    let log = open(directory.path());
    let revision = stored_as(&log, "state/crm", None, b"1").await;
    let lock = lock(directory.path());
    let swap = log.swap(vec![put("state/crm", Some(revision), b"2")]);
    assert_eq!(value(&log, "state/crm").await.as_deref(), Some(&b"1"[..]));
    assert_eq!(list_all(&log, "state/", 10).await.len(), 1);
    drop(lock);
    let swapped = tokio::time::timeout(Duration::from_secs(30), swap).await;
    assert!(matches!(swapped, Ok(Ok(Swapped::Stored(_)))), "{swapped:?}");
    assert_eq!(value(&log, "state/crm").await.as_deref(), Some(&b"2"[..]));
    log.close().await;
}
