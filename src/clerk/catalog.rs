//! The 46 event types: 45 in `@clerk/backend` 3.25.0, 45 in Clerk's webhook OpenAPI,
//! 44 in common.

/// One event type that Clerk declares.
#[derive(Debug)]
pub struct Kind {
    /// Clerk's name: `user.created`.
    pub name: &'static str,
    /// The fields of `Event.data` that can hold the type's `data`, the usual one first. There
    /// are two only where Clerk's own descriptions disagree on the shape.
    pub shapes: &'static [&'static str],
}

const fn kind(name: &'static str, shapes: &'static [&'static str]) -> Kind {
    Kind { name, shapes }
}

const USER: &[&str] = &["user"];
const SESSION: &[&str] = &["session"];
const ORGANIZATION: &[&str] = &["organization"];
const ORGANIZATION_DOMAIN: &[&str] = &["organization_domain"];
const ORGANIZATION_MEMBERSHIP: &[&str] = &["organization_membership"];
const ORGANIZATION_INVITATION: &[&str] = &["organization_invitation"];
const ROLE: &[&str] = &["role"];
const PERMISSION: &[&str] = &["permission"];
const WAITLIST_ENTRY: &[&str] = &["waitlist_entry"];
const PAYMENT_ATTEMPT: &[&str] = &["payment_attempt"];
const SUBSCRIPTION: &[&str] = &["subscription"];
const SUBSCRIPTION_ITEM: &[&str] = &["subscription_item"];
const DELETED_OBJECT: &[&str] = &["deleted_object"];

/// Every declared event type, grouped as Clerk groups them.
pub const CATALOG: &[Kind] = &[
    kind("user.created", USER),
    kind("user.updated", USER),
    kind("user.deleted", DELETED_OBJECT),
    kind("session.created", SESSION),
    kind("session.ended", SESSION),
    kind("session.removed", SESSION),
    kind("session.revoked", SESSION),
    // In the OpenAPI only.
    kind("session.pending", SESSION),
    kind("organization.created", ORGANIZATION),
    kind("organization.updated", ORGANIZATION),
    kind("organization.deleted", DELETED_OBJECT),
    kind("organizationDomain.created", ORGANIZATION_DOMAIN),
    kind("organizationDomain.updated", ORGANIZATION_DOMAIN),
    kind("organizationDomain.deleted", DELETED_OBJECT),
    kind("organizationMembership.created", ORGANIZATION_MEMBERSHIP),
    kind("organizationMembership.updated", ORGANIZATION_MEMBERSHIP),
    // The whole membership, not a deleted object.
    kind("organizationMembership.deleted", ORGANIZATION_MEMBERSHIP),
    kind("organizationInvitation.created", ORGANIZATION_INVITATION),
    kind("organizationInvitation.accepted", ORGANIZATION_INVITATION),
    kind("organizationInvitation.revoked", ORGANIZATION_INVITATION),
    kind("email.created", &["email"]),
    kind("sms.created", &["sms_message"]),
    kind("role.created", ROLE),
    kind("role.updated", ROLE),
    // A deleted object in the OpenAPI, the whole role in the TypeScript types.
    kind("role.deleted", &["deleted_object", "role"]),
    kind("permission.created", PERMISSION),
    kind("permission.updated", PERMISSION),
    kind("permission.deleted", &["deleted_object", "permission"]),
    kind("waitlistEntry.created", WAITLIST_ENTRY),
    kind("waitlistEntry.updated", WAITLIST_ENTRY),
    kind("paymentAttempt.created", PAYMENT_ATTEMPT),
    kind("paymentAttempt.updated", PAYMENT_ATTEMPT),
    kind("subscription.created", SUBSCRIPTION),
    kind("subscription.updated", SUBSCRIPTION),
    kind("subscription.active", SUBSCRIPTION),
    kind("subscription.pastDue", SUBSCRIPTION),
    // In the TypeScript types only.
    kind("subscriptionItem.created", SUBSCRIPTION_ITEM),
    kind("subscriptionItem.updated", SUBSCRIPTION_ITEM),
    kind("subscriptionItem.active", SUBSCRIPTION_ITEM),
    kind("subscriptionItem.canceled", SUBSCRIPTION_ITEM),
    kind("subscriptionItem.upcoming", SUBSCRIPTION_ITEM),
    kind("subscriptionItem.ended", SUBSCRIPTION_ITEM),
    kind("subscriptionItem.abandoned", SUBSCRIPTION_ITEM),
    kind("subscriptionItem.incomplete", SUBSCRIPTION_ITEM),
    kind("subscriptionItem.pastDue", SUBSCRIPTION_ITEM),
    kind("subscriptionItem.freeTrialEnding", SUBSCRIPTION_ITEM),
];

/// The catalog's entry for `event_type`.
#[must_use]
pub fn find(event_type: &str) -> Option<&'static Kind> {
    CATALOG.iter().find(|kind| kind.name == event_type)
}

/// The family of a type: the part before its first dot, or the whole type without a dot.
pub(crate) fn family(event_type: &str) -> &str {
    let family = event_type
        .split_once('.')
        .map_or(event_type, |(family, _)| family);
    family.trim()
}

/// The family of a type as the catalog spells it, if declared types have that family. The
/// comparison ignores case.
pub(crate) fn declared_family(event_type: &str) -> Option<&'static str> {
    let asked = family(event_type);
    let mut families = CATALOG.iter().map(|kind| family(kind.name));
    families.find(|family| family.eq_ignore_ascii_case(asked))
}

/// A name that is safe as a metric's label: the set of declared types is closed, the
/// set of types that a body may carry is not.
#[must_use]
pub fn label(event_type: &str) -> &'static str {
    find(event_type).map_or("other", |kind| kind.name)
}

#[cfg(test)]
mod tests {
    use super::CATALOG;
    use crate::clerk::schema;

    #[test]
    fn every_shape_of_the_catalog_is_a_field_of_event() {
        let shapes = CATALOG.iter().flat_map(|kind| kind.shapes);
        for shape in shapes.chain(&["untyped"]) {
            assert!(schema::message_name(shape).is_some(), "{shape}");
        }
    }
}
