//! States that are ahead of the log, because the log lost its end.
//!
//! Such a log gives the positions of the lost events to new ones. A state from before would count
//! those as handled. A gateway that starts marks the state as one of another log, before it takes
//! webhooks, until a seek moves it. On NATS, another gateway may be faster with new events.

use std::time::Duration;

use tokio::time::timeout;

use super::directory::{Directory, Entry};
use super::error::Error;
use super::name::Name;
use super::settings::Definition;
use super::state::State;
use super::state_cell::{StateCell, cell_name, read_state};
use super::status::first_state;
use super::step_error::StepError;
use crate::event::Position;
use crate::log::{Change, Log, Swapped};

/// The log looks for its end for up to 5 s.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// Marks the states that are ahead of the log.
pub(super) async fn mark_all(log: &dyn Log, directory: &Directory) {
    let entries = match directory.list().await {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!(%error, "subscriptions cannot be compared with the end of the log; trying again at the next start");
            return;
        }
    };
    let mut suspects = Vec::new();
    for entry in entries {
        let read = read_state(log, &entry.name, entry.definition.first_generation()).await;
        match read {
            Ok(StateCell { state, .. }) => {
                let state = state.unwrap_or_else(|| first_state(&entry.definition));
                if seems_ahead(log, &state) {
                    suspects.push((entry, state.frontier()));
                }
            }
            Err(error) => warn_of(&entry.name, &Error::of_step(&entry.name, error)),
        }
    }
    let Some(furthest) = suspects.iter().map(|(_, frontier)| *frontier).max() else {
        return;
    };
    let end = confirmed_end(log, furthest).await;
    for (entry, frontier) in suspects {
        let Entry {
            name, definition, ..
        } = entry;
        let marked = match &end {
            Ok(end) if frontier <= *end => continue,
            Ok(_) => mark(log, &name, &definition, frontier).await,
            Err(error) => Err(Error::of_step(&name, error.clone())),
        };
        if let Err(error) = marked {
            warn_of(&name, &error);
        }
    }
}

fn warn_of(name: &Name, error: &Error) {
    tracing::warn!(subscription = %name, %error, "a subscription cannot be compared with the end of the log; trying again at the next start");
}

/// Marks a state, unless its frontier has moved: then the log has what it handled.
async fn mark(
    log: &dyn Log,
    name: &Name,
    definition: &Definition,
    frontier: Position,
) -> Result<(), Error> {
    loop {
        let read = read_state(log, name, definition.first_generation()).await;
        let StateCell { revision, state } = read.map_err(|error| Error::of_step(name, error))?;
        let mut state = state.unwrap_or_else(|| first_state(definition));
        if state.epoch() != log.epoch() || state.frontier() != frontier {
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

/// Whether a state is ahead of the log that it is of.
pub(super) async fn is_ahead(log: &dyn Log, state: &State) -> Result<bool, StepError> {
    let frontier = state.frontier();
    Ok(seems_ahead(log, state) && frontier > confirmed_end(log, frontier).await?)
}

/// The same, by what this gateway knows: others may have appended what it has not heard of.
fn seems_ahead(log: &dyn Log, state: &State) -> bool {
    state.epoch() == log.epoch() && state.frontier() > log.bounds().last
}

/// The end of the log, as the store has it now.
async fn confirmed_end(log: &dyn Log, at_least: Position) -> Result<Position, StepError> {
    let confirmed = timeout(END_PATIENCE, log.confirmed_bounds(at_least)).await;
    let late = |_| StepError::NotStored("the log does not answer".to_owned());
    Ok(confirmed.map_err(late)??.last)
}
