//! What subscribers ask for, and what policies leave of it.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use clerkcast::event::{Attributes, IdKind, IndexHint, Values};
use clerkcast::fanout::known_names;
use clerkcast::filter::{Filter, KnownNames, Scope, Spec, TypePattern};
use clerkcast::log::Tally;

/// Few enough names that filters, policies and events meet.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Name {
    A,
    B,
    Ab,
    Unknown,
}

impl Name {
    fn id(self, prefix: &str) -> String {
        format!("{prefix}{self:?}")
    }

    fn event_type(self) -> &'static str {
        match self {
            Self::A => "user.created",
            Self::B => "user.updated",
            Self::Ab => "session.created",
            Self::Unknown => "user.unknown",
        }
    }

    fn source(self) -> &'static str {
        match self {
            Self::A | Self::Ab => "default",
            Self::B => "staging",
            Self::Unknown => "nowhere",
        }
    }
}

#[derive(Arbitrary, Clone, Debug)]
enum Pattern {
    Exact(Name),
    Prefix(Name, u8),
    Any(String),
}

impl Pattern {
    fn text(&self) -> String {
        match self {
            Self::Exact(name) => name.event_type().to_owned(),
            Self::Prefix(name, length) => {
                let prefix = name.event_type().chars().take(usize::from(*length % 16));
                format!("{}*", prefix.collect::<String>())
            }
            Self::Any(text) => text.clone(),
        }
    }
}

fn texts(patterns: &[Pattern]) -> Vec<String> {
    patterns.iter().map(Pattern::text).collect()
}

/// What stands where an id should.
#[derive(Arbitrary, Clone, Debug)]
enum Id {
    Of(Name),
    Any(String),
}

fn ids(ids: &[Id], kind: IdKind) -> Vec<String> {
    let texts = ids.iter().map(|id| match id {
        Id::Of(name) => name.id(kind.prefix()),
        Id::Any(text) => text.clone(),
    });
    texts.collect()
}

static KNOWN: LazyLock<KnownNames> = LazyLock::new(|| {
    let tally = Tally {
        source: "staging".to_owned(),
        event_type: "user.unheardOf".to_owned(),
        count: 1,
    };
    known_names(["default", "staging"].map(str::to_owned), &[tally])
});

#[derive(Arbitrary, Debug)]
struct Asked {
    types: Vec<Pattern>,
    exclude_types: Vec<Pattern>,
    user_ids: Vec<Id>,
    organization_ids: Vec<Id>,
    session_ids: Vec<Id>,
    sources: Vec<Name>,
    instance_ids: Vec<Id>,
}

impl Asked {
    fn filter(&self) -> Spec {
        Spec {
            types: texts(&self.types),
            exclude_types: texts(&self.exclude_types),
            user_ids: ids(&self.user_ids, IdKind::User),
            organization_ids: ids(&self.organization_ids, IdKind::Organization),
            session_ids: ids(&self.session_ids, IdKind::Session),
            sources: self
                .sources
                .iter()
                .map(|it| it.source().to_owned())
                .collect(),
            instance_ids: ids(&self.instance_ids, IdKind::Instance),
        }
    }

    /// The filter of a caller that may receive what lies in `scope`.
    fn compiled(&self, scope: &Scope) -> Option<Filter> {
        let filter = self.filter();
        let compiled = Filter::compile(&filter, &KNOWN, scope);
        assert_eq!(compiled, Filter::compile(&filter, &KNOWN, scope));
        match compiled {
            Ok(compiled) => Some(compiled),
            Err(violations) => {
                assert!((1..=10).contains(&violations.reported.len()));
                for violation in violations.reported {
                    assert!(violation.field.starts_with("filter."), "{violation:?}");
                    suggests_only_what_is_allowed(&violation.description, scope);
                }
                None
            }
        }
    }
}

fn suggests_only_what_is_allowed(text: &str, scope: &Scope) {
    let suggested = text.split_once("; did you mean ");
    let Some((_, suggested)) = suggested else {
        return;
    };
    let (suggested, _) = suggested.split_once('?').expect("a question");
    let is_allowed = if text.starts_with("unknown source") {
        scope.allows_source(suggested)
    } else if text.starts_with("unknown event type") {
        let pattern: TypePattern = suggested.parse().expect("a pattern");
        !scope.allowed_part(&pattern).is_empty()
    } else {
        true
    };
    assert!(is_allowed, "{text}: {scope:?}");
}

#[derive(Arbitrary, Debug)]
struct Happened {
    event_type: Name,
    source: Name,
    user_id: Option<Name>,
    organization_id: Option<Name>,
    session_id: Option<Name>,
    instance_id: Option<Name>,
}

impl Happened {
    fn seen<T>(&self, see: impl FnOnce(Attributes<&str>) -> T) -> T {
        let id = |name: Option<Name>, kind: IdKind| name.map(|name| name.id(kind.prefix()));
        see(Attributes {
            event_type: self.event_type.event_type(),
            source: self.source.source(),
            instance_id: id(self.instance_id, IdKind::Instance).as_deref(),
            user_id: id(self.user_id, IdKind::User).as_deref(),
            organization_id: id(self.organization_id, IdKind::Organization).as_deref(),
            session_id: id(self.session_id, IdKind::Session).as_deref(),
            object_id: None,
        })
    }
}

/// A filter that is accepted matches what a reading of it in so many words does, and the
/// index that it names holds every match.
#[derive(Arbitrary, Debug)]
pub(crate) struct Filtering {
    asked: Asked,
    happened: Happened,
}

impl Filtering {
    pub(crate) fn hold(self) {
        let Some(compiled) = self.asked.compiled(&Scope::default()) else {
            return;
        };
        let expected = self
            .happened
            .seen(|event| matches_in_words(&self.asked.filter(), event));
        self.happened.seen(|event| {
            assert_eq!(compiled.matches(event), expected);
            if expected {
                let is_in = |ids: &Values, id: Option<&str>| id.is_some_and(|id| ids.contains(id));
                assert!(match compiled.narrow() {
                    IndexHint::All => true,
                    IndexHint::Types(types) => is_in(types, Some(event.event_type)),
                    IndexHint::Users(ids) => is_in(ids, event.user_id),
                    IndexHint::Organizations(ids) => is_in(ids, event.organization_id),
                    IndexHint::Sessions(ids) => is_in(ids, event.session_id),
                });
            }
        });
    }
}

fn matches_in_words(filter: &Spec, event: Attributes<&str>) -> bool {
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
        && has(&filter.instance_ids, event.instance_id)
}

/// What a policy leaves of a filter matches what both allow, and nothing is refused of
/// which something might be sent.
#[derive(Arbitrary, Debug)]
pub(crate) struct PolicyOnFilter {
    asked: Asked,
    allowed_types: Vec<Pattern>,
    withheld_types: Vec<Pattern>,
    allowed_sources: Vec<Name>,
    happened: Happened,
}

impl PolicyOnFilter {
    pub(crate) fn hold(self) {
        let patterns = |patterns: &[Pattern]| {
            let parsed = patterns.iter().map(|it| it.text().parse::<TypePattern>());
            parsed.collect::<Result<BTreeSet<_>, _>>()
        };
        let (Ok(types), Ok(exclude_types)) = (
            patterns(&self.allowed_types),
            patterns(&self.withheld_types),
        ) else {
            return;
        };
        let scope = Scope {
            types,
            exclude_types,
            sources: self
                .allowed_sources
                .iter()
                .map(|it| it.source().to_owned())
                .collect(),
        };
        // Whether it is known what the policy allows decides on what is told, and on nothing
        // that is sent.
        let filter = self.asked.compiled(&scope);
        let Some(filter) = filter.or_else(|| self.asked.compiled(&Scope::default())) else {
            return;
        };
        self.happened.seen(|event| {
            let both = filter.matches(event) && scope.allows(event);
            match filter.within(&scope) {
                Ok((narrower, _)) => assert_eq!(narrower.matches(event), both),
                Err(denied) => assert!(!both, "{denied:?}"),
            }
        });
    }
}
