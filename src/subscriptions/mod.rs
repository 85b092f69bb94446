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
//! The core is pure: the state and the steps from one to the next, what they are stored as, the
//! ids of deliveries, and the settings. It has no clock, and does not wait, read or write. Around
//! it, [`Running`] is the handle of one subscription, whose task makes the steps, and [`Worker`]
//! is one stream. [`Subscriptions`] are all of them: it answers the calls, and knows whose each
//! is.

#![warn(clippy::indexing_slicing)]

mod ack_id;
mod ahead;
mod ask;
mod cell;
mod changes;
mod config;
mod dead;
mod delivery;
mod directory;
mod error;
mod handle;
mod key;
mod leftovers;
mod machine;
mod manage;
mod metrics;
mod name;
mod overview;
mod reading;
mod receiving;
mod rooms;
mod running;
mod seats;
mod settings;
mod shared;
mod state;
mod state_cell;
mod status;
mod step;
mod step_error;
mod worker;

pub use ack_id::{AckId, InvalidAckId};
pub use ask::Report;
pub use cell::InvalidCell;
pub use config::Config;
pub use dead::{DeadLetter, DeadLetterPage, list_dead_letters, sweep_dead_letters};
pub use delivery::{Condition, Delivery, ReceiveOptions, WorkerFrame};
pub use error::Error;
pub use handle::Subscriptions;
pub use key::{Key, KeySource};
pub use machine::{
    Answer, Body, Candidate, Cause, Counts, DueEvent, Expired, Grant, Letter, LetterChange, Limits,
    Machine, Outcome, OwnLeases, ReadRequest, Reading, SeekError, Settled, Stall,
};
pub use metrics::{Metrics, NameMetrics, Observed, Redelivery};
pub use name::{InvalidName, Name};
pub use overview::Overview;
pub use receiving::{LetterPage, Receive, Resolution, StreamFrame, WorkerStream};
pub use running::{Letters, Running};
pub use settings::{AskedSettings, Definition, OrderBy, RETRY_DELAY_MOST, SettingError, Settings};
pub use shared::{Clock, Selection, Surroundings};
pub use state::{Lease, State};
pub use status::Status;
pub use step_error::StepError;
pub use worker::Worker;

#[cfg(test)]
mod tests;
