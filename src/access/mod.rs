//! Authentication and policies: who a caller is, and what that caller may receive.
//!
//! ```text
//!   bearer token ───────┐
//!   certificate's name ─┴─► Access ──► Principal ──► Policy: scope, redaction, payload, streams
//! ```
//!
//! The gateway authenticates a caller once for each call, and its [`Principal`] travels with the
//! call. The configuration can be replaced while the gateway runs: a call that was authenticated
//! by the former one learns of the replacement by [`Principal::revoked`].
//!
//! What this module does not know: gRPC, TLS, and what an event looks like.

pub(crate) mod audit;
mod directory;
mod guard;
mod metrics;
mod narrowed;
mod policy;
pub mod redaction;
mod token;

pub use directory::{
    ANONYMOUS, ANY_NAME, Access, AccessConfig, AuthError, CALLS_MAX, Credentials, Principal,
    PrincipalConfig, Replacement, Revocation,
};
pub use guard::{Caller, Guard};
pub use metrics::Metrics;
pub use narrowed::Narrowed;
pub use policy::Policy;
pub use redaction::Redaction;
pub use token::{InvalidHash, Token, TokenHash};

#[cfg(test)]
mod tests;
