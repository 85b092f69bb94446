//! Who may subscribe, as the configuration file has it.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use super::FileConfig;
use super::config::without_secrets;
use crate::access::{ANONYMOUS, Identity, Policy, Principals, Scope, TokenHash};
use crate::clerk::Redaction;
use crate::clerk::catalogue::CATALOGUE;
use crate::clerk::redaction::uncovered_places;
use crate::event::TypePattern;
use crate::fanout::{Filter, KnownNames};
use crate::proto::EventFilter;

/// Of one principal, unless its table says otherwise: one that goes astray should leave
/// room for others.
const STREAMS_MAX: usize = 1000;
/// Places named in a warning.
const PLACES_SHOWN: usize = 5;

/// One `[[principals]]` table; or the `[anonymous]` table, which has neither a name nor
/// credentials.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilePrincipal {
    #[serde(default)]
    name: String,
    /// What its token hashes to, as `clerkcast token new` prints it.
    token_hash: Option<String>,
    /// Several, while one token replaces another.
    #[serde(default)]
    token_hashes: Vec<String>,
    /// A name of its certificate: DNS name, URI or common name; or `*` for any that is
    /// verified.
    client_certificate: Option<String>,
    #[serde(default)]
    client_certificates: Vec<String>,
    #[serde(default)]
    types: Vec<String>,
    #[serde(default)]
    exclude_types: Vec<String>,
    #[serde(default)]
    sources: Vec<String>,
    #[serde(default)]
    redact: Vec<String>,
    #[serde(default)]
    grant: Vec<String>,
    payload: Option<bool>,
    max_streams: Option<usize>,
    all_subscribers: Option<bool>,
}

impl FileConfig {
    /// Who may subscribe, checked. Callers without credentials are let in where nobody
    /// else is named, or where `allow_anonymous` says so.
    ///
    /// # Errors
    /// With the first that is wrong.
    pub fn principals(
        &self,
        source_names: &BTreeSet<String>,
        allow_anonymous: bool,
    ) -> anyhow::Result<Principals> {
        let checked = self.check_principals(source_names, allow_anonymous);
        checked.map_err(|error| without_secrets(&error))
    }

    fn check_principals(
        &self,
        source_names: &BTreeSet<String>,
        allow_anonymous: bool,
    ) -> anyhow::Result<Principals> {
        let mut names = BTreeSet::from([ANONYMOUS]);
        let mut identities: Vec<Identity> = Vec::with_capacity(self.principals.len());
        for principal in &self.principals {
            let name = principal.name.as_str();
            ensure!(
                names.insert(name),
                "principal {name:?} is configured twice, or has the name of callers without credentials"
            );
            let identity = principal.check(source_names);
            let identity = identity.with_context(|| format!("principal {name:?}"))?;
            for other in &identities {
                ensure_distinct(&identity, other)?;
            }
            identities.push(identity);
        }
        let lets_anonymous_in = allow_anonymous || identities.is_empty();
        let anonymous = match &self.anonymous {
            Some(anonymous) => anonymous
                .check_anonymous(source_names)
                .context("[anonymous]")?,
            None => Policy::default(),
        };
        let beside_others = (!identities.is_empty()).then_some(STREAMS_MAX);
        // Where nobody is told apart, everybody sees who is connected.
        let sees_all_subscribers = anonymous.sees_all_subscribers || identities.is_empty();
        Ok(Principals {
            anonymous: lets_anonymous_in.then_some(Policy {
                sees_all_subscribers,
                streams_max: anonymous.streams_max.or(beside_others),
                ..anonymous
            }),
            identities,
        })
    }
}

/// Who calls must follow from what is shown.
fn ensure_distinct(one: &Identity, other: &Identity) -> anyhow::Result<()> {
    let same_token = one
        .token_hashes
        .iter()
        .any(|hash| other.token_hashes.contains(hash));
    ensure!(
        !same_token,
        "principals {:?} and {:?} have the same token_hash",
        other.name,
        one.name
    );
    let names = &other.certificate_names;
    let same_certificate = one.certificate_names.iter().find(|it| names.contains(it));
    if let Some(name) = same_certificate {
        bail!(
            "principals {:?} and {:?} have the same client_certificate {name:?}",
            other.name,
            one.name
        );
    }
    Ok(())
}

impl FilePrincipal {
    fn check(&self, source_names: &BTreeSet<String>) -> anyhow::Result<Identity> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        ensure!(
            !self.name.is_empty() && self.name.len() <= 100 && self.name.chars().all(is_plain),
            "a name has 1 to 100 letters, digits, `-`, `_` or `.`"
        );
        let hashes = self.token_hash.iter().chain(&self.token_hashes);
        let token_hashes = hashes
            .map(|text| text.parse::<TokenHash>())
            .collect::<Result<Vec<_>, _>>()
            .context("token_hash")?;
        let certificates = self.client_certificate.iter();
        let certificates = certificates.chain(&self.client_certificates);
        let certificate_names: Vec<String> = certificates.cloned().collect();
        ensure!(
            !certificate_names.contains(&String::new()),
            "client_certificate: must not be empty"
        );
        ensure!(
            !token_hashes.is_empty() || !certificate_names.is_empty(),
            "nothing to recognise it by: set token_hash (`clerkcast token new {}` prints one) or client_certificate",
            self.name
        );
        warn_of_uncovered(&self.name, &self.redact);
        Ok(Identity {
            name: self.name.clone(),
            token_hashes,
            certificate_names,
            policy: Policy {
                streams_max: Some(self.max_streams.unwrap_or(STREAMS_MAX)),
                ..self.policy(source_names)?
            },
        })
    }

    fn check_anonymous(&self, source_names: &BTreeSet<String>) -> anyhow::Result<Policy> {
        let has_hash = self.token_hash.is_some() || !self.token_hashes.is_empty();
        let has_certificate =
            self.client_certificate.is_some() || !self.client_certificates.is_empty();
        ensure!(
            self.name.is_empty() && !has_hash && !has_certificate,
            "it is for callers without credentials; name, token_hash and client_certificate belong in [[principals]]"
        );
        warn_of_uncovered(ANONYMOUS, &self.redact);
        self.policy(source_names)
    }

    fn policy(&self, source_names: &BTreeSet<String>) -> anyhow::Result<Policy> {
        self.check_names(source_names)?;
        let redaction = Redaction::new(&self.redact, &self.grant).context("redact, grant")?;
        ensure!(
            self.max_streams != Some(0),
            "max_streams: must be more than 0"
        );
        Ok(Policy {
            scope: Scope {
                types: patterns(&self.types).context("types")?,
                exclude_types: patterns(&self.exclude_types).context("exclude_types")?,
                sources: self.sources.iter().cloned().collect(),
            },
            redaction,
            withholds_payload: self.payload == Some(false),
            streams_max: self.max_streams,
            sees_all_subscribers: self.all_subscribers == Some(true),
        })
    }

    /// A slip of the pen would hide everything, or nothing: names are held to what is
    /// known, as a subscriber's filter is.
    fn check_names(&self, source_names: &BTreeSet<String>) -> anyhow::Result<()> {
        let filter = EventFilter {
            types: self.types.clone(),
            exclude_types: self.exclude_types.clone(),
            sources: self.sources.clone(),
            ..EventFilter::default()
        };
        let known = KnownNames {
            types: CATALOGUE.iter().map(|kind| kind.name.to_owned()).collect(),
            sources: source_names.clone(),
            ..KnownNames::default()
        };
        match Filter::compile(&filter, &known) {
            Ok(_) => Ok(()),
            Err(violations) => {
                let told = violations.iter().map(|it| {
                    let field = it.field.trim_start_matches("filter.");
                    format!("{field}: {}", it.description)
                });
                bail!("{}", told.collect::<Vec<_>>().join("; "))
            }
        }
    }
}

fn patterns(texts: &[String]) -> anyhow::Result<BTreeSet<TypePattern>> {
    texts
        .iter()
        .map(|text| Ok(text.parse::<TypePattern>()?))
        .collect()
}

/// A rule for one place removes nothing at others where the same field stands.
fn warn_of_uncovered(principal: &str, redact: &[String]) {
    let places = uncovered_places(redact);
    if places.is_empty() {
        return;
    }
    let shown = places.iter().take(PLACES_SHOWN).map(String::as_str);
    let shown: Vec<&str> = shown.collect();
    tracing::warn!(
        principal,
        places = shown.join(", "),
        more = places.len() - shown.len(),
        "redact removes a field from one place and leaves it at others; write **.NAME to remove it wherever it stands"
    );
}
