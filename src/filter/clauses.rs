//! What a filter demands, field by field.

use super::pattern::{Patterns, TypePattern};
use super::spec::Spec;
use crate::event::{IndexHint, Values};

/// Nothing in a field stands for everything; but nothing is excluded by no patterns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Clauses {
    pub(super) types: Patterns,
    pub(super) exclude_types: Patterns,
    pub(super) user_ids: Values,
    pub(super) organization_ids: Values,
    pub(super) session_ids: Values,
    pub(super) sources: Values,
    pub(super) instance_ids: Values,
}

impl Clauses {
    /// The clauses of a filter whose patterns were read.
    pub(super) fn new(filter: &Spec, types: Patterns, exclude_types: Patterns) -> Self {
        let asks_for_all = types.covers(&TypePattern::everything());
        Self {
            types: if asks_for_all {
                Patterns::default()
            } else {
                types
            },
            exclude_types,
            user_ids: filter.user_ids.iter().collect(),
            organization_ids: filter.organization_ids.iter().collect(),
            session_ids: filter.session_ids.iter().collect(),
            sources: filter.sources.iter().collect(),
            instance_ids: filter.instance_ids.iter().collect(),
        }
    }

    /// By the most selective field: a user has few events, a type has many.
    pub(super) fn narrowest(&self) -> IndexHint {
        if !self.session_ids.is_empty() {
            return IndexHint::Sessions(self.session_ids.clone());
        }
        if !self.user_ids.is_empty() {
            return IndexHint::Users(self.user_ids.clone());
        }
        if !self.organization_ids.is_empty() {
            return IndexHint::Organizations(self.organization_ids.clone());
        }
        // What a wildcard matches cannot be listed: types that are not known yet, too.
        match self.types.all_exact() {
            Some(types) if !types.is_empty() => IndexHint::Types(types.clone()),
            _ => IndexHint::All,
        }
    }
}
