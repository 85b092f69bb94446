//! Who calls: asked once for each call, before anything of it is read.

use std::sync::Arc;

use tonic::body::Body;
use tonic::codegen::http::{Extensions, Request, header};
use tonic::{Code, Status};

use super::metrics::Metrics;
use super::status;
use crate::access::{Access, AuthError, Credentials, Principal, audit};
use crate::net::Peer;
use crate::telemetry::LogLimit;

const SCHEME: &str = "bearer";

/// Lets in whom [`Access`] recognises; clones share what they know.
#[derive(Clone, Debug)]
pub struct Guard {
    access: Access,
    metrics: Metrics,
    refusals_logged: Arc<LogLimit>,
}

/// Shown of a method's name, which is a caller's word.
const METHOD_BYTES_MAX: usize = 100;

impl Guard {
    /// A guard that asks `access`.
    #[must_use]
    pub fn new(access: Access, metrics: Metrics) -> Self {
        Self {
            access,
            metrics,
            refusals_logged: Arc::default(),
        }
    }

    pub(super) fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Who calls.
    ///
    /// # Errors
    /// With the status to answer, when the gateway does not know the caller.
    pub(super) fn admit(&self, request: &Request<Body>) -> Result<Principal, Status> {
        let principal = self.recognize(request).map_err(|unknown| {
            self.note(unknown, request);
            status::unauthenticated(unknown)
        })?;
        if let Some(peer) = request.extensions().get::<Peer>() {
            peer.trust.grant();
        }
        Ok(principal)
    }

    /// Who calls, without a trace of it.
    pub(super) fn recognize(&self, request: &Request<Body>) -> Result<Principal, AuthError> {
        let authorization = request.headers().get(header::AUTHORIZATION);
        let peer = request.extensions().get::<Peer>();
        self.access.authenticate(Credentials {
            // A malformed header counts as an unknown token.
            token: authorization.map(|value| value.to_str().map_or("", bearer)),
            certificate_names: peer.map_or(&[], |peer| &peer.certificate_names),
        })
    }

    fn note(&self, unknown: AuthError, request: &Request<Body>) {
        self.metrics.count_unauthenticated(unknown);
        if let Some(unlogged) = self.refusals_logged.admit() {
            let path = request.uri().path().trim_start_matches('/');
            tracing::warn!(
                target: audit::TARGET,
                peer = peer(request.extensions()),
                method = path.get(..METHOD_BYTES_MAX).unwrap_or(path),
                unlogged = (unlogged > 0).then_some(unlogged),
                "caller refused: {unknown}"
            );
        }
    }
}

fn bearer(authorization: &str) -> &str {
    match authorization.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(SCHEME) => token.trim(),
        _ => "",
    }
}

/// Where the caller connected from.
pub(super) fn peer(extensions: &Extensions) -> String {
    let peer = extensions.get::<Peer>();
    peer.map(|peer| peer.address.to_string())
        .unwrap_or_default()
}

/// Who makes a guarded call.
pub(super) fn caller<T>(request: &tonic::Request<T>) -> Result<Principal, Status> {
    principal_of(request.extensions())
}

pub(super) fn principal_of(extensions: &Extensions) -> Result<Principal, Status> {
    // Without a guard nobody is known, and nothing is shown.
    let unguarded = || Status::new(Code::Unauthenticated, "the service is not guarded");
    extensions.get().cloned().ok_or_else(unguarded)
}
