//! Removing fields from an event, as a caller's policy says.
//!
//! ```text
//!   rules ──► plan, one per family of types ──┬──► the encoded event, by field number
//!                                             └──► the JSON body, by key
//! ```
//!
//! A rule is a path from the body's root (`data.private_metadata`, through arrays as if
//! they were not there), a name wherever it stands (`**.private_metadata`), or the name of
//! a set. Both renderings are made from the same plan; a test holds them against each
//! other. Where nothing is to be removed, nothing is copied.
//!
//! What the envelope says of the event stays: its id, type, times, and the ids that
//! filters look at.

mod json;
mod plan;
mod rule;
mod wire;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use crate::event::TypePattern;
use plan::Plan;
use rule::{Family, Rule, SEALED};

pub use rule::{InvalidRule, uncovered_places};

/// What is removed from events; clones share it.
#[derive(Clone)]
pub struct Redaction {
    compiled: Arc<Compiled>,
}

struct Compiled {
    /// As they were asked for, in words.
    names: BTreeSet<String>,
    rules: BTreeMap<Family, BTreeSet<Rule>>,
    /// For types of families that no rule is particular about.
    elsewhere: Plan,
    families: HashMap<&'static str, Plan>,
}

impl Redaction {
    /// What is removed where a policy removes `removed` and grants `granted`: the sealed
    /// sets are removed unless they are granted.
    ///
    /// # Errors
    /// With the first that is neither a set nor the path of a field.
    pub fn new(removed: &[String], granted: &[String]) -> Result<Self, InvalidRule> {
        rule::check_granted(granted)?;
        let mut names = BTreeSet::new();
        let mut rules: BTreeMap<Family, BTreeSet<Rule>> = BTreeMap::new();
        for sealed in SEALED
            .iter()
            .filter(|set| !granted.iter().any(|name| name == set.name))
        {
            names.insert(sealed.name.to_owned());
            for family in sealed.families {
                let rules = rules.entry(Some(family)).or_default();
                rules.extend(sealed.rules.iter().map(|text| Rule::read(text)));
            }
        }
        for text in removed {
            names.insert(text.clone());
            rules.entry(None).or_default().extend(rule::parse(text)?);
        }
        Ok(Self::compile(names, rules))
    }

    fn compile(names: BTreeSet<String>, rules: BTreeMap<Family, BTreeSet<Rule>>) -> Self {
        let unscoped = rules.get(&None).cloned().unwrap_or_default();
        let scoped = rules.iter().filter_map(|(family, rules)| {
            let rules = rules.union(&unscoped);
            Some(((*family)?, Plan::new(rules)))
        });
        Self {
            compiled: Arc::new(Compiled {
                families: scoped.collect(),
                elsewhere: Plan::new(unscoped.iter()),
                names,
                rules,
            }),
        }
    }

    /// The encoded event without what is to be removed.
    #[must_use]
    pub fn event<'a>(&self, event_type: &str, encoded: Cow<'a, [u8]>) -> Cow<'a, [u8]> {
        match self.plan(event_type).event(&encoded) {
            Some(redacted) => Cow::Owned(redacted),
            None => encoded,
        }
    }

    /// The body without what is to be removed; what surrounds a removed field is written
    /// anew, all else stays as it is. None where something might have to be removed from
    /// a body that has no fields to be told apart.
    #[must_use]
    pub fn payload<'a>(&self, event_type: &str, body: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let plan = self.plan(event_type);
        if plan.is_empty() {
            return Some(Cow::Borrowed(body));
        }
        plan.body(body)
    }

    /// The sets and paths that it removes from events whose types match one of `types`.
    #[must_use]
    pub fn names(&self, types: &[TypePattern]) -> Vec<String> {
        let is_met = |name: &&String| {
            let sealed = SEALED.iter().find(|set| set.name == name.as_str());
            sealed.is_none_or(|set| {
                let families = set.families.iter();
                let mut families = families.map(|family| TypePattern::Prefix(format!("{family}.")));
                families.any(|family| types.iter().any(|asked| asked.common(&family).is_some()))
            })
        };
        self.compiled.names.iter().filter(is_met).cloned().collect()
    }

    fn plan(&self, event_type: &str) -> &Plan {
        let family = event_type.split_once('.').map(|(family, _)| family);
        let plan = family.and_then(|family| self.compiled.families.get(family));
        plan.unwrap_or(&self.compiled.elsewhere)
    }
}

/// The sealed sets, and nothing else.
impl Default for Redaction {
    fn default() -> Self {
        Self::new(&[], &[]).unwrap_or_else(|_| Self::compile(BTreeSet::new(), BTreeMap::new()))
    }
}

impl PartialEq for Redaction {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.compiled, &other.compiled) || self.compiled.rules == other.compiled.rules
    }
}

impl Eq for Redaction {}

impl fmt::Debug for Redaction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(&self.compiled.names).finish()
    }
}

#[cfg(test)]
mod tests;
