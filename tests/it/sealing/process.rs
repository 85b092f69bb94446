//! A process of its own that appends to a log and seals its records, until it is killed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clerkcast::event::UnixMillis;
use clerkcast::log::sqlite::SqliteLog;
use clerkcast::log::{Append as _, Entry, Read as _};
use tokio::task::JoinSet;

use super::{FIRST_RECEIVED, open};
use crate::child::{Child, acknowledge};
use crate::conformance::record;

/// Set for the processes that [`start_sealer`] starts.
const DATA_DIR: &str = "CLERKCAST_TEST_SEALING_DIR";
const LOAD: &str = "CLERKCAST_TEST_SEALING_LOAD";

/// What a sealing process appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// Several records at once.
    Flood,
    /// One record at a time, and a pause after each.
    Trickle,
}

impl Load {
    fn name(self) -> &'static str {
        match self {
            Self::Flood => "flood",
            Self::Trickle => "trickle",
        }
    }

    fn appenders(self) -> usize {
        match self {
            Self::Flood => 8,
            Self::Trickle => 1,
        }
    }

    fn pause(self) -> Duration {
        match self {
            Self::Flood => Duration::ZERO,
            Self::Trickle => Duration::from_millis(2),
        }
    }
}

/// What a sealing process runs. It is a test because this binary can be started at one; among the
/// other tests, it has no data directory and does nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_sealing_process_appends_until_it_is_killed() {
    let Some(data_dir) = std::env::var_os(DATA_DIR) else {
        return;
    };
    let is_asked = |load: &Load| std::env::var(LOAD).is_ok_and(|name| name == load.name());
    let load = [Load::Flood, Load::Trickle].into_iter().find(is_asked);
    let load = load.expect("a load");
    let log = Arc::new(open(Path::new(&data_dir)));
    let numbers = Arc::new(AtomicU64::new(log.bounds().last.number() + 1));
    let mut appending = JoinSet::new();
    for _ in 0..load.appenders() {
        appending.spawn(append_until_killed(
            Arc::clone(&log),
            Arc::clone(&numbers),
            load,
        ));
    }
    appending.join_all().await;
}

/// Ends by itself where its parent has gone.
async fn append_until_killed(log: Arc<SqliteLog>, numbers: Arc<AtomicU64>, load: Load) {
    loop {
        let entry = entry(numbers.fetch_add(1, Ordering::Relaxed));
        let id = entry.id.clone();
        log.append(entry).await.expect("durable");
        acknowledge(&id);
        tokio::time::sleep(load.pause()).await;
    }
}

/// Starts a process that appends and seals.
pub(crate) fn start_sealer(data_dir: &Path, load: Load, mut env: Vec<(String, String)>) -> Child {
    env.push((DATA_DIR.to_owned(), data_dir.display().to_string()));
    env.push((LOAD.to_owned(), load.name().to_owned()));
    let name = "sealing::process::the_sealing_process_appends_until_it_is_killed";
    Child::start(name, env)
}

/// The record of a number. Some of its values are frequent and some are rare, and now and then
/// it was received before the one of a smaller number.
pub(super) fn entry(number: u64) -> Entry {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let pick = |shift: u32, of: u64| (mixed >> shift) % of;
    let event_type = match pick(16, 10) {
        0..6 => "user.updated".to_owned(),
        _ => format!("type.{}", pick(24, 40)),
    };
    let id = format!("msg_{number}");
    let mut entry = record(&id, &event_type, None);
    let attributes = &mut entry.attributes;
    attributes.user_id = match pick(20, 3) {
        0 => Some("user_0".to_owned()),
        1 => Some(format!("user_{}", pick(28, 200))),
        _ => None,
    };
    attributes.organization_id = (pick(32, 2) == 0).then(|| format!("org_{}", pick(34, 7)));
    attributes.session_id = (pick(36, 2) == 0).then(|| format!("sess_{}", number / 5));
    let received = FIRST_RECEIVED + 10 * number.cast_signed();
    entry.receive_time = UnixMillis::new(received - 40 * pick(40, 8).cast_signed());
    if pick(44, 4) == 0 {
        // Pages of overflow, and enough of them that checkpoints write the database.
        let padding = "x".repeat(12_000);
        entry.payload = Bytes::from(format!("{{\"id\":\"{id}\",\"x\":\"{padding}\"}}"));
    }
    entry
}
