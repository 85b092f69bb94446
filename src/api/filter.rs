//! Filters as requests and answers carry them.

use crate::filter::{AskedFilter, Spec, plain};
use crate::proto::EventFilter;

/// What a request asks for; everything where it has no filter.
#[must_use]
pub fn spec(filter: Option<EventFilter>) -> Spec {
    let EventFilter {
        types,
        exclude_types,
        user_ids,
        organization_ids,
        session_ids,
        sources,
        instance_ids,
    } = filter.unwrap_or_default();
    Spec {
        types,
        exclude_types,
        user_ids,
        organization_ids,
        session_ids,
        sources,
        instance_ids,
    }
}

/// The message for what was asked for.
#[must_use]
pub fn message(spec: Spec) -> EventFilter {
    let Spec {
        types,
        exclude_types,
        user_ids,
        organization_ids,
        session_ids,
        sources,
        instance_ids,
    } = spec;
    EventFilter {
        types,
        exclude_types,
        user_ids,
        organization_ids,
        session_ids,
        sources,
        instance_ids,
    }
}

/// What a request asks for as log lines show it, abridged and without what may be personal.
#[must_use]
pub fn shown(filter: Option<EventFilter>) -> String {
    AskedFilter::new(spec(filter)).to_string()
}

/// A word of the caller's as log lines show it.
#[must_use]
pub fn shown_word(word: &str) -> &str {
    plain(word)
}
