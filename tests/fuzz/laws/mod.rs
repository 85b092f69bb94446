//! What holds for every input that a stranger, a subscriber, an operator or a disk can hand in.
//!
//! Each law takes an input that is made of arbitrary bytes. `tests/it/laws.rs` holds them
//! to a few thousand of those with each run of the tests; the fuzzer, which is guided by
//! what the input reaches, to as many as it is given time for (`tests/tools/fuzz`).

mod config;
mod delivery;
mod event;
mod filter;
mod free_json;
mod rewriting;
mod segment;
mod subscription;

pub(crate) use config::{ConfigCut, ConfigFile};
pub(crate) use delivery::Delivery;
pub(crate) use event::{Body, CursorText};
pub(crate) use filter::{Filtering, PolicyOnFilter};
pub(crate) use free_json::FreeJson;
pub(crate) use rewriting::Rewriting;
pub(crate) use segment::ForgedSegment;
pub(crate) use subscription::{AckIdText, StateBytes};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
