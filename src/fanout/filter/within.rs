//! What is left of a filter where a policy allows only a part of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Clauses, Filter};
use crate::access::Scope;
use crate::event::TypePattern;
use crate::proto::Narrowed;

/// None of what a filter asks for may be received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// What it asks for, as `types: email.created`.
    pub asked: String,
}

impl Filter {
    /// The filter for what it asks for and `scope` allows, and what the scope takes away.
    ///
    /// # Errors
    /// When nothing of it is allowed.
    pub fn within(&self, scope: &Scope) -> Result<(Self, Narrowed), Denied> {
        let everything = BTreeSet::from([TypePattern::everything()]);
        let asked = &*self.clauses;
        let asked_types = if asked.types.is_empty() {
            &everything
        } else {
            &asked.types
        };
        let mut narrowed = Narrowed::default();
        let mut types = BTreeSet::new();
        for pattern in asked_types {
            let part = scope.allowed_part(pattern);
            if part.is_empty() {
                narrowed.withheld_types.push(pattern.to_string());
            }
            types.extend(part);
        }
        let is_excluded = |part: &TypePattern| asked.exclude_types.iter().any(|it| it.covers(part));
        if types.iter().all(is_excluded) {
            let asked: Vec<String> = asked_types.iter().map(ToString::to_string).collect();
            let asked = format!("types: {}", asked.join(", "));
            return Err(Denied { asked });
        }
        let sources = asked.sources_within(scope, &mut narrowed)?;
        if types != *asked_types {
            narrowed.types = types.iter().map(ToString::to_string).collect();
        }
        let meets = |excluded: &&TypePattern| types.iter().any(|it| it.common(excluded).is_some());
        let excluded = scope.exclude_types.iter().filter(meets);
        narrowed.exclude_types = excluded.map(ToString::to_string).collect();
        let is_unlimited = types == everything;
        let mut clauses = Clauses {
            exclude_types: asked
                .exclude_types
                .union(&scope.exclude_types)
                .cloned()
                .collect(),
            types: if is_unlimited { BTreeSet::new() } else { types },
            sources,
            ..asked.clone()
        };
        clauses.narrow = clauses.narrowest();
        let clauses = Arc::new(clauses);
        Ok((Self { clauses }, narrowed))
    }
}

impl Clauses {
    fn sources_within(
        &self,
        scope: &Scope,
        narrowed: &mut Narrowed,
    ) -> Result<BTreeSet<String>, Denied> {
        let sources: BTreeSet<String> = match (self.sources.is_empty(), scope.sources.is_empty()) {
            (_, true) => return Ok(self.sources.clone()),
            (true, false) => scope.sources.clone(),
            (false, false) => self.sources.intersection(&scope.sources).cloned().collect(),
        };
        if sources.is_empty() {
            let asked: Vec<&str> = self.sources.iter().map(String::as_str).collect();
            let asked = format!("sources: {}", asked.join(", "));
            return Err(Denied { asked });
        }
        if sources != self.sources {
            narrowed.sources = sources.iter().cloned().collect();
        }
        Ok(sources)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{compile, event, types};
    use super::*;
    use crate::event::AttributesRef;
    use crate::log::Narrow;
    use crate::proto::EventFilter;

    #[test]
    fn a_scope_takes_away_what_it_does_not_allow_and_says_so() {
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
        let within = |filter: &EventFilter| compile(filter).expect("valid").within(&scope);

        let (all, narrowed) = within(&EventFilter::default()).expect("some is allowed");
        assert!(all.matches(event("user.created")) && all.matches(event("session.ended")));
        for denied in ["user.deleted", "session.created", "email.created", ""] {
            assert!(!all.matches(event(denied)), "{denied}");
        }
        let staging = AttributesRef {
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
            &Narrow::Types(vec!["session.ended".to_owned()])
        );
        assert_eq!(narrowed.withheld_types, ["email.*"]);
        assert_eq!(narrowed.types, ["session.ended"]);

        for (asked, told) in [
            (types(&["email.created"]), "types: email.created"),
            (types(&["user.deleted"]), "types: user.deleted"),
            (
                EventFilter {
                    sources: vec!["staging".to_owned()],
                    ..EventFilter::default()
                },
                "sources: staging",
            ),
        ] {
            assert_eq!(within(&asked).expect_err(told).asked, told);
        }
        let filter = compile(&types(&["user.*"])).expect("valid");
        let unlimited = filter.within(&Scope::default());
        assert_eq!(unlimited, Ok((filter, Narrowed::default())));
    }
}
