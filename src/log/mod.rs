//! The durable, ordered log: the only thing between the producer and the consumers.
//!
//! ```text
//!   position   0        41        42   43        45
//!              ┆ removed │          A    B         C
//!              └─────────┴────────────────────────────
//!                        ▲                         ▲
//!                     trimmed                     last
//! ```
//!
//! The law of a [`Log`], held by one conformance suite (`tests/it/conformance`)
//! that every implementation passes:
//!
//! * **Durable.** [`Append::append`] answers only when the record survives a crash, and
//!   "duplicate" only when the first copy does.
//! * **Unique.** One (source, id) enters once, for as long as the record is kept and
//!   never under [`DEDUPE_WINDOW`].
//! * **Ordered.** Positions strictly increase in the order of the log and are never
//!   used twice, not even after a crash or after everything was removed. They may
//!   leave holes.
//! * **Complete.** A scan shows its reader every record that it wants in `(scan.after,
//!   through]`, so scan after scan misses nothing and repeats nothing; where retention
//!   removed some of those, the scan fails with [`ReadError::Expired`]. The reader is dropped
//!   before the scan answers, so that what it kept comes back to its owner.
//! * **Published once.** Each committed batch is published to [`Read::follow`] after
//!   it is durable, in order. A follower that lags reads the log instead.
//!
//! Beside the records there are [`Cells`], small named values with a law of their own.
//!
//! The log knows bytes, positions and durability. It does not know what an event
//! means, who posted it or who listens.

#![warn(clippy::indexing_slicing)]

pub mod cells;
#[cfg_attr(
    not(feature = "nats"),
    allow(dead_code, reason = "used by `jetstream`")
)]
mod counts;
mod error;
mod follower;
#[cfg(feature = "nats")]
pub mod jetstream;
#[cfg(not(feature = "nats"))]
#[path = "jetstream/config.rs"]
pub mod jetstream;
mod metrics;
#[cfg_attr(
    not(feature = "nats"),
    allow(dead_code, reason = "used by `jetstream`")
)]
mod published;
mod query;
mod record;
mod scan;
pub mod sqlite;
mod traits;

pub use cells::{Cell, Cells, Change, Changed, Revision, Swapped};
pub use counts::IsDeclared;
pub use error::{AppendError, CellError, ReadError};
pub use follower::{Follower, Lagged};
pub use metrics::Metrics;
pub use query::{Page, Query};
pub use record::{
    Appended, Batch, Bounds, DEDUPE_WINDOW, Description, Entry, Lineage, Record, Tally, Writability,
};
pub use scan::{Payloads, Predicate, Reader, RecordRef, Scan};
pub use traits::{Append, Keep, Log, Read};
