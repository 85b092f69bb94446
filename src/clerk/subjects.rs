//! Finds the ids in `data` that an event concerns, by the type of the event.

use super::catalog;
use super::json::Object;
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

/// Reads the ids of a declared type, at the paths of its shape.
pub(super) fn declared(event_type: &str, data: &Object<'_>, attributes: &mut Attributes) {
    let paths = paths(catalog::family(event_type)).unwrap_or(NONE);
    let string_at = |path: Option<JsonPath>| path.and_then(|path| data.string_at(path));
    attributes.user_id = string_at(paths.user);
    attributes.organization_id = string_at(paths.organization);
    attributes.session_id = string_at(paths.session);
}

/// Reads the ids of a type that is not declared, whatever its shape. Each id is the field of its
/// name, else the field where the family's declared types have the id, else the object's own id.
/// Only an id of the right kind counts.
pub(super) fn other(event_type: &str, data: &Object<'_>, attributes: &mut Attributes) {
    let paths = catalog::declared_family(event_type)
        .and_then(paths)
        .unwrap_or(NONE);
    let id = |prefix: &str, name: &'static str, path: Option<JsonPath>| {
        let places = [Some(&[name][..]), path, Some(&["id"][..])];
        places
            .into_iter()
            .flatten()
            .filter_map(|place| data.string_at(place))
            .find(|id| id.len() > prefix.len() && id.starts_with(prefix))
    };
    attributes.user_id = id("user_", "user_id", paths.user);
    attributes.organization_id = id("org_", "organization_id", paths.organization);
    attributes.session_id = id("sess_", "session_id", paths.session);
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
