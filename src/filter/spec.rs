//! A filter as plain data, whatever it was written in.

/// What is asked for, in words, or a `T` for each of its fields. An empty list stands for
/// everything; but nothing is excluded by an empty `exclude_types`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spec<T = Vec<String>> {
    /// Types, or prefixes of types with a trailing `*`.
    pub types: T,
    /// The same, of what is not wanted.
    pub exclude_types: T,
    /// Users, by Clerk's id.
    pub user_ids: T,
    /// Organizations, by Clerk's id.
    pub organization_ids: T,
    /// Sessions, by Clerk's id.
    pub session_ids: T,
    /// Configured sources.
    pub sources: T,
    /// Clerk instances, by their id.
    pub instance_ids: T,
}

impl<T> Spec<T> {
    /// Each field with its name, in the order of the proto file.
    pub(super) fn fields(&self) -> [(&'static str, &T); 7] {
        [
            ("types", &self.types),
            ("exclude_types", &self.exclude_types),
            ("user_ids", &self.user_ids),
            ("organization_ids", &self.organization_ids),
            ("session_ids", &self.session_ids),
            ("sources", &self.sources),
            ("instance_ids", &self.instance_ids),
        ]
    }

    /// Returns what `to` makes of each field.
    pub(super) fn map<U>(&self, to: impl Fn(&T) -> U) -> Spec<U> {
        Spec {
            types: to(&self.types),
            exclude_types: to(&self.exclude_types),
            user_ids: to(&self.user_ids),
            organization_ids: to(&self.organization_ids),
            session_ids: to(&self.session_ids),
            sources: to(&self.sources),
            instance_ids: to(&self.instance_ids),
        }
    }
}
