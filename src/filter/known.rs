//! The names that filters may use.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::nearest::{Allowed, Suggestions};
use super::pattern::Patterns;
use super::scope::Scope;
use crate::event::Excerpt;

/// A type of which the log has counted events.
#[derive(Clone, Copy, Debug)]
pub struct LoggedType<'a> {
    /// The source that sent them.
    pub source: &'a str,
    /// Its name; none for those that the log does not name.
    pub event_type: Option<&'a str>,
}

/// The types and sources that exist, prepared once for all callers. What a caller may not
/// receive, it is answered as if it did not exist.
#[derive(Debug, Default)]
pub struct KnownNames {
    /// Types that exist whether the log has any or not.
    declared_types: BTreeSet<&'static str>,
    /// Others that the log has, with the sources that sent them.
    logged_types: BTreeMap<String, BTreeSet<Arc<str>>>,
    /// The configured sources and the log's.
    sources: BTreeSet<Arc<str>>,
    /// Sources of which the log does not know all types by name.
    sources_with_others: BTreeSet<Arc<str>>,
    suggestions: Suggestions,
}

impl KnownNames {
    /// The declared types, these sources, and what the log has.
    #[must_use]
    pub fn new(
        declared: impl IntoIterator<Item = &'static str>,
        sources: impl IntoIterator<Item = String>,
        logged: &[LoggedType<'_>],
    ) -> Self {
        let declared: Vec<&'static str> = declared.into_iter().collect();
        let mut known = Self {
            declared_types: declared.iter().copied().collect(),
            sources: sources.into_iter().map(Arc::from).collect(),
            ..Self::default()
        };
        for logged in logged {
            known.add(logged);
        }
        let logged = known.logged_types.keys().map(String::as_str);
        known.suggestions = Suggestions::new(declared.into_iter().chain(logged));
        known
    }

    fn add(&mut self, logged: &LoggedType<'_>) {
        let source = match self.sources.get(logged.source) {
            Some(source) => Arc::clone(source),
            None => Arc::from(logged.source),
        };
        self.sources.insert(Arc::clone(&source));
        match logged.event_type {
            None => {
                self.sources_with_others.insert(source);
            }
            Some(name) if !self.declared_types.contains(name) => {
                let sources = self.logged_types.entry(name.to_owned());
                sources.or_default().insert(source);
            }
            Some(_) => {}
        }
    }

    /// What is doubtful about a pattern, which may be meant for types to come and is therefore
    /// not refused: that it begins no type that is known.
    #[must_use]
    pub fn doubt(&self, pattern: &str) -> Option<String> {
        let prefix = pattern.strip_suffix('*')?;
        let declared = self.declared_types.iter().copied();
        let mut types = declared.chain(self.logged_types.keys().map(String::as_str));
        if types.any(|name| name.starts_with(prefix)) {
            return None;
        }
        let nearest = self.allowed(&Scope::default()).nearest(pattern);
        let suggestion = nearest.map_or_else(String::new, |name| {
            format!("; did you mean {}?", Excerpt(&name))
        });
        Some(format!(
            "{} matches no type that is known{suggestion}",
            Excerpt(pattern)
        ))
    }

    /// Whether there is such a type. Of types that only the log has, those that may be
    /// received within `scope`.
    pub(super) fn has_type(&self, name: &str, scope: &Scope) -> bool {
        let may_be_known = || scope.allows_type(name) && self.is_logged(name, scope);
        self.declared_types.contains(name) || may_be_known()
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
                && (self.declared_types.contains(name) || self.is_logged(name, scope))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_begins_no_known_type_is_doubtful() {
        let logged = [LoggedType {
            source: "default",
            event_type: Some("invoice.paid"),
        }];
        let known = KnownNames::new(["user.created", "user.updated"], [], &logged);
        for fine in ["*", "u*", "user.*", "user.c*", "invoice.*", "usr.created"] {
            assert_eq!(known.doubt(fine), None, "{fine}");
        }
        let doubt = known.doubt("usr.*").expect("a doubt");
        assert_eq!(
            doubt,
            "usr.* matches no type that is known; did you mean user.*?"
        );
        let doubt = known.doubt("zebra.*").expect("a doubt");
        assert_eq!(doubt, "zebra.* matches no type that is known");
    }
}
