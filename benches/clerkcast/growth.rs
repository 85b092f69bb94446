//! What a longer log costs: appending, reading a page and finding an event in logs of
//! different lengths; the baseline is the shortest. `CLERKCAST_SOAK=1`
//! goes on to ten million events (8 GB of disk). How the cost of an event grows with the
//! number of subscribers is in the tables `fan-out` and `selective`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clerkcast::event::{Attributes, IndexHint, Position};
use clerkcast::log::{Entry, Log, Query, Read};
use tempfile::TempDir;

use crate::support::records::record;
use crate::support::{Row, count, disk_log, table};

const LENGTHS: [usize; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
const LENGTH_MAX: usize = 1_000_000;
const LENGTH_SOAK_MAX: usize = 10_000_000;
const ROUNDS: usize = 9;
const APPENDED: usize = 2_000;
const LOOKUPS: usize = 200;
const PAGE: usize = 100;

pub(crate) async fn run() {
    let is_soak = std::env::var_os("CLERKCAST_SOAK").is_some_and(|value| value == "1");
    let most = if is_soak { LENGTH_SOAK_MAX } else { LENGTH_MAX };
    let directory = TempDir::new().expect("a directory");
    let log = disk_log::open(directory.path());
    let mut length = 0;
    let mut rows = Vec::new();
    let mut shortest: Option<[Vec<f64>; 3]> = None;
    for wanted in LENGTHS.into_iter().filter(|wanted| *wanted <= most) {
        disk_log::fill(&*log, records(length, wanted.saturating_sub(length))).await;
        length = length.max(wanted);
        let mut costs: [Vec<f64>; 3] = Default::default();
        for _ in 0..ROUNDS {
            costs[0].push(append(&log, &mut length).await);
            costs[1].push(read_pages(&log, length).await);
            costs[2].push(find(&log, length).await);
        }
        let baseline = shortest.get_or_insert_with(|| costs.clone());
        for ((name, ours), base) in ["append", "read a page of 100", "find by id"]
            .into_iter()
            .zip(costs)
            .zip(baseline)
        {
            let mut row = Row::new(format!("{name}, {wanted} events"));
            row.ours = ours;
            row.baseline.clone_from(base);
            rows.push(row);
        }
    }
    table("growth, µs each", "1,000 events", &rows);
}

fn records(first: usize, events: usize) -> impl Iterator<Item = Entry> {
    let common = record(300);
    (first..first + events).map(move |number| {
        let mut record = common.clone();
        record.id = id(number);
        record.attributes.user_id = Some(format!("user_{:027}", scattered(number) % 100_000));
        record.payload = Bytes::from_static(b"{}");
        record
    })
}

fn id(number: usize) -> String {
    format!("msg_{number:027}")
}

/// Numbers that follow each other, far apart.
fn scattered(number: usize) -> usize {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20
}

async fn append(log: &Arc<dyn Log>, length: &mut usize) -> f64 {
    let started = Instant::now();
    disk_log::fill(&**log, records(*length, APPENDED)).await;
    *length += APPENDED;
    each(started.elapsed(), APPENDED)
}

async fn read_pages(log: &Arc<dyn Log>, length: usize) -> f64 {
    let started = Instant::now();
    for number in 0..LOOKUPS {
        let query = Query {
            after: Position::new((scattered(number) % (length - PAGE)) as u64),
            narrow: IndexHint::All,
            matches: Arc::new(|_: Attributes<&str>| true),
            records_max: PAGE,
            bytes_max: usize::MAX,
        };
        let log: &dyn Read = &**log;
        let page = log.read(query).await.expect("a page");
        assert_eq!(page.records.len(), PAGE);
    }
    each(started.elapsed(), LOOKUPS)
}

async fn find(log: &Arc<dyn Log>, length: usize) -> f64 {
    let started = Instant::now();
    for number in 0..LOOKUPS {
        let id = id(scattered(number) % length);
        let found = log
            .find(id, Arc::new(|_: Attributes<&str>| true))
            .await
            .expect("looked for");
        assert!(found.is_some());
    }
    each(started.elapsed(), LOOKUPS)
}

fn each(elapsed: Duration, times: usize) -> f64 {
    1e6 * elapsed.as_secs_f64() / count(times)
}
