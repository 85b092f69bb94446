//! What is handled one after the other.

use aws_lc_rs::digest::{Context, SHA256};

use super::settings::OrderBy;
use crate::event::{Attributes, Position};

/// The key of an event. Of the events with one key, at most one is with a worker.
///
/// A hash, so that it takes eight bytes of the state. Where two users have the same one, their
/// events wait for each other, and nothing else happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u64);

/// What the key of an event is made of.
#[derive(Clone, Copy, Debug)]
pub struct KeySource<'a> {
    /// Where the event is in the log.
    pub position: Position,
    /// The event's own id.
    pub event_id: &'a str,
    /// The ids that it concerns.
    pub attributes: Attributes<&'a str>,
}

impl Key {
    /// The key that a state knows by this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The state's number for this key.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The key of an event in a subscription with this order.
    #[must_use]
    pub fn of(order_by: OrderBy, event: KeySource<'_>) -> Self {
        let user = event.attributes.user_id.map(|id| ("user", id));
        let organization = event
            .attributes
            .organization_id
            .map(|id| ("organization", id));
        let promoted = match order_by {
            OrderBy::User => user.or(organization),
            OrderBy::Organization => organization.or(user),
            OrderBy::None => return Self(event.position.number()),
            OrderBy::Log => return Self(0),
        };
        let object = event.attributes.object_id.map(|id| ("object", id));
        let (kind, id) = promoted.or(object).unwrap_or(("event", event.event_id));
        Self::hash(event.attributes.source, kind, id)
    }

    fn hash(source: &str, kind: &str, id: &str) -> Self {
        let mut context = Context::new(&SHA256);
        for part in [source, "\0", kind, "\0", id] {
            context.update(part.as_bytes());
        }
        let digest = context.finish();
        let first = digest.as_ref().first_chunk().copied().unwrap_or_default();
        Self(u64::from_be_bytes(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(
        user_id: Option<&'static str>,
        organization_id: Option<&'static str>,
        object_id: Option<&'static str>,
    ) -> KeySource<'static> {
        KeySource {
            position: Position::new(7),
            event_id: "msg_1",
            attributes: Attributes {
                source: "default",
                user_id,
                organization_id,
                object_id,
                ..Attributes::default()
            },
        }
    }

    #[test]
    fn keyed_order_is_by_the_first_id_that_an_event_has() {
        use OrderBy::{Organization, User};
        let (user, organization) = (Some("user_1"), Some("org_1"));
        let object = Some("obj_1");
        for (order_by, event, kind, id) in [
            (User, event(user, organization, object), "user", "user_1"),
            (
                User,
                event(None, organization, object),
                "organization",
                "org_1",
            ),
            (User, event(None, None, object), "object", "obj_1"),
            (User, event(None, None, None), "event", "msg_1"),
            (
                Organization,
                event(user, organization, object),
                "organization",
                "org_1",
            ),
            (Organization, event(user, None, object), "user", "user_1"),
            (Organization, event(None, None, object), "object", "obj_1"),
        ] {
            assert_eq!(Key::of(order_by, event), Key::hash("default", kind, id));
        }
        assert_eq!(Key::of(OrderBy::None, event(user, None, None)), Key(7));
        assert_eq!(Key::of(OrderBy::Log, event(user, None, None)), Key(0));
    }

    #[test]
    fn keys_differ_by_source_and_by_kind_and_never_change() {
        let key = Key::hash("default", "user", "user_1");
        assert_ne!(key, Key::hash("staging", "user", "user_1"));
        assert_ne!(key, Key::hash("default", "object", "user_1"));
        // Stored: gateways of all versions must agree.
        assert_eq!(key.number(), 3_722_681_771_749_797_192);
    }
}
