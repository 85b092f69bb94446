//! TLS errors among the causes of a failure.

use std::error::Error;
use std::io;

use tokio_rustls::rustls;
use tokio_rustls::rustls::AlertDescription;

use super::{Fault, causes};

pub(super) fn fault(error: &rustls::Error) -> Fault {
    use AlertDescription::{CloseNotify, InternalError, UserCanceled};
    match error {
        // As `openssl req -x509` makes one by default.
        rustls::Error::InvalidCertificate(reason)
            if reason.to_string().contains("CaUsedAsEndEntity") =>
        {
            Fault::Tls(
                "the gateway shows the certificate of an authority (CA:TRUE) as its own: make it with basicConstraints CA:FALSE".to_owned(),
            )
        }
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
pub(super) fn error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    causes(error).find_map(|error| {
        error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            .or_else(|| error.downcast_ref::<rustls::Error>())
    })
}
