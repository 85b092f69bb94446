//! The filter language: what is asked for, checked and compiled once, then asked for every
//! event.
//!
//! ```text
//!   Spec ──check, against the names that exist──► Filter ──within a Scope──► Filter
//! ```
//!
//! Pure: no clock, no waiting, no wire. A filter that can never match is refused, since its
//! subscriber would wait for ever in silence. A wildcard is always accepted.

mod asked;
mod check;
mod clauses;
mod compile;
mod known;
pub mod nearest;
mod pattern;
mod scope;
mod size;
mod spec;
mod violation;
mod within;

pub use asked::AskedFilter;
pub(crate) use asked::plain;
pub use compile::Filter;
pub use known::{KnownNames, LoggedType};
pub use pattern::{InvalidPattern, Patterns, TypePattern};
pub use scope::Scope;
pub use size::Size;
pub use spec::Spec;
pub use violation::{Violation, Violations};
pub use within::{Denied, Narrowed};
