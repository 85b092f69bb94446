//! What a longer log costs: appending, reading a page and finding an event by id or by time
//! in logs of different lengths, the room that an event takes on disk, and opening the log;
//! the baseline is the shortest. Then what appends wait for while the longest log, made one of
//! an older version, has its indexes rebuilt. `CLERKCAST_SOAK=1` continues to ten million events
//! (8 GB of disk). How the cost of an event grows with the number of subscribers is in the
//! tables `fan-out` and `selective`.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clerkcast::event::{Attributes, IndexHint, Position, UnixMillis};
use clerkcast::log::{Entry, Log, Query, Read};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::disk_log::{self, DiskLog};
use crate::support::records::{record, scattered};
use crate::support::{Row, count, is_soak, percentile, table};

const LENGTHS: [usize; 4] = [1_000, 100_000, 1_000_000, 10_000_000];
const LENGTH_MAX: usize = 1_000_000;
const LENGTH_SOAK_MAX: usize = 10_000_000;
const ROUNDS: usize = 9;
/// A log indexes its events in stretches of 512, and of 4,096 where those are complete: each round
/// waits for them.
const APPENDED: usize = 4_096;
const LOOKUPS: usize = 200;
const PAGE: usize = 100;
const OPENINGS: usize = 5;
const USERS: usize = 100_000;
const MANY_USERS: usize = 1_000_000;
/// Between two events that are appended one after the other.
const PAUSE: Duration = Duration::from_millis(1);
const APPENDED_ALONE_MAX: usize = 10_000;
/// Turns a log into one where each commit wrote to all indexes. A column that is dropped would
/// have each row written again, so one that it did not have is put out of the way.
const AS_VERSION_3: &str = "
    DROP TABLE cell;
    ALTER TABLE record RENAME COLUMN object_id TO no_longer;
    DROP TABLE segment;
    DROP TABLE segment_part;
    CREATE INDEX record_receive_time ON record (receive_time_ms);
    CREATE INDEX record_type ON record (type);
    CREATE INDEX record_user ON record (user_id) WHERE user_id IS NOT NULL;
    CREATE INDEX record_organization ON record (organization_id) WHERE organization_id IS NOT NULL;
    CREATE INDEX record_session ON record (session_id) WHERE session_id IS NOT NULL;
    PRAGMA user_version = 3;";
/// When the first event was received; each of the others a millisecond after the one before.
const FIRST_RECEIVED_MS: i64 = 1_700_000_000_000;

const COSTS: [&str; 4] = ["append", "read a page of 100", "find by id", "find by time"];
const FIGURES: [&str; 3] = [
    "bytes on disk an event",
    "opening, ms",
    "first search by time after opening, ms",
];

/// A log of events that are numbered from 0.
struct Growing {
    disk: DiskLog,
    length: usize,
}

pub(crate) async fn run() {
    let most = if is_soak() {
        LENGTH_SOAK_MAX
    } else {
        LENGTH_MAX
    };
    let directory = TempDir::new().expect("a directory");
    let mut growing = Growing {
        disk: disk_log::open(directory.path()),
        length: 0,
    };
    let mut costs = Vec::new();
    let mut figures = Vec::new();
    let mut rows = Vec::new();
    for wanted in LENGTHS.into_iter().filter(|wanted| *wanted <= most) {
        let filling = growing.grow_to(wanted).await;
        costs.push(growing.costs().await);
        let (reopened, figures_at_length) = growing.reopen(directory.path()).await;
        growing = reopened;
        figures.push(figures_at_length);
        rows.extend(compare(&COSTS, wanted, &costs));
        if wanted > LENGTHS[0] {
            let name = format!("append until there are {wanted} events, indexed");
            rows.push(row(name, &[filling], &costs[0][0]));
        }
    }
    let many_users = growing.appends(MANY_USERS).await;
    let name = format!("append, {most} events and then some of {MANY_USERS} users");
    rows.push(row(name, &many_users, &costs[0][0]));
    table("growth, µs each", "1,000 events", &rows);

    let rows: Vec<Row> = compare(&FIGURES, most, &figures).collect();
    table("growth, the whole log", "1,000 events", &rows);
    growing.upgrade(directory.path()).await;
}

/// The last of what was measured beside the first.
fn compare<const N: usize>(
    names: &[&str; N],
    length: usize,
    measured: &[[Vec<f64>; N]],
) -> impl Iterator<Item = Row> {
    let sides = measured.last().into_iter().zip(measured.first());
    let sides = sides.flat_map(|(ours, base)| ours.iter().zip(base));
    let rows = names.iter().zip(sides);
    rows.map(move |(name, (ours, base))| row(format!("{name}, {length} events"), ours, base))
}

fn row(name: String, ours: &[f64], baseline: &[f64]) -> Row {
    Row {
        name,
        ours: ours.to_vec(),
        baseline: baseline.to_vec(),
    }
}

impl Growing {
    /// Fills the log up to a length. Returns the time of each event, until it is indexed.
    async fn grow_to(&mut self, wanted: usize) -> f64 {
        let missing = wanted.saturating_sub(self.length);
        let started = Instant::now();
        self.disk.fill(records(self.length, missing, USERS)).await;
        self.length += missing;
        each(started.elapsed().saturating_sub(disk_log::IDLE), missing)
    }

    async fn costs(&mut self) -> [Vec<f64>; 4] {
        let mut costs: [Vec<f64>; 4] = Default::default();
        costs[0] = self.appends(USERS).await;
        self.disk.settle().await;
        let log = &self.disk.log;
        // The first search may gather what the others use.
        find_times(log, self.length).await;
        for _ in 0..ROUNDS {
            costs[1].push(read_pages(log, self.length).await);
            costs[2].push(find(log, self.length).await);
            costs[3].push(find_times(log, self.length).await);
        }
        costs
    }

    /// The time of an append, in each of the rounds.
    async fn appends(&mut self, users: usize) -> Vec<f64> {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let started = Instant::now();
            self.disk
                .append(records(self.length, APPENDED, users))
                .await;
            self.length += APPENDED;
            rounds.push(each(started.elapsed(), APPENDED));
        }
        rounds
    }

    /// Closes the log, looks at its files and opens it, several times.
    async fn reopen(self, data_dir: &Path) -> (Self, [Vec<f64>; 3]) {
        let Self { mut disk, length } = self;
        let mut figures: [Vec<f64>; 3] = Default::default();
        for _ in 0..OPENINGS {
            disk.settle().await;
            disk.close().await;
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            figures[0].push(disk_log::bytes_on_disk(data_dir) as f64 / count(length));
            let started = Instant::now();
            disk = disk_log::open(data_dir);
            figures[1].push(1e3 * started.elapsed().as_secs_f64());
            let started = Instant::now();
            find_time(&disk.log, length / 2).await;
            figures[2].push(1e3 * started.elapsed().as_secs_f64());
        }
        (Self { disk, length }, figures)
    }

    /// Opens the log as one of schema 3, and appends one event after the other until the old
    /// indexes are gone; then as many again, which is the baseline.
    async fn upgrade(self, data_dir: &Path) {
        let Self { disk, length } = self;
        disk.settle().await;
        disk.close().await;
        let file = Connection::open(data_dir.join("clerkcast.db")).expect("opens");
        file.execute_batch(AS_VERSION_3).expect("an older log");
        let mut growing = Self {
            disk: disk_log::open(data_dir),
            length,
        };
        let mut meanwhile = Vec::new();
        while has_old_indexes(&file) {
            meanwhile.push(growing.append_one().await);
        }
        growing.disk.settle().await;
        let mut afterwards = Vec::new();
        while afterwards.len() < meanwhile.len().min(APPENDED_ALONE_MAX) {
            afterwards.push(growing.append_one().await);
        }
        let rows = [("p50", 0.5), ("p99", 0.99), ("longest", 1.0)].map(|(name, rank)| {
            let [ours, baseline] = [&meanwhile, &afterwards].map(|times| percentile(times, rank));
            let name = format!("append, one at a time, {name}, {length} events");
            row(name, &[ours], &[baseline])
        });
        let title = "growth, ms while the indexes of an old log are rebuilt";
        table(title, "once they are", &rows);
    }

    /// Appends an event. Returns how long that took, in ms.
    async fn append_one(&mut self) -> f64 {
        tokio::time::sleep(PAUSE).await;
        let started = Instant::now();
        self.disk.append(records(self.length, 1, USERS)).await;
        self.length += 1;
        1e3 * started.elapsed().as_secs_f64()
    }
}

fn has_old_indexes(file: &Connection) -> bool {
    let old = "SELECT count(*) FROM sqlite_schema \
               WHERE type = 'index' AND tbl_name = 'record' AND name <> 'record_id'";
    let old: i64 = file.query_row(old, [], |row| row.get(0)).expect("counted");
    old > 0
}

fn records(first: usize, events: usize, users: usize) -> impl Iterator<Item = Entry> {
    let common = record(300);
    (first..first + events).map(move |number| {
        let mut record = common.clone();
        record.id = id(number);
        record.attributes.user_id = Some(format!("user_{:027}", scattered(number) % users));
        record.receive_time = received(number);
        record.payload = Bytes::from_static(b"{}");
        record
    })
}

fn id(number: usize) -> String {
    format!("msg_{number:027}")
}

fn received(number: usize) -> UnixMillis {
    let number = i64::try_from(number).expect("a small number");
    UnixMillis::new(FIRST_RECEIVED_MS + number)
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

async fn find_times(log: &Arc<dyn Log>, length: usize) -> f64 {
    let started = Instant::now();
    for number in 0..LOOKUPS {
        find_time(log, scattered(number) % length).await;
    }
    each(started.elapsed(), LOOKUPS)
}

/// Finds where a subscriber begins that asks for events since this one was received.
async fn find_time(log: &Arc<dyn Log>, number: usize) {
    let found = log.position_before(received(number)).await.expect("found");
    assert_eq!(found, Position::new(number as u64));
}

fn each(elapsed: Duration, times: usize) -> f64 {
    1e6 * elapsed.as_secs_f64() / count(times)
}
