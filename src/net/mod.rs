//! Sockets: what the two public ports have in common.
//!
//! ```text
//!   accept ─► opening: TLS handshake, first bytes ─► Connection, for webhook or grpc to serve
//!               │ within OPENING_TIMEOUT; the longest silent gives way to newcomers
//!               └─► closed
//! ```
//!
//! A connection costs its server nothing but a socket until it has said something, and
//! there is a bound on how many there are. What this module does not know: HTTP, gRPC,
//! and what a certificate's owner may do.

mod connection;
mod descriptors;
mod listener;
mod metrics;
mod tls;

pub use connection::{Connection, Peer};
pub use descriptors::raise_limit;
pub use listener::{Limits, Listener};
pub use metrics::Metrics;
pub use tls::{CertificateFiles, Tls, TlsError};
