//! Indexes that are written once: a segment says where the values of a stretch of the log
//! stand.
//!
//! A log grows at its end and is never changed in the middle. So what finds its records by
//! type, user, organization or session, and by time, is written when a stretch is complete,
//! instead of with each commit:
//!
//! ```text
//!   segment ── directory: the first term of each part, the latest time of each block
//!      └────── parts, a page each: sorted terms, each with the places of its records
//! ```
//!
//! Segments cover 512 positions; eight neighbors become one of 4,096, then of 32,768, then of
//! 262,144. Nothing of a segment is needed to know what is in the log: where one is
//! missing or damaged, its records are judged one by one until it is built again.
//!
//! Pure: no SQLite, no clock.

mod build;
mod directory;
mod forged;
mod list;
mod merge;
mod part;
mod plan;
mod terms;

pub(super) use build::{Builder, Built};
pub(super) use directory::Segment;
pub use forged::look_up_forged;
pub(super) use list::Segments;
pub(super) use merge::Merge;
pub(super) use plan::{Tiling, Work};
pub(super) use terms::{Places, Term};

/// Why a segment counts as absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Damaged(pub(super) &'static str);

#[cfg(test)]
mod tests;
