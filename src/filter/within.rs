//! What is left of a filter where a policy allows only a part of it.

use super::clauses::Clauses;
use super::compile::Filter;
use super::pattern::{Patterns, TypePattern};
use super::scope::Scope;
use crate::event::{Excerpt, Values};

/// What is named of the types or sources that are not allowed.
const NAMED_MAX: usize = 10;

/// What a scope takes away of what a filter asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Narrowed {
    /// Types that the filter names and of which nothing may be received.
    pub withheld_types: Vec<String>,
    /// Where only a part of the types may be received: that part.
    pub types: Vec<String>,
    /// Matching types that the scope excludes.
    pub exclude_types: Vec<String>,
    /// Where only some of the sources may be received: those.
    pub sources: Vec<String>,
}

/// None of what a filter asks for may be received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// What it asks for, as `types: email.created`.
    pub asked: String,
}

impl Denied {
    fn new(field: &str, asked: impl Iterator<Item = String>) -> Self {
        let mut asked = asked.peekable();
        let named: Vec<String> = asked
            .by_ref()
            .take(NAMED_MAX)
            .map(|value| Excerpt(&value).to_string())
            .collect();
        let more = if asked.peek().is_some() { ", …" } else { "" };
        Self {
            asked: format!("{field}: {}{more}", named.join(", ")),
        }
    }
}

impl Filter {
    /// The filter for what it asks for and `scope` allows, and what the scope takes away.
    ///
    /// # Errors
    /// When nothing of it is allowed.
    pub fn within(&self, scope: &Scope) -> Result<(Self, Narrowed), Denied> {
        let everything = Patterns::everything();
        let asked = self.clauses();
        let asked_types = if asked.types.is_empty() {
            &everything
        } else {
            &asked.types
        };
        let mut narrowed = Narrowed::default();
        let mut types = Vec::new();
        for pattern in asked_types.iter() {
            let part = scope.allowed_part(&pattern);
            if part.is_empty() {
                narrowed.withheld_types.push(pattern.to_string());
            }
            types.extend(part);
        }
        if types.iter().all(|part| asked.exclude_types.covers(part)) {
            let asked = asked_types.iter().map(|pattern| pattern.to_string());
            return Err(Denied::new("types", asked));
        }
        let types: Patterns = types.into_iter().collect();
        let sources = asked.sources_within(scope, &mut narrowed)?;
        if types != *asked_types {
            narrowed.types = types.iter().map(|pattern| pattern.to_string()).collect();
        }
        let parts: Vec<TypePattern> = types.iter().collect();
        let meets =
            |excluded: &&TypePattern| parts.iter().any(|part| part.common(excluded).is_some());
        let excluded = scope.exclude_types.iter().filter(meets);
        narrowed.exclude_types = excluded.map(ToString::to_string).collect();
        let excluded_by_scope = scope.exclude_types.iter().cloned();
        let clauses = Clauses {
            exclude_types: asked
                .exclude_types
                .iter()
                .chain(excluded_by_scope)
                .collect(),
            types: if types == everything {
                Patterns::default()
            } else {
                types
            },
            sources,
            ..asked.clone()
        };
        let is_all_of_it = clauses == *asked;
        let filter = if is_all_of_it {
            self.clone()
        } else {
            Self::new(clauses)
        };
        Ok((filter, narrowed))
    }
}

impl Clauses {
    fn sources_within(&self, scope: &Scope, narrowed: &mut Narrowed) -> Result<Values, Denied> {
        if scope.sources.is_empty() {
            return Ok(self.sources.clone());
        }
        let allowed: Values = scope.sources.iter().collect();
        let sources = if self.sources.is_empty() {
            allowed
        } else {
            self.sources.intersection(&allowed)
        };
        if sources.is_empty() {
            return Err(Denied::new(
                "sources",
                self.sources.iter().map(str::to_owned),
            ));
        }
        if sources != self.sources {
            narrowed.sources = sources.iter().map(str::to_owned).collect();
        }
        Ok(sources)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::compile::tests::{compile, event, types};
    use super::super::spec::Spec;
    use super::*;
    use crate::event::{Attributes, IndexHint};

    #[test]
    fn a_scope_removes_what_it_does_not_allow_and_reports_it() {
        let patterns = |texts: &[&str]| -> BTreeSet<TypePattern> {
            texts
                .iter()
                .map(|text| text.parse().expect("a pattern"))
                .collect()
        };
        let scope = Scope {
            types: patterns(&["user.*", "session.ended"]),
            exclude_types: patterns(&["user.deleted"]),
            sources: BTreeSet::from(["default".to_owned()]),
        };
        let within = |filter: &Spec| compile(filter).expect("valid").within(&scope);

        let (all, narrowed) = within(&Spec::default()).expect("some is allowed");
        assert!(all.matches(event("user.created")) && all.matches(event("session.ended")));
        for denied in ["user.deleted", "session.created", "email.created", ""] {
            assert!(!all.matches(event(denied)), "{denied}");
        }
        let staging = Attributes {
            source: "staging",
            ..event("user.created")
        };
        assert!(!all.matches(staging));
        assert_eq!(narrowed.types, ["session.ended", "user.*"]);
        assert_eq!(narrowed.exclude_types, ["user.deleted"]);
        assert_eq!(narrowed.sources, ["default"]);

        let (part, narrowed) = within(&types(&["session.*", "email.*"])).expect("some is allowed");
        assert_eq!(
            part.narrow(),
            &IndexHint::Types(["session.ended"].into_iter().collect())
        );
        assert_eq!(narrowed.withheld_types, ["email.*"]);
        assert_eq!(narrowed.types, ["session.ended"]);

        for (asked, expected) in [
            (types(&["email.created"]), "types: email.created"),
            (types(&["user.deleted"]), "types: user.deleted"),
            (
                Spec {
                    sources: vec!["staging".to_owned()],
                    ..Spec::default()
                },
                "sources: staging",
            ),
        ] {
            assert_eq!(within(&asked).expect_err(expected).asked, expected);
        }
        let filter = compile(&types(&["user.*"])).expect("valid");
        let unlimited = filter.within(&Scope::default());
        assert_eq!(unlimited, Ok((filter, Narrowed::default())));
    }
}
