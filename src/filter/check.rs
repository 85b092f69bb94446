//! What is wrong with a filter.
//!
//! A caller decides how much there is to check, so a refusal must be cheap: [sizes](super::size)
//! come first, and only a violation that is reported is searched for a suggestion.

use super::clauses::Clauses;
use super::known::KnownNames;
use super::nearest::{self, Allowed};
use super::pattern::{Patterns, TypePattern};
use super::scope::Scope;
use super::spec::Spec;
use super::violation::{Violation, Violations};
use crate::event::{Excerpt, IdKind};

/// Violations that are reported. The others are counted.
const REPORTED_MAX: usize = 10;
/// Known sources that are listed beside an unknown one.
const SOURCES_LISTED: usize = 10;

/// Collects violations, so that a caller learns of them at once.
pub(super) struct Check<'a> {
    known: &'a KnownNames,
    scope: &'a Scope,
    reported: Vec<Violation>,
    unreported: usize,
    /// What may be suggested, once a type is not known.
    allowed: Option<Allowed<'a>>,
    /// Whether the families, and the sources, have been listed: once is enough.
    families_listed: bool,
    sources_listed: bool,
}

impl<'a> Check<'a> {
    pub(super) fn new(known: &'a KnownNames, scope: &'a Scope) -> Self {
        Self {
            known,
            scope,
            reported: Vec::new(),
            unreported: 0,
            allowed: None,
            families_listed: false,
            sources_listed: false,
        }
    }

    /// The filter's clauses, if nothing is wrong.
    pub(super) fn clauses(mut self, filter: &Spec) -> Result<Clauses, Violations> {
        filter.sizes().check()?;
        let ids = [
            (IdKind::User, &filter.user_ids),
            (IdKind::Organization, &filter.organization_ids),
            (IdKind::Session, &filter.session_ids),
            (IdKind::Instance, &filter.instance_ids),
        ];
        let trusts_unknown = self.known.has_others(&filter.sources, self.scope);
        let types = self.patterns("types", &filter.types, trusts_unknown);
        let exclude_types = self.patterns("exclude_types", &filter.exclude_types, trusts_unknown);
        self.check_sources(&filter.sources);
        for (kind, values) in ids {
            self.check_ids(kind, values);
        }
        if self.reported.is_empty() {
            self.check_exclusions(&types, &exclude_types);
        }
        if !self.reported.is_empty() {
            return Err(self.violations());
        }
        Ok(Clauses::new(filter, types, exclude_types))
    }

    fn violations(self) -> Violations {
        Violations {
            reported: self.reported,
            more: self.unreported,
        }
    }

    fn violation(&mut self, field: &str, describe: impl FnOnce(&mut Self) -> String) {
        if self.reported.len() >= REPORTED_MAX {
            self.unreported += 1;
            return;
        }
        let field = format!("filter.{field}");
        let description = describe(self);
        self.reported.push(Violation { field, description });
    }

    fn patterns(&mut self, field: &str, values: &[String], trusts_unknown: bool) -> Patterns {
        let mut patterns = Vec::with_capacity(values.len());
        for (index, value) in values.iter().enumerate() {
            let field = || format!("{field}[{index}]");
            match value.parse::<TypePattern>() {
                Ok(TypePattern::Exact(exact))
                    if !trusts_unknown && !self.known.has_type(&exact, self.scope) =>
                {
                    self.violation(&field(), |check| check.unknown_type(value));
                }
                Ok(pattern) => patterns.push(pattern),
                Err(error) => self.violation(&field(), |_| error.to_string()),
            }
        }
        patterns.into_iter().collect()
    }

    fn unknown_type(&mut self, value: &str) -> String {
        let mut text = format!("unknown event type {}", Excerpt(value));
        let (known, scope) = (self.known, self.scope);
        let allowed = self.allowed.get_or_insert_with(|| known.allowed(scope));
        if let Some(nearest) = allowed.nearest(value) {
            text += &format!("; did you mean {}?", Excerpt(&nearest));
        } else if !std::mem::replace(&mut self.families_listed, true) {
            text += &format!("; there are {}", allowed.families());
        }
        text
    }

    fn check_exclusions(&mut self, types: &Patterns, excluded: &Patterns) {
        let is_left = if types.is_empty() {
            !excluded.covers(&TypePattern::everything())
        } else {
            types.iter().any(|pattern| !excluded.covers(&pattern))
        };
        if !is_left {
            self.violation("exclude_types", |_| {
                "excludes every type that `types` asks for, so nothing could ever match".to_owned()
            });
        }
    }

    fn check_ids(&mut self, kind: IdKind, values: &[String]) {
        for (index, value) in values.iter().enumerate() {
            if let Err(invalid) = kind.check(value) {
                let field = format!("{}[{index}]", kind.field());
                self.violation(&field, |_| invalid.to_string());
            }
        }
    }

    fn check_sources(&mut self, values: &[String]) {
        for (index, value) in values.iter().enumerate() {
            if !self.known.has_source(value, self.scope) {
                let field = format!("sources[{index}]");
                self.violation(&field, |check| check.unknown_source(value));
            }
        }
    }

    /// A source that the caller may not receive gets the same answer as one that does not
    /// exist.
    fn unknown_source(&mut self, value: &str) -> String {
        let mut text = format!("unknown source {}", Excerpt(value));
        let known = || self.known.sources_within(self.scope);
        if let Some(nearest) = nearest::nearest_name(value, known()) {
            text += &format!("; did you mean {}?", Excerpt(nearest));
        }
        if !self.sources_listed {
            let mut listed: Vec<String> = known()
                .take(SOURCES_LISTED)
                .map(|name| Excerpt(name).to_string())
                .collect();
            if known().nth(SOURCES_LISTED).is_some() {
                listed.push("…".to_owned());
            }
            text += &format!("; known sources: {}", listed.join(", "));
        }
        self.sources_listed = true;
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::compile::Filter;
    use super::super::compile::tests::{compile, types};
    use super::super::known::LoggedType;
    use super::*;

    fn refusal(filter: &Spec) -> Vec<Violation> {
        compile(filter).expect_err("refused")
    }

    #[test]
    fn ten_violations_are_reported_and_the_others_are_counted() {
        let many = Spec {
            user_ids: vec!["x".to_owned(); 5_000],
            types: vec!["no.such.type".to_owned(); 8],
            ..Spec::default()
        };
        let known = KnownNames::default();
        let refused = Filter::compile(&many, &known, &Scope::default());
        assert_eq!(refused.expect_err("refused").more, 4_998);
        let violations = refusal(&many);
        assert_eq!(violations.len(), 10);
        let listed = violations
            .iter()
            .filter(|violation| violation.description.contains("session.*"));
        assert_eq!(listed.count(), 1, "{violations:?}");
    }

    #[test]
    fn values_are_shortened_in_violations() {
        let long = Spec {
            types: vec!["x".repeat(256), format!("{}*x", "y".repeat(250))],
            sources: vec!["z".repeat(256)],
            ..Spec::default()
        };
        for violation in refusal(&long) {
            assert!(violation.description.contains('…'), "{violation:?}");
            let longest = ["x", "y", "z"].map(|letter| letter.repeat(65));
            assert!(
                !longest
                    .iter()
                    .any(|value| violation.description.contains(value))
            );
        }
    }

    #[test]
    fn names_of_the_log_are_escaped_in_violations() {
        let logged = LoggedType {
            source: "staging\u{9b}",
            event_type: Some("zebra.painted\u{9b}\u{202e}\n"),
        };
        let known = KnownNames::new([], [], &[logged]);
        let asked = |asked: &Spec| {
            let refused = Filter::compile(asked, &known, &Scope::default()).expect_err("unknown");
            refused.reported[0].description.clone()
        };
        assert_eq!(
            asked(&types(&["zebra.paintet"])),
            "unknown event type zebra.paintet; did you mean zebra.painted\\u{9b}\\u{202e}\\n?"
        );
        let sources = Spec {
            sources: vec!["stagin".to_owned()],
            ..Spec::default()
        };
        assert_eq!(
            asked(&sources),
            "unknown source stagin; did you mean staging\\u{9b}?; known sources: staging\\u{9b}"
        );
        let family = LoggedType {
            source: "staging",
            event_type: Some("\u{1b}[2J.x"),
        };
        let known = KnownNames::new([], [], &[family]);
        let refused = Filter::compile(&types(&["quite.other"]), &known, &Scope::default());
        assert_eq!(
            refused.expect_err("unknown").reported[0].description,
            "unknown event type quite.other; there are \\u{1b}[2J.*"
        );
    }

    #[test]
    fn counts_are_checked_before_values() {
        let refused = |filter: &Spec| refusal(filter)[0].description.clone();
        let types = Spec {
            types: vec!["no.such.type".to_owned(); 257],
            ..Spec::default()
        };
        assert_eq!(refused(&types), "257 values; at most 256 are accepted");
        let ids = Spec {
            session_ids: vec![String::new(); 10_001],
            ..Spec::default()
        };
        assert_eq!(refused(&ids), "10001 values; at most 10000 are accepted");
    }

    #[test]
    fn an_unknown_source_lists_ten_that_exist() {
        let names = (1..=12).map(|number| format!("source-{number:02}"));
        let known = KnownNames::new([], names, &[]);
        let asked = Spec {
            sources: vec!["nowhere".to_owned()],
            ..Spec::default()
        };
        let report = |scope: &Scope| {
            let refused = Filter::compile(&asked, &known, scope).expect_err("unknown");
            refused.reported[0].description.clone()
        };
        let all = report(&Scope::default());
        assert!(all.ends_with("source-10, …"), "{all}");
        let single = Scope {
            sources: ["source-12".to_owned()].into(),
            ..Scope::default()
        };
        assert_eq!(
            report(&single),
            "unknown source nowhere; known sources: source-12"
        );
    }

    #[test]
    fn an_unknown_type_is_accepted_where_the_log_holds_unnamed_types() {
        let logged = [("staging", None), ("default", Some("ping"))]
            .map(|(source, event_type)| LoggedType { source, event_type });
        let sources = ["default", "staging"].map(str::to_owned);
        let known = KnownNames::new([], sources, &logged);
        let accepts = |sources: &[&str], scope: &Scope| {
            let asked = Spec {
                types: vec!["user.unheardOf".to_owned()],
                sources: sources.iter().map(|source| (*source).to_owned()).collect(),
                ..Spec::default()
            };
            Filter::compile(&asked, &known, scope).is_ok()
        };
        let everything = Scope::default();
        assert!(accepts(&[], &everything) && accepts(&["staging"], &everything));
        assert!(!accepts(&["default"], &everything));
        let default = Scope {
            sources: ["default".to_owned()].into(),
            ..Scope::default()
        };
        assert!(!accepts(&[], &default));
    }

    #[test]
    fn a_logged_type_is_known_only_to_callers_that_may_receive_it() {
        let logged = LoggedType {
            source: "staging",
            event_type: Some("ping"),
        };
        let known = KnownNames::new([], ["default".to_owned()], &[logged]);
        let asked = types(&["ping"]);
        let within = |sources: &[&str]| Scope {
            sources: sources.iter().map(|source| (*source).to_owned()).collect(),
            ..Scope::default()
        };
        assert!(Filter::compile(&asked, &known, &within(&[])).is_ok());
        assert!(Filter::compile(&asked, &known, &within(&["staging"])).is_ok());
        let refused = Filter::compile(&asked, &known, &within(&["default"]));
        let description = refused.expect_err("hidden").reported[0].description.clone();
        assert!(!description.contains("did you mean"), "{description}");
    }
}
