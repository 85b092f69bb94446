//! The messages and the gRPC client of Clerkcast's proto files: the service and its envelope in
//! [`v1`], the shapes of Clerk's objects in [`clerk::v1`].
//!
//! The code is generated, and a test of the gateway compares it with the proto files.

#![allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::doc_markdown,
    reason = "generated code"
)]

/// `clerkcast.v1`: the service, the envelope and the archive.
pub mod v1 {
    include!("generated/clerkcast.v1.rs");
}

/// Clerk's objects.
pub mod clerk {
    /// `clerkcast.clerk.v1`.
    pub mod v1 {
        include!("generated/clerkcast.clerk.v1.rs");
    }
}
