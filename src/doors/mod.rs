//! The doors: transports through which consumers call [`crate::api`]. A door reads a request and
//! renders its answer, both in the words of its protocol.

#![warn(clippy::indexing_slicing)]

pub mod grpc;
