//! The generated messages and client of `proto/clerkcast/v1`, and the descriptor
//! set that they come from.
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

tonic::include_proto!("clerkcast.v1");

/// The server trait of `EventService` (`build.rs` describes it).
pub mod server {
    include!(concat!(
        env!("OUT_DIR"),
        "/server/clerkcast.v1.EventService.rs"
    ));
}

/// The package that every message lives in.
pub const PACKAGE: &str = "clerkcast.v1";

/// The service's full name, as gRPC, reflection and health know it.
pub const EVENT_SERVICE: &str = "clerkcast.v1.EventService";

/// The encoded `google.protobuf.FileDescriptorSet` of all files and their imports,
/// comments included.
pub const DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/clerkcast_descriptor.binpb"));

/// [`DESCRIPTOR_SET`], resolved.
pub static DESCRIPTORS: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(DESCRIPTOR_SET).expect("build.rs wrote a valid descriptor set")
});
