//! What a failed attempt to connect shows about the address that was given.

#[cfg(feature = "tls")]
mod tls;

use std::error::Error;

use tonic::Status;

/// As tonic words an answer that has no status of gRPC.
const NO_GRPC_STATUS: &str = "grpc-status header missing";

/// What is wrong, as far as it shows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Waiting cannot mend it: TLS is spoken to a port that does not, or a certificate does
    /// not verify. With what to change.
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "no TLS can fail"))]
    Tls(String),
    /// Something answers, and not in gRPC.
    NoGrpc,
    /// Nothing answers, or the gateway itself.
    Other,
}

pub(crate) fn of(status: &Status) -> Fault {
    let source = status.source();
    #[cfg(feature = "tls")]
    if let Some(error) = source.and_then(tls::error) {
        return tls::fault(error);
    }
    let is_answered = source.is_some_and(|error| !is_unreachable(error));
    if is_answered || status.message().starts_with(NO_GRPC_STATUS) {
        Fault::NoGrpc
    } else {
        Fault::Other
    }
}

/// Whether there is no connection, so that nothing is known of what listens there.
fn is_unreachable(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|error| {
        let words = error.to_string();
        error.downcast_ref::<tonic::TimeoutExpired>().is_some()
            || words.contains("connect error")
            || words.contains("dns error")
    })
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'a (dyn Error + 'static) = *error;
        error.source()
    })
}
