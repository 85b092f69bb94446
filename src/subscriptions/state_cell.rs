//! The cell of a state.

use super::name::Name;
use super::state::State;
use super::step_error::StepError;
use crate::log::{Log, Revision};

/// What is in a subscription's cell.
#[derive(Debug)]
pub(super) struct StateCell {
    /// What the next swap expects.
    pub(super) revision: Option<Revision>,
    /// The state; absent before the first step, and where it is left over from an earlier life
    /// of the name.
    pub(super) state: Option<State>,
}

/// What the names of all cells of states begin with.
pub(super) const PREFIX: &str = "state/";

/// The name of a subscription's cell.
pub(super) fn cell_name(name: &Name) -> String {
    format!("{PREFIX}{name}")
}

/// The subscription whose state a cell of this name holds.
pub(super) fn name_of_cell(cell: &str) -> Option<Name> {
    cell.strip_prefix(PREFIX)?.parse().ok()
}

/// Reads the state of a subscription whose first state has this generation.
pub(super) async fn read_state(
    log: &dyn Log,
    name: &Name,
    first_generation: u64,
) -> Result<StateCell, StepError> {
    let Some(cell) = log.read(&cell_name(name)).await? else {
        return Ok(StateCell {
            revision: None,
            state: None,
        });
    };
    let state = State::decode(&cell.value)?;
    Ok(StateCell {
        revision: Some(cell.revision),
        state: (state.generation() >= first_generation).then_some(state),
    })
}
