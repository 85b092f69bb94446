//! Why a client cannot continue.

use tonic::Status;

/// Why a client cannot continue, even by reconnecting.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not one.
    #[error(
        "{0:?} is not the address of a gateway, such as http://127.0.0.1:50051; with TLS, https://"
    )]
    Address(String),
    /// The token cannot be sent.
    #[error("invalid token: unexpected characters")]
    Token,
    /// A certificate or key cannot be used.
    #[error("TLS: {0}")]
    Tls(String),
    /// The first connection failed by what waiting cannot mend.
    #[error("cannot connect by TLS: {0}")]
    TlsFailed(String),
    /// The gateway refused the request, and would again.
    #[error("the gateway refused the request: {} ({:?})", .0.message(), .0.code())]
    Refused(Box<Status>),
    /// A [`crate::Worker`] stopped before the gateway had answered these outcomes.
    #[error(
        "the gateway did not answer for {outcomes} events that were handled ({reason}); they may be handed out again"
    )]
    Unanswered {
        /// How many.
        outcomes: usize,
        /// How the last call failed.
        reason: String,
    },
}

/// The status's message, and what caused it, each once.
#[must_use]
pub fn reason(status: &Status) -> String {
    let mut text = status.message().to_owned();
    if let Some(cause) = std::error::Error::source(status) {
        append(&mut text, cause);
    }
    text
}

#[cfg(feature = "tls")]
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    append(&mut text, error);
    text
}

/// Each cause once: the transport's errors repeat themselves.
fn append(text: &mut String, error: &dyn std::error::Error) {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            let separator = if text.is_empty() { "" } else { ": " };
            *text = format!("{text}{separator}{next}");
        }
        cause = error.source();
    }
}
