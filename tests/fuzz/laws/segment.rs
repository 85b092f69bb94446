//! What a file has in the place of an index.

use arbitrary::Arbitrary;
use clerkcast::log::sqlite::look_up_forged;

/// Positions in a block, for which a directory has one time.
const BLOCK_POSITIONS: u64 = 1_024;
const VERSION: u8 = 1;

/// Whatever the bytes of a segment are, under checksums that are right: it is refused, or leads
/// to positions that it covers, in order.
#[derive(Arbitrary, Debug)]
pub(crate) struct ForgedSegment {
    first: u32,
    records: u16,
    directory: Directory,
    part: Part,
    asked: Asked,
}

#[derive(Arbitrary, Debug)]
enum Directory {
    Written {
        part: u8,
        is_near_the_last: bool,
        first_terms: Vec<u8>,
        change: Change,
    },
    Any(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
enum Part {
    Written {
        terms: Vec<(u8, Vec<u8>)>,
        change: Change,
    },
    Any(Vec<u8>),
}

/// A byte that is another.
#[derive(Arbitrary, Debug)]
struct Change {
    is_made: bool,
    index: u8,
    value: u8,
}

#[derive(Arbitrary, Debug)]
enum Asked {
    Small(u8),
    Any(u64),
}

impl ForgedSegment {
    pub(crate) fn hold(self) {
        let first = u64::from(self.first) + 1;
        let last = first + u64::from(self.records);
        let block = |position: u64| (position - 1) / BLOCK_POSITIONS;
        let directory = self.directory.bytes(block(last) - block(first) + 1);
        let part = self.part.bytes();
        let term = match self.asked {
            Asked::Small(term) => term.into(),
            Asked::Any(term) => term,
        };
        let Some(stretches) = look_up_forged(first..=last, &directory, &part, term) else {
            return;
        };
        let mut end = first - 1;
        for stretch in stretches {
            assert!(end < *stretch.start(), "{stretch:?} after {end}");
            assert!(stretch.start() <= stretch.end(), "{stretch:?}");
            end = *stretch.end();
        }
        assert!(end <= last, "{end} beyond {last}");
    }
}

impl Directory {
    fn bytes(self, blocks: u64) -> Vec<u8> {
        let (part, is_near_the_last, first_terms, change) = match self {
            Self::Any(bytes) => return bytes,
            Self::Written {
                part,
                is_near_the_last,
                first_terms,
                change,
            } => (u64::from(part), is_near_the_last, first_terms, change),
        };
        let first_part = if is_near_the_last { !part } else { part };
        let mut bytes = vec![VERSION];
        bytes.extend(first_part.to_le_bytes());
        bytes.extend(
            u32::try_from(first_terms.len())
                .unwrap_or(u32::MAX)
                .to_le_bytes(),
        );
        bytes.extend(u32::try_from(blocks).unwrap_or(u32::MAX).to_le_bytes());
        let terms = sorted(first_terms).into_iter().map(u64::from);
        bytes.extend(terms.flat_map(u64::to_le_bytes));
        bytes.extend((0..blocks).flat_map(u64::to_le_bytes));
        change.applied(bytes)
    }
}

impl Part {
    fn bytes(self) -> Vec<u8> {
        let (mut terms, change) = match self {
            Self::Any(bytes) => return bytes,
            Self::Written { terms, change } => (terms, change),
        };
        terms.sort_unstable();
        let mut bytes = u16::try_from(terms.len())
            .unwrap_or(u16::MAX)
            .to_le_bytes()
            .to_vec();
        bytes.extend(
            terms
                .iter()
                .flat_map(|(term, _)| u64::from(*term).to_le_bytes()),
        );
        let mut end = 0_usize;
        for (_, list) in &terms {
            end += list.len();
            bytes.extend(u16::try_from(end).unwrap_or(u16::MAX).to_le_bytes());
        }
        bytes.extend(terms.into_iter().flat_map(|(_, list)| list));
        change.applied(bytes)
    }
}

impl Change {
    fn applied(self, mut bytes: Vec<u8>) -> Vec<u8> {
        if self.is_made
            && let Some(byte) = bytes.get_mut(usize::from(self.index))
        {
            *byte = self.value;
        }
        bytes
    }
}

fn sorted(mut terms: Vec<u8>) -> Vec<u8> {
    terms.sort_unstable();
    terms
}
