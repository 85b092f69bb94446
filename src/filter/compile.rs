//! Filters: parsed and checked once, then asked for every event.
//!
//! Pure: no clock, no waiting. What can be known never to match is refused here, since
//! its subscriber would wait for ever in silence. A wildcard is always accepted.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hash, Hasher};
use std::sync::{Arc, LazyLock};

use super::check::Check;
use super::clauses::Clauses;
use super::known::KnownNames;
use super::pattern::{Patterns, TypePattern};
use super::scope::Scope;
use super::spec::Spec;
use super::violation::Violations;
use crate::event::{Attributes, IndexHint, Values};

/// What the index of waiting subscribers holds for each value that a filter is filed under.
const FILED_VALUE_BYTES: usize = 64;
/// What a filter occupies beside its values, with its place in the index.
const FILTER_BYTES: usize = 1 << 10;

/// A compiled filter; clones share it. Filters that ask for the same are equal.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    compiled: Arc<Compiled>,
}

#[derive(Debug, Default)]
struct Compiled {
    clauses: Clauses,
    narrow: IndexHint,
    /// Hash of the clauses, so that comparing filters that differ is cheap.
    hash: u64,
}

impl Filter {
    /// Compiles a filter of a caller that may receive what lies in `scope`.
    ///
    /// # Errors
    /// With the fields that are malformed, or that can never match: the first ten, and
    /// how many more there are.
    pub fn compile(filter: &Spec, known: &KnownNames, scope: &Scope) -> Result<Self, Violations> {
        Check::new(known, scope).clauses(filter).map(Self::new)
    }

    /// Compiles a filter that was accepted before, whatever names are known now: a source may
    /// have been removed since, and its events are still in the log. `None` for one that no
    /// version accepts.
    #[must_use]
    pub fn compile_accepted(filter: &Spec) -> Option<Self> {
        let patterns = |texts: &[String]| -> Option<Patterns> {
            let patterns = texts.iter().map(|text| text.parse::<TypePattern>().ok());
            patterns.collect()
        };
        let types = patterns(&filter.types)?;
        let exclude_types = patterns(&filter.exclude_types)?;
        Some(Self::new(Clauses::new(filter, types, exclude_types)))
    }

    pub(super) fn new(clauses: Clauses) -> Self {
        /// Callers choose what is hashed, and must not choose what collides.
        static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let compiled = Compiled {
            narrow: clauses.narrowest(),
            hash: SEED.hash_one(&clauses),
            clauses,
        };
        Self {
            compiled: Arc::new(compiled),
        }
    }

    pub(super) fn clauses(&self) -> &Clauses {
        &self.compiled.clauses
    }

    /// Whether an event with these attributes is wanted.
    #[must_use]
    pub fn matches(&self, event: Attributes<&str>) -> bool {
        let Clauses {
            types,
            exclude_types,
            user_ids,
            organization_ids,
            session_ids,
            sources,
            instance_ids,
        } = &self.compiled.clauses;
        let has = |wanted: &Values, id: Option<&str>| {
            wanted.is_empty() || id.is_some_and(|id| wanted.contains(id))
        };
        has(session_ids, event.session_id)
            && has(user_ids, event.user_id)
            && has(organization_ids, event.organization_id)
            && has(instance_ids, event.instance_id)
            && has(sources, Some(event.source))
            && (types.is_empty() || types.matches(event.event_type))
            && !exclude_types.matches(event.event_type)
    }

    /// The types that it asks for; what it excludes is still among them.
    #[must_use]
    pub fn types(&self) -> Vec<TypePattern> {
        let types = &self.compiled.clauses.types;
        if types.is_empty() {
            vec![TypePattern::everything()]
        } else {
            types.iter().collect()
        }
    }

    /// The index of the log that may answer this filter.
    #[must_use]
    pub fn narrow(&self) -> &IndexHint {
        &self.compiled.narrow
    }

    /// Bytes of memory that it occupies while a stream has it, the index's among them;
    /// streams with equal filters share them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let Clauses {
            types,
            exclude_types,
            user_ids,
            organization_ids,
            session_ids,
            sources,
            instance_ids,
        } = &self.compiled.clauses;
        let ids: usize = [
            user_ids,
            organization_ids,
            session_ids,
            sources,
            instance_ids,
        ]
        .into_iter()
        .map(Values::bytes)
        .sum();
        let filed = match self.narrow() {
            IndexHint::All => 0,
            IndexHint::Types(values)
            | IndexHint::Users(values)
            | IndexHint::Organizations(values)
            | IndexHint::Sessions(values) => values.len() * FILED_VALUE_BYTES,
        };
        FILTER_BYTES + types.bytes() + exclude_types.bytes() + ids + filed
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        let (own, other) = (&self.compiled, &other.compiled);
        Arc::ptr_eq(own, other) || (own.hash == other.hash && own.clauses == other.clauses)
    }
}

impl Eq for Filter {}

impl Hash for Filter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.compiled.hash);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::known::LoggedType;
    use super::super::violation::Violation;
    use super::*;
    use crate::clerk::catalog::CATALOG;

    pub(crate) fn names(logged: &[LoggedType<'_>]) -> KnownNames {
        let declared = CATALOG.iter().map(|kind| kind.name);
        KnownNames::new(declared, ["default", "staging"].map(str::to_owned), logged)
    }

    pub(crate) fn compile(filter: &Spec) -> Result<Filter, Vec<Violation>> {
        Filter::compile(filter, &names(&[]), &Scope::default())
            .map_err(|violations| violations.reported)
    }

    pub(crate) fn types(types: &[&str]) -> Spec {
        Spec {
            types: types.iter().map(|name| (*name).to_owned()).collect(),
            ..Spec::default()
        }
    }

    pub(crate) fn event(event_type: &str) -> Attributes<&str> {
        Attributes {
            event_type,
            source: "default",
            ..Attributes::default()
        }
    }

    #[test]
    fn filtered_empty_matches_everything_typed_or_not() {
        let filter = compile(&Spec::default()).expect("empty is valid");
        assert!(filter.matches(event("user.created")));
        assert!(filter.matches(event("")));
    }

    #[test]
    fn filtered_prefixes_match_by_prefix_alone() {
        let filter = compile(&types(&["organization*"])).expect("a wildcard is accepted");
        assert!(filter.matches(event("organization.created")));
        assert!(filter.matches(event("organizationMembership.deleted")));
        assert!(!filter.matches(event("user.created")));
        let dotted = compile(&types(&["organization.*"])).expect("a wildcard is accepted");
        assert!(!dotted.matches(event("organizationMembership.deleted")));
    }

    #[test]
    fn filtered_exclusion_wins() {
        let filter = compile(&Spec {
            exclude_types: vec!["user.updated".to_owned()],
            ..types(&["user.*"])
        })
        .expect("valid");
        assert!(filter.matches(event("user.created")));
        assert!(!filter.matches(event("user.updated")));
    }

    #[test]
    fn filtered_typos_are_reported_with_the_nearest_valid_name() {
        for (misspelled, right) in [
            ("user.craeted", "user.created"),
            ("user.create", "user.created"),
            ("User.Created", "user.created"),
            ("subscription.past_due", "subscription.pastDue"),
            (
                "organization_membership.created",
                "organizationMembership.created",
            ),
            ("session.end", "session.ended"),
        ] {
            let violations = compile(&types(&[misspelled])).expect_err(misspelled);
            assert_eq!(violations.len(), 1);
            assert_eq!(violations[0].field, "filter.types[0]");
            let expected = format!("unknown event type {misspelled}; did you mean {right}?");
            assert_eq!(violations[0].description, expected);
        }
    }

    #[test]
    fn filtered_a_filter_that_can_never_match_is_refused() {
        let excluded = Spec {
            exclude_types: vec!["user.*".to_owned()],
            ..types(&["user.created", "user.d*"])
        };
        assert!(compile(&excluded).is_err());
        let everything = Spec {
            exclude_types: vec!["*".to_owned()],
            ..Spec::default()
        };
        assert!(compile(&everything).is_err());
        let swapped = Spec {
            user_ids: vec!["org_1".to_owned()],
            ..Spec::default()
        };
        let violations = compile(&swapped).expect_err("an organization is not a user");
        assert!(violations[0].description.contains("organization_ids"));
        let source = Spec {
            sources: vec!["stagin".to_owned()],
            ..Spec::default()
        };
        let violations = compile(&source).expect_err("no such source");
        assert!(violations[0].description.contains("did you mean staging?"));
        assert!(compile(&types(&["us*r.created"])).is_err());
        assert!(compile(&types(&[""])).is_err());
    }

    /// Few names, so that patterns cover and meet each other.
    fn filters() -> impl Strategy<Value = Spec> {
        let pattern = prop_oneof![
            prop::sample::select(vec!["user.created", "user.updated", "session.ended"])
                .prop_map(str::to_owned),
            "(user|session|organization)?\\.?[a-c]?".prop_map(|prefix| format!("{prefix}*")),
        ];
        let patterns = prop::collection::vec(pattern, 0..6);
        let ids = |prefix: &'static str| {
            let id = (1..4_usize).prop_map(move |number| format!("{prefix}_{number}"));
            prop::collection::vec(id, 0..3)
        };
        let sources = prop::sample::subsequence(vec!["default", "staging"], 0..=2);
        let fields = (
            patterns.clone(),
            patterns,
            ids("user"),
            ids("org"),
            ids("sess"),
            sources,
        );
        fields.prop_map(
            |(types, exclude_types, user_ids, organization_ids, session_ids, sources)| Spec {
                types,
                exclude_types,
                user_ids,
                organization_ids,
                session_ids,
                sources: sources.into_iter().map(str::to_owned).collect(),
                instance_ids: Vec::new(),
            },
        )
    }

    fn naive(filter: &Spec, event: Attributes<&str>) -> bool {
        let is_like = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => event.event_type.starts_with(prefix),
            None => pattern == event.event_type,
        };
        let has = |wanted: &[String], id: Option<&str>| {
            wanted.is_empty() || wanted.iter().any(|wanted| Some(wanted.as_str()) == id)
        };
        (filter.types.is_empty() || filter.types.iter().any(is_like))
            && !filter.exclude_types.iter().any(is_like)
            && has(&filter.user_ids, event.user_id)
            && has(&filter.organization_ids, event.organization_id)
            && has(&filter.session_ids, event.session_id)
            && has(&filter.sources, Some(event.source))
    }

    proptest! {
        #[test]
        fn filtered_a_compiled_filter_agrees_with_a_naive_one(
            asked in filters(),
            event_type in "(user|session|organization)?\\.?(created|updated|ended|[a-c])?",
            source in prop::sample::select(vec!["default", "staging", "other"]),
            user in prop::option::of("user_[1-4]"),
            organization in prop::option::of("org_[1-4]"),
            session in prop::option::of("sess_[1-4]"),
        ) {
            let event = Attributes {
                event_type: event_type.as_str(),
                source,
                user_id: user.as_deref(),
                organization_id: organization.as_deref(),
                session_id: session.as_deref(),
                instance_id: None,
                object_id: None,
            };
            match compile(&asked) {
                Ok(compiled) => {
                    prop_assert_eq!(compiled.matches(event), naive(&asked, event));
                    let mut turned = asked.clone();
                    turned.types.reverse();
                    turned.user_ids.reverse();
                    turned.types.extend(asked.types);
                    prop_assert_eq!(compile(&turned), Ok(compiled));
                }
                Err(_) => prop_assert!(!naive(&asked, event)),
            }
        }
    }
}
