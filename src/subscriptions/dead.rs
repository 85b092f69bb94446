//! Dead letters: events that failed too often, each in a cell of its own.
//!
//! ```text
//!   dead/<subscription>/<position, 16 hex digits>   the body, and why it was given up
//! ```
//!
//! The state is the truth: a cell counts only while the state lists its position. A swap writes
//! letters before the state and deletes them after it, so that a crash in between leaves at most
//! a cell that does not count. [`sweep_dead_letters`] removes these.
//!
//! A letter has the body and not the typed event, which is decoded again when it is read. So its
//! cell is no larger than the record was.

mod list;
mod stored;
mod sweep;

use bytes::Bytes;

use super::key::{Key, KeySource};
use super::machine::{Candidate, Letter};
use super::name::Name;
use super::settings::OrderBy;
use super::state::Lease;
use crate::clerk;
use crate::event::numbers::saturating;
use crate::event::{Attributes, Position, Run, UnixMillis};
use crate::log::{Entry, Record};

pub use list::list_dead_letters;
pub(super) use list::{LettersAfter, read_page};
pub use sweep::sweep_dead_letters;

/// What the names of all their cells begin with.
pub(super) const PREFIX: &str = "dead/";
/// Cells read at once.
const CELLS_MAX: usize = 64;
/// What is kept of a reason, in bytes.
const REASON_BYTES_MAX: usize = 1 << 10;
/// The reason of a letter whose last delivery was not heard of.
pub(super) const DEADLINE_PASSED: &str = "deadline passed";

/// An event that failed too often, whole.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The event, decoded again from its body. Shown only as far as policies allow.
    pub record: Record,
    /// How often it was delivered.
    pub deliveries: u32,
    /// The delivery after which it was given up.
    pub lease: Lease,
    /// What the last worker reported, or `deadline passed`.
    pub reason: String,
    /// When it was given up.
    pub dead_time: UnixMillis,
    /// It is being handed out again.
    pub is_replaying: bool,
}

/// One page of dead letters.
#[derive(Clone, Debug, Default)]
pub struct DeadLetterPage {
    /// In log order.
    pub letters: Vec<DeadLetter>,
    /// The position to continue after; absent where there are no more.
    pub next: Option<Position>,
}

/// A dead letter as its cell holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredLetter {
    pub(super) position: Position,
    pub(super) run: Run,
    pub(super) id: String,
    pub(super) attributes: Attributes,
    pub(super) receive_time: UnixMillis,
    pub(super) send_time: Option<UnixMillis>,
    pub(super) payload: Bytes,
    pub(super) deliveries: u32,
    pub(super) lease: Lease,
    pub(super) reason: String,
    pub(super) dead_time: UnixMillis,
    /// Fields of later versions, as they were read.
    unknown: Vec<u8>,
}

/// The end of a delivery that gives an event up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Death {
    pub(super) deliveries: u32,
    pub(super) lease: Lease,
    pub(super) reason: String,
    pub(super) dead_time: UnixMillis,
}

impl StoredLetter {
    /// The letter of an event that is given up.
    pub(super) fn new(record: &Record, death: Death) -> Self {
        let entry = &record.entry;
        let letter = Self {
            position: record.position,
            run: record.run,
            id: entry.id.clone(),
            attributes: entry.attributes.clone(),
            receive_time: entry.receive_time,
            send_time: clerk::send_time(&entry.event),
            payload: entry.payload.clone(),
            deliveries: 0,
            lease: Lease::NONE,
            reason: String::new(),
            dead_time: death.dead_time,
            unknown: Vec::new(),
        };
        letter.again(death)
    }

    /// The same letter, given up once more.
    pub(super) fn again(self, death: Death) -> Self {
        let Death {
            deliveries,
            lease,
            mut reason,
            dead_time,
        } = death;
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        Self {
            deliveries,
            lease,
            reason,
            dead_time,
            ..self
        }
    }

    /// Bytes of the body, as they count towards the limit.
    pub(super) fn bytes(&self) -> u64 {
        saturating(self.payload.len())
    }

    /// What a step needs of it.
    pub(super) fn letter(&self) -> Letter {
        Letter {
            lease: self.lease,
            bytes: self.bytes(),
        }
    }

    /// The event, to be handed out again.
    pub(super) fn candidate(&self, order_by: OrderBy) -> Candidate {
        let source = KeySource {
            position: self.position,
            event_id: &self.id,
            attributes: self.attributes.as_ref(),
        };
        Candidate::new(self.position, Key::of(order_by, source))
    }

    /// The event as the log had it, decoded again.
    pub(super) fn to_record(&self) -> Record {
        let envelope = clerk::Envelope {
            id: &self.id,
            source: &self.attributes.source,
            send_time: self.send_time.unwrap_or(self.receive_time),
        };
        Record {
            position: self.position,
            run: self.run,
            entry: Entry {
                id: self.id.clone(),
                attributes: self.attributes.clone(),
                receive_time: self.receive_time,
                event: clerk::decode(envelope, &self.payload).event,
                decoding: clerk::decoding(),
                payload: self.payload.clone(),
            },
        }
    }

    fn into_letter(self, is_replaying: bool) -> DeadLetter {
        DeadLetter {
            record: self.to_record(),
            deliveries: self.deliveries,
            lease: self.lease,
            reason: self.reason,
            dead_time: self.dead_time,
            is_replaying,
        }
    }
}

/// The prefix of the cells of a subscription's letters.
pub(super) fn prefix(name: &Name) -> String {
    format!("{PREFIX}{name}/")
}

/// The name of a letter's cell.
pub(super) fn cell_name(name: &Name, position: Position) -> String {
    format!("{}{:016x}", prefix(name), position.number())
}

#[cfg(test)]
mod tests;
