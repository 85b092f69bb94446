//! Around every service that is not public: who calls, in the terms of the connection.

use http::{Extensions, Request};
use tonic::Status;
use tonic::body::Body;

use super::status;
use crate::access::{AuthError, Caller, Guard, Principal};
use crate::api::{Call, Problem};
use crate::net::Peer;

/// This door's name.
const DOOR: &str = "grpc";

/// Admits the caller of a request: its connection is trusted from here on, and its principal
/// is among the extensions of the request.
///
/// # Errors
/// With the status to answer, when the gateway does not know the caller.
pub(super) fn admit(guard: &Guard, request: &mut Request<Body>) -> Result<Principal, Status> {
    let admitted = guard.admit(&caller(request));
    let principal = admitted.map_err(|error| status::render(Problem::from(error)))?;
    if let Some(peer) = request.extensions().get::<Peer>() {
        peer.trust.grant();
    }
    request.extensions_mut().insert(principal.clone());
    Ok(principal)
}

/// Who calls, without a trace of it.
pub(super) fn authenticate(guard: &Guard, request: &Request<Body>) -> Result<Principal, AuthError> {
    guard.authenticate(&caller(request))
}

fn caller(request: &Request<Body>) -> Caller<'_> {
    let peer = request.extensions().get::<Peer>();
    Caller {
        headers: request.headers(),
        certificate_names: peer.map_or(&[], |peer| &peer.certificate_names),
        address: peer.map(|peer| peer.address),
        method: request.uri().path(),
    }
}

/// Where the caller connected from.
pub(super) fn peer(extensions: &Extensions) -> String {
    let peer = extensions.get::<Peer>();
    peer.map(|peer| peer.address.to_string())
        .unwrap_or_default()
}

/// Who makes a call that was admitted.
pub(super) fn call(extensions: &Extensions) -> Result<Call, Status> {
    let principal = extensions.get::<Principal>().cloned();
    Ok(Call {
        principal: principal.ok_or_else(|| status::render(Problem::not_guarded()))?,
        peer: peer(extensions),
        door: DOOR,
    })
}
