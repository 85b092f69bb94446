//! Clerk's events: their types, their shapes, and the decoding of a body into an `Event`.
//!
//! ```text
//!   verified body ──► envelope ──► catalog: which shape ──► JSON to protobuf, field by field
//!                         └──► the ids that filters look at
//! ```
//!
//! Decoding never refuses a body. A field of an unexpected JSON type is left unset and noted as
//! [`Drift`]; a body that is not JSON becomes an event without a type. The log stores the
//! payload beside the event, byte for byte, in every case.

pub mod catalog;
mod decode;
pub(crate) mod json;
mod number;
pub mod samples;
pub(crate) mod schema;
mod struct_value;
mod subjects;
mod transcode;
mod wire;

pub use decode::{Decoded, Envelope, decode, decode_again, send_time};
pub(crate) use schema::build_tables;
pub use schema::decoding;
pub use transcode::{Drift, DriftKind};
