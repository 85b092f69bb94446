//! The index of the embedded log, which is written once: whatever becomes of it, the log
//! answers as if every record were looked at.

mod damage;
mod history;
mod store;
mod wal_file;

use std::path::Path;

use clerkcast::event::{Attributes, IndexHint, Position, UnixMillis, Values};
use clerkcast::log::Entry;
use proptest::prelude::*;
use proptest::sample::Index;
use rusqlite::Connection;
use tempfile::TempDir;

use self::damage::{Damage, Harm, Part, Row, Table};
use self::history::{Gateway, ask, begin, check_seeks, harsh_step, step};
use self::store::{Store, part_lengths, segments};
use self::wal_file::transactions;
use crate::harness::eventually;
use crate::soak::{Figure, figure};

/// What a segment is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Type,
    User,
    Organization,
    Session,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Type, Self::User, Self::Organization, Self::Session];

    fn value(self, attributes: Attributes<&str>) -> Option<&str> {
        match self {
            Self::Type => Some(attributes.event_type),
            Self::User => attributes.user_id,
            Self::Organization => attributes.organization_id,
            Self::Session => attributes.session_id,
        }
    }

    fn hint(self, values: Values) -> IndexHint {
        match self {
            Self::Type => IndexHint::Types(values),
            Self::User => IndexHint::Users(values),
            Self::Organization => IndexHint::Organizations(values),
            Self::Session => IndexHint::Sessions(values),
        }
    }
}

fn histories() -> ProptestConfig {
    let cases = u32::try_from(figure(Figure::IndexHistories)).expect("fits");
    ProptestConfig {
        cases,
        // Each takes seconds.
        max_shrink_iters: 30,
        ..ProptestConfig::default()
    }
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Runtime::new();
    runtime.expect("a runtime").block_on(test);
}

proptest! {
    #![proptest_config(histories())]

    #[test]
    fn same_answers_whatever_is_sealed_merged_missing_damaged_or_trimmed(
        begin in begin(),
        steps in prop::collection::vec(harsh_step(), 4..12),
        asks in prop::collection::vec(ask(), 4..8),
    ) {
        block_on(async {
            let mut gateway = Gateway::new(16);
            for step in std::iter::once(&begin).chain(&steps) {
                gateway.take(step).await;
                gateway.store.check_everything().await;
                for ask in &asks {
                    ask.check(&gateway.store).await;
                }
            }
            // Damage to what is in memory too shows at the next start.
            gateway.store.reopen(|_| {}).await;
            gateway.store.wait_until_indexed().await;
            gateway.store.check_everything().await;
        });
    }

    #[test]
    fn exact_seek_where_the_clock_went_back(
        segment_records in prop_oneof![Just(16_u64), 20_u64..400],
        begin in begin(),
        steps in prop::collection::vec(step(), 4..12),
        like in prop::collection::vec(any::<Index>(), 4),
    ) {
        block_on(async {
            let mut gateway = Gateway::new(segment_records);
            for step in std::iter::once(&begin).chain(&steps) {
                gateway.take(step).await;
                check_seeks(&gateway.store, &like).await;
            }
            gateway.store.settle_among_commits().await;
            check_seeks(&gateway.store, &like).await;
            // Nothing is known of the times but what segments have.
            gateway.store.reopen(|_| {}).await;
            check_seeks(&gateway.store, &like).await;
        });
    }
}

#[tokio::test]
async fn neighbors_are_merged_twice_and_a_rare_value_costs_no_other_row() {
    let mut store = Store::new(4);
    store.append_new(3 * 256 + 2 * 32 + 5 * 4 + 3).await;
    store.settle_among_commits().await;
    assert_eq!(sizes(&store), [256, 256, 256, 32, 32, 4, 4, 4, 4, 4]);
    eventually("the metric follows", || async {
        store.metric("log_segments") == 10
    })
    .await;
    assert_eq!(store.metric("log_unsealed_records"), 3);
    for known in &store.records {
        assert!(store.is_found_by_segments(known).await, "{known:?}");
    }
    eventually("the parts of what was merged are gone", || async {
        store.is_tidy()
    })
    .await;
}

/// How many positions each segment covers.
fn sizes(store: &Store) -> Vec<u64> {
    let segments = segments(&store.file).into_iter();
    segments.map(|it| it.last + 1 - it.first).collect()
}

#[tokio::test]
async fn derived_what_is_damaged_is_noticed_and_built_again() {
    // Of what is there already, eight are built at once.
    const TILES: u64 = 8 + 1 + 3;
    let mut store = Store::new(16);
    store.append_new(75 * 16 + 7).await;
    store.wait_until_indexed().await;
    let sealed: Vec<u64> = sizes(&store);
    assert_eq!(sealed, [1_024, 128, 16, 16, 16]);
    let harms = [
        Harm::Deleted,
        Harm::BitFlipped(Part(u16::MAX / 2)),
        Harm::CutShort(Part(u16::MAX / 2)),
        Harm::AllDeleted,
    ];
    let rows = [
        (Table::Part, Row::Oldest, 1),
        (Table::Part, Row::Newest, 1),
        (Table::Segment, Row::Oldest, 8),
        (Table::Segment, Row::Newest, 1),
    ];
    for (harm, (table, row, tiles)) in harms
        .into_iter()
        .flat_map(|harm| rows.map(|row| (harm, row)))
    {
        let damage = Damage { table, row, harm };
        let tiles = match harm {
            Harm::AllDeleted => TILES,
            _ => tiles,
        };
        eventually("only parts of segments are there", || async {
            store.is_tidy()
        })
        .await;
        let mut before = store.metric("log_segment_build_seconds_count");
        match table {
            Table::Part => damage.strike(&store.file),
            Table::Segment => {
                store.reopen(|file| damage.strike(file)).await;
                before = 0;
            }
        }
        let built = || store.metric("log_segment_build_seconds_count") - before;
        eventually("what is damaged is built again", || async {
            store.find_all_values().await;
            built() >= tiles
        })
        .await;
        store.wait_until_indexed().await;
        assert_eq!(sizes(&store), sealed, "{damage:?}");
        assert!(built() <= TILES, "nothing is built twice: {damage:?}");
    }
}

#[tokio::test]
async fn bounded_tail_the_last_record_of_a_segment_completes_it() {
    let mut store = Store::new(4);
    for number in 1..=12_u64 {
        store.append_new(1).await;
        store.settle().await;
        assert_eq!(segments(&store.file).len() as u64, number / 4);
    }
}

/// Keeps segments from being added to the file, or removed from it.
fn hold(file: &Connection, event: &str) {
    let sql = format!(
        "CREATE TRIGGER held_{event} BEFORE {event} ON segment \
         BEGIN SELECT RAISE(ABORT, 'held'); END"
    );
    file.execute_batch(&sql).expect("held");
}

fn release(file: &Connection, event: &str) {
    let sql = format!("DROP TRIGGER held_{event}");
    file.execute_batch(&sql).expect("released");
}

#[tokio::test]
async fn bounded_tail_under_a_flood() {
    const RECORDS: usize = 30_000;
    let mut store = Store::new(4_096);
    for _ in 0..RECORDS / 5_000 {
        store.append_new(5_000).await;
    }
    let tail = (RECORDS % 4_096) as u64;
    eventually("what is complete is in segments", || async {
        store.metric("log_unsealed_records") == tail
    })
    .await;
    assert_eq!(store.metric("log_segments"), 7);
    for known in store.records.iter().step_by(499) {
        assert!(store.is_found_by_segments(known).await, "{known:?}");
    }
    store.check_everything().await;
}

/// Also in one that is larger than the log: no segment is ever complete.
#[tokio::test]
async fn never_in_the_way_where_no_segment_can_be_built() {
    for segment_records in [16, 1 << 40] {
        let mut store = Store::new(segment_records);
        store.append_new(100).await;
        store.settle().await;
        let unsealed = store.metric("log_unsealed_records");
        hold(&store.file, "INSERT");
        for round in 1..=5 {
            store.append_new(200).await;
            assert_eq!(store.metric("log_unsealed_records"), unsealed + 200 * round);
            store.find_all_values().await;
        }
        store.check_everything().await;
        release(&store.file, "INSERT");
        store.settle().await;
        assert_eq!(store.metric("log_unsealed_records"), store.tail());
        store.find_all_values().await;
        store.check_everything().await;
    }
}

#[tokio::test]
async fn pages_end_by_effort_within_segments_and_lose_nothing() {
    let mut store = Store::new(16);
    hold(&store.file, "INSERT");
    store.append_new(60 * 128).await;
    // Nothing is merged.
    hold(&store.file, "DELETE");
    release(&store.file, "INSERT");
    eventually("all records are in segments", || async {
        store.metric("log_unsealed_records") == 0
    })
    .await;
    // The first may be of fewer than 128 records, which were all there when it was begun.
    assert!(segments(&store.file).len() >= 60);
    // Looking 64 values up in each of them is more than one page does.
    store.find_all_values().await;
}

/// The rows of a segment are found some dozens at once where they stand apart.
#[tokio::test]
async fn same_answers_where_a_segment_has_hundreds_of_a_value() {
    let mut store = Store::new(2_048);
    store.append_new(2 * 2_048 + 10).await;
    store.settle().await;
    assert_eq!(segments(&store.file).len(), 2);
    for kind in [Kind::Type, Kind::Organization] {
        for value in store.values(kind) {
            let values = Values::from_iter([value]);
            let known: Vec<Position> = store.known(kind, &values).collect();
            assert_eq!(store.find(kind, &values).await.0, known, "{value}");
            for records_max in [1, 100, 128, 1_000] {
                let pages = store.read(kind, &values, records_max).await;
                assert_eq!(pages, known, "{value}, {records_max} a page");
            }
        }
    }
}

/// A reader outside, which keeps the WAL whole for as long as it lives.
fn outside_reader(store: &Store) -> Connection {
    let reader = Connection::open(store.database()).expect("opens");
    let begin = "BEGIN; SELECT count(*) FROM record;";
    reader.execute_batch(begin).expect("reads");
    reader
}

fn wal(store: &Store) -> Vec<u8> {
    let path = store.database().with_extension("db-wal");
    std::fs::read(path).expect("a WAL")
}

#[tokio::test]
async fn never_in_the_way_a_commit_carries_at_most_1_mib_of_an_index() {
    const RECORDS: u64 = 65_536;
    let mut store = Store::new(RECORDS / 64);
    store.append_new(1).await;
    let _reader = outside_reader(&store);
    // No value is like another, which makes the index as large as it gets.
    hold(&store.file, "INSERT");
    for first in (1..RECORDS).step_by(5_000) {
        let numbers = first..RECORDS.min(first + 5_000);
        let entries: Vec<Entry> = numbers
            .map(|number| {
                let mut entry = store.entry(100, UnixMillis::now());
                let attributes = &mut entry.attributes;
                attributes.user_id = Some(format!("user_of_{number}"));
                attributes.organization_id = Some(format!("org_of_{number}"));
                attributes.session_id = Some(format!("sess_{number}"));
                entry
            })
            .collect();
        store.append(entries).await;
    }
    let filled = wal(&store).len();
    release(&store.file, "INSERT");
    store.settle().await;
    assert_eq!(segments(&store.file).len(), 1);
    let wal = wal(&store);
    let all = transactions(&wal);
    let of_index = all.iter().filter(|transaction| transaction.start >= filled);
    let largest = of_index.map(|it| it.end - it.start).max().expect("commits");
    assert!(largest <= 1 << 20, "{largest} bytes in one commit");
    let index: u64 = part_lengths(&store.file).values().sum();
    assert!(
        index > 2 << 20,
        "{index} bytes are more than one commit takes"
    );
}

/// The file as it is after each commit: a power cut may leave any of them.
#[tokio::test]
async fn derived_a_segment_is_in_the_file_with_all_of_its_parts_or_not_at_all() {
    let mut store = Store::new(4);
    let _reader = outside_reader(&store);
    let begin = wal(&store).len();
    for _ in 0..6 {
        store.append_new(50).await;
        store.settle().await;
    }
    let wal = wal(&store);
    let mut transactions = transactions(&wal);
    transactions.retain(|transaction| transaction.start >= begin);
    assert!(transactions.len() > 50, "{}", transactions.len());
    let (mut least, mut most) = (u64::MAX, 0);
    for commit in transactions {
        let cut = TempDir::new().expect("a temporary directory");
        let database = cut.path().join("clerkcast.db");
        std::fs::copy(store.database(), &database).expect("copied");
        std::fs::write(cut.path().join("clerkcast.db-wal"), &wal[..commit.end]).expect("written");
        let covered = check_whole(&database);
        (least, most) = (least.min(covered), most.max(covered));
    }
    assert_eq!((least, most), (0, 300));
}

/// Returns how many positions segments cover.
fn check_whole(database: &Path) -> u64 {
    let file = Connection::open(database).expect("opens");
    let lengths = part_lengths(&file);
    let mut end = 0;
    for segment in segments(&file) {
        assert_eq!(segment.first, end + 1, "each position is in one segment");
        end = segment.last;
        assert!(!segment.parts.is_empty());
        for number in segment.parts.clone() {
            assert!(lengths.contains_key(&number), "{number} of {segment:?}");
        }
    }
    end
}
