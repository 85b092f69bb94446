//! The paths that webhooks are posted to.

/// The path of the default source; others follow after a slash.
pub const PATH: &str = "/webhooks/clerk";
/// The source of [`PATH`] itself.
pub const DEFAULT_SOURCE: &str = "default";

/// The path that a source's webhooks are posted to.
#[must_use]
pub fn path(source: &str) -> String {
    if source == DEFAULT_SOURCE {
        PATH.to_owned()
    } else {
        format!("{PATH}/{source}")
    }
}

/// Requests for other paths come from scanners, and show nothing of deliveries.
pub(super) fn is_below_webhooks(path: &str) -> bool {
    path.starts_with("/webhooks/")
}

/// The source that a path names.
pub(super) fn source_of(path: &str) -> &str {
    let rest = path.strip_prefix(PATH).unwrap_or_default();
    match rest.trim_matches('/') {
        "" => DEFAULT_SOURCE,
        name => name,
    }
}
