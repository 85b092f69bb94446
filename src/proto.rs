//! The generated messages and client of `proto/`, and the descriptor set that they come
//! from: the service and its envelope in [`v1`], the shapes of Clerk's objects in
//! [`clerk::v1`].
//!
//! The `.proto` files are the single source of truth for what an event looks like:
//! reflection serves the descriptors, and [`crate::clerk`] derives the decoding of
//! Clerk's JSON from them.

#![allow(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::doc_markdown,
    reason = "generated code"
)]

use std::sync::LazyLock;

use prost_reflect::DescriptorPool;

/// `clerkcast.v1`: the service, the envelope and the archive.
pub mod v1 {
    tonic::include_proto!("clerkcast.v1");
}

/// Clerk's objects.
pub mod clerk {
    /// `clerkcast.clerk.v1`.
    pub mod v1 {
        tonic::include_proto!("clerkcast.clerk.v1");
    }
}

pub use v1::*;

include!(concat!(env!("OUT_DIR"), "/names.rs"));

/// The server trait of `EventService` (`build.rs` describes it).
pub mod server {
    include!(concat!(
        env!("OUT_DIR"),
        "/server/clerkcast.v1.EventService.rs"
    ));
}

/// The package of the service and its messages.
pub const PACKAGE: &str = "clerkcast.v1";

/// The encoded `google.protobuf.FileDescriptorSet` of all files and their imports,
/// comments included.
pub const DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/clerkcast_descriptor.binpb"));

/// [`DESCRIPTOR_SET`], resolved.
pub static DESCRIPTORS: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(DESCRIPTOR_SET).expect("build.rs wrote a valid descriptor set")
});
