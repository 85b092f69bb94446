//! What a caller's policy removes.

use crate::{access, proto};

/// What the caller's policy removes, and how to change that.
pub(super) fn described(narrowed: &proto::Narrowed) -> Option<String> {
    let parts = [
        ("types withheld: ", &narrowed.withheld_types),
        ("only types: ", &narrowed.types),
        ("without types: ", &narrowed.exclude_types),
        ("only sources: ", &narrowed.sources),
        ("fields removed: ", &narrowed.redacted_fields),
    ];
    let narrowings: Vec<String> = parts
        .iter()
        .filter(|(_, values)| !values.is_empty())
        .map(|(what, values)| format!("{what}{}", values.join(", ")))
        .collect();
    let sealed = access::redaction::grants();
    let grants: Vec<String> = narrowed
        .redacted_fields
        .iter()
        .filter(|name| sealed.contains(&name.as_str()))
        .map(|name| format!("\"{name}\""))
        .collect();
    let remedy = match &grants[..] {
        [] => String::new(),
        grants => format!(
            "; what is sealed by default is given back by `grant = [{}]` in its table of the gateway's configuration",
            grants.join(", ")
        ),
    };
    let is_narrowed = !narrowings.is_empty();
    is_narrowed.then(|| {
        format!(
            "this caller's policy narrows what is sent ({}){remedy}",
            narrowings.join("; ")
        )
    })
}
