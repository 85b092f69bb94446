//! Single events of the log, by their positions.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use crate::event::{Attributes, IndexHint, Position};
use crate::log::{Payloads, Read, ReadError, Reader, Record, RecordRef, Scan};

/// A scan goes on to the next position if it is at most this far away, since a scan of its own
/// costs about as much.
const GAP_MAX: u64 = 64;

/// What the log has of some positions.
#[derive(Debug, Default)]
pub(in crate::subscriptions) struct Found {
    /// The events.
    pub(in crate::subscriptions) records: BTreeMap<Position, Record>,
    /// Positions whose events the log no longer has.
    pub(in crate::subscriptions) gone: BTreeSet<Position>,
}

/// Reads events by their positions, lowest first, until they reach `bytes_max`. Positions that
/// are in neither part of the answer were not looked at, or are beyond the end of the log.
pub(in crate::subscriptions) async fn look_up(
    log: &dyn Read,
    positions: BTreeSet<Position>,
    bytes_max: usize,
) -> Result<Found, ReadError> {
    let last = log.bounds().last;
    let mut found = Found::default();
    let mut left: BTreeSet<Position> = positions;
    left.retain(|position| *position <= last);
    let mut bytes = 0;
    while let Some(first) = left.first().copied() {
        if bytes >= bytes_max {
            break;
        }
        let before = Position::new(first.number().saturating_sub(1));
        let scan = Scan {
            after: before,
            narrow: IndexHint::All,
            payloads: Payloads::All,
        };
        let picker = Picker {
            wanted: Arc::new(left.clone()),
            records: Vec::new(),
            bytes_left: bytes_max - bytes,
        };
        let through = match log.scan_with(scan, picker).await {
            Ok((picker, through)) => {
                for record in picker.records {
                    bytes += record.entry.bytes();
                    left.remove(&record.position);
                    found.records.insert(record.position, record);
                }
                through
            }
            Err(ReadError::Expired { trimmed }) => trimmed,
            Err(error) => return Err(error),
        };
        let rest = left.split_off(&through.next());
        found.gone.append(&mut left);
        left = rest;
        if through < first {
            break;
        }
    }
    Ok(found)
}

/// Copies the records at some positions.
struct Picker {
    wanted: Arc<BTreeSet<Position>>,
    records: Vec<Record>,
    bytes_left: usize,
}

impl Reader for Picker {
    fn wants(&self, _: Attributes<&str>) -> bool {
        true
    }

    fn take(&mut self, record: RecordRef<'_>) -> ControlFlow<()> {
        let position = record.position;
        if self.wanted.contains(&position) {
            let record = record.to_record();
            self.bytes_left = self.bytes_left.saturating_sub(record.entry.bytes());
            self.records.push(record);
        }
        let beyond = (Bound::Excluded(position), Bound::Unbounded);
        let next = self.wanted.range(beyond).next();
        let is_near = next.is_some_and(|next| next.distance_from(position) <= GAP_MAX);
        if is_near && self.bytes_left > 0 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }
}
