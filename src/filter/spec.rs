//! A filter as plain data, whatever it was written in.

/// What is asked for, in words. An empty list stands for everything; but nothing is excluded
/// by an empty `exclude_types`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spec {
    /// Types, or prefixes of types with a trailing `*`.
    pub types: Vec<String>,
    /// The same, of what is not wanted.
    pub exclude_types: Vec<String>,
    /// Users, by Clerk's id.
    pub user_ids: Vec<String>,
    /// Organizations, by Clerk's id.
    pub organization_ids: Vec<String>,
    /// Sessions, by Clerk's id.
    pub session_ids: Vec<String>,
    /// Configured sources.
    pub sources: Vec<String>,
    /// Clerk instances, by their id.
    pub instance_ids: Vec<String>,
}
