//! Which ids of `data` an event concerns, by the type of event.

use super::transcode::Object;
use crate::event::Attributes;

type JsonPath = &'static [&'static str];

/// Where a family of event types carries each id.
struct Paths {
    user: Option<JsonPath>,
    organization: Option<JsonPath>,
    session: Option<JsonPath>,
}

const NONE: Paths = Paths {
    user: None,
    organization: None,
    session: None,
};

/// The ids of a declared type stand where its shape has them; those of another type
/// are looked for where most shapes have them.
pub(super) fn promote(event_type: &str, data: &Object<'_>, attributes: &mut Attributes) {
    let family = event_type.split_once('.').map_or("", |(family, _)| family);
    let Some(paths) = paths(family) else {
        guess(data, attributes);
        return;
    };
    let string_at = |path: Option<JsonPath>| path.and_then(|path| data.string_at(path));
    attributes.user_id = string_at(paths.user);
    attributes.organization_id = string_at(paths.organization);
    attributes.session_id = string_at(paths.session);
}

fn paths(family: &str) -> Option<Paths> {
    Some(match family {
        "user" => Paths {
            user: Some(&["id"]),
            ..NONE
        },
        "session" => Paths {
            user: Some(&["user_id"]),
            organization: Some(&["last_active_organization_id"]),
            session: Some(&["id"]),
        },
        "organization" => Paths {
            organization: Some(&["id"]),
            ..NONE
        },
        "organizationDomain" => Paths {
            organization: Some(&["organization_id"]),
            ..NONE
        },
        "organizationMembership" => Paths {
            user: Some(&["public_user_data", "user_id"]),
            organization: Some(&["organization", "id"]),
            ..NONE
        },
        // `user_id` is there once the invitation is accepted.
        "organizationInvitation" => Paths {
            user: Some(&["user_id"]),
            organization: Some(&["organization_id"]),
            ..NONE
        },
        "email" | "sms" => Paths {
            user: Some(&["user_id"]),
            ..NONE
        },
        // The unused one of the two is an empty string.
        "paymentAttempt" | "subscription" | "subscriptionItem" => Paths {
            user: Some(&["payer", "user_id"]),
            organization: Some(&["payer", "organization_id"]),
            ..NONE
        },
        "role" | "permission" | "waitlistEntry" => NONE,
        _ => return None,
    })
}

fn guess(data: &Object<'_>, attributes: &mut Attributes) {
    let id = data.string_at(&["id"]);
    let id_with = |prefix: &str| id.clone().filter(|id| id.starts_with(prefix));
    attributes.user_id = data.string_at(&["user_id"]).or_else(|| id_with("user_"));
    attributes.organization_id = data
        .string_at(&["organization_id"])
        .or_else(|| id_with("org_"));
    attributes.session_id = data.string_at(&["session_id"]).or_else(|| id_with("sess_"));
}
