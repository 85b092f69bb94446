//! What one principal may receive.

use std::collections::BTreeSet;

use crate::clerk::Redaction;
use crate::event::{AttributesRef, TypePattern};

/// What a principal may receive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Which events.
    pub scope: Scope,
    /// Which fields are removed from them.
    pub redaction: Redaction,
    /// Whether it is refused the verified bodies (`payload_json`).
    pub withholds_payload: bool,
    /// How many streams it may hold at once; none for no limit of its own.
    pub streams_max: Option<usize>,
    /// Whether it sees all connected subscribers, not only its own.
    pub sees_all_subscribers: bool,
}

/// Which events a principal may receive; the default is all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scope {
    /// Types that it may receive; empty for all.
    pub types: BTreeSet<TypePattern>,
    /// Types that it may not receive.
    pub exclude_types: BTreeSet<TypePattern>,
    /// Sources whose events it may receive; empty for all.
    pub sources: BTreeSet<String>,
}

impl Scope {
    /// Whether an event with these attributes may be received.
    #[must_use]
    pub fn allows(&self, event: AttributesRef<'_>) -> bool {
        self.allows_source(event.source) && self.allows_type(event.event_type)
    }

    /// Whether events of this source may be received.
    #[must_use]
    pub fn allows_source(&self, source: &str) -> bool {
        self.sources.is_empty() || self.sources.contains(source)
    }

    /// Whether events of this type may be received.
    #[must_use]
    pub fn allows_type(&self, event_type: &str) -> bool {
        let any = |patterns: &BTreeSet<TypePattern>| {
            patterns.iter().any(|pattern| pattern.matches(event_type))
        };
        (self.types.is_empty() || any(&self.types)) && !any(&self.exclude_types)
    }

    /// The part of `asked` that may be received, as patterns from which
    /// [`Scope::exclude_types`] are still to be taken. Empty if there is none.
    #[must_use]
    pub fn allowed_part(&self, asked: &TypePattern) -> Vec<TypePattern> {
        let common = self
            .types
            .iter()
            .filter_map(|pattern| pattern.common(asked));
        let common: Vec<&TypePattern> = if self.types.is_empty() {
            vec![asked]
        } else {
            common.collect()
        };
        let is_left = |part: &&TypePattern| !self.exclude_types.iter().any(|it| it.covers(part));
        common.into_iter().filter(is_left).cloned().collect()
    }

    /// Whether all of `asked` may be received.
    #[must_use]
    pub fn allows_all_of(&self, asked: &TypePattern) -> bool {
        let is_named = self.types.is_empty() || self.types.iter().any(|it| it.covers(asked));
        is_named
            && !self
                .exclude_types
                .iter()
                .any(|it| it.common(asked).is_some())
    }

    /// Whether it is all there is.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }
}
