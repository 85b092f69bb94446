//! The names that filters may use, from what Clerk declares and what the log has.

use crate::clerk::catalog::CATALOG;
use crate::filter::{KnownNames, LoggedType};
use crate::log::Tally;

/// The declared types, these sources, and what the log has counted.
#[must_use]
pub fn known_names(sources: impl IntoIterator<Item = String>, tallies: &[Tally]) -> KnownNames {
    let declared = CATALOG.iter().map(|kind| kind.name);
    let named = tallies
        .iter()
        .filter(|tally| tally.event_type != Tally::LONG);
    let logged = named.map(|tally| LoggedType {
        source: &tally.source,
        event_type: (tally.event_type != Tally::OTHER).then_some(tally.event_type.as_str()),
    });
    KnownNames::new(declared, sources, &logged.collect::<Vec<_>>())
}
