//! Records per source and type, with a bound on the names that are kept.
//!
//! The holder of a source's secret chooses the names of types. So a name that is too long is
//! counted as [`Tally::LONG`]. A source has a bounded number of names that are not declared;
//! the rest is [`Tally::OTHER`]. All records of a type are counted under one name: one
//! that is new gets its own only while nothing is under [`Tally::OTHER`]. Pure.

use std::collections::BTreeMap;

use super::record::Tally;

/// Bytes of a name; no filter names a longer one.
const NAME_BYTES_MAX: usize = 256;
/// Names of a source that are not declared.
const NAMES_MAX: usize = 1_000;
/// Those of them that are kept after their last record has gone.
const EMPTY_NAMES_MAX: usize = 100;

/// Whether a type is one that the producer declares. Those are few, and always counted
/// under their own names.
pub type IsDeclared = fn(&str) -> bool;

/// Records per source and name.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    sources: BTreeMap<String, Names>,
    is_declared: IsDeclared,
    record_count: u64,
    names_version: u64,
}

/// The names of one source.
#[derive(Clone, Debug, Default)]
struct Names {
    counts: BTreeMap<String, u64>,
    /// Those that are neither declared nor stand for several.
    undeclared: usize,
}

impl Counts {
    pub(super) fn new(is_declared: IsDeclared) -> Self {
        Self {
            sources: BTreeMap::new(),
            is_declared,
            record_count: 0,
            names_version: 0,
        }
    }

    /// Takes over a count as it was written, whatever its name.
    pub(super) fn restore(&mut self, source: &str, name: &str, count: u64) {
        self.count_as(source, name, count);
    }

    /// Brings names that were written by a version without bounds within them. Those with
    /// the most records stay.
    pub(super) fn mend(&mut self) {
        for names in self.sources.values_mut() {
            names.mend(self.is_declared);
        }
        self.names_version += 1;
    }

    /// The same names, of a store that has counted its records itself. A name that has none
    /// any more stays as long as there is room.
    pub(super) fn counted_again(&self, found: Vec<Tally>) -> Self {
        let mut again = Self::new(self.is_declared);
        let is_known = |tally: &Tally| self.get(&tally.source, &tally.event_type).is_some();
        // What has a name keeps it.
        let (known, new): (Vec<_>, Vec<_>) = found.into_iter().partition(is_known);
        for tally in known.into_iter().chain(new) {
            again.add(&tally.source, &tally.event_type, tally.count);
        }
        for (source, name, _) in self.iter().filter(|(_, name, _)| !is_for_several(name)) {
            let names = again.sources.get(source);
            let is_own = names.is_none_or(|names| names.name_of(name, self.is_declared) == name);
            if is_own {
                again.count_as(source, name, 0);
            }
        }
        again.forget_empty();
        let names = self.iter().map(|(source, name, _)| (source, name));
        let names_again = again.iter().map(|(source, name, _)| (source, name));
        let is_same = names.eq(names_again);
        again.names_version = self.names_version + u64::from(!is_same);
        again
    }

    /// Counts records of a type.
    pub(super) fn add(&mut self, source: &str, event_type: &str, count: u64) {
        // Nearly every type has its name already.
        if event_type.len() <= NAME_BYTES_MAX
            && let Some(known) = self.get_mut(source, event_type)
        {
            *known += count;
            self.record_count += count;
            return;
        }
        let names = self.sources.get(source);
        let name = match names {
            Some(names) => names.name_of(event_type, self.is_declared),
            None if event_type.len() > NAME_BYTES_MAX => Tally::LONG,
            None => event_type,
        };
        self.count_as(source, name, count);
    }

    fn count_as(&mut self, source: &str, name: &str, count: u64) {
        self.record_count += count;
        if let Some(known) = self.get_mut(source, name) {
            *known += count;
            return;
        }
        let names = self.sources.entry(source.to_owned()).or_default();
        names.undeclared += usize::from(is_bounded(name, self.is_declared));
        names.counts.insert(name.to_owned(), count);
        self.names_version += 1;
    }

    /// No longer counts records of a type, which were added before.
    pub(super) fn remove(&mut self, source: &str, event_type: &str, count: u64) {
        let Some(names) = self.sources.get_mut(source) else {
            return;
        };
        let name = names.counted_as(event_type);
        if let Some(known) = names.counts.get_mut(name) {
            let removed = count.min(*known);
            *known -= removed;
            self.record_count -= removed;
        }
    }

    /// Forgets names without records beyond those that are kept.
    pub(super) fn forget_empty(&mut self) {
        for names in self.sources.values_mut() {
            if names.forget_empty(self.is_declared) {
                self.names_version += 1;
            }
        }
    }

    pub(super) fn get(&self, source: &str, name: &str) -> Option<u64> {
        self.sources.get(source)?.counts.get(name).copied()
    }

    fn get_mut(&mut self, source: &str, name: &str) -> Option<&mut u64> {
        self.sources.get_mut(source)?.counts.get_mut(name)
    }

    /// Of all sources.
    pub(super) fn count_of(&self, name: &str) -> u64 {
        let sources = self.sources.values();
        sources.filter_map(|names| names.counts.get(name)).sum()
    }

    /// Source, name and count of each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        self.sources.iter().flat_map(|(source, names)| {
            let counts = names.counts.iter();
            counts.map(move |(name, count)| (source.as_str(), name.as_str(), *count))
        })
    }

    pub(super) fn list(&self) -> Vec<Tally> {
        let tallies = self.iter().map(|(source, name, count)| Tally {
            source: source.to_owned(),
            event_type: name.to_owned(),
            count,
        });
        tallies.collect()
    }

    pub(super) fn record_count(&self) -> u64 {
        self.record_count
    }

    /// Changes with the names.
    pub(super) fn names_version(&self) -> u64 {
        self.names_version
    }
}

impl Names {
    /// What a type is counted as that comes now.
    fn name_of<'a>(&self, event_type: &'a str, is_declared: IsDeclared) -> &'a str {
        if event_type.len() > NAME_BYTES_MAX || event_type == Tally::LONG {
            return Tally::LONG;
        }
        let has_others = self.counts.contains_key(Tally::OTHER);
        let is_full = has_others || self.undeclared >= NAMES_MAX;
        if is_full && !self.counts.contains_key(event_type) && !is_declared(event_type) {
            return Tally::OTHER;
        }
        event_type
    }

    /// What the records of a type are counted as that were added before.
    fn counted_as<'a>(&self, event_type: &'a str) -> &'a str {
        if event_type.len() > NAME_BYTES_MAX {
            Tally::LONG
        } else if self.counts.contains_key(event_type) {
            event_type
        } else {
            Tally::OTHER
        }
    }

    fn mend(&mut self, is_declared: IsDeclared) {
        let counts = std::mem::take(&mut self.counts);
        let (long, short): (Vec<_>, Vec<_>) = counts
            .into_iter()
            .partition(|(name, _)| name.len() > NAME_BYTES_MAX);
        let (mut bounded, free): (Vec<_>, Vec<_>) = short
            .into_iter()
            .partition(|(name, _)| is_bounded(name, is_declared));
        bounded.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let others = bounded.split_off(bounded.len().min(NAMES_MAX));
        self.undeclared = bounded.len();
        self.counts = free.into_iter().chain(bounded).collect();
        for (name, folded) in [(Tally::LONG, long), (Tally::OTHER, others)] {
            let count: u64 = folded.into_iter().map(|(_, count)| count).sum();
            if count > 0 {
                *self.counts.entry(name.to_owned()).or_default() += count;
            }
        }
    }

    /// Returns whether a name has gone.
    fn forget_empty(&mut self, is_declared: IsDeclared) -> bool {
        let before = self.counts.len();
        let mut kept = 0;
        let undeclared = &mut self.undeclared;
        self.counts.retain(|name, count| {
            if *count > 0 {
                return true;
            }
            if is_bounded(name, is_declared) {
                kept += 1;
                let stays = kept <= EMPTY_NAMES_MAX;
                *undeclared -= usize::from(!stays);
                return stays;
            }
            !is_for_several(name)
        });
        self.counts.len() < before
    }
}

fn is_for_several(name: &str) -> bool {
    [Tally::LONG, Tally::OTHER].contains(&name)
}

/// Whether the name counts against the bound of a source.
fn is_bounded(name: &str, is_declared: IsDeclared) -> bool {
    !is_for_several(name) && !is_declared(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn declared(name: &str) -> bool {
        name.starts_with("user.")
    }

    fn named(counts: &Counts) -> usize {
        counts.iter().filter(|(_, name, _)| !declared(name)).count()
    }

    #[test]
    fn names_beyond_the_bounds_are_counted_together_until_their_records_are_removed() {
        let mut counts = Counts::new(declared);
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        let names: Vec<String> = (0..1_100).map(|number| format!("type.{number}")).collect();
        counts.add("eu", &long, 3);
        for name in &names {
            counts.add("eu", name, 2);
        }
        counts.add("eu", "user.created", 1);
        counts.add("us", "type.of_its_own", 1);
        assert_eq!(counts.get("eu", Tally::LONG), Some(3));
        assert_eq!(counts.get("eu", Tally::OTHER), Some(200));
        assert_eq!(counts.get("eu", "user.created"), Some(1));
        assert_eq!(counts.get("us", "type.of_its_own"), Some(1));
        assert_eq!(counts.record_count(), 3 + 2_200 + 2);
        assert_eq!(named(&counts), NAMES_MAX + 3);
        // A type that was counted together with others gets no name while the others are left.
        counts.remove("eu", "type.0", 2);
        counts.forget_empty();
        counts.add("eu", "type.1099", 1);
        assert_eq!(counts.get("eu", "type.1099"), None);

        let version = counts.names_version();
        for name in &names {
            counts.remove("eu", name, 3);
        }
        counts.remove("eu", &long, 3);
        counts.forget_empty();
        assert_ne!(counts.names_version(), version);
        assert_eq!(counts.record_count(), 2);
        assert_eq!(named(&counts), EMPTY_NAMES_MAX + 1);
        counts.add("eu", "type.1099", 1);
        assert_eq!(counts.get("eu", "type.1099"), Some(1));
    }

    #[test]
    fn names_of_a_store_that_counts_itself_stay_within_the_bounds() {
        let tally = |name: &str, count| Tally {
            source: "eu".to_owned(),
            event_type: name.to_owned(),
            count,
        };
        let mut counts = Counts::new(declared);
        for name in ["user.created", "a", "b"] {
            counts.add("eu", name, 1);
        }
        let same = counts.counted_again(vec![tally("a", 5), tally("user.created", 2)]);
        assert_eq!(same.names_version(), counts.names_version());
        assert_eq!(same.get("eu", "a"), Some(5));
        assert_eq!(same.get("eu", "b"), Some(0), "it stays");
        assert_eq!(same.record_count(), 7);
        let tallies = (0..2_000).map(|number| tally(&format!("type.{number}"), 1));
        let many = same.counted_again(tallies.collect());
        assert_ne!(many.names_version(), same.names_version());
        assert_eq!(many.get("eu", Tally::OTHER), Some(1_000));
        assert_eq!(many.get("eu", "b"), None, "there is no room");
        assert_eq!(many.record_count(), 2_000);
        let few = many.counted_again(vec![tally("c", 1)]);
        assert_eq!(named(&few), EMPTY_NAMES_MAX + 1);
    }

    #[test]
    fn restored_names_are_brought_within_the_bounds() {
        let mut counts = Counts::new(declared);
        counts.restore("eu", &"x".repeat(200_000), 0);
        counts.restore("eu", &"y".repeat(200_000), 7);
        for number in 0..1_500 {
            counts.restore("eu", &format!("type.{number}"), number);
        }
        let all = counts.record_count();
        counts.mend();
        counts.forget_empty();
        assert_eq!(counts.record_count(), all);
        assert_eq!(named(&counts), NAMES_MAX + 2);
        assert_eq!(counts.get("eu", "type.1499"), Some(1499));
        assert_eq!(counts.get("eu", Tally::OTHER), Some((0..500).sum()));
        assert_eq!(counts.get("eu", Tally::LONG), Some(7));
    }

    proptest! {
        /// Whatever comes and goes, what is counted is what is there.
        #[test]
        fn counts_agree_with_a_naive_model(
            steps in prop::collection::vec((0_usize..100, 1_u64..4, any::<bool>()), 0..500),
        ) {
            let mut counts = Counts::new(declared);
            let mut model: BTreeMap<String, u64> = BTreeMap::new();
            for number in 50..NAMES_MAX {
                let name = format!("type.{number}");
                counts.add("eu", &name, 1);
                model.insert(name, 1);
            }
            for (number, count, adds) in steps {
                let name = format!("type.{number}");
                if adds {
                    counts.add("eu", &name, count);
                    *model.entry(name).or_default() += count;
                } else if let Some(count) = model.remove(&name) {
                    counts.remove("eu", &name, count);
                    counts.forget_empty();
                }
            }
            prop_assert_eq!(counts.record_count(), model.values().sum::<u64>());
            let mut others = 0;
            for (name, count) in &model {
                match counts.get("eu", name) {
                    Some(found) => prop_assert_eq!(found, *count, "{}", name),
                    None => others += count,
                }
            }
            prop_assert_eq!(counts.get("eu", Tally::OTHER).unwrap_or(0), others);
            prop_assert!(named(&counts) <= NAMES_MAX + 1);
        }
    }
}
