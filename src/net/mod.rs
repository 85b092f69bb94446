//! Sockets: what the ports have in common, and the HTTP server of all of them.
//!
//! ```text
//!   accept ─► handshake: TLS handshake, first bytes ─► Connection, for webhook or grpc to serve
//!               │ within HANDSHAKE_TIMEOUT              │
//!               └─► closed ◄────────────────────────────┘ the oldest unproven one gives way
//! ```
//!
//! A connection costs its server nothing but a socket until it has said something, and
//! there is a bound on how many there are. Beyond it, those that have not shown to be one
//! of those whom the port is for ([`Trust`]) give way to newcomers. What this module
//! does not know: what is asked over HTTP, gRPC, and what a certificate's owner may do.

#![warn(clippy::indexing_slicing)]

mod connection;
mod descriptors;
pub mod http;
mod http_client;
mod listener;
mod metrics;
mod tls;
mod trust;

pub use connection::{Connection, Peer};
pub use descriptors::raise_limit;
pub use http_client::{Answer, ClientError, HttpClient};
pub use listener::{Limits, Listener};
pub use metrics::Metrics;
pub use tls::{CertificateFiles, Renewal, Tls, TlsError, check_authorities};
pub use trust::Trust;
