//! Reading: a [`Reader`] is shown records as they lie in the store, and keeps what it
//! wants of them, so that only what it asks for is copied.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::record::{Entry, Record};
use crate::event::{Attributes, IndexHint, Position, Run, UnixMillis};

/// Which records' payloads a scan must include. Others may be shown as empty: a store that
/// keeps payloads apart need not read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payloads {
    /// Those of all records.
    All,
    /// Those of records whose event another version of the decoding made.
    UnlessDecodedBy(u32),
}

/// What to show to a reader.
#[derive(Clone, Debug)]
pub struct Scan {
    /// Begins after this position.
    pub after: Position,
    /// The index that may help.
    pub narrow: IndexHint,
    /// What of the records may be left out.
    pub payloads: Payloads,
}

/// A borrowed record.
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    /// Its place in the total order.
    pub position: Position,
    /// The run that the position belongs to.
    pub run: Run,
    /// The `svix-id`.
    pub id: &'a str,
    /// What filters and indexes look at.
    pub attributes: Attributes<&'a str>,
    /// When the webhook arrived.
    pub receive_time: UnixMillis,
    /// The decoded event, encoded for subscribers.
    pub event: &'a [u8],
    /// Which version of the decoding made `event`.
    pub decoding: u32,
    /// The verified body, byte for byte; empty where the scan did not ask for it.
    pub payload: &'a [u8],
}

impl RecordRef<'_> {
    /// Copies the record.
    #[must_use]
    pub fn to_record(&self) -> Record {
        Record {
            position: self.position,
            run: self.run,
            entry: Entry {
                id: self.id.to_owned(),
                attributes: self.attributes.to_owned(),
                receive_time: self.receive_time,
                event: Bytes::copy_from_slice(self.event),
                decoding: self.decoding,
                payload: Bytes::copy_from_slice(self.payload),
            },
        }
    }
}

impl Record {
    /// The record where it lies.
    #[must_use]
    pub fn view(&self) -> RecordRef<'_> {
        let Self {
            position,
            run,
            entry,
        } = self;
        RecordRef {
            position: *position,
            run: *run,
            id: &entry.id,
            attributes: entry.attributes.as_ref(),
            receive_time: entry.receive_time,
            event: &entry.event,
            decoding: entry.decoding,
            payload: &entry.payload,
        }
    }
}

/// Is shown records in log order.
pub trait Reader: Send + 'static {
    /// Whether it wants the record with these attributes.
    fn wants(&self, attributes: Attributes<&str>) -> bool;

    /// Takes a record that it wants. Returns whether it takes more.
    fn take(&mut self, record: RecordRef<'_>) -> ControlFlow<()>;
}

/// Decides on a record by its attributes.
pub type Predicate = Arc<dyn Fn(Attributes<&str>) -> bool + Send + Sync>;
