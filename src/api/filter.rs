//! Filters as requests and answers carry them.

use crate::filter::{AskedFilter, Spec, plain};
use crate::proto::EventFilter;

/// What a request asks for; everything where it has no filter.
#[must_use]
pub fn spec(filter: Option<EventFilter>) -> Spec {
    let filter = filter.unwrap_or_default();
    Spec {
        types: filter.types,
        exclude_types: filter.exclude_types,
        user_ids: filter.user_ids,
        organization_ids: filter.organization_ids,
        session_ids: filter.session_ids,
        sources: filter.sources,
        instance_ids: filter.instance_ids,
    }
}

/// The message for what was asked for.
#[must_use]
pub fn message(spec: Spec) -> EventFilter {
    EventFilter {
        types: spec.types,
        exclude_types: spec.exclude_types,
        user_ids: spec.user_ids,
        organization_ids: spec.organization_ids,
        session_ids: spec.session_ids,
        sources: spec.sources,
        instance_ids: spec.instance_ids,
    }
}

/// What a request asks for as log lines show it, abridged and without what may be personal.
#[must_use]
pub fn shown(filter: Option<EventFilter>) -> String {
    AskedFilter::new(&spec(filter)).to_string()
}

/// A word of the caller's as log lines show it.
#[must_use]
pub fn shown_word(word: &str) -> &str {
    plain(word)
}
