//! The traces of calls.

use std::sync::LazyLock;

use http::Request;
use tonic::body::Body;

use crate::access::{ANONYMOUS, Principal};
use crate::proto::{DESCRIPTORS, PACKAGE};
use crate::telemetry::traces::{Attribute, Trace, Traces};

/// The names of the calls that are traced. A path is a caller's word, and the names of traces
/// are bounded.
static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let own = DESCRIPTORS
        .services()
        .filter(|service| service.package_name() == PACKAGE);
    own.flat_map(|service| {
        let methods: Vec<String> = service
            .methods()
            .map(|method| format!("{}/{}", service.full_name(), method.name()))
            .collect();
        methods
    })
    .collect()
});

/// Begins the trace of a call that was admitted; it is empty if traces are off, or the path names
/// no call of this gateway. A caller without credentials is not known, and names no parent.
pub(super) fn begin(traces: &Traces, request: &Request<Body>, principal: &Principal) -> Trace {
    if !traces.are_on() {
        return Trace::default();
    }
    let path = request.uri().path().trim_start_matches('/');
    let Some(name) = NAMES.iter().find(|name| *name == path) else {
        return Trace::default();
    };
    let mut trace = traces.begin(name.as_str());
    if principal.name() != ANONYMOUS {
        trace.trust(request.headers());
    }
    trace.set(Attribute::Principal(principal.name()));
    trace
}
