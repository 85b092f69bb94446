//! Rules, and the named sets of rules, as a policy writes them.

use std::collections::BTreeSet;

use crate::clerk::{catalog, schema};
use crate::filter::TypePattern;

/// Minimum similarity of a suggestion to the text.
const SIMILARITY_MIN: f64 = 0.5;
/// Prefix of a name that applies at any depth.
const ANYWHERE: &str = "**.";

/// A field to remove.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rule {
    /// The field at this path.
    At(Vec<String>),
    /// Every field of this name, at any depth.
    Anywhere(String),
}

/// Rules under one name.
pub(super) struct Set {
    pub(super) name: &'static str,
    pub(super) rules: &'static [&'static str],
}

/// A set that is removed unless the policy grants it by name.
pub(super) struct Sealed {
    pub(super) name: &'static str,
    families: &'static [&'static str],
    /// Values of `data.object` that the set covers, whatever the event's type.
    pub(super) objects: &'static [&'static str],
    rules: &'static [&'static str],
}

impl Sealed {
    pub(super) fn rules(&self) -> impl Iterator<Item = Rule> {
        self.rules.iter().map(|text| Rule::read(text))
    }

    pub(super) fn is_of_family(&self, family: &str) -> bool {
        let mut families = self.families.iter();
        families.any(|known| known.eq_ignore_ascii_case(family))
    }

    pub(super) fn is_of_object(&self, object: &str) -> bool {
        let object = object.trim();
        let mut objects = self.objects.iter();
        objects.any(|known| known.eq_ignore_ascii_case(object))
    }

    /// Whether a type that matches the pattern may be of one of the families.
    pub(super) fn is_met_by(&self, asked: &TypePattern) -> bool {
        let begins_family = |prefix: &str| {
            let mut families = self
                .families
                .iter()
                .filter_map(|known| known.get(..prefix.len()));
            families.any(|beginning| beginning.eq_ignore_ascii_case(prefix))
        };
        match asked {
            TypePattern::Prefix(prefix) if !prefix.contains('.') => begins_family(prefix.trim()),
            TypePattern::Prefix(text) | TypePattern::Exact(text) => {
                self.is_of_family(catalog::family(text))
            }
        }
    }
}

/// Fields that let a person sign in. The families also hold types that Clerk may add, or that
/// its own documents mention and its schemas do not, such as `invitation.created`.
pub(super) const SEALED: &[Sealed] = &[
    Sealed {
        name: "messages",
        families: &["email", "sms"],
        objects: &["email", "sms_message"],
        rules: &[
            "data.subject",
            "data.body",
            "data.body_plain",
            "data.message",
            "data.data",
        ],
    },
    Sealed {
        name: "invitation_urls",
        families: &["organizationInvitation", "invitation", "waitlistEntry"],
        objects: &[],
        rules: &["**.url"],
    },
];

/// The sets that a policy can remove by name.
const SETS: &[Set] = &[
    Set {
        name: "contact",
        rules: &[
            "**.email_addresses",
            "**.email_address",
            "**.email",
            "**.phone_numbers",
            "**.phone_number",
            "**.to_email_address",
            "**.to_phone_number",
            "**.affiliation_email_address",
            "**.web3_wallets",
            "**.web3_wallet",
            // A member's identifier, which is most often an e-mail address.
            "**.identifier",
        ],
    },
    Set {
        name: "names",
        rules: &[
            "**.first_name",
            "**.last_name",
            "**.username",
            "**.given_name",
            "**.family_name",
            "**.image_url",
            "**.profile_image_url",
            "**.avatar_url",
            "**.picture",
            "**.birthday",
            "**.gender",
            // A user's name for an account or a key.
            "**.label",
            "**.google_id",
            "**.provider_user_id",
        ],
    },
    Set {
        name: "metadata",
        rules: &[
            "**.public_metadata",
            "**.private_metadata",
            "**.unsafe_metadata",
        ],
    },
    Set {
        name: "backup_codes",
        rules: &["**.backup_codes"],
    },
    Set {
        name: "network",
        rules: &[
            "event_attributes.http_request",
            "**.latest_activity",
            "**.client_ip",
            "**.ip_address",
            "**.user_agent",
            "**.city",
            "**.country",
        ],
    },
    // Values that continue a sign-in in progress.
    Set {
        name: "verifications",
        rules: &["**.nonce", "**.external_verification_redirect_url"],
    },
];

/// Why a text is not a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRule {
    /// The text is neither a set nor a field's path. Accepting it would remove nothing.
    #[error(
        "{rule:?} is neither a set ({sets}) nor a field of Clerk's events, such as data.private_metadata, or **.private_metadata for wherever it stands{suggestion}",
        sets = set_names(SETS.iter().map(|set| set.name))
    )]
    UnknownField {
        /// The text.
        rule: String,
        /// `; did you mean …?`, or empty.
        suggestion: String,
    },
    /// The text is not a set that can be granted.
    #[error(
        "{0:?} is not a set that can be granted; these are: {sets}",
        sets = set_names(SEALED.iter().map(|set| set.name))
    )]
    UnknownGrant(String),
}

fn set_names(names: impl Iterator<Item = &'static str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

impl Rule {
    /// Reads a text that is known to be a rule.
    pub(super) fn read(text: &str) -> Self {
        match text.strip_prefix(ANYWHERE) {
            Some(name) => Self::Anywhere(name.to_owned()),
            None => {
                let steps = text.split('.').map(|step| step.trim_end_matches("[]"));
                Self::At(steps.map(str::to_owned).collect())
            }
        }
    }

    /// Whether this rule removes everything that `other` removes.
    pub(super) fn removes_all_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::At(at), Self::At(path)) => path.starts_with(at),
            (Self::Anywhere(name), Self::At(path)) => path.contains(name),
            (Self::Anywhere(name), Self::Anywhere(other)) => name == other,
            (Self::At(_), Self::Anywhere(_)) => false,
        }
    }

    fn is_known(&self) -> bool {
        let known = schema::json_paths();
        match self {
            Self::At(path) => known.has(path),
            Self::Anywhere(name) => known.names().contains(name.as_str()),
        }
    }
}

/// The rules that a policy's text stands for.
pub(super) fn parse(text: &str) -> Result<Vec<Rule>, InvalidRule> {
    if let Some(set) = SETS.iter().find(|set| set.name == text) {
        return Ok(set.rules.iter().map(|rule| Rule::read(rule)).collect());
    }
    let rule = Rule::read(text);
    if rule.is_known() {
        return Ok(vec![rule]);
    }
    Err(InvalidRule::UnknownField {
        rule: text.to_owned(),
        suggestion: suggestion(text),
    })
}

pub(super) fn check_granted(granted: &[String]) -> Result<(), InvalidRule> {
    let is_sealed = |name: &&String| SEALED.iter().any(|set| set.name == name.as_str());
    match granted.iter().find(|name| !is_sealed(name)) {
        Some(unknown) => Err(InvalidRule::UnknownGrant(unknown.clone())),
        None => Ok(()),
    }
}

fn suggestion(text: &str) -> String {
    let known = schema::json_paths();
    let paths = known.paths().map(|path| path.join("."));
    let anywhere = known.names().iter().map(|name| format!("{ANYWHERE}{name}"));
    let sets = SETS.iter().map(|set| set.name.to_owned());
    let all = sets.chain(paths).chain(anywhere);
    let scored = all.map(|name| (strsim::normalized_damerau_levenshtein(text, &name), name));
    match scored.max_by(|(a, _), (b, _)| a.total_cmp(b)) {
        Some((score, name)) if score >= SIMILARITY_MIN => format!("; did you mean {name}?"),
        _ => String::new(),
    }
}

/// Paths of fields that stay although `removed` removes a field of the same name by another
/// path. They are worth a warning: a session's event carries the whole user.
#[must_use]
pub fn uncovered_places(removed: &[String]) -> Vec<String> {
    let rules: BTreeSet<Rule> = removed
        .iter()
        .filter_map(|text| parse(text).ok())
        .flatten()
        .collect();
    let names: BTreeSet<&String> = rules
        .iter()
        .filter_map(|rule| match rule {
            Rule::At(path) => path.last(),
            Rule::Anywhere(_) => None,
        })
        .collect();
    let is_covered = |path: &[String]| {
        rules.iter().any(|rule| match rule {
            Rule::At(at) => path.starts_with(at),
            Rule::Anywhere(name) => path.contains(name),
        })
    };
    let known = schema::json_paths();
    let left = known
        .paths()
        .filter(|path| path.last().is_some_and(|name| names.contains(name)))
        .filter(|path| !is_covered(path));
    left.map(|path| path.join(".")).collect()
}
