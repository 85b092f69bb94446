//! The filter language: a filter is checked and compiled once, and then matched against every
//! event.
//!
//! ```text
//!   Spec ──check, against the names that exist──► Filter ──within a Scope──► Filter
//! ```
//!
//! A [`Spec`] is the filter as the caller writes it. A [`Scope`] is what the caller's policy
//! allows, which narrows the filter.
//!
//! Pure: no clock, no waiting, no wire. A filter that can never match is refused, because its
//! subscriber would wait forever in silence. A wildcard is always accepted.

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
