//! A part of a segment: as many terms as fit a page of the file, each with its places.
//!
//! ```text
//!   CRC-32C │ count │ terms, sorted, 8 bytes each │ ends of their lists, 2 each │ lists
//! ```
//!
//! A look-up reads the one or two parts that may have the term, and nothing else; each is
//! checked by itself. A list that does not fit goes on in the next part, under its term.
//! Numbers are little-endian.

use super::Damaged;
use super::terms::{Places, Stretch, Term, read_stretches, write_stretch};

/// A part fills a page of SQLite's, of 4,096 bytes, but for what a row takes in it.
const PART_BYTES_MAX: usize = 4_040;
const CRC_BYTES: usize = 4;
const COUNT_BYTES: usize = 2;
const TERM_BYTES: usize = 8;
const END_BYTES: usize = 2;
/// Of one stretch: two numbers of 32 bits.
const STRETCH_BYTES_MAX: usize = 10;

/// Writes parts.
#[derive(Debug, Default)]
pub(super) struct PartWriter {
    finished: Vec<Finished>,
    terms: Vec<Term>,
    ends: Vec<u16>,
    lists: Vec<u8>,
}

/// A part that is complete.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) first_term: Term,
    pub(super) bytes: Vec<u8>,
}

impl PartWriter {
    /// Adds a term that follows those before it.
    pub(super) fn add(&mut self, term: Term, places: &Places) {
        let mut end = None;
        for stretch in places.iter() {
            if self.bytes() + TERM_BYTES + END_BYTES + STRETCH_BYTES_MAX > PART_BYTES_MAX {
                self.finish_part();
                end = None;
            }
            if end.is_none() {
                self.terms.push(term);
                self.ends.push(0);
            }
            write_stretch(&mut self.lists, end.unwrap_or(0), stretch);
            let Stretch { first, count } = stretch;
            end = Some(first.saturating_add(count));
            if let (Some(end), Ok(bytes)) = (self.ends.last_mut(), u16::try_from(self.lists.len()))
            {
                *end = bytes;
            }
        }
    }

    /// Takes the parts that are complete.
    pub(super) fn take(&mut self) -> Vec<Finished> {
        std::mem::take(&mut self.finished)
    }

    /// Completes the last part, and takes those that were not taken.
    pub(super) fn finish(mut self) -> Vec<Finished> {
        self.finish_part();
        self.finished
    }

    /// Of the part that is being written.
    fn bytes(&self) -> usize {
        CRC_BYTES + COUNT_BYTES + self.terms.len() * (TERM_BYTES + END_BYTES) + self.lists.len()
    }

    fn finish_part(&mut self) {
        let Some(first_term) = self.terms.first().copied() else {
            return;
        };
        let mut bytes = Vec::with_capacity(self.bytes());
        bytes.extend([0; CRC_BYTES]);
        // A page has room for far fewer.
        let count = u16::try_from(self.terms.len()).unwrap_or(u16::MAX);
        bytes.extend(count.to_le_bytes());
        for term in self.terms.drain(..) {
            bytes.extend(term.number().to_le_bytes());
        }
        for end in self.ends.drain(..) {
            bytes.extend(end.to_le_bytes());
        }
        bytes.append(&mut self.lists);
        seal(&mut bytes);
        self.finished.push(Finished { first_term, bytes });
    }
}

/// A part that was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    terms: &'a [[u8; TERM_BYTES]],
    ends: &'a [[u8; END_BYTES]],
    lists: &'a [u8],
}

impl<'a> Part<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Damaged> {
        unseal(bytes)?;
        Self::sealed(bytes)
    }

    /// Reads a part whose checksum is known to be right.
    pub(super) fn sealed(bytes: &'a [u8]) -> Result<Self, Damaged> {
        const SHORT: Damaged = Damaged("a part that is cut short");
        let bytes = bytes.get(CRC_BYTES..).ok_or(SHORT)?;
        let (count, bytes) = bytes.split_first_chunk().ok_or(SHORT)?;
        let count = usize::from(u16::from_le_bytes(*count));
        let (terms, bytes) = bytes.split_at_checked(count * TERM_BYTES).ok_or(SHORT)?;
        let (ends, lists) = bytes.split_at_checked(count * END_BYTES).ok_or(SHORT)?;
        Ok(Self {
            terms: terms.as_chunks().0,
            ends: ends.as_chunks().0,
            lists,
        })
    }

    /// Appends the places of `term` that this part has.
    pub(super) fn find(
        &self,
        term: Term,
        records: u32,
        places: &mut Places,
    ) -> Result<(), Damaged> {
        let found = self
            .terms
            .binary_search_by_key(&term, |bytes| read_term(*bytes));
        match found {
            Ok(index) => read_stretches(self.list(index)?, records, places),
            Err(_) => Ok(()),
        }
    }

    /// All terms with their places.
    pub(super) fn entries(&self, records: u32) -> Result<Vec<(Term, Places)>, Damaged> {
        let entry = |(index, bytes): (usize, &[u8; TERM_BYTES])| {
            let mut places = Places::default();
            read_stretches(self.list(index)?, records, &mut places)?;
            Ok((read_term(*bytes), places))
        };
        self.terms.iter().enumerate().map(entry).collect()
    }

    fn list(&self, index: usize) -> Result<&'a [u8], Damaged> {
        let end = |index: usize| self.ends.get(index).map(|end| u16::from_le_bytes(*end));
        let start = index.checked_sub(1).and_then(end).unwrap_or(0);
        end(index)
            .and_then(|end| self.lists.get(start.into()..end.into()))
            .ok_or(Damaged("a list beyond the end"))
    }
}

fn read_term(bytes: [u8; TERM_BYTES]) -> Term {
    Term::from_number(u64::from_le_bytes(bytes))
}

/// Writes the checksum of what follows it.
pub(super) fn seal(bytes: &mut [u8]) {
    if let Some((crc, rest)) = bytes.split_first_chunk_mut() {
        *crc = crc32c::crc32c(rest).to_le_bytes();
    }
}

/// What follows the checksum, where it is right.
pub(super) fn unseal(bytes: &[u8]) -> Result<&[u8], Damaged> {
    match bytes.split_first_chunk() {
        Some((crc, rest)) if crc32c::crc32c(rest).to_le_bytes() == *crc => Ok(rest),
        _ => Err(Damaged("a checksum that is wrong")),
    }
}
