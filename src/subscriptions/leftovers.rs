//! What a deleted subscription leaves: its state, and its dead letters.
//!
//! Each removal lists cells first, then sees that there is no subscription of their name, and
//! then deletes those that are still as they were listed. So it never hits what a subscription
//! wrote that was created again under the same name.

use super::directory::cell_name;
use super::error::Error;
use super::name::Name;
use super::state::State;
use super::{dead, state_cell};
use crate::log::{Cell, Change, Log, Swapped};

/// Cells that are removed at a time.
const PAGE_CELLS: usize = 500;
/// A page is tried again when another gateway has changed one of its cells.
const CONFLICTS_MAX: usize = 10;

/// The generation of the state that an earlier life of the name left, if one did.
pub(super) async fn last_generation(log: &dyn Log, name: &Name) -> Result<Option<u64>, Error> {
    let cell = log.read(&state_cell::cell_name(name)).await?;
    let state = cell.and_then(|cell| State::decode(&cell.value).ok());
    Ok(state.map(|state| state.generation()))
}

/// Removes what is left of a deleted subscription. Does nothing once one of its name exists.
pub(super) async fn remove(log: &dyn Log, name: &Name) -> Result<(), Error> {
    let mut conflicts = 0;
    loop {
        let mut cells = log.list(&dead::prefix(name), "", PAGE_CELLS).await?;
        let is_last = cells.is_empty();
        if is_last {
            cells.extend(log.read(&state_cell::cell_name(name)).await?);
        }
        if cells.is_empty() || log.read(&cell_name(name)).await?.is_some() {
            return Ok(());
        }
        let changes = cells.into_iter().map(|cell| Change {
            name: cell.name,
            expected: Some(cell.revision),
            value: None,
        });
        match log.swap(changes.collect()).await? {
            Swapped::Stored(_) if is_last => return Ok(()),
            Swapped::Stored(_) => {}
            Swapped::Conflict(_) if conflicts < CONFLICTS_MAX => conflicts += 1,
            Swapped::Conflict(cell) => {
                return Err(Error::NotStored(format!("{cell} keeps changing")));
            }
        }
    }
}

/// The names that have a state or dead letters in the log, and perhaps no subscription.
pub(super) async fn names(log: &dyn Log) -> Result<Vec<Name>, Error> {
    let mut names = Vec::new();
    let mut after = String::new();
    while let Some(cell) = first(log, dead::PREFIX, &after).await? {
        let rest = cell.name.strip_prefix(dead::PREFIX).unwrap_or_default();
        let name = rest.split('/').next().unwrap_or_default();
        // Past all letters of this name, which end in hex digits.
        after = format!("{}{name}/g", dead::PREFIX);
        names.extend(name.parse::<Name>());
    }
    after.clear();
    while let Some(cell) = first(log, state_cell::PREFIX, &after).await? {
        let name = cell
            .name
            .strip_prefix(state_cell::PREFIX)
            .unwrap_or_default();
        names.extend(name.parse::<Name>());
        after = cell.name;
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

async fn first(log: &dyn Log, prefix: &str, after: &str) -> Result<Option<Cell>, Error> {
    let page = log.list(prefix, after, 1).await?;
    Ok(page.into_iter().next())
}
