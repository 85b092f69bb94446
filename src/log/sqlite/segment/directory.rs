//! A segment as it is kept in memory: where its parts are, and when its records came.

use std::ops::{Range, RangeInclusive};

use super::Damaged;
use super::part::{Part, seal, unseal};
use super::terms::{Places, Stretch, Term};
use crate::event::{Position, UnixMillis};
use crate::log::sqlite::times::{block_of, first_of_block};

const VERSION: u8 = 1;
const CRC_BYTES: usize = 4;

/// A segment, but for its parts. It takes a five-hundredth of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::log::sqlite) struct Segment {
    pub(super) first: Position,
    pub(super) last: Position,
    /// The greatest of all records up to `last`, also of those before the segment.
    pub(super) latest_receive_time: UnixMillis,
    pub(super) first_part: u64,
    /// Of each part.
    pub(super) first_terms: Vec<Term>,
    /// The latest of each block of positions, from the first on.
    pub(super) block_times: Vec<UnixMillis>,
}

impl Segment {
    pub(in crate::log::sqlite) const fn first(&self) -> Position {
        self.first
    }

    pub(in crate::log::sqlite) const fn last(&self) -> Position {
        self.last
    }

    pub(in crate::log::sqlite) const fn latest_receive_time(&self) -> UnixMillis {
        self.latest_receive_time
    }

    /// How many positions it covers.
    pub(super) fn records(&self) -> u32 {
        let covered = self.last.number().saturating_sub(self.first.number());
        u32::try_from(covered.saturating_add(1)).unwrap_or(u32::MAX)
    }

    /// The numbers of its parts.
    pub(in crate::log::sqlite) fn parts(&self) -> Range<u64> {
        self.first_part
            ..self
                .first_part
                .saturating_add(self.first_terms.len() as u64)
    }

    /// The blocks of positions with the latest receive time of each.
    pub(in crate::log::sqlite) fn block_times(
        &self,
    ) -> impl Iterator<Item = (Position, UnixMillis)> {
        let blocks = block_of(self.first)..;
        let blocks = blocks.zip(&self.block_times);
        blocks.map(|(block, time)| (self.first.max(first_of_block(block)), *time))
    }

    /// Where records with one of `terms` may stand. `read` reads a part into the buffer.
    /// Terms that are in order share the parts that have several of them.
    pub(in crate::log::sqlite) fn look_up(
        &self,
        terms: &[Term],
        mut read: impl FnMut(u64, &mut Vec<u8>) -> Result<(), Damaged>,
    ) -> Result<Places, Damaged> {
        let (mut buffer, mut buffered) = (Vec::new(), None);
        let mut lists = Vec::with_capacity(terms.len());
        for term in terms {
            let mut places = Places::default();
            for number in self.parts_with(*term) {
                if buffered != Some(number) {
                    read(number, &mut buffer)?;
                    Part::read(&buffer)?;
                    buffered = Some(number);
                }
                Part::sealed(&buffer)?.find(*term, self.records(), &mut places)?;
            }
            lists.push(places);
        }
        Ok(Places::union(lists).or_all(self.records()))
    }

    /// Whether a part of it can be read.
    pub(in crate::log::sqlite) fn check_part(&self, bytes: &[u8]) -> Result<(), Damaged> {
        Part::read(bytes)?.entries(self.records()).map(drop)
    }

    /// The parts that may have `term`: it may begin in the middle of one, and go on.
    fn parts_with(&self, term: Term) -> Range<u64> {
        let later = self.first_terms.partition_point(|first| *first <= term);
        let from = self.first_terms.partition_point(|first| *first < term);
        let [from, later] = [from.saturating_sub(1), later]
            .map(|index| self.first_part.saturating_add(index as u64));
        from..later
    }

    /// The first and the last position of some of its records.
    pub(in crate::log::sqlite) fn positions(&self, stretch: Stretch) -> [Position; 2] {
        let first = self.first.number().saturating_add(stretch.first.into());
        let last = first.saturating_add(stretch.count.saturating_sub(1).into());
        [first, last].map(Position::new)
    }

    /// As it lies in the file, beside `first`, `last` and `latest_receive_time`.
    pub(in crate::log::sqlite) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; CRC_BYTES];
        // The checksum is also that of the columns beside it.
        bytes.extend(self.columns());
        bytes.push(VERSION);
        bytes.extend(self.first_part.to_le_bytes());
        bytes.extend(count(self.first_terms.len()));
        bytes.extend(count(self.block_times.len()));
        let terms = self.first_terms.iter();
        bytes.extend(terms.flat_map(|term| term.number().to_le_bytes()));
        let times = self.block_times.iter();
        bytes.extend(times.flat_map(|time| time.milliseconds().to_le_bytes()));
        seal(&mut bytes);
        bytes
    }

    /// Reads what [`Segment::to_bytes`] wrote.
    pub(in crate::log::sqlite) fn from_bytes(
        positions: RangeInclusive<Position>,
        latest_receive_time: UnixMillis,
        bytes: &[u8],
    ) -> Result<Self, Damaged> {
        let (first, last) = positions.into_inner();
        let mut segment = Self {
            first,
            last,
            latest_receive_time,
            first_part: 0,
            first_terms: Vec::new(),
            block_times: Vec::new(),
        };
        let (columns, mut rest) = split(unseal(bytes)?)?;
        if first > last || columns != segment.columns() {
            return Err(Damaged("columns that are not those of its checksum"));
        }
        let [version] = take(&mut rest)?;
        if version != VERSION {
            return Err(Damaged("a version that is not known"));
        }
        segment.first_part = u64::from_le_bytes(take(&mut rest)?);
        let [parts, blocks] = [take(&mut rest)?, take(&mut rest)?].map(u32::from_le_bytes);
        let mut numbers = rest.as_chunks().0.iter();
        let terms = numbers.by_ref().take(parts as usize);
        let terms = terms.map(|bytes| Term::from_number(u64::from_le_bytes(*bytes)));
        segment.first_terms = terms.collect();
        let times = numbers.map(|bytes| UnixMillis::new(i64::from_le_bytes(*bytes)));
        segment.block_times = times.collect();
        let is_whole = segment.first_terms.len() == parts as usize
            && segment.block_times.len() == blocks as usize
            && segment.block_times.len() == blocks_of(first, last);
        is_whole
            .then_some(segment)
            .ok_or(Damaged("a directory that is cut short"))
    }

    fn columns(&self) -> [u8; 24] {
        let numbers = [
            self.first.number(),
            self.last.number(),
            self.latest_receive_time.milliseconds().cast_unsigned(),
        ];
        let mut bytes = [0; 24];
        for (bytes, number) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(numbers) {
            *bytes = number.to_le_bytes();
        }
        bytes
    }
}

/// How many blocks of the log's positions these lie in.
pub(super) fn blocks_of(first: Position, last: Position) -> usize {
    let blocks = block_of(last).saturating_sub(block_of(first)) + 1;
    usize::try_from(blocks).unwrap_or(usize::MAX)
}

fn count(items: usize) -> [u8; 4] {
    u32::try_from(items).unwrap_or(u32::MAX).to_le_bytes()
}

fn split<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), Damaged> {
    let (first, rest) = bytes
        .split_first_chunk()
        .ok_or(Damaged("a directory that is cut short"))?;
    Ok((*first, rest))
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Damaged> {
    let (taken, rest) = split(bytes)?;
    *bytes = rest;
    Ok(taken)
}
