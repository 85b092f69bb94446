//! The protobuf messages of `proto/`, their descriptor set, and the names and server traits that
//! `build.rs` makes from it. The messages themselves are those of the crate `clerkcast-client`.
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

pub use clerkcast_client::proto::{clerk, v1};
pub use v1::*;

include!(concat!(env!("OUT_DIR"), "/names.rs"));

/// The server traits of the services (`build.rs` describes them).
pub mod server {
    include!(concat!(
        env!("OUT_DIR"),
        "/server/clerkcast.v1.EventService.rs"
    ));
    include!(concat!(
        env!("OUT_DIR"),
        "/server/clerkcast.v1.SubscriptionService.rs"
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
