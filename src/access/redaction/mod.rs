//! Removes fields from an event, as the caller's policy demands.
//!
//! ```text
//!   rules ──► plan, one per combination of sealed sets ──┬──► the encoded event, by field number
//!                                                        └──► the JSON body, by key
//! ```
//!
//! A rule is a path from the body's root (`data.private_metadata`; arrays add no step), a name
//! at any depth (`**.private_metadata`), or the name of a set. A *sealed* set is removed unless
//! the policy grants it. Both renderings follow the same plan, and a test compares them. An
//! event that loses nothing is not copied.
//!
//! The envelope stays: the event's id, type and times, and the ids that filters look at.

mod json;
mod plan;
mod rule;
mod wire;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::sync::{Arc, LazyLock};

use crate::clerk::catalog::{self, CATALOG};
use crate::clerk::json::{Object, string};
use crate::clerk::schema::SCHEMA;
use crate::filter::TypePattern;
use plan::Plan;
use rule::{Rule, SEALED, Sealed};

pub use rule::{InvalidRule, uncovered_places};

/// The fields to remove from events; clones share it.
#[derive(Clone)]
pub struct Redaction {
    compiled: Arc<Compiled>,
}

struct Compiled {
    /// The rules as the policy writes them, and the names of the sealed sets.
    names: BTreeSet<String>,
    /// The rules for every event.
    rules: BTreeSet<Rule>,
    /// The sealed sets that are not granted.
    sealed: Vec<&'static Sealed>,
    /// One plan for each combination of sealed sets: the set at index `n` is bit `n`.
    plans: Vec<Plan>,
}

/// Which of the sealed sets an event falls under, as bits.
type Seals = usize;

impl Redaction {
    /// Compiles a policy that removes `removed` and grants `granted`. Sealed sets are removed
    /// unless they are granted.
    ///
    /// # Errors
    /// With the first that is neither a set nor the path of a field.
    pub fn new(removed: &[String], granted: &[String]) -> Result<Self, InvalidRule> {
        rule::check_granted(granted)?;
        let mut rules = BTreeSet::new();
        for text in removed {
            rules.extend(rule::parse(text)?);
        }
        let is_granted = |set: &Sealed| granted.iter().any(|name| name == set.name);
        let sealed = SEALED.iter().filter(|set| !is_granted(set)).collect();
        Ok(Self::compile(removed, rules, sealed))
    }

    fn compile(removed: &[String], rules: BTreeSet<Rule>, sealed: Vec<&'static Sealed>) -> Self {
        let set_names = sealed.iter().map(|set| set.name.to_owned());
        let names = removed.iter().cloned().chain(set_names).collect();
        let combinations = 0..1 << sealed.len();
        let plans = combinations.map(|seals: Seals| {
            let sealed_sets = sealed
                .iter()
                .enumerate()
                .filter(|(bit, _)| seals & (1 << bit) != 0);
            let sealed_rules = sealed_sets.flat_map(|(_, set)| set.rules());
            Plan::new(rules.iter().cloned().chain(sealed_rules))
        });
        Self {
            compiled: Arc::new(Compiled {
                names,
                plans: plans.collect(),
                rules,
                sealed,
            }),
        }
    }

    /// Removes what either of the two removes.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let (own, other) = (&self.compiled, &other.compiled);
        let names: Vec<String> = own.names.union(&other.names).cloned().collect();
        let is_sealed = |set: &&Sealed| names.iter().any(|name| name == set.name);
        let sealed = SEALED.iter().filter(is_sealed).collect();
        Self::compile(&names, &own.rules | &other.rules, sealed)
    }

    /// The encoded event without the fields to remove.
    #[must_use]
    pub fn event<'a>(&self, event_type: &str, encoded: Cow<'a, [u8]>) -> Cow<'a, [u8]> {
        match redact_event(self.plan_for_event(event_type, &encoded), &encoded) {
            Some(redacted) => Cow::Owned(redacted),
            None => encoded,
        }
    }

    /// The body without the fields to remove. What surrounds a removed field is written again;
    /// all else stays as it is. None if the body is not a JSON object and may hold such a field.
    #[must_use]
    pub fn payload<'a>(&self, event_type: &str, body: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let seals = self.seals_of_type(event_type);
        let is_settled = self.plan(seals).is_empty() && self.compiled.sealed.is_empty();
        if is_settled {
            return Some(Cow::Borrowed(body));
        }
        let text = std::str::from_utf8(body).unwrap_or_default();
        let envelope = Object::parse(text.trim_start_matches('\u{feff}'));
        let of_object = envelope
            .as_ref()
            .map(|envelope| self.seals_of_body(envelope));
        let plan = self.plan(seals | of_object.unwrap_or_default());
        if plan.is_empty() {
            return Some(Cow::Borrowed(body));
        }
        Some(json::redact(plan, &envelope?).map_or(Cow::Borrowed(body), Cow::Owned))
    }

    /// The sets and paths that it removes from events whose types match one of `types`.
    #[must_use]
    pub fn names(&self, types: &[TypePattern]) -> Vec<String> {
        let is_met = |name: &&String| {
            let sealed = SEALED.iter().find(|set| set.name == name.as_str());
            sealed.is_none_or(|set| types.iter().any(|asked| set.is_met_by(asked)))
        };
        self.compiled.names.iter().filter(is_met).cloned().collect()
    }

    /// Whether it leaves a field that `former` removed in events whose types match one of
    /// `types`.
    #[must_use]
    pub fn leaves_more_than(&self, former: &Self, types: &[TypePattern]) -> bool {
        let is_removed = |rule: &Rule| {
            let mut rules = self.compiled.rules.iter();
            rules.any(|own| own.removes_all_of(rule))
        };
        let is_granted = |set: &Sealed| {
            let mut sealed = self.compiled.sealed.iter();
            sealed.all(|own| own.name != set.name)
        };
        let mut sealed = former.compiled.sealed.iter();
        let unsealed = sealed.any(|set| {
            let is_met = types.iter().any(|asked| set.is_met_by(asked));
            is_met && is_granted(set) && !set.rules().all(|rule| is_removed(&rule))
        });
        unsealed || !former.compiled.rules.iter().all(is_removed)
    }

    fn plan(&self, seals: Seals) -> &Plan {
        &self.compiled.plans[seals]
    }

    fn plan_for_event(&self, event_type: &str, encoded: &[u8]) -> &Plan {
        if UNSEALED_TYPES.contains(event_type) {
            return self.plan(0);
        }
        let object = wire::data_object(encoded);
        let of_object = match &object {
            Ok(object) => self.seals(|set| object.is_some_and(|object| set.is_of_object(object))),
            // An event that cannot be read may be of any object.
            Err(_) => self.seals(|_| true),
        };
        self.plan(self.seals_of_type(event_type) | of_object)
    }

    fn seals_of_type(&self, event_type: &str) -> Seals {
        let family = catalog::family(event_type);
        self.seals(|set| set.is_of_family(family))
    }

    /// The sealed sets that the body's `data.object` names, in every occurrence of a repeated
    /// key.
    fn seals_of_body(&self, envelope: &Object<'_>) -> Seals {
        let mut seals = 0;
        for data in envelope.all("data") {
            let Some(data) = Object::parse(data.get()) else {
                continue;
            };
            for object in data.all("object").filter_map(string) {
                seals |= self.seals(|set| set.is_of_object(&object));
            }
        }
        seals
    }

    fn seals(&self, is_sealed: impl Fn(&Sealed) -> bool) -> Seals {
        let sets = self.compiled.sealed.iter().enumerate();
        let sealed = sets.filter(|(_, set)| is_sealed(set));
        sealed.fold(0, |seals, (bit, _)| seals | (1 << bit))
    }
}

/// The names of the sealed sets, which are removed unless they are granted.
#[must_use]
pub fn grants() -> Vec<&'static str> {
    SEALED.iter().map(|set| set.name).collect()
}

/// The declared types whose messages have no field that a sealed set removes, whatever their
/// `data.object`; most events have one of these types.
static UNSEALED_TYPES: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    let by_object = SEALED.iter().filter(|set| !set.objects.is_empty());
    let plan = Plan::new(by_object.flat_map(Sealed::rules));
    let is_reached = |shape: &&str| {
        let number = SCHEMA.data_field(shape).number;
        plan.message(0).action(number).is_some()
    };
    let is_of_sealed_family = |name: &str| {
        SEALED
            .iter()
            .any(|set| set.is_of_family(catalog::family(name)))
    };
    let unsealed = CATALOG
        .iter()
        .filter(|kind| !is_of_sealed_family(kind.name) && !kind.shapes.iter().any(is_reached));
    unsealed.map(|kind| kind.name).collect()
});

/// The encoded event without what the plan removes; none if the event holds nothing of it.
fn redact_event(plan: &Plan, encoded: &[u8]) -> Option<Vec<u8>> {
    if plan.spares_events() {
        return None;
    }
    // An event that cannot be read loses every field.
    wire::redact(plan, 0, encoded).unwrap_or_else(|_| Some(Vec::new()))
}

impl Default for Redaction {
    fn default() -> Self {
        Self::compile(&[], BTreeSet::new(), SEALED.iter().collect())
    }
}

impl PartialEq for Redaction {
    fn eq(&self, other: &Self) -> bool {
        let of = |redaction: &Self| {
            let sealed = redaction.compiled.sealed.iter().map(|set| set.name);
            sealed.collect::<Vec<_>>()
        };
        Arc::ptr_eq(&self.compiled, &other.compiled)
            || (self.compiled.rules == other.compiled.rules && of(self) == of(other))
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
