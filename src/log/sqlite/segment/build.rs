//! Building a segment from the records themselves.

use super::directory::{Segment, blocks_of};
use super::part::{Finished, PartWriter};
use super::terms::{Places, Stretch, Term};
use crate::event::{Attributes, Position, UnixMillis};

/// Collects the records of a stretch of positions. What retention has removed of it is
/// simply not there.
#[derive(Debug)]
pub(in crate::log::sqlite) struct Builder {
    first: Position,
    last: Position,
    latest_receive_time: UnixMillis,
    block_times: Vec<UnixMillis>,
    /// Each with the place of a record.
    terms: Vec<(Term, u32)>,
}

/// A segment with its parts.
#[derive(Debug)]
pub(in crate::log::sqlite) struct Built {
    pub(in crate::log::sqlite) segment: Segment,
    pub(in crate::log::sqlite) parts: Vec<Vec<u8>>,
}

impl Builder {
    /// For the positions from `first` to `last`, which follow records that were received at
    /// `latest_before` or earlier.
    pub(in crate::log::sqlite) fn new(
        first: Position,
        last: Position,
        latest_before: UnixMillis,
    ) -> Self {
        Self {
            first,
            last,
            latest_receive_time: latest_before,
            block_times: vec![UnixMillis::new(i64::MIN); blocks_of(first, last)],
            terms: Vec::new(),
        }
    }

    /// Adds a record; in any order.
    pub(in crate::log::sqlite) fn add(
        &mut self,
        position: Position,
        received: UnixMillis,
        attributes: Attributes<&str>,
    ) {
        let place = position.number().checked_sub(self.first.number());
        let Some(place) = place.and_then(|place| u32::try_from(place).ok()) else {
            return;
        };
        self.latest_receive_time = self.latest_receive_time.max(received);
        let block = blocks_of(self.first, position) - 1;
        if let Some(latest) = self.block_times.get_mut(block) {
            *latest = (*latest).max(received);
        }
        let terms = Term::of(attributes);
        self.terms.extend(terms.map(|term| (term, place)));
    }

    /// Completes the segment, whose parts are to be numbered from `first_part` on.
    pub(in crate::log::sqlite) fn finish(mut self, first_part: u64) -> Built {
        let mut segment = Segment {
            first: self.first,
            last: self.last,
            latest_receive_time: self.latest_receive_time,
            first_part,
            first_terms: Vec::new(),
            block_times: self.block_times,
        };
        let records = segment.records();
        self.terms.sort_unstable();
        let mut writer = PartWriter::default();
        for of_term in self.terms.chunk_by(|(term, _), (next, _)| term == next) {
            let mut places = Places::default();
            for (_, first) in of_term {
                places.push(Stretch {
                    first: *first,
                    count: 1,
                });
            }
            if let [(term, _), ..] = of_term {
                writer.add(*term, &places.or_all(records));
            }
        }
        let finished = writer.finish().into_iter();
        let (first_terms, parts) = finished
            .map(|Finished { first_term, bytes }| (first_term, bytes))
            .unzip();
        segment.first_terms = first_terms;
        Built { segment, parts }
    }
}
