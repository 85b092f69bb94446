//! What a swap of a cell costs, in process, on a real disk: by one caller alone, beside an append
//! by one caller; and beside appends that wait for the same commit, with these appends alone.
//! Last, callers that swap cells of their own at once.

use std::time::Instant;

use bytes::Bytes;
use clerkcast::log::{Cells, Entry, Log};
use futures_util::future::join_all;
use tempfile::TempDir;

use crate::support::disk_log::{self, DiskLog, swap};
use crate::support::records::record;
use crate::support::{Row, count, table};

const ROUNDS: usize = 9;
/// The states of subscriptions with 1, 100, 1,000 and 10,000 events pending.
const VALUE_BYTES: [usize; 4] = [63, 2_300, 23_000, 230_000];
const ALONE: usize = 300;
const BATCHES: usize = 100;
const EVENTS_IN_BATCH: usize = 64;
const CALLERS: usize = 16;
const EVENT_BYTES: usize = 500;

struct Measured {
    disk: DiskLog,
    template: Entry,
    appended: usize,
}

impl Measured {
    fn log(&self) -> &dyn Log {
        &*self.disk.log
    }

    fn entry(&mut self) -> Entry {
        self.appended += 1;
        Entry {
            id: format!("msg_{:09}", self.appended),
            ..self.template.clone()
        }
    }

    /// Swaps one after the other. Returns the microseconds of one.
    async fn swaps(&self, name: &str, value: &Bytes, swaps: usize) -> f64 {
        let current = Cells::read(self.log(), name).await.expect("read");
        let mut revision = current.map(|cell| cell.revision);
        let started = Instant::now();
        for _ in 0..swaps {
            revision = swap(self.log(), name, revision, value.clone()).await;
        }
        1e6 * started.elapsed().as_secs_f64() / count(swaps)
    }

    /// Appends one after the other. Returns the microseconds of one.
    async fn appends(&mut self, appends: usize) -> f64 {
        let entries: Vec<Entry> = (0..appends).map(|_| self.entry()).collect();
        let started = Instant::now();
        for entry in entries {
            self.log().append(entry).await.expect("durable");
        }
        1e6 * started.elapsed().as_secs_f64() / count(appends)
    }

    /// Appends batch after batch, each with a swap or without. Returns the microseconds of one.
    async fn batches(&mut self, value: Option<&Bytes>) -> f64 {
        let current = Cells::read(self.log(), "state/batch").await.expect("read");
        let mut revision = current.map(|cell| cell.revision);
        let batches: Vec<Vec<Entry>> = (0..BATCHES)
            .map(|_| (0..EVENTS_IN_BATCH).map(|_| self.entry()).collect())
            .collect();
        let started = Instant::now();
        for batch in batches {
            let appends: Vec<_> = batch.into_iter().map(|it| self.log().append(it)).collect();
            if let Some(value) = value {
                revision = swap(self.log(), "state/batch", revision, value.clone()).await;
            }
            for appended in join_all(appends).await {
                appended.expect("durable");
            }
        }
        1e6 * started.elapsed().as_secs_f64() / count(BATCHES)
    }
}

pub(crate) async fn run() {
    let directory = TempDir::new().expect("a directory");
    let mut measured = Measured {
        disk: disk_log::open(directory.path()),
        template: record(EVENT_BYTES),
        appended: 0,
    };
    let mut alone = Vec::new();
    let mut beside = Vec::new();
    let mut together = Row::new(format!("{CALLERS} callers, 2,300 bytes each"));
    for bytes in VALUE_BYTES {
        let value = Bytes::from(vec![b'x'; bytes]);
        let mut row = Row::new(format!("{bytes} bytes"));
        let mut row_beside = Row::new(format!("{EVENTS_IN_BATCH} events and {bytes} bytes"));
        for _ in 0..ROUNDS {
            let append = measured.appends(ALONE).await;
            row.push(measured.swaps("state/alone", &value, ALONE).await, append);
            let without = measured.batches(None).await;
            row_beside.push(measured.batches(Some(&value)).await, without);
        }
        alone.push(row);
        beside.push(row_beside);
    }
    let value = Bytes::from(vec![b'x'; VALUE_BYTES[1]]);
    for _ in 0..ROUNDS {
        let one = measured.swaps("state/0", &value, ALONE).await;
        let names: Vec<String> = (0..CALLERS).map(|it| format!("state/{it}")).collect();
        let started = Instant::now();
        let swaps = names.iter().map(|name| measured.swaps(name, &value, ALONE));
        join_all(swaps).await;
        let each = 1e6 * started.elapsed().as_secs_f64() / count(ALONE * CALLERS);
        together.push(each, one);
    }
    table("a swap of a cell alone, µs", "one event", &alone);
    table("a batch with a swap, µs", "the events alone", &beside);
    table("swaps at once, µs a swap", "one caller", &[together]);
    measured.disk.close().await;
}
