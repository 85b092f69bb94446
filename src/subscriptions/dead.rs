//! Dead letters: events that failed too often, each in a cell of its own.

use super::name::Name;
use super::state::Lease;
use super::step_error::StepError;
use crate::event::{Position, UnixMillis};
use crate::log::{Log, Record};

/// An event that failed too often, whole.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The event, decoded again from its body. Shown only as far as policies allow.
    pub record: Record,
    /// How often it was delivered.
    pub deliveries: u32,
    /// Of the last delivery.
    pub lease: Lease,
    /// What the last worker reported, or `deadline passed`.
    pub reason: String,
    /// When it was given up.
    pub dead_time: UnixMillis,
    /// It is being handed out again.
    pub is_replaying: bool,
}

/// One page of dead letters.
#[derive(Clone, Debug, Default)]
pub struct DeadLetterPage {
    /// In log order.
    pub letters: Vec<DeadLetter>,
    /// The position to continue after; absent where there are no more.
    pub next: Option<Position>,
}

/// Lists dead letters after a position: at most `letters_max`, and fewer where they are large.
///
/// # Errors
/// If the cells cannot be read.
pub async fn list_dead_letters(
    _log: &dyn Log,
    _name: &Name,
    _first_generation: u64,
    _after: Position,
    _letters_max: usize,
) -> Result<DeadLetterPage, StepError> {
    Err(StepError::NotStored("still to come".to_owned()))
}
