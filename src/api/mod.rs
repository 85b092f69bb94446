//! The requests to the gateway: checks and answers them, whatever door they come through.
//!
//! ```text
//!   doors ──► Call, request ──► Api ──► fanout, log
//!     ◄── answer, EventStream, Problem ──┘
//! ```
//!
//! A door is a transport ([`crate::doors`]): it authenticates its caller, reads a message and
//! renders the answer. This module decides what the answer is, and what is wrong with a request.
//! What it does not know: gRPC, HTTP and JSON.

mod check;
pub mod control;
pub mod event_types;
mod events;
pub mod filter;
mod log_info;
pub mod narrowed;
pub mod oversized;
mod problem;
mod request;
mod retry;
mod service;
mod subscribers;
mod subscriptions;

pub use crate::fanout::{Control, Delivery, Frame};
pub use crate::filter::Violation;
pub use events::EventStream;
pub use problem::{Code, MESSAGE_BYTES_MAX, Problem, reason};
pub use service::{Api, Call};
pub use subscriptions::{DeliveryStream, shown_creation};
