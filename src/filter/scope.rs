//! What a policy lets through.

use std::collections::BTreeSet;

use super::pattern::TypePattern;
use crate::event::Attributes;

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
    pub fn allows(&self, event: Attributes<&str>) -> bool {
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
    /// [`Scope::exclude_types`] are still to be taken. Empty if nothing is left.
    #[must_use]
    pub fn allowed_part(&self, asked: &TypePattern) -> Vec<TypePattern> {
        let common: Vec<&TypePattern> = if self.types.is_empty() {
            vec![asked]
        } else {
            self.types
                .iter()
                .filter_map(|pattern| pattern.common(asked))
                .collect()
        };
        let is_left = |part: &&TypePattern| {
            !self
                .exclude_types
                .iter()
                .any(|pattern| pattern.covers(part))
        };
        common.into_iter().filter(is_left).cloned().collect()
    }

    /// Whether all of `asked` may be received.
    #[must_use]
    pub fn allows_all_of(&self, asked: &TypePattern) -> bool {
        let is_named =
            self.types.is_empty() || self.types.iter().any(|pattern| pattern.covers(asked));
        is_named
            && !self
                .exclude_types
                .iter()
                .any(|pattern| pattern.common(asked).is_some())
    }

    /// Whether it is all there is.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }
}

impl Scope {
    /// Whether an event may be received that `former` kept back. Types and sources are
    /// chosen apart from each other, so one of them is enough.
    #[must_use]
    pub fn allows_more_than(&self, former: &Self) -> bool {
        let has_sources = match (self.sources.is_empty(), former.sources.is_empty()) {
            (_, true) => true,
            (true, false) => false,
            (false, false) => self.sources.is_subset(&former.sources),
        };
        let everything = BTreeSet::from([TypePattern::everything()]);
        let types = if self.types.is_empty() {
            &everything
        } else {
            &self.types
        };
        !has_sources || types.iter().any(|asked| self.reaches_beyond(asked, former))
    }

    /// Whether a type of `asked` is left of this scope and was not of the former. Types are
    /// without number: finitely many narrower patterns never make up a wildcard, so one
    /// pattern alone has to cover what is looked at.
    fn reaches_beyond(&self, asked: &TypePattern, former: &Self) -> bool {
        let covers = |patterns: &BTreeSet<TypePattern>, part: &TypePattern| {
            patterns.iter().any(|pattern| pattern.covers(part))
        };
        if covers(&self.exclude_types, asked) {
            return false;
        }
        let was_named = former.types.is_empty() || covers(&former.types, asked);
        let mut excluded = former.exclude_types.iter();
        let was_excluded = excluded.any(|pattern| {
            let common = pattern.common(asked);
            common.is_some_and(|part| !covers(&self.exclude_types, part))
        });
        !was_named || was_excluded
    }

    /// Whether no event may be received.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        let is_excluded = |asked: &TypePattern| {
            self.exclude_types
                .iter()
                .any(|pattern| pattern.covers(asked))
        };
        if self.types.is_empty() {
            return is_excluded(&TypePattern::everything());
        }
        self.types.iter().all(is_excluded)
    }
}
