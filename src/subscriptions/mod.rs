//! Subscriptions: named places in the log that the gateway keeps for groups of workers.
//!
//! Each event of a subscription goes to one of its workers, is handed out again until it is
//! acknowledged or has failed too often, and waits for the earlier events with its key.
//!
//! ```text
//!   log ──matching events──► machine ──grants──► workers
//!                             │   ▲ ◄──────────── what became of them
//!                      cell ◄─┘   └── cell
//! ```
//!
//! Nothing owns a subscription. Its [`State`] is the value of one cell, a small named value
//! beside the log that is replaced by compare-and-swap. Any gateway reads it, has the
//! [`Machine`] make the next one, and swaps it. So a gateway that dies leaves nothing but leases
//! that run out.
//!
//! This module is the pure core: the state and the steps from one to the next, what they are
//! stored as, the ids of deliveries, and the settings. It has no clock, and does not wait, read
//! or write. Still to come: the cells, the tasks that swap them, the streams to workers, and
//! the calls.

#![warn(clippy::indexing_slicing)]

mod ack_id;
mod cell;
mod key;
mod machine;
mod name;
mod settings;
mod state;

pub use ack_id::{AckId, InvalidAckId};
pub use cell::InvalidCell;
pub use key::{Key, KeySource};
pub use machine::{
    Answer, Body, Candidate, Cause, Counts, DueEvent, Expired, Grant, Letter, LetterChange, Limits,
    Machine, Outcome, OwnLeases, ReadRequest, Reading, SeekError, Settled, Stall,
};
pub use name::{InvalidName, Name};
pub use settings::{AskedSettings, Definition, OrderBy, RETRY_DELAY_MOST, SettingError, Settings};
pub use state::{Lease, State};

#[cfg(test)]
mod tests;
