//! Groups by what their filters demand of an event.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher};

use crate::event::{Attributes, IndexHint, Values};

/// Growing moves all entries of a map, so there are several, which grow one by one.
const SHARDS: usize = 64;
/// A smaller map is not shrunk.
const SHRINK_ENTRIES_MIN: usize = 64;

/// Groups, each filed under the values that its filter demands of a field.
///
/// The values themselves stay in the filter. Here is a hash of each, with a seed that
/// callers do not know. Should two values have the same, a group is asked in vain.
#[derive(Debug)]
pub(super) struct GroupsByValue {
    seed: RandomState,
    shards: Vec<Shard>,
    /// The groups of the values that two or more filters demand, by the same hash.
    several: HashMap<u64, BTreeSet<u64>, BuildHasherDefault<AsItIs>>,
}

/// A group by the hash of a value, or `SEVERAL`. An entry is 16 bytes: a filter may have
/// thousands.
type Shard = HashMap<u64, u64, BuildHasherDefault<AsItIs>>;

/// Stands for the groups of a value in `GroupsByValue::several`. Groups are counted from 0.
const SEVERAL: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, Hash)]
enum Field {
    Session,
    User,
    Organization,
    Type,
}

impl GroupsByValue {
    pub(super) fn new() -> Self {
        Self {
            seed: RandomState::new(),
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            several: HashMap::default(),
        }
    }

    /// Files a group. Returns whether its filter demands anything to be filed under.
    pub(super) fn insert(&mut self, group: u64, narrow: &IndexHint) -> bool {
        let Some((field, values)) = field(narrow) else {
            return false;
        };
        for value in values.iter() {
            self.insert_one(self.key(field, value), group);
        }
        true
    }

    pub(super) fn remove(&mut self, group: u64, narrow: &IndexHint) {
        let Some((field, values)) = field(narrow) else {
            return;
        };
        for value in values.iter() {
            self.remove_one(self.key(field, value), group);
        }
        for shard in &mut self.shards {
            if shard.capacity() > SHRINK_ENTRIES_MIN.max(4 * shard.len()) {
                shard.shrink_to(2 * shard.len());
            }
        }
    }

    /// Calls `ask` with each group that an event concerns, perhaps more than once.
    pub(super) fn for_each(&self, event: Attributes<&str>, mut ask: impl FnMut(u64)) {
        for (field, value) in [
            (Field::Type, Some(event.event_type)),
            (Field::Session, event.session_id),
            (Field::User, event.user_id),
            (Field::Organization, event.organization_id),
        ] {
            let Some(value) = value else { continue };
            let key = self.key(field, value);
            match self
                .shards
                .get(shard_of(key))
                .and_then(|shard| shard.get(&key))
            {
                None => {}
                Some(&SEVERAL) => self.several_at(key).for_each(&mut ask),
                Some(&group) => ask(group),
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.shards.iter().all(HashMap::is_empty)
    }

    fn key(&self, field: Field, value: &str) -> u64 {
        self.seed.hash_one((field, value))
    }

    fn insert_one(&mut self, key: u64, group: u64) {
        let Some(shard) = self.shards.get_mut(shard_of(key)) else {
            return;
        };
        let filed = shard.entry(key).or_insert(group);
        if *filed != group {
            let groups = self.several.entry(key).or_default();
            if *filed != SEVERAL {
                groups.insert(*filed);
                *filed = SEVERAL;
            }
            groups.insert(group);
        }
    }

    fn remove_one(&mut self, key: u64, group: u64) {
        let Some(shard) = self.shards.get_mut(shard_of(key)) else {
            return;
        };
        let Some(filed) = shard.get_mut(&key) else {
            return;
        };
        if *filed == group {
            shard.remove(&key);
        } else if let Some(groups) = self.several.get_mut(&key) {
            groups.remove(&group);
            if let (1, Some(only)) = (groups.len(), groups.first()) {
                *filed = *only;
                self.several.remove(&key);
            }
        }
    }

    fn several_at(&self, key: u64) -> impl Iterator<Item = u64> {
        self.several.get(&key).into_iter().flatten().copied()
    }
}

/// By bits that the map itself does not look at first.
fn shard_of(key: u64) -> usize {
    usize::from((key >> 32).to_le_bytes()[0]) % SHARDS
}

/// What a filter is filed under.
fn field(narrow: &IndexHint) -> Option<(Field, &Values)> {
    match narrow {
        IndexHint::All => None,
        IndexHint::Sessions(ids) => Some((Field::Session, ids)),
        IndexHint::Users(ids) => Some((Field::User, ids)),
        IndexHint::Organizations(ids) => Some((Field::Organization, ids)),
        IndexHint::Types(types) => Some((Field::Type, types)),
    }
}

/// The hasher of what is a hash already.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
