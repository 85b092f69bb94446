//! Removing the cells of letters that do not count.

use std::time::Duration;

use super::{CELLS_MAX, StoredLetter, prefix};
use crate::event::UnixMillis;
use crate::log::{Cell, Change, Log, Swapped};
use crate::subscriptions::name::Name;
use crate::subscriptions::state_cell::read_state;
use crate::subscriptions::step_error::StepError;

/// Cells deleted at once.
const DELETED_MAX: usize = 500;
/// A letter that the state does not list may be one whose state is being written, until it is
/// this old.
const WRITTEN_FOR: Duration = Duration::from_secs(3600);

/// Deletes the cells of letters that the state of a subscription does not list: a gateway
/// stopped between two writes. Letters of the last hour stay, and so does a cell that changes
/// meanwhile.
///
/// # Errors
/// If the cells cannot be read or deleted.
pub async fn sweep_dead_letters(
    log: &dyn Log,
    name: &Name,
    first_generation: u64,
    now: UnixMillis,
) -> Result<(), StepError> {
    let state = read_state(log, name, first_generation).await?.state;
    let is_left_over = |cell: &Cell| {
        let Ok(letter) = StoredLetter::decode(&cell.value) else {
            return false;
        };
        let is_listed = state
            .as_ref()
            .is_some_and(|state| state.is_dead(letter.position));
        !is_listed && now.since(letter.dead_time) >= WRITTEN_FOR
    };
    let prefix = prefix(name);
    let mut after = String::new();
    let mut changes = Vec::new();
    loop {
        let cells = log.list(&prefix, &after, CELLS_MAX).await?;
        let Some(last) = cells.last() else { break };
        after.clone_from(&last.name);
        let deleted = cells.into_iter().filter(&is_left_over);
        changes.extend(deleted.map(|cell| Change {
            name: cell.name,
            expected: Some(cell.revision),
            value: None,
        }));
        if changes.len() + CELLS_MAX > DELETED_MAX {
            delete(log, std::mem::take(&mut changes)).await?;
        }
    }
    delete(log, changes).await
}

/// Deletes cells together, or one by one where one of them was changed.
async fn delete(log: &dyn Log, changes: Vec<Change>) -> Result<(), StepError> {
    if changes.is_empty() {
        return Ok(());
    }
    let not_stored = |error: crate::log::AppendError| StepError::NotStored(error.to_string());
    let swapped = log.swap(changes.clone()).await.map_err(not_stored)?;
    if let Swapped::Conflict(_) = swapped {
        for change in changes {
            let _changed_meanwhile = log.swap(vec![change]).await.map_err(not_stored)?;
        }
    }
    Ok(())
}
