//! What a reader makes of bytes that no builder wrote, under a checksum that is right: for the
//! laws of `tests/fuzz`.

use std::ops::RangeInclusive;

use super::Segment;
use super::part::seal;
use super::terms::Term;
use crate::event::{Position, UnixMillis};

const CRC: [u8; 4] = [0; 4];

/// Looks a term up in a segment of `positions` whose row holds `directory`, and each of whose
/// parts holds `part`, but for what the checksums need. Returns the stretches of positions that
/// may have the term; none where the segment counts as damaged.
#[must_use]
pub fn look_up_forged(
    positions: RangeInclusive<u64>,
    directory: &[u8],
    part: &[u8],
    term: u64,
) -> Option<Vec<RangeInclusive<u64>>> {
    let (first, last) = positions.into_inner();
    let latest = UnixMillis::new(0);
    let columns = [first, last, 0].map(u64::to_le_bytes);
    let directory = sealed([&columns.concat(), directory].concat());
    let part = sealed(part.to_vec());
    let positions = Position::new(first)..=Position::new(last);
    let segment = Segment::from_bytes(positions, latest, &directory).ok()?;
    let read = |_, buffer: &mut Vec<u8>| {
        buffer.clone_from(&part);
        Ok(())
    };
    let is_whole = segment.check_part(&part).is_ok();
    let places = segment.look_up(&[Term::from_number(term)], read);
    let stretches = places.ok().filter(|_| is_whole)?;
    let to_positions = |stretch| {
        let [first, last] = segment.positions(stretch);
        first.number()..=last.number()
    };
    Some(stretches.iter().map(to_positions).collect())
}

fn sealed(content: Vec<u8>) -> Vec<u8> {
    let mut bytes = CRC.to_vec();
    bytes.extend(content);
    seal(&mut bytes);
    bytes
}
