//! Suggests the event type that an unknown name probably means.
//!
//! First by words: `membership.created` means `organizationMembership.created`, and
//! `invoice.paid` something of `paymentAttempt.*`. Then by letters, for slips.

mod letters;
mod words;

use std::cmp::Reverse;
use std::collections::HashMap;

use letters::{Letters, plain};
use words::Meaning;

use crate::event::Excerpt;

/// A longer name is not compared with others.
pub(crate) const NAME_BYTES_MAX: usize = letters::BYTES_MAX;
/// Names that are prepared; what comes after them is never suggested.
const NAMES_MAX: usize = 2_000;
/// One letter in this many may be wrong: in a name …
const NAME_SLIPS: usize = 4;
/// … and in what happened, once it is known to what.
const ACT_SLIPS: usize = 3;
/// Words that say little of a family: of others beside them, the last is what is meant.
const WEAK_WORDS: [&str; 3] = ["attempt", "entry", "item"];
/// Families that are listed where no name is near.
const FAMILIES_LISTED: usize = 20;

/// Names of types, prepared once for being compared with what people write.
#[derive(Debug, Default)]
pub struct Suggestions {
    families: Vec<Family>,
}

#[derive(Debug)]
struct Family {
    name: String,
    plain: String,
    /// What its name means.
    meanings: Vec<Meaning>,
    types: Vec<Type>,
}

#[derive(Debug)]
struct Type {
    name: String,
    plain: String,
    /// What happened, as plain text and in words; empty where the name has no dot.
    act: String,
    act_meanings: Vec<Meaning>,
}

impl Suggestions {
    /// Prepares these names. Families are listed in the order of their first type.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut families: Vec<Family> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        let fits = |name: &&str| (1..=NAME_BYTES_MAX).contains(&name.len());
        for name in names.into_iter().filter(fits).take(NAMES_MAX) {
            let (family, act) = name.split_once('.').unwrap_or((name, ""));
            let new_type = Type {
                name: name.to_owned(),
                plain: plain(name),
                act: plain(act),
                act_meanings: words::meanings(&words::split(act)),
            };
            let place = *places.entry(family).or_insert(families.len());
            match families.get_mut(place) {
                Some(known) => known.types.push(new_type),
                None => families.push(Family {
                    name: family.to_owned(),
                    plain: plain(family),
                    meanings: words::meanings(&words::split(family)),
                    types: vec![new_type],
                }),
            }
        }
        Self { families }
    }

    /// The names among them that `is_allowed`.
    pub fn allowed(&self, is_allowed: impl Fn(&str) -> bool) -> Allowed<'_> {
        let families = self.families.iter().map(|family| {
            let types = family.types.iter().filter(|kind| is_allowed(&kind.name));
            (family, types.collect::<Vec<_>>())
        });
        Allowed {
            families: families.filter(|(_, types)| !types.is_empty()).collect(),
        }
    }
}

/// What may be suggested.
#[derive(Debug)]
pub struct Allowed<'a> {
    families: Vec<AllowedFamily<'a>>,
}

type AllowedFamily<'a> = (&'a Family, Vec<&'a Type>);

impl Allowed<'_> {
    /// The type, or the pattern of a family, that `asked` means.
    #[must_use]
    pub fn nearest(&self, asked: &str) -> Option<String> {
        let plain_name = plain(asked);
        let letters = Letters::of(&plain_name)?;
        self.same_but_for_one_letter(&letters)
            .or_else(|| self.by_words(asked))
            .or_else(|| self.by_family_letters(asked))
            .or_else(|| self.by_letters(&letters))
    }

    /// All families, as patterns that a message may show.
    #[must_use]
    pub fn families(&self) -> String {
        let families = self.families.iter();
        let mut patterns: Vec<String> = families
            .map(|family| Excerpt(&pattern(family)).to_string())
            .collect();
        if patterns.len() > FAMILIES_LISTED {
            patterns.truncate(FAMILIES_LISTED);
            patterns.push("…".to_owned());
        }
        patterns.join(", ")
    }

    fn same_but_for_one_letter(&self, asked: &Letters) -> Option<String> {
        let families = self.families.iter();
        let types = families
            .clone()
            .flat_map(|(_, types)| types)
            .map(|kind| (asked.distance(&kind.plain), kind.name.clone()));
        let families = families.map(|family| (asked.distance(&family.0.plain), pattern(family)));
        let nearest = types
            .chain(families)
            .min_by_key(|(distance, _)| *distance)
            .filter(|(distance, _)| *distance <= 1);
        nearest.map(|(_, name)| name)
    }

    fn by_words(&self, asked: &str) -> Option<String> {
        let meanings = words::meanings(&words::split(asked));
        let Some(family) = self.family_of(&meanings) else {
            return self.by_rare_act(&meanings);
        };
        let last = asked.rsplit('.').next().filter(|last| *last != asked);
        Some(self.type_of(family, &meanings, last.unwrap_or_default()))
    }

    /// The family whose words are meant: the last that is named counts most, then how many
    /// are, then how few are not.
    fn family_of(&self, meanings: &[Meaning]) -> Option<&AllowedFamily<'_>> {
        let is_noun = |meaning: &&Meaning| {
            let mut families = self.families.iter();
            families.any(|(family, _)| family.meanings.contains(meaning))
        };
        let is_telling = |meaning: &&Meaning| !WEAK_WORDS.contains(&meaning.as_str());
        let nouns: Vec<&Meaning> = meanings.iter().filter(is_noun).collect();
        let telling = nouns.iter().rfind(|meaning| is_telling(meaning));
        let last = *telling.or_else(|| nouns.last())?;
        let named = self
            .families
            .iter()
            .filter(|(family, _)| family.meanings.contains(last));
        // Of equals, the first.
        named.rev().max_by_key(|(family, _)| {
            let words = &family.meanings;
            let named = words.iter().filter(|word| meanings.contains(word)).count();
            (named, Reverse(words.len() - named))
        })
    }

    /// What happened, by the last word for it; else the family.
    fn type_of(&self, family: &AllowedFamily<'_>, meanings: &[Meaning], last: &str) -> String {
        let (words, types) = (&family.0.meanings, &family.1);
        let acts: Vec<&Meaning> = meanings
            .iter()
            .filter(|meaning| !words.contains(meaning))
            .collect();
        // `subscription.canceled` means `subscriptionItem.canceled`.
        let narrower: Vec<&Type> = self
            .families
            .iter()
            .filter(|(other, _)| {
                let mut all = words.iter();
                other.meanings.len() > words.len() && all.all(|word| other.meanings.contains(word))
            })
            .flat_map(|(_, types)| types)
            .copied()
            .collect();
        if let Some(found) = by_phrase(types, &acts).or_else(|| by_phrase(&narrower, &acts)) {
            return found;
        }
        for act in acts.iter().rev() {
            let found = by_act(types, words::nearest_acts(act))
                .or_else(|| by_act(&narrower, words::nearest_acts(act)));
            if let Some(found) = found {
                return found;
            }
        }
        let slip = Letters::of(&plain(last)).and_then(|last| {
            let near = types
                .iter()
                .filter_map(|kind| Some((last.resembles(&kind.act, ACT_SLIPS)?, kind)));
            near.min_by_key(|(distance, _)| *distance)
        });
        slip.map_or_else(|| pattern(family), |(_, kind)| kind.name.clone())
    }

    /// A type whose last words are meant, where no family is named: `trial.ending`.
    fn by_rare_act(&self, meanings: &[Meaning]) -> Option<String> {
        let types = self.families.iter().flat_map(|(_, types)| types);
        let is_common = |word: &Meaning| {
            let mut all = types.clone();
            all.any(|kind| kind.act_meanings.as_slice() == [word.as_str()])
        };
        let rare: Vec<&Meaning> = meanings
            .iter()
            .filter(|meaning| !is_common(meaning))
            .collect();
        let mut phrases = types.clone().filter(|kind| kind.act_meanings.len() > 1);
        let found = phrases.find(|kind| rare.iter().any(|word| kind.act_meanings.contains(word)));
        found.map(|kind| kind.name.clone())
    }

    /// The family that is nearly spelled so, and in it what happened.
    fn by_family_letters(&self, asked: &str) -> Option<String> {
        let (family, _) = asked.split_once('.').unwrap_or((asked, ""));
        let letters = Letters::of(&plain(family))?;
        let near = self
            .families
            .iter()
            .filter_map(|family| Some((letters.resembles(&family.0.plain, NAME_SLIPS)?, family)));
        let (_, family) = near.min_by_key(|(distance, _)| *distance)?;
        let rest = asked.split_once('.').map_or("", |(_, rest)| rest);
        let meanings = words::meanings(&words::split(rest));
        Some(self.type_of(family, &meanings, rest))
    }

    fn by_letters(&self, asked: &Letters) -> Option<String> {
        let types = self.families.iter().flat_map(|(_, types)| types);
        let near = types.filter_map(|kind| Some((asked.resembles(&kind.plain, NAME_SLIPS)?, kind)));
        let (_, nearest) = near.min_by_key(|(distance, _)| *distance)?;
        Some(nearest.name.clone())
    }
}

/// A type whose several words are all meant: `trial.will.end`.
fn by_phrase(types: &[&Type], acts: &[&Meaning]) -> Option<String> {
    let is_meant = |kind: &&&Type| {
        let words = &kind.act_meanings;
        words.len() > 1 && words.iter().all(|word| acts.contains(&word))
    };
    types.iter().find(is_meant).map(|kind| kind.name.clone())
}

/// The name most like `asked`, if one is like it.
#[must_use]
pub fn nearest_name<'a>(asked: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let letters = Letters::of(&plain(asked))?;
    let near = names.filter_map(|name| Some((letters.resembles(&plain(name), NAME_SLIPS)?, name)));
    let (_, nearest) = near.min_by_key(|(distance, _)| *distance)?;
    Some(nearest)
}

fn by_act<'a>(types: &[&Type], acts: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut found = acts.into_iter().filter_map(|act| {
        types
            .iter()
            .find(|kind| matches!(kind.act_meanings.as_slice(), [only] if only == act))
    });
    found.next().map(|kind| kind.name.clone())
}

fn pattern((family, types): &AllowedFamily<'_>) -> String {
    match types.as_slice() {
        [only] if only.name == family.name => family.name.clone(),
        _ => format!("{}.*", family.name),
    }
}

#[cfg(test)]
mod tests;
