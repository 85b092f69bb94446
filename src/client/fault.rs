//! What a failed attempt to connect shows about the address that was given.

use std::error::Error;
use std::io;

use tokio_rustls::rustls;
use tokio_rustls::rustls::AlertDescription;
use tonic::Status;

/// As tonic words an answer that has no status of gRPC.
const NO_GRPC_STATUS: &str = "grpc-status header missing";

/// What is wrong, as far as it shows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Waiting cannot mend it: TLS is spoken to a port that does not, or a certificate does
    /// not verify. With what to change.
    Tls(String),
    /// Something answers, and not in gRPC.
    NoGrpc,
    /// Nothing answers, or the gateway itself.
    Other,
}

pub(super) fn of(status: &Status) -> Fault {
    let source = status.source();
    if let Some(error) = source.and_then(tls_error) {
        return tls_fault(error);
    }
    let is_answered = source.is_some_and(|error| !is_unreachable(error));
    if is_answered || status.message().starts_with(NO_GRPC_STATUS) {
        Fault::NoGrpc
    } else {
        Fault::Other
    }
}

fn tls_fault(error: &rustls::Error) -> Fault {
    use AlertDescription::{CloseNotify, InternalError, UserCanceled};
    match error {
        rustls::Error::InvalidCertificate(_) => Fault::Tls(format!(
            "the gateway's certificate does not verify ({error}): name the authority that vouches for it (--ca-cert FILE), or the gateway as its certificate does"
        )),
        rustls::Error::InvalidMessage(_) => {
            Fault::Tls("this port does not speak TLS: use http:// or grpc://".to_owned())
        }
        rustls::Error::AlertReceived(CloseNotify | InternalError | UserCanceled) => Fault::Other,
        rustls::Error::AlertReceived(_) => Fault::Tls(format!(
            "the gateway refused the handshake ({error}): check the certificate that is shown to it (--client-cert FILE, --client-key FILE)"
        )),
        _ => Fault::NoGrpc,
    }
}

/// The first TLS error among the causes. An I/O error passes over what it wraps when it is
/// asked for its source.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    causes(error).find_map(|error| {
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        let wrapped = wrapped.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        wrapped.or_else(|| error.downcast_ref::<rustls::Error>())
    })
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
