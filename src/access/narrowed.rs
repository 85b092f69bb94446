//! What a policy takes away of what a caller asks for.

use crate::filter;

/// What a policy takes away of a request: of its events, and of their fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Narrowed {
    /// Of the events that the filter asks for.
    pub filter: filter::Narrowed,
    /// Fields that are removed from events: paths, or names of sets.
    pub redacted_fields: Vec<String>,
}

impl Narrowed {
    /// Whether nothing is taken away.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}
