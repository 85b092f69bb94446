//! Patterns of event types, as filters and policies write them.

use std::fmt;

use crate::event::{Excerpt, Values};

/// A type, or all types with a prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TypePattern {
    /// `user.created`
    Exact(String),
    /// `user.*`, without the `*`.
    Prefix(String),
}

/// Why a text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// There is nothing.
    #[error("empty; write a type such as `user.created`, or leave the field out for all types")]
    Empty,
    /// There is a `*` before the end.
    #[error(
        "{} has a `*` that is not at the end; write an exact type or a prefix and one trailing `*`, such as `user.*`",
        Excerpt(.0)
    )]
    InnerStar(String),
}

impl TypePattern {
    /// Every type.
    #[must_use]
    pub fn everything() -> Self {
        Self::Prefix(String::new())
    }

    /// Whether `event_type` is one of them.
    #[must_use]
    pub fn matches(&self, event_type: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == event_type,
            Self::Prefix(prefix) => event_type.starts_with(prefix.as_str()),
        }
    }

    /// Whether every type that `other` matches is matched by this one too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Exact(exact)) => self.matches(exact),
            (Self::Prefix(prefix), Self::Prefix(other)) => other.starts_with(prefix.as_str()),
            (Self::Exact(_), Self::Prefix(_)) => false,
        }
    }

    /// What both match: of two patterns that have a type in common, one covers the other.
    #[must_use]
    pub fn common<'a>(&'a self, other: &'a Self) -> Option<&'a Self> {
        if self.covers(other) {
            Some(other)
        } else if other.covers(self) {
            Some(self)
        } else {
            None
        }
    }
}

impl std::str::FromStr for TypePattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        match text.split_once('*') {
            Some((prefix, "")) => Ok(Self::Prefix(prefix.to_owned())),
            Some(_) => Err(InvalidPattern::InnerStar(text.to_owned())),
            None if text.is_empty() => Err(InvalidPattern::Empty),
            None => Ok(Self::Exact(text.to_owned())),
        }
    }
}

impl fmt::Display for TypePattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(exact) => formatter.write_str(exact),
            Self::Prefix(prefix) => write!(formatter, "{prefix}*"),
        }
    }
}

/// A set of patterns without those that others of them cover. Asking whether one of them
/// matches costs what the type's length costs, however many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Patterns {
    exact: Values,
    /// None of them begins with another.
    prefixes: Values,
}

impl Patterns {
    /// Every type.
    #[must_use]
    pub fn everything() -> Self {
        [TypePattern::everything()].into_iter().collect()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty()
    }

    /// Whether `event_type` is matched by one of them.
    #[must_use]
    pub fn matches(&self, event_type: &str) -> bool {
        self.exact.contains(event_type) || self.has_prefix_of(event_type)
    }

    /// Whether one of them covers `pattern`.
    #[must_use]
    pub fn covers(&self, pattern: &TypePattern) -> bool {
        match pattern {
            TypePattern::Exact(exact) => self.matches(exact),
            TypePattern::Prefix(prefix) => self.has_prefix_of(prefix),
        }
    }

    /// A value that sorts between a prefix of `text` and `text` begins with that prefix.
    /// There is no such value in the set, so that only the last one can be the prefix.
    fn has_prefix_of(&self, text: &str) -> bool {
        let last = self.prefixes.last_at_most(text);
        last.is_some_and(|prefix| text.starts_with(prefix))
    }

    /// All of them: exact types first, each kind in order.
    pub fn iter(&self) -> impl Iterator<Item = TypePattern> {
        let exact = self.exact.iter().map(str::to_owned);
        let prefixes = self.prefixes.iter().map(str::to_owned);
        let exact = exact.map(TypePattern::Exact);
        exact.chain(prefixes.map(TypePattern::Prefix))
    }

    /// The types, where every pattern is an exact one.
    #[must_use]
    pub fn all_exact(&self) -> Option<&Values> {
        self.prefixes.is_empty().then_some(&self.exact)
    }

    /// Bytes of memory that all clones share.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.exact.bytes() + self.prefixes.bytes()
    }
}

impl FromIterator<TypePattern> for Patterns {
    fn from_iter<I: IntoIterator<Item = TypePattern>>(patterns: I) -> Self {
        let mut exact = Vec::new();
        let mut prefixes = Vec::new();
        for pattern in patterns {
            match pattern {
                TypePattern::Exact(text) => exact.push(text),
                TypePattern::Prefix(text) => prefixes.push(text),
            }
        }
        // A prefix sorts before what begins with it.
        prefixes.sort_unstable();
        prefixes.dedup_by(|later, kept| later.starts_with(kept.as_str()));
        let mut set = Self {
            exact: Values::default(),
            prefixes: prefixes.into_iter().collect(),
        };
        exact.retain(|text| !set.has_prefix_of(text));
        set.exact = exact.into_iter().collect();
        set
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn patterns() -> impl Strategy<Value = Vec<TypePattern>> {
        let pattern = ("[ab.]{0,4}", any::<bool>()).prop_map(|(text, is_exact)| {
            if is_exact {
                TypePattern::Exact(text)
            } else {
                TypePattern::Prefix(text)
            }
        });
        prop::collection::vec(pattern, 0..8)
    }

    proptest! {
        #[test]
        fn patterns_match_what_any_of_them_matches(
            patterns in patterns(),
            asked in "[ab.]{0,5}",
            other in patterns(),
        ) {
            let set: Patterns = patterns.iter().cloned().collect();
            let naive = patterns.iter().any(|pattern| pattern.matches(&asked));
            prop_assert_eq!(set.matches(&asked), naive);
            for other in other {
                let naive = patterns.iter().any(|pattern| pattern.covers(&other));
                prop_assert_eq!(set.covers(&other), naive);
            }
            for (index, kept) in set.iter().enumerate() {
                let mut others = set.iter().enumerate().filter(|(other, _)| *other != index);
                prop_assert!(!others.any(|(_, other)| other.covers(&kept)));
            }
            prop_assert_eq!(set.iter().collect::<Patterns>(), set);
        }
    }
}
