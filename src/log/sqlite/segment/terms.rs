//! What records are found by: terms, and the places where they stand.

use aws_lc_rs::digest::{Context, SHA256};

use super::Damaged;
use crate::event::{Attributes, IndexHint};

/// A value and what it is a value of, as the first 8 bytes of their SHA-256. Two that
/// collide show a candidate too many, which its reader does not want.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::log::sqlite) struct Term(u64);

/// What a value is a value of. The numbers are part of the format.
#[derive(Clone, Copy)]
enum Kind {
    Type = 1,
    User = 2,
    Organization = 3,
    Session = 4,
}

impl Term {
    pub(super) const fn from_number(number: u64) -> Self {
        Self(number)
    }

    pub(super) const fn number(self) -> u64 {
        self.0
    }

    fn new(kind: Kind, value: &str) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(&[kind as u8]);
        context.update(value.as_bytes());
        let hash = context.finish();
        let first = hash.as_ref().first_chunk();
        Self(first.map_or(0, |first| u64::from_be_bytes(*first)))
    }

    /// Those that a record is found by.
    pub(super) fn of(attributes: Attributes<&str>) -> impl Iterator<Item = Self> {
        let values = [
            (Kind::Type, Some(attributes.event_type)),
            (Kind::User, attributes.user_id),
            (Kind::Organization, attributes.organization_id),
            (Kind::Session, attributes.session_id),
        ];
        let present = values
            .into_iter()
            .filter_map(|(kind, value)| Some((kind, value?)));
        present.map(|(kind, value)| Self::new(kind, value))
    }

    /// Those that a hint asks for, in order; none where every record is a candidate.
    pub(in crate::log::sqlite) fn asked(hint: &IndexHint) -> Option<Vec<Self>> {
        let (kind, values) = match hint {
            IndexHint::All => return None,
            IndexHint::Types(values) => (Kind::Type, values),
            IndexHint::Users(values) => (Kind::User, values),
            IndexHint::Organizations(values) => (Kind::Organization, values),
            IndexHint::Sessions(values) => (Kind::Session, values),
        };
        let mut terms: Vec<Self> = values.iter().map(|value| Self::new(kind, value)).collect();
        terms.sort_unstable();
        Some(terms)
    }
}

/// Records that follow each other, counted from the first of their segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::log::sqlite) struct Stretch {
    pub(in crate::log::sqlite) first: u32,
    pub(in crate::log::sqlite) count: u32,
}

impl Stretch {
    const fn end(self) -> u32 {
        self.first.saturating_add(self.count)
    }
}

/// Where records stand: stretches in order, each apart from the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::log::sqlite) struct Places {
    stretches: Vec<Stretch>,
}

impl Places {
    /// Every record of a segment.
    pub(super) fn all(records: u32) -> Self {
        let mut places = Self::default();
        places.push(Stretch {
            first: 0,
            count: records,
        });
        places
    }

    pub(in crate::log::sqlite) fn iter(&self) -> impl Iterator<Item = Stretch> {
        self.stretches.iter().copied()
    }

    /// How many records they are.
    pub(super) fn record_count(&self) -> u64 {
        self.iter().map(|stretch| u64::from(stretch.count)).sum()
    }

    /// Adds records that begin at or after the beginning of the last stretch.
    pub(super) fn push(&mut self, stretch: Stretch) {
        match self.stretches.last_mut() {
            _ if stretch.count == 0 => {}
            Some(last) if stretch.first <= last.end() => {
                last.count = last.end().max(stretch.end()) - last.first;
            }
            _ => self.stretches.push(stretch),
        }
    }

    /// Adds the places of a later part of the segment, which begins `offset` records on.
    pub(super) fn extend(&mut self, later: &Self, offset: u32) {
        for Stretch { first, count } in later.iter() {
            let first = first.saturating_add(offset);
            self.push(Stretch { first, count });
        }
    }

    /// What is in one of `lists`.
    pub(super) fn union(mut lists: Vec<Self>) -> Self {
        if let [_] = lists.as_slice() {
            return lists.pop().unwrap_or_default();
        }
        let mut stretches: Vec<Stretch> =
            lists.into_iter().flat_map(|list| list.stretches).collect();
        stretches.sort_unstable();
        let mut union = Self::default();
        for stretch in stretches {
            union.push(stretch);
        }
        union
    }

    /// Where these are more than a quarter of the segment, reading all of its records in
    /// order is faster than to look each of them up.
    pub(super) fn or_all(self, records: u32) -> Self {
        if self.record_count() > u64::from(records / 4) {
            Self::all(records)
        } else {
            self
        }
    }
}

/// Appends a stretch that follows `end`, the end of the one before: the distance, with a bit
/// for whether it is longer than one record; then by how much.
pub(super) fn write_stretch(bytes: &mut Vec<u8>, end: u32, stretch: Stretch) {
    let distance = u64::from(stretch.first.saturating_sub(end));
    if stretch.count == 1 {
        write_varint(bytes, distance << 1);
    } else {
        write_varint(bytes, distance << 1 | 1);
        write_varint(bytes, u64::from(stretch.count.saturating_sub(2)));
    }
}

/// Appends to `places` what [`write_stretch`] wrote; `records` is how many the segment has.
pub(super) fn read_stretches(
    mut bytes: &[u8],
    records: u32,
    places: &mut Places,
) -> Result<(), Damaged> {
    let mut end: u64 = 0;
    while !bytes.is_empty() {
        let distance = read_varint(&mut bytes)?;
        let count = match distance & 1 {
            0 => 1,
            _ => read_varint(&mut bytes)?.saturating_add(2),
        };
        let first = end.saturating_add(distance >> 1);
        end = first.saturating_add(count);
        if end > u64::from(records) {
            return Err(Damaged("a place beyond the end"));
        }
        let [Ok(first), Ok(count)] = [first, count].map(u32::try_from) else {
            return Err(Damaged("a place beyond the end"));
        };
        places.push(Stretch { first, count });
    }
    Ok(())
}

fn write_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

/// At most five bytes, as many as 32 bits take.
fn read_varint(bytes: &mut &[u8]) -> Result<u64, Damaged> {
    let mut number = 0;
    for shift in [0, 7, 14, 21, 28] {
        let Some((byte, rest)) = bytes.split_first() else {
            return Err(Damaged("a number that does not end"));
        };
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Damaged("a number that is too long"))
}
