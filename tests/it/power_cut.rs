//! What is on the disk when the machine loses its power: all that was synced, and of
//! what was not, whatever the disk happened to take, in pieces of a sector.
//!
//! A library that is preloaded into the real binary records its writes, its syncs and its
//! answers in one order. From that record, the disk is made as it may be found at any
//! moment, over and over, and the log is opened on it.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use clerkcast::event::{IndexHint, Position};
use clerkcast::log::sqlite::{Config, SqliteLog};
use clerkcast::log::{Log, Metrics, Query, Read};
use prometheus_client::registry::Registry;
use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::cells;
use crate::harness::{Gateway, Options, body};
use crate::preload::{compile, preloaded};
use crate::sealing::{self, Load, start_sealer};
use crate::soak::{Figure, figure};

/// What a disk writes whole, or not at all.
const SECTOR: usize = 512;
const CONNECTIONS: usize = 8;
const EVENTS: usize = 1200;
/// Records of the process that seals.
const SEALED_RECORDS: usize = 3_000;
/// What the process that swaps has answered.
const SWAPS_AND_EVENTS: usize = 3_000;

#[derive(Debug, PartialEq, Eq)]
enum SyncCall {
    Fsync,
    Fdatasync,
}

/// What the recording library saw.
enum Entry {
    Write {
        file: char,
        offset: usize,
        bytes: Vec<u8>,
    },
    Truncate {
        file: char,
        length: usize,
    },
    Sync {
        file: char,
        call: SyncCall,
    },
    Answer {
        id: String,
    },
}

fn read_trace(path: &Path) -> Vec<Entry> {
    let trace = std::fs::read(path).expect("a trace");
    let mut rest = &trace[..];
    let mut entries = Vec::new();
    while let Some((head, tail)) = rest.split_at_checked(14) {
        let file = char::from(head[1]);
        let offset = u64::from_ne_bytes(head[2..10].try_into().expect("8 bytes"));
        let offset = usize::try_from(offset).expect("fits");
        let length = u32::from_ne_bytes(head[10..14].try_into().expect("4 bytes"));
        // The process was killed: its last entry may be cut short.
        let Some((bytes, tail)) = tail.split_at_checked(length as usize) else {
            break;
        };
        entries.push(match head[0] {
            b'W' => Entry::Write {
                file,
                offset,
                bytes: bytes.to_vec(),
            },
            b'T' => Entry::Truncate {
                file,
                length: offset,
            },
            b'S' => Entry::Sync {
                file,
                call: SyncCall::Fsync,
            },
            b'D' => Entry::Sync {
                file,
                call: SyncCall::Fdatasync,
            },
            b'A' => Entry::Answer { id: id_of(bytes) },
            other => panic!("an entry of kind {other}"),
        });
        rest = tail;
    }
    entries
}

fn id_of(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    let (_, rest) = text.split_once("\"id\":\"").expect("an id");
    rest.split('"').next().expect("it ends").to_owned()
}

/// One file: what surely is on the disk, and the entries that may not be.
#[derive(Default)]
struct OnDisk<'a> {
    synced: Vec<u8>,
    unsynced: Vec<&'a Entry>,
}

impl<'a> OnDisk<'a> {
    fn note(&mut self, entry: &'a Entry) {
        self.unsynced.push(entry);
    }

    fn sync(&mut self) {
        for entry in std::mem::take(&mut self.unsynced) {
            apply(&mut self.synced, entry, |_| true);
        }
    }

    /// As it may be found: of each sector that was not synced, the old or the new.
    fn torn(&self, rng: &mut TestRng) -> Vec<u8> {
        let mut content = self.synced.clone();
        // Disks that lose nothing, all, or something are all worth looking at.
        let kept_of_four = rng.next_u32() % 5;
        for entry in &self.unsynced {
            apply(&mut content, entry, |_| rng.next_u32() % 4 < kept_of_four);
        }
        content
    }
}

fn apply(content: &mut Vec<u8>, entry: &Entry, mut keeps: impl FnMut(usize) -> bool) {
    match entry {
        Entry::Write { offset, bytes, .. } => {
            for (number, sector) in bytes.chunks(SECTOR).enumerate() {
                if keeps(number) {
                    let start = offset + number * SECTOR;
                    let end = start + sector.len();
                    content.resize(content.len().max(end), 0);
                    content[start..end].copy_from_slice(sector);
                }
            }
        }
        Entry::Truncate { length, .. } if keeps(0) => content.resize(*length, 0),
        _ => {}
    }
}

/// A gateway whose writes and syncs are recorded in the file at `path`.
fn traced(path: &Path) -> Gateway {
    let directory = TempDir::new().expect("a temporary directory");
    let library = compile("trace", directory.path());
    Gateway::start_with(Options {
        args: Vec::new(),
        env: preloaded(&library, "CLERKCAST_TRACE", path),
    })
}

/// The record of a gateway under load, which ends with `kill -9`.
async fn trace_under_load(path: &Path) {
    let mut gateway = traced(path);
    let mut posting = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let poster = gateway.poster.clone();
        posting.spawn(async move {
            // Pages of overflow, and enough of them that checkpoints write the database.
            let padding = "x".repeat(12_000);
            for number in 0..EVENTS / CONNECTIONS {
                let id = format!("msg_{connection}_{number}");
                let body = body("user.updated", &padding);
                let answer = poster.post(&id, body.into()).await;
                assert_eq!(answer.expect("an answer").status, 200);
            }
        });
    }
    posting.join_all().await;
    gateway.kill();
}

/// What is on the disk at moments when the power is cut, one after the other.
struct PowerCuts<'a> {
    entries: &'a [Entry],
    rng: TestRng,
    moments: Vec<usize>,
    files: HashMap<char, OnDisk<'a>>,
    seen: usize,
    /// The ids that were acknowledged by then.
    acknowledged: HashSet<String>,
    /// Images of files that had writes without a sync.
    unsynced_images: usize,
}

impl<'a> PowerCuts<'a> {
    /// Cuts the power at moments after the first answer.
    fn new(entries: &'a [Entry], images: usize) -> Self {
        let is_answer = |entry: &Entry| matches!(entry, Entry::Answer { .. });
        let first_answer = entries.iter().position(is_answer).expect("an answer");
        let of_database = |entry: &Entry| matches!(entry, Entry::Write { file: 'd', .. });
        assert!(
            entries[first_answer..].iter().any(of_database),
            "no checkpoint"
        );
        let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
        let span = entries.len() - first_answer;
        let moments = (0..images).map(|_| first_answer + 1 + rng.next_u32() as usize % span);
        let mut moments: Vec<usize> = moments.collect();
        // The next one is the last.
        moments.sort_unstable_by(|one, other| other.cmp(one));
        Self {
            entries,
            rng,
            moments,
            files: HashMap::from([('d', OnDisk::default()), ('w', OnDisk::default())]),
            seen: 0,
            acknowledged: HashSet::new(),
            unsynced_images: 0,
        }
    }

    /// A data directory as it is found after the next cut.
    fn next_image(&mut self) -> Option<TempDir> {
        let moment = self.moments.pop()?;
        for entry in &self.entries[self.seen..moment] {
            match entry {
                Entry::Answer { id } => drop(self.acknowledged.insert(id.clone())),
                Entry::Sync { file, .. } => self.files.get_mut(file).expect("known").sync(),
                Entry::Write { file, .. } | Entry::Truncate { file, .. } => {
                    self.files.get_mut(file).expect("known").note(entry);
                }
            }
        }
        self.seen = moment;
        let has_unsynced = self.files.values().any(|file| !file.unsynced.is_empty());
        self.unsynced_images += usize::from(has_unsynced);
        let directory = TempDir::new().expect("a temporary directory");
        for (file, name) in [('d', "clerkcast.db"), ('w', "clerkcast.db-wal")] {
            let content = self.files[&file].torn(&mut self.rng);
            std::fs::write(directory.path().join(name), content).expect("written");
        }
        Some(directory)
    }

    /// Ends the cuts, enough of which were between a write and its sync.
    fn end(self, images: usize) {
        assert!(
            self.unsynced_images > images / 4,
            "too few cuts fall between a write and its sync"
        );
        println!(
            "{images} images of {} writes and syncs, {} of them with unsynced writes, {} acknowledged",
            self.entries.len(),
            self.unsynced_images,
            self.acknowledged.len()
        );
    }
}

/// The ids in the log of a data directory.
async fn recovered(data_dir: &Path) -> Vec<String> {
    let config = Config {
        data_dir: data_dir.to_owned(),
        retain_for: None,
        retain_bytes: None,
        ..Config::default()
    };
    let metrics = Metrics::register(&mut Registry::default());
    let log: Arc<dyn Log> = Arc::new(SqliteLog::open(config, metrics).expect("opens"));
    let mut ids = Vec::new();
    let mut after = Position::default();
    while after < log.bounds().last {
        let log: &dyn Read = &*log;
        let page = log.read(Query {
            after,
            narrow: IndexHint::All,
            matches: Arc::new(|_| true),
            records_max: 1000,
            bytes_max: 16 << 20,
        });
        let page = page.await.expect("readable");
        ids.extend(page.records.into_iter().map(|record| record.entry.id));
        after = page.through;
    }
    log.close().await;
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn durable_every_acknowledged_event_survives_a_power_cut() {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("trace");
    trace_under_load(&path).await;
    let entries = read_trace(&path);
    let images = figure(Figure::PowerCutImages);
    let mut cuts = PowerCuts::new(&entries, images);
    while let Some(image) = cuts.next_image() {
        let ids = recovered(image.path()).await;
        let unique: HashSet<&String> = ids.iter().collect();
        assert_eq!(unique.len(), ids.len(), "an id is in the log twice");
        let lost: Vec<_> = cuts
            .acknowledged
            .iter()
            .filter(|id| !unique.contains(id))
            .collect();
        assert!(
            lost.is_empty(),
            "cut at {}: acknowledged and lost: {lost:?}",
            cuts.seen
        );
    }
    cuts.end(images);
}

/// A killed process may have written what it did not sync. A start reads it, and reveals it: by
/// the answer to a duplicate, say.
#[tokio::test]
async fn durable_a_start_syncs_what_the_process_before_it_wrote() {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("trace");
    let library = compile("trace", directory.path());
    let gateway = Gateway::start_with(Options {
        args: Vec::new(),
        env: preloaded(&library, "CLERKCAST_TRACE", &path),
    });
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let mut gateway = gateway.restarted();
    let again = gateway.post("msg_1", body("user.created", "user_1")).await;
    assert_eq!(again.json()["duplicate"], true);
    gateway.kill();
    let entries = read_trace(&path);
    let is_answer = |entry: &Entry| matches!(entry, Entry::Answer { .. });
    let accepted = entries.iter().position(is_answer).expect("an answer");
    let (_, since) = entries.split_at(accepted + 1);
    let repeated = since.iter().position(is_answer).expect("another");
    let is_sync = |entry: &Entry| matches!(entry, Entry::Sync { file: 'w', .. });
    assert!(
        since[..repeated].iter().any(is_sync),
        "the duplicate was answered before the WAL was synced"
    );
}

/// Of a process that seals every few records, what was not synced is often part of a segment.
#[tokio::test(flavor = "multi_thread")]
async fn same_answers_after_a_power_cut_while_sealing() {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("trace");
    let library = compile("trace", directory.path());
    let env = preloaded(&library, "CLERKCAST_TRACE", &path);
    let data_dir = directory.path().join("data");
    let sealer = start_sealer(&data_dir, Load::Flood, env);
    sealer.has_acknowledged(SEALED_RECORDS).await;
    sealer.kill();
    assert!(sealing::has_merged(&data_dir), "nothing of it was traced");
    let entries = read_trace(&path);
    let images = figure(Figure::PowerCutImages) / 3;
    let mut cuts = PowerCuts::new(&entries, images);
    while let Some(image) = cuts.next_image() {
        if cuts.moments.len().is_multiple_of(5) {
            sealing::check(image.path(), &cuts.acknowledged).await;
        } else {
            sealing::check_at_once(image.path(), &cuts.acknowledged).await;
        }
    }
    cuts.end(images);
}

/// Neither a swap that was stored nor one that found another revision is unsaid.
#[tokio::test(flavor = "multi_thread")]
async fn swapped_what_was_answered_survives_a_power_cut() {
    for load in [cells::Load::BesideEvents, cells::Load::Alone] {
        let directory = TempDir::new().expect("a temporary directory");
        let path = directory.path().join("trace");
        let library = compile("trace", directory.path());
        let env = preloaded(&library, "CLERKCAST_TRACE", &path);
        let swapper = cells::start_swapper(&directory.path().join("data"), load, env);
        swapper.has_acknowledged(SWAPS_AND_EVENTS).await;
        swapper.kill();
        let entries = read_trace(&path);
        let images = figure(Figure::PowerCutImages) / 3;
        let mut cuts = PowerCuts::new(&entries, images);
        while let Some(image) = cuts.next_image() {
            cells::check(image.path(), &cuts.acknowledged).await;
        }
        cuts.end(images);
    }
}

/// fsync would also write the file's modification time, by a commit of the file system's
/// own journal.
#[tokio::test]
async fn a_commit_calls_fdatasync_and_not_fsync() {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("trace");
    let mut gateway = traced(&path);
    for number in 0..20 {
        let id = format!("msg_{number}");
        gateway.accept(&id, body("user.created", "user_1")).await;
    }
    gateway.kill();
    let mut commits = 0;
    let mut is_synced = false;
    for entry in read_trace(&path) {
        match entry {
            Entry::Sync { file: 'w', call } => {
                assert_eq!(call, SyncCall::Fdatasync);
                is_synced = true;
            }
            Entry::Answer { .. } => {
                assert!(is_synced, "answered before the WAL was synced");
                is_synced = false;
                commits += 1;
            }
            _ => {}
        }
    }
    assert_eq!(commits, 20);
    let log = gateway.log_text();
    assert!(!log.contains("without fdatasync"), "{log}");
}
