//! Filters: parsed and checked once, then asked for every event.
//!
//! Pure: no clock, no waiting. What can be known never to match is refused here, since
//! its subscriber would wait for ever in silence. A wildcard is always accepted.

mod within;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::event::{AttributesRef, InvalidPattern, TypePattern};
use crate::log::Narrow;
use crate::proto::EventFilter;

pub use within::Denied;

/// Values in one field of a filter.
const VALUES_MAX: usize = 10_000;
/// Bytes of one value: ids are far shorter, and finding the nearest name takes time.
const VALUE_BYTES_MAX: usize = 256;
/// Bytes of all values: each stream keeps its filter.
const BYTES_MAX: usize = 512 << 10;
/// A suggestion must be at least this much like what was asked for.
const SIMILARITY_MIN: f64 = 0.5;

/// The types and sources that exist, so that a slip of the pen can be told.
#[derive(Clone, Debug, Default)]
pub struct KnownNames {
    /// The catalogue's types and the log's.
    pub types: BTreeSet<String>,
    /// The configured sources and the log's.
    pub sources: BTreeSet<String>,
    /// Those of the sources that the caller need not hear of.
    pub hidden_sources: BTreeSet<String>,
}

/// What is wrong with a field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field, as `filter.types[0]`.
    pub field: String,
    /// What is wrong, and what to do.
    pub description: String,
}

/// A compiled filter; clones share it. Filters that ask for the same are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    clauses: Arc<Clauses>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Clauses {
    types: BTreeSet<TypePattern>,
    exclude_types: BTreeSet<TypePattern>,
    user_ids: BTreeSet<String>,
    organization_ids: BTreeSet<String>,
    session_ids: BTreeSet<String>,
    sources: BTreeSet<String>,
    instance_ids: BTreeSet<String>,
    narrow: Narrow,
}

impl Filter {
    /// Compiles a filter.
    ///
    /// # Errors
    /// With every field that is malformed, or that can never match.
    pub fn compile(filter: &EventFilter, known: &KnownNames) -> Result<Self, Vec<Violation>> {
        let mut check = Check {
            known,
            bytes: 0,
            violations: Vec::new(),
        };
        let types = check.patterns("types", &filter.types);
        let exclude_types = check.patterns("exclude_types", &filter.exclude_types);
        check.some_type_is_left(&types, &exclude_types);
        let mut clauses = Clauses {
            types,
            exclude_types,
            user_ids: check.ids("user_ids", &filter.user_ids),
            organization_ids: check.ids("organization_ids", &filter.organization_ids),
            session_ids: check.ids("session_ids", &filter.session_ids),
            instance_ids: check.ids("instance_ids", &filter.instance_ids),
            sources: check.sources(&filter.sources),
            narrow: Narrow::All,
        };
        if !check.violations.is_empty() {
            return Err(check.violations);
        }
        clauses.narrow = clauses.narrowest();
        Ok(Self {
            clauses: Arc::new(clauses),
        })
    }

    /// Whether an event with these attributes is wanted.
    #[must_use]
    pub fn matches(&self, event: AttributesRef<'_>) -> bool {
        let Clauses {
            types,
            exclude_types,
            user_ids,
            organization_ids,
            session_ids,
            sources,
            instance_ids,
            narrow: _,
        } = &*self.clauses;
        let any =
            |patterns: &BTreeSet<TypePattern>| patterns.iter().any(|p| p.matches(event.event_type));
        let has = |wanted: &BTreeSet<String>, id: Option<&str>| {
            wanted.is_empty() || id.is_some_and(|id| wanted.contains(id))
        };
        (types.is_empty() || any(types))
            && !any(exclude_types)
            && has(user_ids, event.user_id)
            && has(organization_ids, event.organization_id)
            && has(session_ids, event.session_id)
            && (sources.is_empty() || sources.contains(event.source))
            && has(instance_ids, event.instance_id)
    }

    /// The types that it asks for; what it excludes is still among them.
    #[must_use]
    pub fn types(&self) -> Vec<TypePattern> {
        let types = &self.clauses.types;
        if types.is_empty() {
            vec![TypePattern::everything()]
        } else {
            types.iter().cloned().collect()
        }
    }

    /// The index of the log that may answer this filter.
    #[must_use]
    pub fn narrow(&self) -> &Narrow {
        &self.clauses.narrow
    }
}

impl Clauses {
    /// By the most selective field: a user has few events, a type has many.
    fn narrowest(&self) -> Narrow {
        let listed = |ids: &BTreeSet<String>| ids.iter().cloned().collect();
        if !self.session_ids.is_empty() {
            return Narrow::Sessions(listed(&self.session_ids));
        }
        if !self.user_ids.is_empty() {
            return Narrow::Users(listed(&self.user_ids));
        }
        if !self.organization_ids.is_empty() {
            return Narrow::Organizations(listed(&self.organization_ids));
        }
        // What a wildcard matches cannot be listed: types that are not known yet, too.
        let exact = self.types.iter().map(|pattern| match pattern {
            TypePattern::Exact(exact) => Some(exact.clone()),
            TypePattern::Prefix(_) => None,
        });
        match exact.collect::<Option<Vec<String>>>() {
            Some(types) if !types.is_empty() => Narrow::Types(types),
            _ => Narrow::All,
        }
    }
}

/// Collects what is wrong, so that a caller learns of all of it at once.
struct Check<'a> {
    known: &'a KnownNames,
    bytes: usize,
    violations: Vec<Violation>,
}

impl Check<'_> {
    fn violation(&mut self, field: &str, description: String) {
        let field = format!("filter.{field}");
        self.violations.push(Violation { field, description });
    }

    /// Whether the values are few and short enough to be looked at.
    fn fits(&mut self, field: &str, values: &[String]) -> bool {
        let count = values.len();
        self.bytes += values.iter().map(String::len).sum::<usize>();
        let longest = values.iter().map(String::len).max().unwrap_or(0);
        let description = if count > VALUES_MAX {
            format!("{count} values; at most {VALUES_MAX} are accepted")
        } else if longest > VALUE_BYTES_MAX {
            format!("a value of {longest} bytes; at most {VALUE_BYTES_MAX} are accepted")
        } else if self.bytes > BYTES_MAX {
            format!("the filter is larger than the {BYTES_MAX} bytes that are accepted")
        } else {
            return true;
        };
        self.violation(field, description);
        false
    }

    fn patterns(&mut self, field: &str, values: &[String]) -> BTreeSet<TypePattern> {
        let mut patterns = BTreeSet::new();
        if !self.fits(field, values) {
            return patterns;
        }
        for (index, value) in values.iter().enumerate() {
            match self.pattern(value) {
                Ok(pattern) => drop(patterns.insert(pattern)),
                Err(description) => self.violation(&format!("{field}[{index}]"), description),
            }
        }
        patterns
    }

    fn pattern(&self, value: &str) -> Result<TypePattern, String> {
        let pattern = value
            .parse()
            .map_err(|error: InvalidPattern| error.to_string())?;
        match &pattern {
            TypePattern::Exact(exact) if !self.known.types.contains(exact) => {
                Err(unknown("event type", value, &self.known.types))
            }
            _ => Ok(pattern),
        }
    }

    fn some_type_is_left(
        &mut self,
        types: &BTreeSet<TypePattern>,
        excluded: &BTreeSet<TypePattern>,
    ) {
        let everything = BTreeSet::from([TypePattern::everything()]);
        let wanted = if types.is_empty() { &everything } else { types };
        let is_excluded =
            |pattern: &TypePattern| excluded.iter().any(|other| other.covers(pattern));
        if wanted.iter().all(is_excluded) {
            self.violation(
                "exclude_types",
                "excludes every type that `types` asks for, so nothing could ever match".to_owned(),
            );
        }
    }

    fn ids(&mut self, field: &str, values: &[String]) -> BTreeSet<String> {
        if !self.fits(field, values) {
            return BTreeSet::new();
        }
        for (index, value) in values.iter().enumerate() {
            let field_of_value = field_for_prefix(value);
            let description = if value.is_empty() {
                "empty; leave the field out for all".to_owned()
            } else if let Some(right) = field_of_value.filter(|right| *right != field) {
                format!("{value:?} can never be there; did you mean `{right}`?")
            } else {
                continue;
            };
            self.violation(&format!("{field}[{index}]"), description);
        }
        values.iter().cloned().collect()
    }

    fn sources(&mut self, values: &[String]) -> BTreeSet<String> {
        if !self.fits("sources", values) {
            return BTreeSet::new();
        }
        for (index, value) in values.iter().enumerate() {
            if !self.known.sources.contains(value) {
                let told = &self.known.sources - &self.known.hidden_sources;
                let description = unknown("source", value, &told);
                self.violation(&format!("sources[{index}]"), description);
            }
        }
        values.iter().cloned().collect()
    }
}

/// Clerk's ids say what they are of.
fn field_for_prefix(id: &str) -> Option<&'static str> {
    match id.split_once('_')?.0 {
        "user" => Some("user_ids"),
        "org" => Some("organization_ids"),
        "sess" => Some("session_ids"),
        "ins" => Some("instance_ids"),
        _ => None,
    }
}

fn unknown(what: &str, value: &str, known: &BTreeSet<String>) -> String {
    match nearest(value, known) {
        Some(nearest) => format!("unknown {what} {value}; did you mean {nearest}?"),
        None => format!("unknown {what} {value}"),
    }
}

/// The known name most like `value`, if one is like it at all.
fn nearest<'a>(value: &str, known: &'a BTreeSet<String>) -> Option<&'a str> {
    let plain = |name: &str| name.to_lowercase().replace(['_', '-', ' '], "");
    let asked = plain(value);
    let scored = known.iter().filter(|name| !name.is_empty()).map(|name| {
        let score = strsim::normalized_damerau_levenshtein(&asked, &plain(name));
        (score, name.as_str())
    });
    let (score, name) = scored.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (score >= SIMILARITY_MIN).then_some(name)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::clerk::catalogue::CATALOGUE;

    fn known() -> KnownNames {
        KnownNames {
            types: CATALOGUE.iter().map(|kind| kind.name.to_owned()).collect(),
            sources: ["default", "staging"].map(str::to_owned).into(),
            ..KnownNames::default()
        }
    }

    pub(crate) fn compile(filter: &EventFilter) -> Result<Filter, Vec<Violation>> {
        Filter::compile(filter, &known())
    }

    pub(crate) fn types(types: &[&str]) -> EventFilter {
        EventFilter {
            types: types.iter().map(|name| (*name).to_owned()).collect(),
            ..EventFilter::default()
        }
    }

    pub(crate) fn event(event_type: &str) -> AttributesRef<'_> {
        AttributesRef {
            event_type,
            source: "default",
            ..AttributesRef::default()
        }
    }

    #[test]
    fn filtered_empty_matches_everything_typed_or_not() {
        let filter = compile(&EventFilter::default()).expect("empty is valid");
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
        let filter = compile(&EventFilter {
            exclude_types: vec!["user.updated".to_owned()],
            ..types(&["user.*"])
        });
        let filter = filter.expect("valid");
        assert!(filter.matches(event("user.created")));
        assert!(!filter.matches(event("user.updated")));
    }

    #[test]
    fn filtered_slips_are_told_with_the_nearest_right_name() {
        for (wrong, right) in [
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
            let violations = compile(&types(&[wrong])).expect_err(wrong);
            assert_eq!(violations.len(), 1);
            assert_eq!(violations[0].field, "filter.types[0]");
            let expected = format!("unknown event type {wrong}; did you mean {right}?");
            assert_eq!(violations[0].description, expected);
        }
    }

    #[test]
    fn filtered_what_can_never_match_is_refused() {
        let excluded = EventFilter {
            exclude_types: vec!["user.*".to_owned()],
            ..types(&["user.created", "user.d*"])
        };
        assert!(compile(&excluded).is_err());
        let everything = EventFilter {
            exclude_types: vec!["*".to_owned()],
            ..EventFilter::default()
        };
        assert!(compile(&everything).is_err());
        let swapped = EventFilter {
            user_ids: vec!["org_1".to_owned()],
            ..EventFilter::default()
        };
        let violations = compile(&swapped).expect_err("an organization is no user");
        assert!(violations[0].description.contains("organization_ids"));
        let source = EventFilter {
            sources: vec!["stagin".to_owned()],
            ..EventFilter::default()
        };
        let violations = compile(&source).expect_err("no such source");
        assert!(violations[0].description.contains("did you mean staging?"));
        assert!(compile(&types(&["us*r.created"])).is_err());
        assert!(compile(&types(&[""])).is_err());
    }
}
