//! Transports: what a consumer asks arrives here, and is answered in the words of its
//! protocol.

#![warn(clippy::indexing_slicing)]

pub mod grpc;
