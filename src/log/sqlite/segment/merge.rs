//! Merging neighbors into one segment, from their parts alone.

use std::iter::Peekable;
use std::ops::Range;
use std::sync::Arc;
use std::vec;

use super::Damaged;
use super::directory::{Segment, blocks_of};
use super::part::{Finished, Part, PartWriter};
use super::terms::{Places, Term};
use crate::event::{Position, UnixMillis};

/// A merge on its way. It holds one part of each neighbor, and what was made and not taken.
pub(in crate::log::sqlite) struct Merge<R> {
    merged: Segment,
    sources: Vec<Source<R>>,
    writer: PartWriter,
}

impl<R: FnMut(u64, &mut Vec<u8>) -> Result<(), Damaged> + Clone> Merge<R> {
    /// Of `neighbors`, each of which begins where the one before ends. The new parts are to
    /// be numbered from `first_part` on. `read` reads a part into the buffer.
    pub(in crate::log::sqlite) fn new(
        neighbors: &[Arc<Segment>],
        first_part: u64,
        read: R,
    ) -> Self {
        let newest = neighbors.last();
        let first = neighbors
            .first()
            .map_or(Position::START, |segment| segment.first);
        let mut merged = Segment {
            first,
            last: newest.map_or(first, |segment| segment.last),
            latest_receive_time: newest.map_or(UnixMillis::new(i64::MIN), |segment| {
                segment.latest_receive_time
            }),
            first_part,
            first_terms: Vec::new(),
            block_times: Vec::new(),
        };
        merged.block_times = merge_times(neighbors, first, merged.last);
        let sources = neighbors
            .iter()
            .map(|segment| Source::new(segment, first, read.clone()));
        Self {
            sources: sources.collect(),
            merged,
            writer: PartWriter::default(),
        }
    }

    /// Makes parts until they are about `bytes_min`. Returns them, or none at the end.
    pub(in crate::log::sqlite) fn next_parts(
        &mut self,
        bytes_min: usize,
    ) -> Result<Option<Vec<Vec<u8>>>, Damaged> {
        let records = self.merged.records();
        let mut parts = Vec::new();
        let mut bytes = 0;
        while bytes < bytes_min {
            let Some((term, places)) = self.next_term()? else {
                let rest = std::mem::take(&mut self.writer).finish();
                self.note(rest, &mut parts);
                return Ok((!parts.is_empty()).then_some(parts));
            };
            self.writer.add(term, &places.or_all(records));
            let finished = self.writer.take();
            bytes += finished.iter().map(|part| part.bytes.len()).sum::<usize>();
            self.note(finished, &mut parts);
        }
        Ok(Some(parts))
    }

    /// The segment, once all parts were made.
    pub(in crate::log::sqlite) fn finish(self) -> Segment {
        self.merged
    }

    /// The least term that is left, with its places in all neighbors.
    fn next_term(&mut self) -> Result<Option<(Term, Places)>, Damaged> {
        let mut least = None;
        for source in &mut self.sources {
            let term = source.peek()?;
            least = match (least, term) {
                (Some(least), Some(term)) => Some(term.min(least)),
                (least, term) => least.or(term),
            };
        }
        let Some(term) = least else {
            return Ok(None);
        };
        let mut places = Places::default();
        for source in &mut self.sources {
            source.take(term, &mut places)?;
        }
        Ok(Some((term, places)))
    }

    fn note(&mut self, finished: Vec<Finished>, parts: &mut Vec<Vec<u8>>) {
        for Finished { first_term, bytes } in finished {
            self.merged.first_terms.push(first_term);
            parts.push(bytes);
        }
    }
}

/// The blocks of all neighbors. Those of small neighbors may be parts of one block.
fn merge_times(neighbors: &[Arc<Segment>], first: Position, last: Position) -> Vec<UnixMillis> {
    let mut merged = vec![UnixMillis::new(i64::MIN); blocks_of(first, last)];
    for segment in neighbors {
        for (block, latest) in segment.block_times() {
            if let Some(merged) = merged.get_mut(blocks_of(first, block) - 1) {
                *merged = (*merged).max(latest);
            }
        }
    }
    merged
}

/// A neighbor, read from its first term to its last.
struct Source<R> {
    records: u32,
    /// Where it begins in the merged segment.
    offset: u32,
    parts: Range<u64>,
    read: R,
    buffer: Vec<u8>,
    entries: Peekable<vec::IntoIter<(Term, Places)>>,
}

impl<R: FnMut(u64, &mut Vec<u8>) -> Result<(), Damaged>> Source<R> {
    fn new(segment: &Segment, first: Position, read: R) -> Self {
        let offset = segment.first.number().saturating_sub(first.number());
        Self {
            records: segment.records(),
            offset: u32::try_from(offset).unwrap_or(u32::MAX),
            parts: segment.parts(),
            read,
            buffer: Vec::new(),
            entries: Vec::new().into_iter().peekable(),
        }
    }

    /// The next term, if there is one.
    fn peek(&mut self) -> Result<Option<Term>, Damaged> {
        while self.entries.peek().is_none() {
            let Some(number) = self.parts.next() else {
                return Ok(None);
            };
            (self.read)(number, &mut self.buffer)?;
            let entries = Part::read(&self.buffer)?.entries(self.records)?;
            self.entries = entries.into_iter().peekable();
        }
        Ok(self.entries.peek().map(|(term, _)| *term))
    }

    /// Adds the places of `term`, which may go on in further parts.
    fn take(&mut self, term: Term, places: &mut Places) -> Result<(), Damaged> {
        while self.peek()? == Some(term) {
            if let Some((_, here)) = self.entries.next() {
                places.extend(&here, self.offset);
            }
        }
        Ok(())
    }
}
