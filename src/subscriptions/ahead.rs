//! States that are ahead of the log, because the log lost its end.
//!
//! Such a log gives the positions of the lost events to new ones, which a state that was there
//! before would take for handled. So a gateway that starts marks the state as one of another
//! log, which it stays until it is moved, however far the log grows.

use super::directory::Directory;
use super::error::Error;
use super::name::Name;
use super::settings::Definition;
use super::state_cell::{StateCell, cell_name, read_state};
use super::status::first_state;
use crate::log::{Change, Log, Swapped};

/// Marks the states that are ahead of the log.
pub(super) async fn mark_all(log: &dyn Log, directory: &Directory) -> Result<(), Error> {
    for entry in directory.list().await? {
        mark(log, &entry.name, &entry.definition).await?;
    }
    Ok(())
}

async fn mark(log: &dyn Log, name: &Name, definition: &Definition) -> Result<(), Error> {
    loop {
        let read = read_state(log, name, definition.first_generation()).await;
        let StateCell { revision, state } = read.map_err(|error| Error::of_step(name, error))?;
        let mut state = state.unwrap_or_else(|| first_state(definition));
        let frontier = state.frontier();
        // Other gateways may have appended what this one has not heard of.
        let is_ahead = state.epoch() == log.epoch()
            && frontier > log.bounds().last
            && frontier > log.confirmed_bounds(frontier).await?.last;
        if !is_ahead {
            return Ok(());
        }
        state.leave_log();
        let change = Change {
            name: cell_name(name),
            expected: revision,
            value: Some(state.encode().into()),
        };
        if let Swapped::Stored(_) = log.swap(vec![change]).await? {
            tracing::warn!(
                subscription = %name,
                position = frontier.number(),
                "a subscription is ahead of the log, which lost its end; it is stalled until it is moved"
            );
            return Ok(());
        }
    }
}
