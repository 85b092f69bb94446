use super::*;
use crate::clerk::catalog::{CATALOG, Kind};

fn declared() -> Suggestions {
    Suggestions::new(CATALOG.iter().map(|kind| kind.name))
}

fn nearest(asked: &str) -> Option<String> {
    declared().allowed(|_| true).nearest(asked)
}

/// What people type, and what they mean.
const TYPED: [(&str, &str); 72] = [
    ("user", "user.*"),
    ("users", "user.*"),
    ("sms", "sms.*"),
    ("membership", "organizationMembership.*"),
    ("members", "organizationMembership.*"),
    ("organizations", "organization.*"),
    ("org", "organization.*"),
    ("subscriptions", "subscription.*"),
    ("waitlist", "waitlistEntry.*"),
    ("user.create", "user.created"),
    ("user_created", "user.created"),
    ("userCreated", "user.created"),
    ("USER_CREATED", "user.created"),
    ("User.Created", "user.created"),
    ("users.created", "user.created"),
    ("clerk.user.created", "user.created"),
    ("account.created", "user.created"),
    ("user.registered", "user.created"),
    ("user.signup", "user.created"),
    ("user.signed_up", "user.created"),
    ("sign_up.completed", "user.created"),
    ("user.changed", "user.updated"),
    ("user.removed", "user.deleted"),
    ("account.closed", "user.deleted"),
    ("user.login", "session.created"),
    ("user.signed_in", "session.created"),
    ("signIn.created", "session.created"),
    ("session.started", "session.created"),
    ("session.end", "session.ended"),
    ("session.expired", "session.ended"),
    ("user.signed_out", "session.ended"),
    ("user.logout", "session.ended"),
    ("session.deleted", "session.removed"),
    ("session.destroyed", "session.removed"),
    ("membership.created", "organizationMembership.created"),
    (
        "organization_membership.created",
        "organizationMembership.created",
    ),
    (
        "organization.member.added",
        "organizationMembership.created",
    ),
    ("member.joined", "organizationMembership.created"),
    (
        "organizationMember.removed",
        "organizationMembership.deleted",
    ),
    ("team.member_left", "organizationMembership.deleted"),
    (
        "organization.user.removed",
        "organizationMembership.deleted",
    ),
    ("team.created", "organization.created"),
    ("org.removed", "organization.deleted"),
    ("organisation.updated", "organization.updated"),
    ("invitation.sent", "organizationInvitation.created"),
    ("user.invited", "organizationInvitation.created"),
    ("invite.accepted", "organizationInvitation.accepted"),
    ("invitation.joined", "organizationInvitation.accepted"),
    ("invitation.canceled", "organizationInvitation.revoked"),
    ("invitation.declined", "organizationInvitation.revoked"),
    ("domain.added", "organizationDomain.created"),
    ("org_domain.removed", "organizationDomain.deleted"),
    ("email.sent", "email.created"),
    ("mail.created", "email.created"),
    ("sms.sent", "sms.created"),
    ("waitlist.created", "waitlistEntry.created"),
    ("waitlist.joined", "waitlistEntry.created"),
    ("invoice.paid", "paymentAttempt.*"),
    ("payment.succeeded", "paymentAttempt.*"),
    ("payment_intent.created", "paymentAttempt.created"),
    ("charge.updated", "paymentAttempt.updated"),
    ("subscription.past_due", "subscription.pastDue"),
    ("subscription.overdue", "subscription.pastDue"),
    ("subscription.renewed", "subscription.active"),
    ("subscription.canceled", "subscriptionItem.canceled"),
    ("customer.subscription.deleted", "subscriptionItem.ended"),
    ("subscription_item.cancelled", "subscriptionItem.canceled"),
    (
        "customer.subscription.trial_will_end",
        "subscriptionItem.freeTrialEnding",
    ),
    ("trial.ending", "subscriptionItem.freeTrialEnding"),
    ("orgnization.craeted", "organization.created"),
    (
        "organizationMembrshp.updated",
        "organizationMembership.updated",
    ),
    ("permision.addded", "permission.created"),
];

#[test]
fn suggestions_lead_to_the_right_type() {
    for (typed, meant) in TYPED {
        assert_eq!(nearest(typed).as_deref(), Some(meant), "{typed}");
    }
    for Kind { name, .. } in CATALOG {
        for slip in slips(name) {
            assert_eq!(nearest(&slip).as_deref(), Some(*name), "{slip}");
        }
    }
}

/// The name with a letter left out, doubled, replaced, or swapped with the next.
fn slips(name: &str) -> Vec<String> {
    let letters: Vec<char> = name.chars().collect();
    let mut slips = Vec::new();
    for place in 0..letters.len() {
        let with = |change: &dyn Fn(&mut Vec<char>)| {
            let mut letters = letters.clone();
            change(&mut letters);
            letters.into_iter().collect::<String>()
        };
        slips.push(with(&|letters| {
            letters.remove(place);
        }));
        slips.push(with(&|letters| letters.insert(place, letters[place])));
        slips.push(with(&|letters| letters[place] = 'x'));
        if place + 1 < letters.len() {
            slips.push(with(&|letters| letters.swap(place, place + 1)));
        }
    }
    slips
}

#[test]
fn a_type_that_resembles_none_is_answered_with_the_families() {
    let suggestions = declared();
    let allowed = suggestions.allowed(|_| true);
    for asked in ["foo.bar", "message.sent", "created", "x", "é", "…"] {
        assert_eq!(allowed.nearest(asked), None, "{asked}");
    }
    assert!(
        allowed
            .families()
            .starts_with("user.*, session.*, organization.*")
    );
}

#[test]
fn only_what_the_caller_may_receive_is_suggested() {
    let suggestions = declared();
    let allowed = suggestions.allowed(|name| name.starts_with("user.") && name != "user.deleted");
    assert_eq!(allowed.families(), "user.*");
    for (typed, _) in TYPED {
        let nearest = allowed.nearest(typed);
        let is_allowed = |name: &str| ["user.*", "user.created", "user.updated"].contains(&name);
        assert!(
            nearest.as_deref().is_none_or(is_allowed),
            "{typed}: {nearest:?}"
        );
    }
    assert_eq!(allowed.nearest("session.craeted"), None);
}

#[test]
fn types_of_tomorrow_are_suggested_too() {
    let suggestions = Suggestions::new([
        "user.created",
        "user.impersonated",
        "ping",
        "apiKey.created",
    ]);
    let allowed = suggestions.allowed(|_| true);
    for (typed, meant) in [
        ("user.impersnated", "user.impersonated"),
        ("pingg", "ping"),
        ("api_key", "apiKey.*"),
        ("api_key.added", "apiKey.created"),
    ] {
        assert_eq!(allowed.nearest(typed).as_deref(), Some(meant), "{typed}");
    }
}
