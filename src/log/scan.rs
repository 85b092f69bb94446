//! Reading: a [`Reader`] is shown records as they lie in the store, and keeps what it
//! wants of them, so that nothing is copied that nobody asked for.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::error::ReadError;
use super::record::{Entry, Record};
use super::traits::Read;
use crate::event::{AttributesRef, IndexHint, Position, Run, UnixMillis};

/// Whose verified bodies a scan must show. Those of others may be shown as empty: a store
/// that keeps them apart need not read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payloads {
    /// Everybody's.
    All,
    /// Those of records whose event another version of the decoding made.
    UnlessDecodedBy(u32),
}

/// What to show to a reader.
#[derive(Clone, Debug)]
pub struct Scan {
    /// Exclusive.
    pub after: Position,
    /// The index that may help.
    pub narrow: IndexHint,
    /// What of the records may be left out.
    pub payloads: Payloads,
}

/// A record where it lies.
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    /// Its place in the total order.
    pub position: Position,
    /// The run that the position belongs to.
    pub run: Run,
    /// The `svix-id`.
    pub id: &'a str,
    /// What filters and indexes look at.
    pub attributes: AttributesRef<'a>,
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
                attributes: self.attributes.to_attributes(),
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
            attributes: entry.attributes.view(),
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
    fn wants(&self, attributes: AttributesRef<'_>) -> bool;

    /// Takes a record that it wants. Says whether it takes more.
    fn take(&mut self, record: RecordRef<'_>) -> ControlFlow<()>;
}

impl dyn Read {
    /// Scans the log with `reader`. Returns it, with how far the log was searched.
    ///
    /// # Errors
    /// As [`Read::scan`].
    pub async fn scan_with<R: Reader>(
        &self,
        scan: Scan,
        reader: R,
    ) -> Result<(R, Position), ReadError> {
        let (owner, mut dropped) = oneshot::channel();
        let lent = Lent {
            reader: Some(reader),
            owner: Some(owner),
        };
        let through = self.scan(scan, Box::new(lent)).await?;
        let reader = dropped
            .try_recv()
            .map_err(|_| ReadError::Unreadable("the store has kept the reader".to_owned()))?;
        Ok((reader, through))
    }

    /// Reads one page of copies.
    ///
    /// # Errors
    /// As [`Read::scan`].
    pub async fn read(&self, query: Query) -> Result<Page, ReadError> {
        let scan = Scan {
            after: query.after,
            narrow: query.narrow.clone(),
            payloads: Payloads::All,
        };
        let reader = Collector {
            query,
            records: Vec::new(),
            bytes: 0,
        };
        let (Collector { records, .. }, through) = self.scan_with(scan, reader).await?;
        Ok(Page { records, through })
    }
}

/// A reader on loan to a scan: it goes back to its owner when the scan drops it.
struct Lent<R: Reader> {
    /// Some until it is dropped.
    reader: Option<R>,
    owner: Option<oneshot::Sender<R>>,
}

impl<R: Reader> Reader for Lent<R> {
    fn wants(&self, attributes: AttributesRef<'_>) -> bool {
        let reader = self.reader.as_ref();
        reader.is_some_and(|reader| reader.wants(attributes))
    }

    fn take(&mut self, record: RecordRef<'_>) -> ControlFlow<()> {
        match &mut self.reader {
            Some(reader) => reader.take(record),
            None => ControlFlow::Break(()),
        }
    }
}

impl<R: Reader> Drop for Lent<R> {
    fn drop(&mut self) {
        if let (Some(reader), Some(owner)) = (self.reader.take(), self.owner.take()) {
            let _scan_given_up = owner.send(reader);
        }
    }
}

/// Decides on a record by its attributes.
pub type Predicate = Arc<dyn Fn(AttributesRef<'_>) -> bool + Send + Sync>;

/// One page to read.
#[derive(Clone)]
pub struct Query {
    /// Exclusive.
    pub after: Position,
    /// The index that may help.
    pub narrow: IndexHint,
    /// What is wanted.
    pub matches: Predicate,
    /// The most records in the page.
    pub records_max: usize,
    /// The page ends with the record that reaches so many bytes.
    pub bytes_max: usize,
}

impl fmt::Debug for Query {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Query")
            .field("after", &self.after)
            .field("narrow", &self.narrow)
            .finish_non_exhaustive()
    }
}

/// The answer to a [`Query`].
#[derive(Debug, Default)]
pub struct Page {
    /// The matching records in `(query.after, through]`, in order.
    pub records: Vec<Record>,
    /// How far the log was searched.
    pub through: Position,
}

struct Collector {
    query: Query,
    records: Vec<Record>,
    bytes: usize,
}

impl Reader for Collector {
    fn wants(&self, attributes: AttributesRef<'_>) -> bool {
        (self.query.matches)(attributes)
    }

    fn take(&mut self, record: RecordRef<'_>) -> ControlFlow<()> {
        let record = record.to_record();
        self.bytes += record.entry.bytes();
        self.records.push(record);
        if self.bytes >= self.query.bytes_max || self.records.len() >= self.query.records_max {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}
