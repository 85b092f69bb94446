//! A process of its own that swaps cells beside events, until it is killed.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clerkcast::event::Position;
use clerkcast::log::sqlite::SqliteLog;
use clerkcast::log::{Append as _, Cell, Cells as _, Change, Entry, Keep as _, Read as _, Swapped};
use tokio::task::JoinSet;

use super::{open, read};
use crate::child::{Child, acknowledge, refuse};
use crate::conformance::cells::{delete, put};
use crate::conformance::{everything_after, ids, read_all, record};

/// Set for the processes that [`start_swapper`] starts.
const DATA_DIR: &str = "CLERKCAST_TEST_CELLS_DIR";
const LOAD: &str = "CLERKCAST_TEST_CELLS_LOAD";
pub(super) const SWAPPERS: usize = 6;
/// Contents that stay for each swapper.
const CONTENTS: u64 = 8;
/// All swappers race for it.
const SHARED: &str = "state/shared";

/// What a swapping process does beside that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// It appends events.
    BesideEvents,
    /// Nothing: each commit is for the sake of swaps.
    Alone,
}

impl Load {
    fn name(self) -> &'static str {
        match self {
            Self::BesideEvents => "beside-events",
            Self::Alone => "alone",
        }
    }

    fn appenders(self) -> usize {
        match self {
            Self::BesideEvents => 4,
            Self::Alone => 0,
        }
    }
}

/// Starts a process that swaps.
pub(crate) fn start_swapper(data_dir: &Path, load: Load, mut env: Vec<(String, String)>) -> Child {
    env.push((DATA_DIR.to_owned(), data_dir.display().to_string()));
    env.push((LOAD.to_owned(), load.name().to_owned()));
    let name = "cells::process::the_swapping_process_swaps_until_it_is_killed";
    Child::start(name, env)
}

/// What the process runs. It is a test because this binary can be started at one; among the
/// other tests, it has no data directory and does nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_swapping_process_swaps_until_it_is_killed() {
    let Some(data_dir) = std::env::var_os(DATA_DIR) else {
        return;
    };
    let is_asked = |load: &Load| std::env::var(LOAD).is_ok_and(|name| name == load.name());
    let load = [Load::BesideEvents, Load::Alone].into_iter().find(is_asked);
    let log = Arc::new(open(Path::new(&data_dir)));
    let numbers = Arc::new(AtomicU64::new(log.bounds().last.number() + 1));
    let mut working = JoinSet::new();
    for swapper in 0..SWAPPERS {
        working.spawn(swap_until_killed(Arc::clone(&log), swapper));
    }
    for _ in 0..load.expect("a load").appenders() {
        working.spawn(append_until_killed(Arc::clone(&log), Arc::clone(&numbers)));
    }
    working.join_all().await;
}

async fn append_until_killed(log: Arc<SqliteLog>, numbers: Arc<AtomicU64>) {
    loop {
        let id = format!("msg_{}", numbers.fetch_add(1, Ordering::Relaxed));
        let entry = Entry {
            payload: Bytes::from(format!("{{\"x\":\"{}\"}}", "x".repeat(6_000))),
            ..record(&id, "user.updated", None)
        };
        match log.append(entry).await {
            Ok(_) => acknowledge(&id),
            Err(_) => refused(&id).await,
        }
    }
}

async fn swap_until_killed(log: Arc<SqliteLog>, swapper: usize) {
    loop {
        let (changes, next) = step(&log, swapper).await;
        match log.swap(changes).await {
            Ok(Swapped::Stored(_)) => acknowledge(&format!("state/{swapper}={next}")),
            Ok(Swapped::Conflict(name)) => panic!("nobody else changes {name}"),
            Err(_) => refused(&format!("state/{swapper}={next}")).await,
        }
        let shared = read(&log, SHARED).await;
        let next = count(shared.as_ref()) + 1;
        let revision = shared.map(|cell| cell.revision);
        let change = put(SHARED, revision, next.to_string().as_bytes());
        match log.swap(vec![change]).await {
            // Who loses has seen that another has made it.
            Ok(_) => acknowledge(&format!("{SHARED}={next}")),
            Err(_) => refused(&format!("{SHARED}={next}")).await,
        }
    }
}

async fn refused(id: &str) {
    refuse(id);
    tokio::time::sleep(Duration::from_millis(5)).await;
}

/// The number that a cell begins with.
fn count(cell: Option<&Cell>) -> u64 {
    cell.map_or(0, |cell| {
        let text = std::str::from_utf8(&cell.value).expect("text");
        text.trim_end().parse().expect("a number")
    })
}

/// Names come again, for other contents.
fn content_name(swapper: usize, number: u64) -> String {
    format!("dead/{swapper}/{:016x}", number % (2 * CONTENTS))
}

/// The next count of a swapper: its content comes before it, and what is old goes after it.
/// Some values fill pages of their own.
async fn step(log: &SqliteLog, swapper: usize) -> (Vec<Change>, u64) {
    let own = format!("state/{swapper}");
    let current = read(log, &own).await;
    let next = count(current.as_ref()) + 1;
    let padding = " ".repeat(if next.is_multiple_of(3) { 9_000 } else { 30 });
    let value = format!("{next}{padding}");
    let revision = current.map(|cell| cell.revision);
    let mut changes = vec![
        put(&content_name(swapper, next), None, value.as_bytes()),
        put(&own, revision, value.as_bytes()),
    ];
    if next > CONTENTS {
        let old = content_name(swapper, next - CONTENTS);
        let revision = read(log, &old).await.map(|cell| cell.revision);
        changes.push(delete(&old, revision));
    }
    (changes, next)
}

/// Opens the log after a kill: what was acknowledged is there, and swaps are whole.
pub(crate) async fn check(data_dir: &Path, acknowledged: &HashSet<String>) {
    let log = open(data_dir);
    let mut counts = HashMap::<&str, u64>::new();
    let mut events = HashSet::new();
    for id in acknowledged {
        match id.split_once('=') {
            Some((name, number)) => {
                let count = counts.entry(name).or_default();
                *count = (*count).max(number.parse().expect("a number"));
            }
            None => drop(events.insert(id.as_str())),
        }
    }
    let found = read_all(&log, everything_after(Position::START)).await;
    let found: HashSet<&str> = ids(&found).into_iter().collect();
    let lost: Vec<_> = events.difference(&found).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    for (name, count_at_least) in counts {
        let cell = read(&log, name).await;
        let found = count(cell.as_ref());
        assert!(
            found >= count_at_least,
            "{name}: {found}, not {count_at_least}"
        );
    }
    for swapper in 0..SWAPPERS {
        let state = read(&log, &format!("state/{swapper}")).await;
        let last = count(state.as_ref());
        let mut contents = log
            .list(&format!("dead/{swapper}/"), "", 100)
            .await
            .expect("listed");
        contents.sort_by_key(|cell| count(Some(cell)));
        let found: Vec<u64> = contents.iter().map(|cell| count(Some(cell))).collect();
        let kept: Vec<u64> = (last.saturating_sub(CONTENTS) + 1..=last).collect();
        assert_eq!(found, kept, "of {swapper}");
    }
    log.close().await;
}
