//! Reading with a reader that comes back, and reading pages of copies.

use std::fmt;
use std::ops::ControlFlow;

use tokio::sync::oneshot;

use super::error::ReadError;
use super::record::Record;
use super::scan::{Payloads, Predicate, Reader, RecordRef, Scan};
use super::traits::Read;
use crate::event::{Attributes, IndexHint, Position};

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

/// One page to read.
#[derive(Clone)]
pub struct Query {
    /// Begins after this position.
    pub after: Position,
    /// The index that may help.
    pub narrow: IndexHint,
    /// What is wanted.
    pub matches: Predicate,
    /// The most records in the page.
    pub records_max: usize,
    /// The page ends with the record that reaches this many bytes.
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
    fn wants(&self, attributes: Attributes<&str>) -> bool {
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

/// A reader on loan to a scan: it goes back to its owner when the scan drops it.
struct Lent<R: Reader> {
    /// Some until it is dropped.
    reader: Option<R>,
    owner: Option<oneshot::Sender<R>>,
}

impl<R: Reader> Reader for Lent<R> {
    fn wants(&self, attributes: Attributes<&str>) -> bool {
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
