//! What the path of a gRPC request names.

/// The name of the service that a path names.
pub(super) fn service_of(path: &str) -> &str {
    path.trim_start_matches('/')
        .split('/')
        .next()
        .unwrap_or_default()
}
