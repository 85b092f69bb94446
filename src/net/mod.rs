//! Sockets: the listener, TLS and the HTTP server that the ports share, and an HTTP client.
//!
//! ```text
//!   accept ─► handshake: TLS handshake, first bytes ─► Connection, for webhook or grpc to serve
//!               │ within HANDSHAKE_TIMEOUT              │
//!               └─► closed ◄────────────────────────────┘ the oldest unproven one gives way
//! ```
//!
//! Until its first bytes arrive, a connection costs the server no more than a socket. Each port
//! bounds its connections. Beyond the bound, the oldest connection that has not proven itself
//! ([`Trust`]), by a signed delivery or by credentials, is closed for the new one. What this
//! module does not know: the meaning of requests, gRPC, and what a certificate's owner may do.

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
