//! What filters, indexes and subscriptions look at, and nothing else of an event.

/// An event's attributes, each a `T`: `Attributes<&str>` borrows them, where they lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes<T = String> {
    /// Clerk's name for what happened; empty where the body has none.
    pub event_type: T,
    /// The configured source that accepted the event.
    pub source: T,
    /// The Clerk instance (`ins_…`).
    pub instance_id: Option<T>,
    /// The user concerned (`user_…`).
    pub user_id: Option<T>,
    /// The organization concerned (`org_…`).
    pub organization_id: Option<T>,
    /// The session concerned (`sess_…`).
    pub session_id: Option<T>,
    /// What the event is about (`data.id`); absent in records from before it was noted. Not for
    /// filters: subscriptions order events by it that concern no user and no organization.
    pub object_id: Option<T>,
}

impl<T> Attributes<T> {
    /// Returns what `to` makes of each.
    #[must_use]
    pub fn map<'a, U>(&'a self, mut to: impl FnMut(&'a T) -> U) -> Attributes<U> {
        Attributes {
            event_type: to(&self.event_type),
            source: to(&self.source),
            instance_id: self.instance_id.as_ref().map(&mut to),
            user_id: self.user_id.as_ref().map(&mut to),
            organization_id: self.organization_id.as_ref().map(&mut to),
            session_id: self.session_id.as_ref().map(&mut to),
            object_id: self.object_id.as_ref().map(&mut to),
        }
    }
}

impl Attributes {
    /// Borrows them.
    #[must_use]
    pub fn as_ref(&self) -> Attributes<&str> {
        self.map(String::as_str)
    }
}

impl Attributes<&str> {
    /// Copies them.
    #[must_use]
    pub fn to_owned(self) -> Attributes {
        self.map(|text| (*text).to_owned())
    }
}
