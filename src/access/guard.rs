//! Who calls: asked once for each call, before anything of it is read.

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::audit;
use super::directory::{Access, AuthError, Credentials, Principal};
use super::metrics::Metrics;
use crate::telemetry::LogLimit;

const SCHEME: &str = "bearer";
/// Shown of a method's name, which is a caller's word.
const METHOD_BYTES_MAX: usize = 100;

/// A caller as its request shows it.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Of its request.
    pub headers: &'a HeaderMap,
    /// The names of its verified certificate.
    pub certificate_names: &'a [String],
    /// Where it connected from, if that is known.
    pub address: Option<SocketAddr>,
    /// What it calls, for log lines.
    pub method: &'a str,
}

/// Admits callers that [`Access`] authenticates; clones share what they know.
#[derive(Clone, Debug)]
pub struct Guard {
    access: Access,
    metrics: Metrics,
    refusals_logged: Arc<LogLimit>,
}

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

    /// Who calls. Counts and logs a caller that is not known.
    ///
    /// # Errors
    /// When the gateway does not know the caller.
    pub fn admit(&self, caller: &Caller<'_>) -> Result<Principal, AuthError> {
        let principal = self.authenticate(caller);
        if let Err(error) = &principal {
            self.note(*error, caller);
        }
        principal
    }

    /// Who calls, without a trace of it.
    ///
    /// # Errors
    /// When the gateway does not know the caller.
    pub fn authenticate(&self, caller: &Caller<'_>) -> Result<Principal, AuthError> {
        let authorization = caller.headers.get(AUTHORIZATION);
        self.access.authenticate(Credentials {
            // A malformed header counts as an unknown token.
            token: authorization.map(|value| value.to_str().map_or("", bearer)),
            certificate_names: caller.certificate_names,
        })
    }

    fn note(&self, error: AuthError, caller: &Caller<'_>) {
        self.metrics.count_unauthenticated(error);
        if let Some(unlogged) = self.refusals_logged.admit() {
            let method = caller.method.trim_start_matches('/');
            let peer = caller.address.map(|address| address.to_string());
            tracing::warn!(
                target: audit::TARGET,
                peer = peer.unwrap_or_default(),
                method = method.get(..METHOD_BYTES_MAX).unwrap_or(method),
                unlogged = (unlogged > 0).then_some(unlogged),
                "caller refused: {error}"
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
