//! Sets of texts that are held for long, in little memory.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// A set of texts, sorted. Each text is stored once, behind the one before it; clones
/// share all of them.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Values {
    /// Absent where the set is empty.
    shared: Option<Arc<Shared>>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Shared {
    text: Box<str>,
    /// Where each value ends in `text`, and the next begins.
    ends: Box<[u32]>,
}

impl Values {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.as_ref().map_or(0, |shared| shared.ends.len())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.is_none()
    }

    /// Whether `text` is one of them.
    #[must_use]
    pub fn contains(&self, text: &str) -> bool {
        self.last_at_most(text) == Some(text)
    }

    /// The last value, in their order, that is not after `text`.
    #[must_use]
    pub fn last_at_most(&self, text: &str) -> Option<&str> {
        let shared = self.shared.as_ref()?;
        let mut range = 0..shared.ends.len();
        while range.start < range.end {
            let middle = range.start.midpoint(range.end);
            match shared.value(middle).cmp(text) {
                Ordering::Equal => return Some(shared.value(middle)),
                Ordering::Less => range.start = middle + 1,
                Ordering::Greater => range.end = middle,
            }
        }
        Some(shared.value(range.start.checked_sub(1)?))
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let shared = self.shared.as_deref();
        let values = shared.map(|shared| (0..shared.ends.len()).map(|index| shared.value(index)));
        values.into_iter().flatten()
    }

    /// What is in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.iter().filter(|value| other.contains(value)).collect()
    }

    /// Bytes of memory that all clones share.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shared.as_ref().map_or(0, |shared| {
            size_of::<Shared>() + shared.text.len() + size_of_val(&*shared.ends)
        })
    }
}

impl Shared {
    fn value(&self, index: usize) -> &str {
        let end = |index: usize| self.ends.get(index).map_or(0, |end| *end as usize);
        let start = index.checked_sub(1).map_or(0, end);
        self.text.get(start..end(index)).unwrap_or_default()
    }
}

impl<S: AsRef<str>> FromIterator<S> for Values {
    fn from_iter<I: IntoIterator<Item = S>>(values: I) -> Self {
        let values: Vec<S> = values.into_iter().collect();
        let mut sorted: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
        sorted.sort_unstable();
        sorted.dedup();
        let mut text = String::with_capacity(sorted.iter().map(|value| value.len()).sum());
        let mut ends = Vec::with_capacity(sorted.len());
        for value in sorted {
            // A set ends at 4 GiB. Those of filters end at 512 KiB.
            let Ok(end) = u32::try_from(text.len() + value.len()) else {
                break;
            };
            text.push_str(value);
            ends.push(end);
        }
        let shared = (!ends.is_empty()).then(|| {
            Arc::new(Shared {
                text: text.into_boxed_str(),
                ends: ends.into_boxed_slice(),
            })
        });
        Self { shared }
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn values_agree_with_a_naive_set(
            texts in prop::collection::vec("[a-c]{0,3}", 0..20),
            others in prop::collection::vec("[a-c]{0,3}", 0..20),
            asked in "[a-c]{0,4}",
        ) {
            let naive: BTreeSet<&str> = texts.iter().map(String::as_str).collect();
            let values: Values = texts.iter().collect();
            prop_assert_eq!(values.len(), naive.len());
            prop_assert_eq!(values.is_empty(), naive.is_empty());
            prop_assert!(values.iter().eq(naive.iter().copied()));
            prop_assert_eq!(values.contains(&asked), naive.contains(asked.as_str()));
            let last = naive.range(..=asked.as_str()).next_back().copied();
            prop_assert_eq!(values.last_at_most(&asked), last);
            let other: Values = others.iter().collect();
            let both = naive.into_iter().filter(|value| others.iter().any(|other| other == value));
            prop_assert_eq!(values.intersection(&other), both.collect::<Values>());
        }
    }
}
