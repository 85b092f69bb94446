//! The types of events: those that Clerk declares, and others that the log has.

use std::collections::BTreeMap;

use crate::clerk::catalog::{CATALOG, message};
use crate::log::Tally;
use crate::proto::EventType;

/// The catalog in its order, then what only the log knows, with how many of each are
/// in the log. Bodies without a type are of none.
#[must_use]
pub fn with_counts(tallies: &[Tally]) -> Vec<EventType> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for tally in tallies.iter().filter(|tally| !tally.event_type.is_empty()) {
        *counts.entry(&tally.event_type).or_default() += tally.count;
    }
    let declared = CATALOG
        .iter()
        .map(|kind| (kind.name, counts.remove(kind.name)));
    let declared: Vec<(&str, Option<u64>)> = declared.collect();
    let others = counts.into_iter().map(|(name, count)| (name, Some(count)));
    let all = declared.into_iter().chain(others);
    let described = all.map(|(name, count)| EventType {
        name: name.to_owned(),
        message: message(name),
        count: i64::try_from(count.unwrap_or(0)).unwrap_or(i64::MAX),
    });
    described.collect()
}
