//! What the path of a gRPC request names.

pub(super) const HEALTH_WATCH: &str = "/grpc.health.v1.Health/Watch";
pub(super) const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
pub(super) const REFLECTION_ALPHA: &str =
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";

/// The name of the service that a path names.
pub(super) fn service_of(path: &str) -> &str {
    path.trim_start_matches('/')
        .split('/')
        .next()
        .unwrap_or_default()
}

/// The name of the method that a path names, without its service's.
pub(super) fn method_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}
