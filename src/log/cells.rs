//! Cells: small named values beside the records, each replaced as a whole.
//!
//! ```text
//!   swap: name, expected revision, new value ──► stored: the new revision
//!                                            └─► conflict: another revision is current
//! ```
//!
//! What a reader of the log must remember across restarts, and share with readers in other
//! processes, is the value of a cell. Retention never removes a cell.
//!
//! The law of [`Cells`], held by the conformance suite:
//!
//! * **Swapped.** A change is stored only if its expected revision is the current one. The
//!   changes of one swap are stored in the order given, all of them or, where each is a write of
//!   its own, a prefix: what a later one relies on comes first. An answer is durable. That holds
//!   for a conflict too, which reveals a value that must not vanish.
//! * **Unknown.** An error leaves open whether the changes were stored, and reading settles it.
//!   Only [`AppendError::InvalidCell`] certainly stored nothing. A swap whose caller goes away
//!   is decided all the same, once.
//!
//! A revision never comes again for a name, also where the cell is deleted and created again.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::broadcast;

use super::error::{AppendError, CellError, ReadError};

/// The longest name of a cell, in bytes.
pub const NAME_BYTES_MAX: usize = 200;
/// The largest value of a cell, in bytes.
pub const VALUE_BYTES_MAX: usize = 4 << 20;
/// The most bytes of names and values in one swap: a larger one would hold up what is committed
/// beside it.
pub const SWAP_BYTES_MAX: usize = 16 << 20;
/// The most changes in one swap.
pub const SWAP_CHANGES_MAX: usize = 1_024;
/// A receiver of changes that is more than this many behind misses some.
pub const WATCHED_CHANGES_MAX: usize = 1_024;
/// A page of a list ends with the cell that reaches this many bytes of names and values.
pub const LIST_BYTES_MAX: usize = 4 << 20;

/// Small named values beside the records, each replaced as a whole. The module's documentation
/// is the law.
///
/// A name is 1 to [`NAME_BYTES_MAX`] bytes: words of `a` to `z`, `0` to `9`, `-` and `_`, with
/// `/` between them.
pub trait Cells: fmt::Debug + Send + Sync + 'static {
    /// Reads a cell, if there is one of this name.
    fn read(&self, name: &str) -> BoxFuture<'_, Result<Option<Cell>, ReadError>>;

    /// Reads the cells whose names begin with `prefix` and come after `after`, ordered by name:
    /// at most `max`, and fewer where they reach [`LIST_BYTES_MAX`]. Only the end of the list is
    /// empty. A prefix is whole words, each with its `/`, or empty for all cells.
    fn list(
        &self,
        prefix: &str,
        after: &str,
        max: usize,
    ) -> BoxFuture<'_, Result<Vec<Cell>, ReadError>>;

    /// Stores the changes, if the expected revision of each is the current one. It begins when
    /// it is called, and does not end with its future.
    fn swap(&self, changes: Vec<Change>) -> BoxFuture<'static, Result<Swapped, AppendError>>;

    /// The changes that are stored from now on, by this process or another, once they are
    /// durable. A hint: a receiver that lags or whose connection is lost misses some, one that
    /// another has replaced already may be passed over, and reading is the truth.
    fn watch(&self) -> broadcast::Receiver<Changed>;
}

/// The version of a cell's value. It grows while the cell lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

impl Revision {
    /// The revision that a store knows by this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The store's number for this revision.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// A named value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// What it is called.
    pub name: String,
    /// Which of its values this is.
    pub revision: Revision,
    /// The value.
    pub value: Bytes,
}

/// One change of a swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The cell.
    pub name: String,
    /// The revision that the cell must have now; none if there must be no such cell.
    pub expected: Option<Revision>,
    /// Its next value; none deletes it.
    pub value: Option<Bytes>,
}

impl Change {
    /// Size of the change in bytes, as counted against every budget.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.name.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// The answer to a swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swapped {
    /// All changes are durable now. These are the new revisions, in the order of the changes;
    /// none where the cell was deleted.
    Stored(Vec<Option<Revision>>),
    /// The first name whose expected revision is not the current one.
    Conflict(String),
}

/// A change that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The cell.
    pub name: Arc<str>,
    /// Its new revision; none where it was deleted.
    pub revision: Option<Revision>,
}

/// Refuses changes that no log stores.
///
/// # Errors
/// When a name is malformed or repeated, or a value or the swap is too large.
pub fn check_changes(changes: &[Change]) -> Result<(), CellError> {
    if changes.len() > SWAP_CHANGES_MAX {
        return Err(CellError::TooManyChanges {
            found: changes.len(),
            most: SWAP_CHANGES_MAX,
        });
    }
    for change in changes {
        check_name(&change.name)?;
        let bytes = change.value.as_ref().map_or(0, Bytes::len);
        if bytes > VALUE_BYTES_MAX {
            return Err(CellError::ValueTooLarge {
                name: change.name.clone(),
                bytes,
                most: VALUE_BYTES_MAX,
            });
        }
    }
    let bytes = changes.iter().map(Change::bytes).sum();
    if bytes > SWAP_BYTES_MAX {
        return Err(CellError::SwapTooLarge {
            bytes,
            most: SWAP_BYTES_MAX,
        });
    }
    let mut names: Vec<&str> = changes.iter().map(|change| &*change.name).collect();
    names.sort_unstable();
    let mut pairs = names.iter().zip(names.iter().skip(1));
    match pairs.find(|(name, next)| name == next) {
        Some((name, _)) => Err(CellError::RepeatedName((*name).to_owned())),
        None => Ok(()),
    }
}

/// Refuses a name that no cell has.
///
/// # Errors
/// When the name is malformed.
pub fn check_name(name: &str) -> Result<(), CellError> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
    let is_word = |word: &str| !word.is_empty() && word.chars().all(is_plain);
    if name.len() <= NAME_BYTES_MAX && name.split('/').all(is_word) {
        Ok(())
    } else {
        Err(CellError::MalformedName(name.chars().take(80).collect()))
    }
}

/// Refuses a prefix that no names have. The empty one is that of all.
///
/// # Errors
/// When the prefix is not whole words, each with its `/`.
pub fn check_prefix(prefix: &str) -> Result<(), CellError> {
    match prefix.strip_suffix('/') {
        Some(words) if check_name(words).is_ok() => Ok(()),
        None if prefix.is_empty() => Ok(()),
        _ => Err(CellError::MalformedPrefix(
            prefix.chars().take(80).collect(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(name: &str, bytes: usize) -> Change {
        Change {
            name: name.to_owned(),
            expected: None,
            value: Some(Bytes::from(vec![0; bytes])),
        }
    }

    #[test]
    fn a_name_is_plain_words_with_slashes_between_them() {
        let longest = "a".repeat(NAME_BYTES_MAX);
        for name in [
            "objects/keeper",
            "state/crm-eu",
            "dead/crm/00000000000003e8",
            "a_b",
            "7",
            &longest,
        ] {
            assert_eq!(check_name(name), Ok(()), "{name:?}");
        }
        let too_long = "a".repeat(NAME_BYTES_MAX + 1);
        for name in [
            "", "/", "state/", "/state", "a//b", "A", "a.b", "a b", "a*", "a>", "é", "a\n",
            &too_long,
        ] {
            let refused = check_name(name).expect_err(name).to_string();
            assert!(refused.contains("name of a cell"), "{refused}");
        }
        for prefix in ["", "state/", "dead/crm/"] {
            assert_eq!(check_prefix(prefix), Ok(()), "{prefix:?}");
        }
        for prefix in ["/", "state", "dead//", "a.b/"] {
            assert!(check_prefix(prefix).is_err(), "{prefix:?}");
        }
    }

    #[test]
    fn a_swap_is_bounded() {
        let at_the_bound = change("a", VALUE_BYTES_MAX);
        assert_eq!(check_changes(&[at_the_bound]), Ok(()));
        let refused = |changes: &[Change]| check_changes(changes).expect_err("refused").to_string();
        assert_eq!(
            refused(&[change("a", VALUE_BYTES_MAX + 1)]),
            "the value of cell `a` has 4194305 bytes (at most 4194304)"
        );
        let names: Vec<String> = (0..=SWAP_CHANGES_MAX)
            .map(|number| number.to_string())
            .collect();
        let many: Vec<_> = names.iter().map(|name| change(name, 0)).collect();
        assert_eq!(
            refused(&many),
            "1025 changes of cells in one swap (at most 1024)"
        );
        let large: Vec<_> = names.iter().take(4).collect();
        let large: Vec<_> = large
            .iter()
            .map(|name| change(name, VALUE_BYTES_MAX))
            .collect();
        assert!(refused(&large).contains("16777220 bytes"));
        assert_eq!(
            refused(&[change("b", 0), change("a", 0), change("b", 0)]),
            "cell `b` is changed twice in one swap"
        );
    }
}
