//! Patterns of event types, as filters and policies write them.

use std::fmt;

/// A type, or all types with a prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TypePattern {
    /// `user.created`
    Exact(String),
    /// `user.*`, without the `*`.
    Prefix(String),
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// There is nothing.
    #[error("empty; write a type such as `user.created`, or leave the field out for all types")]
    Empty,
    /// There is a `*` before the end.
    #[error(
        "{0:?} has a `*` that is not at the end; write an exact type or a prefix and one trailing `*`, such as `user.*`"
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
