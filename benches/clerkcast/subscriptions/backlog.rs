//! The events that subscriptions work off.

use std::path::Path;

use clerkcast::log::Entry;

use crate::support::disk_log;
use crate::support::posts::user_created;
use crate::support::records::{record_of, scattered};

/// Whom events are about, without a pattern.
pub(super) const USERS: usize = 10_000;

/// Makes a log of this many events, each as posting it would make it.
pub(super) async fn fill(data_dir: &Path, events: usize) {
    let log = disk_log::open(data_dir);
    log.fill(entries(events)).await;
    log.close().await;
}

fn entries(events: usize) -> impl Iterator<Item = Entry> {
    let common = record_of(&user_created());
    (0..events).map(move |number| {
        let mut entry = common.clone();
        entry.id = format!("msg_backlog_{number:019}");
        entry.attributes.user_id = Some(user_id(number));
        entry
    })
}

/// The user of one of the events.
pub(super) fn user_id(number: usize) -> String {
    format!("user_{:027}", scattered(number) % USERS)
}
