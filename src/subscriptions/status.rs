//! Where a subscription is, and what it waits for.

use super::machine::{Counts, Limits, Stall};
use super::name::Name;
use super::settings::Definition;
use super::step_error::StepError;
use crate::event::{Epoch, Position, UnixMillis};
use crate::log::Log;

/// Where a subscription is, as every gateway sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What its events wait for.
    pub counts: Counts,
    /// Everything that matches up to here is acknowledged, dead or passed over.
    pub cursor: Position,
    /// Every event up to here was looked at.
    pub frontier: Position,
    /// The log that both are in.
    pub epoch: Epoch,
    /// Whether it is paused.
    pub is_paused: bool,
    /// What is in the way, if something is. Nothing is in the way of one that is paused.
    pub stall: Option<Stall>,
}

impl Status {
    /// Reads where a subscription is from its cell, whichever gateway runs it. Leases are judged
    /// by `now`.
    ///
    /// # Errors
    /// If the cell cannot be read.
    #[expect(clippy::unused_async, reason = "still to come")]
    pub async fn read(
        _log: &dyn Log,
        _name: &Name,
        _definition: &Definition,
        _limits: Limits,
        _now: UnixMillis,
    ) -> Result<Self, StepError> {
        Err(StepError::NotStored("still to come".to_owned()))
    }
}
