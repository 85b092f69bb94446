//! The life of a gRPC call, from its head to its end, whatever it asks for.
//!
//! ```text
//!   head ─► place on its connection ─► message ─► work permit ─► answer ─► read ─► gone
//!            │ 2 s at most, else TOO_MANY_CALLS   │              │ 30 s at most
//!            └──────────── its principal ends, its time is up ───┴─► ended, then reset
//! ```
//!
//! What one caller sends or leaves unread costs others nothing: the permit for *work* ends
//! when the answer is made, and what is *unread* counts on its connection and in the bytes
//! of the gateway. A call whose policy ends gives up what it holds at that moment, whether
//! its connection reads or not; the stream is reset if its end is not read.
//!
//! hyper runs each stream on an [`Executor`], which is where a call is watched: a body that
//! waits for room in HTTP/2's window is not asked for anything.

mod call;
mod connection;
mod content;
mod executor;
mod kind;
mod ledger;
mod message;
mod outcome;
mod shared;
mod timeout;

pub(super) use call::{Call, ConnectionCalls};
pub(super) use executor::Executor;
pub(super) use kind::Kind;
pub(super) use shared::Calls;

/// A filter may name thousands of ids.
pub(super) const REQUEST_BYTES_MAX: usize = 1 << 20;
