//! Filters as requests and answers carry them.

use crate::filter::Spec;
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
