//! Dead letters in pages.

use super::{CELLS_MAX, DeadLetterPage, StoredLetter, cell_name, prefix};
use crate::event::Position;
use crate::log::{Log, Revision};
use crate::subscriptions::name::Name;
use crate::subscriptions::state_cell::read_state;
use crate::subscriptions::step_error::StepError;

/// A page ends with the letter that reaches this many bytes of bodies.
const PAGE_BYTES_MAX: usize = 1 << 20;

/// Some of a subscription's letters, by their cells, in log order.
#[derive(Debug)]
pub(in crate::subscriptions) struct LettersAfter {
    /// Each with the revision of its cell.
    pub(in crate::subscriptions) letters: Vec<(StoredLetter, Revision)>,
    /// The name of the last cell, to continue after; absent at the end.
    pub(in crate::subscriptions) last: Option<String>,
}

/// Reads a page of letters, whether they count or not, after the cell of this name.
pub(in crate::subscriptions) async fn read_page(
    log: &dyn Log,
    name: &Name,
    after: &str,
) -> Result<LettersAfter, StepError> {
    let cells = log.list(&prefix(name), after, CELLS_MAX).await?;
    let last = cells.last().map(|cell| cell.name.clone());
    let letters = cells
        .into_iter()
        .map(|cell| Ok((StoredLetter::decode(&cell.value)?, cell.revision)));
    Ok(LettersAfter {
        letters: letters.collect::<Result<_, StepError>>()?,
        last,
    })
}

/// Lists dead letters after a position: at most `letters_max`, and fewer where they are large.
/// `state` is the subscription's, as it is now; without one there are none.
///
/// # Errors
/// If the cells cannot be read.
pub async fn list_dead_letters(
    log: &dyn Log,
    name: &Name,
    first_generation: u64,
    after: Position,
    letters_max: usize,
) -> Result<DeadLetterPage, StepError> {
    let mut page = DeadLetterPage::default();
    let Some(state) = read_state(log, name, first_generation).await?.state else {
        return Ok(page);
    };
    let newest = state.newest_dead();
    let has_more = |after: Position| newest.is_some_and(|newest| newest > after);
    let mut bytes = 0;
    let mut cell = cell_name(name, after);
    let mut reached = after;
    while has_more(reached) {
        let LettersAfter { letters, last } = read_page(log, name, &cell).await?;
        let Some(last) = last else { return Ok(page) };
        for (letter, _) in letters {
            reached = letter.position;
            if !state.is_dead(reached) {
                continue;
            }
            bytes += letter.payload.len();
            let is_replaying = state.is_replaying(reached);
            page.letters.push(letter.into_letter(is_replaying));
            if page.letters.len() >= letters_max || bytes >= PAGE_BYTES_MAX {
                page.next = has_more(reached).then_some(reached);
                return Ok(page);
            }
        }
        cell = last;
    }
    Ok(page)
}
