//! The principals that may subscribe, from the configuration file.

use std::collections::{BTreeMap, BTreeSet};

use super::document::{Document, Fields, Located};
use super::problem::Report;
use crate::access::redaction::uncovered_places;
use crate::access::{ANONYMOUS, AccessConfig, Policy, PrincipalConfig, Redaction, TokenHash};
use crate::fanout;
use crate::filter::{Filter, KnownNames, Scope, Spec, TypePattern};

/// Default maximum of a principal's streams, so that one principal leaves room for the others.
const STREAMS_MAX: usize = 1000;
/// Maximum number of places to name in a warning.
const PLACES_SHOWN: usize = 5;

/// Reads the `[[principals]]` and `[anonymous]` tables. Callers without credentials may
/// subscribe if no principal is configured, or if `allows_anonymous` is set. `sources` are the
/// names of all sources.
pub fn check(
    document: &Document,
    sources: &[String],
    allows_anonymous: bool,
    report: &mut Report,
) -> AccessConfig {
    let known = fanout::known_names(sources.iter().cloned(), &[]);
    let mut identities = Identities::default();
    let mut principals = Vec::with_capacity(document.principals.len());
    for table in &document.principals {
        let mut warnings = Vec::new();
        let principal = table.read(document, &mut report.problems, |fields| {
            let principal = read_principal(fields, &known, &mut warnings);
            identities.check(&principal, fields);
            principal
        });
        report.warnings.extend(warnings);
        principals.push(principal);
    }
    let lets_anonymous_in = allows_anonymous || principals.is_empty();
    let anonymous = match &document.anonymous {
        Some(table) => {
            let mut warnings = Vec::new();
            let policy = table.read(document, &mut report.problems, |fields| {
                read_anonymous(fields, &known, &mut warnings)
            });
            report.warnings.extend(warnings);
            policy
        }
        None => Policy::default(),
    };
    let beside_others = (!principals.is_empty()).then_some(STREAMS_MAX);
    // Without principals, every caller may see who is connected, and which subscriptions there
    // are.
    let is_alone = principals.is_empty();
    AccessConfig {
        anonymous: lets_anonymous_in.then_some(Policy {
            sees_all_subscribers: anonymous.sees_all_subscribers || is_alone,
            operates_all_subscriptions: anonymous.operates_all_subscriptions || is_alone,
            streams_max: anonymous.streams_max.or(beside_others),
            ..anonymous
        }),
        principals,
    }
}

impl Document {
    /// The line on which a `[[principals]]` table begins.
    #[must_use]
    pub fn line_of_principal(&self, index: usize) -> Option<usize> {
        self.principals.get(index).map(|table| table.line)
    }
}

/// Names and credentials of the principals read up to here. A caller must not be two of them.
#[derive(Default)]
struct Identities {
    names: BTreeSet<String>,
    hashes: BTreeMap<String, String>,
    certificates: BTreeMap<String, String>,
}

impl Identities {
    fn check(&mut self, principal: &PrincipalConfig, fields: &mut Fields<'_>) {
        let name = &principal.name;
        let is_new = self.names.insert(name.clone());
        if name == ANONYMOUS || is_name(name) && !is_new {
            fields.refuse("name", format!("principal {name:?} is configured twice, or has the name of callers without credentials"));
        }
        for hash in &principal.token_hashes {
            let hash = hash.to_string();
            if let Some(other) = self.hashes.insert(hash, name.clone()) {
                fields.refuse(
                    "token_hash",
                    format!("principals {other:?} and {name:?} have the same token_hash"),
                );
            }
        }
        for certificate in &principal.certificate_names {
            let former = self.certificates.insert(certificate.clone(), name.clone());
            if let Some(other) = former {
                fields.refuse("client_certificate", format!("principals {other:?} and {name:?} have the same client_certificate {certificate:?}"));
            }
        }
    }
}

fn read_principal(
    fields: &mut Fields<'_>,
    known: &KnownNames,
    warnings: &mut Vec<String>,
) -> PrincipalConfig {
    let before = fields.problems.len();
    let name = fields.text("name").unwrap_or_default().value;
    if fields.problems.len() == before && !is_name(&name) {
        fields.refuse(
            "name",
            "a name has 1 to 100 letters, digits, `-`, `_` or `.`",
        );
    }
    let before = fields.problems.len();
    let token_hashes = read_hashes(fields);
    let certificates: Vec<_> = fields
        .text("client_certificate")
        .into_iter()
        .chain(fields.texts("client_certificates"))
        .collect();
    if certificates.iter().any(|name| name.value.is_empty()) {
        fields.refuse(
            "client_certificate",
            "client_certificate: must not be empty",
        );
    }
    let certificate_names: Vec<String> = certificates.into_iter().map(|name| name.value).collect();
    let is_unknown = token_hashes.is_empty() && certificate_names.is_empty();
    if is_unknown && fields.problems.len() == before {
        let shown = if is_name(&name) { &name } else { "NAME" };
        fields.refuse("token_hash", format!("no credentials are configured: set token_hash (`clerkcast token new {shown}` prints one) or client_certificate"));
    }
    let policy = read_policy(fields, &name, known, warnings);
    PrincipalConfig {
        policy: Policy {
            streams_max: Some(policy.streams_max.unwrap_or(STREAMS_MAX)),
            ..policy
        },
        name,
        token_hashes,
        certificate_names,
    }
}

fn is_name(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=100).contains(&text.len()) && text.chars().all(is_plain)
}

fn read_hashes(fields: &mut Fields<'_>) -> Vec<TokenHash> {
    let single = fields.text("token_hash").into_iter();
    let listed = fields.texts("token_hashes").into_iter();
    let mut hashes = Vec::new();
    let single = single.map(|text| ("token_hash", text));
    for (key, text) in single.chain(listed.map(|text| ("token_hashes", text))) {
        match text.value.parse::<TokenHash>() {
            Ok(hash) => hashes.push(hash),
            Err(error) => fields.refuse_at(text.line, key, error),
        }
    }
    hashes
}

fn read_anonymous(
    fields: &mut Fields<'_>,
    known: &KnownNames,
    warnings: &mut Vec<String>,
) -> Policy {
    let identifying = [
        fields.text("name").map(|located| located.line),
        fields.text("token_hash").map(|located| located.line),
        fields
            .texts("token_hashes")
            .first()
            .map(|located| located.line),
        fields
            .text("client_certificate")
            .map(|located| located.line),
        fields
            .texts("client_certificates")
            .first()
            .map(|located| located.line),
    ];
    if let Some(line) = identifying.into_iter().flatten().next() {
        fields.refuse_at(line, "", "it is for callers without credentials; name, token_hash and client_certificate belong in [[principals]]");
    }
    read_policy(fields, ANONYMOUS, known, warnings)
}

fn read_policy(
    fields: &mut Fields<'_>,
    principal: &str,
    known: &KnownNames,
    warnings: &mut Vec<String>,
) -> Policy {
    let lists = ["types", "exclude_types", "sources"].map(|key| fields.texts(key));
    check_names(fields, &lists, known);
    let [types, exclude_types, sources] = lists;
    let doubts = types.iter().chain(&exclude_types);
    let doubts = doubts.filter_map(|pattern| known.doubt(&pattern.value));
    warnings.extend(doubts.map(|doubt| format!("principal {principal}: {doubt}")));
    let removed = fields.texts("redact");
    let granted = fields.texts("grant");
    let redaction = read_redaction(fields, &removed, &granted);
    warnings.extend(warning_of_uncovered(principal, &texts_of(&removed)));
    let streams_max = fields.count("max_streams");
    let is_on = |fields: &mut Fields<'_>, key| fields.switch(key).is_some_and(|on| on.value);
    if streams_max.as_ref().is_some_and(|max| max.value == 0) {
        fields.refuse("max_streams", "max_streams: must be more than 0");
    }
    Policy {
        scope: Scope {
            types: patterns(&types),
            exclude_types: patterns(&exclude_types),
            sources: sources.into_iter().map(|source| source.value).collect(),
        },
        redaction,
        withholds_payload: fields.switch("payload").is_some_and(|switch| !switch.value),
        streams_max: streams_max.map(|count| count.value),
        sees_all_subscribers: is_on(fields, "all_subscribers"),
        operates_all_subscriptions: is_on(fields, "all_subscriptions"),
    }
}

/// Checks names against the known ones, as in a subscriber's filter, because a misspelled name
/// would hide everything, or nothing.
fn check_names(fields: &mut Fields<'_>, lists: &[Vec<Located<String>>; 3], known: &KnownNames) {
    let [types, exclude_types, sources] = lists;
    let filter = Spec {
        types: texts_of(types),
        exclude_types: texts_of(exclude_types),
        sources: texts_of(sources),
        ..Spec::default()
    };
    let Err(violations) = Filter::compile(&filter, known, &Scope::default()) else {
        return;
    };
    for violation in violations.reported {
        let field = violation.field.trim_start_matches("filter.");
        let (key, index) = field.split_once('[').unwrap_or((field, ""));
        let list = match key {
            "types" => types,
            "exclude_types" => exclude_types,
            _ => sources,
        };
        let index = index.trim_end_matches(']').parse::<usize>().ok();
        let item = index.and_then(|index| list.get(index));
        let line = item.map_or_else(|| fields.line(key), |item| item.line);
        let message = format!("{field}: {}", violation.description);
        fields.refuse_at(line, key, message);
    }
    if violations.more > 0 {
        let message = format!("and {} more names that are wrong", violations.more);
        fields.refuse("types", message);
    }
}

fn read_redaction(
    fields: &mut Fields<'_>,
    removed: &[Located<String>],
    granted: &[Located<String>],
) -> Redaction {
    if let Ok(redaction) = Redaction::new(&texts_of(removed), &texts_of(granted)) {
        return redaction;
    }
    for item in removed {
        if let Err(error) = Redaction::new(std::slice::from_ref(&item.value), &[]) {
            fields.refuse_at(item.line, "redact", error);
        }
    }
    for item in granted {
        if let Err(error) = Redaction::new(&[], std::slice::from_ref(&item.value)) {
            fields.refuse_at(item.line, "grant", error);
        }
    }
    Redaction::default()
}

fn texts_of(items: &[Located<String>]) -> Vec<String> {
    items.iter().map(|item| item.value.clone()).collect()
}

/// The items that are patterns; [`check_names`] reports the others.
fn patterns(items: &[Located<String>]) -> BTreeSet<TypePattern> {
    let patterns = items.iter().map(|item| item.value.parse::<TypePattern>());
    patterns.filter_map(Result::ok).collect()
}

/// Warns of a rule that removes a field from one place and leaves it at others.
fn warning_of_uncovered(principal: &str, redact: &[String]) -> Option<String> {
    let places = uncovered_places(redact);
    let shown: Vec<&str> = places
        .iter()
        .take(PLACES_SHOWN)
        .map(String::as_str)
        .collect();
    let more = match places.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!places.is_empty()).then(|| format!(
        "principal {principal}: redact removes a field from one place and leaves it at others ({}{more}); write **.NAME to remove it wherever it stands",
        shown.join(", ")
    ))
}
