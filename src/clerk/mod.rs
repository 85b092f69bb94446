//! What Clerk sends, and what it means.
//!
//! ```text
//!   verified body ──► envelope ──► catalog: which shape ──► JSON to protobuf, field by field
//!                         └──► the ids that filters look at
//! ```
//!
//! Nothing here refuses anything. A field of an unexpected JSON type is left unset and
//! noted as [`Drift`]; a body that is not JSON becomes an event without a type. The
//! payload stays beside it, byte for byte, whatever happens here.

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

pub use decode::{Decoded, Envelope, decode, decode_again};
pub(crate) use schema::build_tables;
pub use schema::decoding;
pub use transcode::{Drift, DriftKind};
