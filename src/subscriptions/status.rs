//! Where a subscription is, and what it waits for.

use super::machine::{CLOCK_MARGIN, Counts, Limits, Machine, OwnLeases, Stall};
use super::name::Name;
use super::settings::Definition;
use super::state::State;
use super::state_cell::read_state;
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
    pub async fn read(
        log: &dyn Log,
        name: &Name,
        definition: &Definition,
        limits: Limits,
        now: UnixMillis,
    ) -> Result<Self, StepError> {
        let cell = read_state(log, name, definition.first_generation()).await?;
        let state = cell.state.unwrap_or_else(|| first_state(definition));
        let settings = definition.settings.clone();
        let machine = Machine::new(state, settings, limits, OwnLeases::default());
        let mut status = Self::new(&machine, log, now);
        // By the deadlines as they are stored.
        status.counts = machine.counts(now.after(CLOCK_MARGIN));
        Ok(status)
    }

    /// Where the subscription of a machine is.
    pub(super) fn new(machine: &Machine, log: &dyn Log, now: UnixMillis) -> Self {
        let state = machine.state();
        let trimmed = log.bounds().trimmed;
        Self {
            counts: machine.counts(now),
            cursor: machine.handled_through(),
            frontier: state.frontier(),
            epoch: state.epoch(),
            is_paused: machine.settings().paused,
            stall: machine.stall(log.epoch(), trimmed, now),
        }
    }
}

/// The state of a subscription before its first step.
pub(super) fn first_state(definition: &Definition) -> State {
    State::new(
        definition.epoch,
        definition.first_generation(),
        definition.start,
        definition.create_time,
    )
}
