//! A realistic, invented event of every type; together they are the story of one small company.
//! For `clerkcast send`, `clerkcast dev` and tests.

macro_rules! samples {
    ($($name:literal,)*) => {
        &[$(Sample {
            event_type: $name,
            body: include_str!(concat!("samples/", $name, ".json")),
        },)*]
    };
}

/// A body as Clerk would send it.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The body's `type`.
    pub event_type: &'static str,
    /// The JSON.
    pub body: &'static str,
}

/// One sample of every type, in the catalog's order.
pub const SAMPLES: &[Sample] = samples![
    "user.created",
    "user.updated",
    "user.deleted",
    "session.created",
    "session.ended",
    "session.removed",
    "session.revoked",
    "session.pending",
    "organization.created",
    "organization.updated",
    "organization.deleted",
    "organizationDomain.created",
    "organizationDomain.updated",
    "organizationDomain.deleted",
    "organizationMembership.created",
    "organizationMembership.updated",
    "organizationMembership.deleted",
    "organizationInvitation.created",
    "organizationInvitation.accepted",
    "organizationInvitation.revoked",
    "email.created",
    "sms.created",
    "role.created",
    "role.updated",
    "role.deleted",
    "permission.created",
    "permission.updated",
    "permission.deleted",
    "waitlistEntry.created",
    "waitlistEntry.updated",
    "paymentAttempt.created",
    "paymentAttempt.updated",
    "subscription.created",
    "subscription.updated",
    "subscription.active",
    "subscription.pastDue",
    "subscriptionItem.created",
    "subscriptionItem.updated",
    "subscriptionItem.active",
    "subscriptionItem.canceled",
    "subscriptionItem.upcoming",
    "subscriptionItem.ended",
    "subscriptionItem.abandoned",
    "subscriptionItem.incomplete",
    "subscriptionItem.pastDue",
    "subscriptionItem.freeTrialEnding",
];

#[cfg(test)]
mod tests {
    use super::SAMPLES;
    use crate::clerk::catalog::CATALOG;
    use crate::clerk::{Envelope, decode};
    use crate::event::UnixMillis;

    #[test]
    fn there_is_a_sample_of_every_declared_type_and_each_is_fully_typed() {
        let sampled: Vec<&str> = SAMPLES.iter().map(|sample| sample.event_type).collect();
        let declared: Vec<&str> = CATALOG.iter().map(|kind| kind.name).collect();
        assert_eq!(sampled, declared);
        for sample in SAMPLES {
            let envelope = Envelope {
                id: "msg_1",
                source: "default",
                send_time: UnixMillis::new(0),
            };
            let decoded = decode(envelope, sample.body.as_bytes());
            assert_eq!(decoded.attributes.event_type, sample.event_type);
            assert_eq!(decoded.drift, [], "{}", sample.event_type);
        }
    }
}
