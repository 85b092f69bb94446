//! The names that filters may use.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::access::Scope;
use crate::clerk::catalog::{self, CATALOG};
use crate::clerk::suggestions::{Allowed, Suggestions};
use crate::event::Patterns;
use crate::log::Tally;

/// The types and sources that exist, prepared once for all callers. What a caller may not
/// receive, it is answered as if it did not exist.
#[derive(Debug, Default)]
pub struct KnownNames {
    /// Types that the log has and the catalog does not, with the sources that sent them.
    logged_types: BTreeMap<String, BTreeSet<Arc<str>>>,
    /// The configured sources and the log's.
    sources: BTreeSet<Arc<str>>,
    /// Sources of which the log does not know all types by name.
    sources_with_others: BTreeSet<Arc<str>>,
    suggestions: Suggestions,
}

impl KnownNames {
    /// The catalog's types, these sources, and what the log has.
    #[must_use]
    pub fn new(sources: impl IntoIterator<Item = String>, tallies: &[Tally]) -> Self {
        let mut known = Self {
            sources: sources.into_iter().map(Arc::from).collect(),
            ..Self::default()
        };
        for tally in tallies {
            known.add(tally);
        }
        let declared = CATALOG.iter().map(|kind| kind.name);
        let logged = known.logged_types.keys().map(String::as_str);
        known.suggestions = Suggestions::new(declared.chain(logged));
        known
    }

    fn add(&mut self, tally: &Tally) {
        let source = match self.sources.get(tally.source.as_str()) {
            Some(source) => Arc::clone(source),
            None => Arc::from(tally.source.as_str()),
        };
        self.sources.insert(Arc::clone(&source));
        if tally.event_type == Tally::OTHER {
            self.sources_with_others.insert(source);
        } else if tally.event_type != Tally::LONG && catalog::find(&tally.event_type).is_none() {
            let sources = self.logged_types.entry(tally.event_type.clone());
            sources.or_default().insert(source);
        }
    }

    /// Whether there is such a type. Of types that only the log has, those that may be
    /// received within `scope`.
    pub(super) fn has_type(&self, name: &str, scope: &Scope) -> bool {
        let may_be_known = || scope.allows_type(name) && self.is_logged(name, scope);
        catalog::find(name).is_some() || may_be_known()
    }

    /// Whether a source within `scope` sent such a type.
    fn is_logged(&self, name: &str, scope: &Scope) -> bool {
        self.logged_types
            .get(name)
            .is_some_and(|sources| sources.iter().any(|source| scope.allows_source(source)))
    }

    /// Whether `sources`, or where it is empty any source, may have types that are not
    /// known by name.
    pub(super) fn has_others(&self, sources: &[String], scope: &Scope) -> bool {
        let mut others = self.sources_with_others.iter();
        others.any(|source| {
            let is_asked = sources.is_empty() || sources.iter().any(|asked| **asked == **source);
            is_asked && scope.allows_source(source)
        })
    }

    pub(super) fn has_source(&self, name: &str, scope: &Scope) -> bool {
        scope.allows_source(name) && self.sources.contains(name)
    }

    /// The sources within `scope`.
    pub(super) fn sources_within<'a>(&'a self, scope: &Scope) -> impl Iterator<Item = &'a str> {
        let sources = self.sources.iter().map(|source| &**source);
        sources.filter(|source| scope.allows_source(source))
    }

    /// The types that may be suggested to a caller that may receive what lies in `scope`.
    pub(super) fn allowed(&self, scope: &Scope) -> Allowed<'_> {
        // A policy may have hundreds of patterns, and there may be thousands of names.
        let types: Patterns = scope.types.iter().cloned().collect();
        let exclude_types: Patterns = scope.exclude_types.iter().cloned().collect();
        self.suggestions.allowed(|name| {
            (types.is_empty() || types.matches(name))
                && !exclude_types.matches(name)
                && (catalog::find(name).is_some() || self.is_logged(name, scope))
        })
    }
}
