//! What is wrong with a request.

/// What is wrong with a field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field, as `filter.types[0]`.
    pub field: String,
    /// What is wrong, and what to do.
    pub description: String,
}

/// What is wrong with a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violations {
    /// The first ones.
    pub reported: Vec<Violation>,
    /// How many more there are.
    pub more: usize,
}
