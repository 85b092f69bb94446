//! Segments against a naive reference: the records themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::directory::Segment;
use super::terms::{Places, Stretch, read_stretches, write_stretch};
use super::{Builder, Built, Damaged, Merge, Segments, Term, Tiling, Work};
use crate::event::{Attributes, IndexHint, Position, UnixMillis, Values};
use crate::log::sqlite::times::block_of;

/// What a record is found by: numbers of values, of which few or many are equal.
#[derive(Clone, Copy, Debug)]
struct Row {
    event_type: u32,
    user: Option<u32>,
    received: i64,
}

/// Parts as the file has them.
type Parts = BTreeMap<u64, Vec<u8>>;

fn rows(most: usize) -> impl Strategy<Value = Vec<Row>> {
    let user = prop_oneof![
        2 => (0_u32..5).prop_map(Some),
        3 => (0_u32..10_000).prop_map(Some),
        1 => Just(None),
    ];
    let event_type = prop_oneof![4 => 0_u32..2, 1 => 0_u32..40];
    let row = (event_type, user, -50_i64..5_000);
    let row = row.prop_map(|(event_type, user, received)| Row {
        event_type,
        user,
        received,
    });
    prop::collection::vec(row, 1..most)
}

/// Builds the segment of the rows whose positions begin with `first`.
fn build(parts: &mut Parts, first: u64, rows: &[Row], before: i64) -> Segment {
    let last = first + rows.len() as u64 - 1;
    let [first_position, last] = [first, last].map(Position::new);
    let mut builder = Builder::new(first_position, last, UnixMillis::new(before));
    for (row, position) in rows.iter().zip(first..) {
        let (event_type, user) = names(*row);
        let attributes = Attributes {
            event_type: event_type.as_str(),
            user_id: user.as_deref(),
            ..Attributes::default()
        };
        builder.add(
            Position::new(position),
            UnixMillis::new(row.received),
            attributes,
        );
    }
    let first_part = parts.last_key_value().map_or(1, |(number, _)| number + 1);
    let built = builder.finish(first_part);
    keep(parts, built)
}

fn keep(
    parts: &mut Parts,
    Built {
        segment,
        parts: made,
    }: Built,
) -> Segment {
    parts.extend(segment.parts().zip(made));
    segment
}

fn names(row: Row) -> (String, Option<String>) {
    let user = row.user.map(|user| format!("user_{user}"));
    (format!("type.{}", row.event_type), user)
}

fn reading(parts: &Parts) -> impl FnMut(u64, &mut Vec<u8>) -> Result<(), Damaged> + Clone {
    |number, buffer| {
        let part = parts
            .get(&number)
            .ok_or(Damaged("a part that is missing"))?;
        buffer.clone_from(part);
        Ok(())
    }
}

fn users(numbers: &[u32]) -> IndexHint {
    let names = numbers.iter().map(|number| format!("user_{number}"));
    IndexHint::Users(names.collect::<Values>())
}

fn types(numbers: &[u32]) -> IndexHint {
    let names = numbers.iter().map(|number| format!("type.{number}"));
    IndexHint::Types(names.collect::<Values>())
}

/// The positions that a look-up shows.
fn shown(segment: &Segment, parts: &Parts, hint: &IndexHint) -> Result<BTreeSet<u64>, Damaged> {
    let terms = Term::asked(hint).expect("terms");
    let places = segment.look_up(&terms, reading(parts))?;
    let positions = places.iter().flat_map(|stretch| {
        let [first, last] = segment.positions(stretch).map(Position::number);
        first..=last
    });
    Ok(positions.collect())
}

/// A look-up shows all records that it should, and at most `times` as many.
fn check(
    segment: &Segment,
    parts: &Parts,
    first: u64,
    rows: &[Row],
    hint: &IndexHint,
    times: usize,
    wanted: impl Fn(&Row) -> bool,
) -> Result<(), TestCaseError> {
    let found = shown(segment, parts, hint).expect("nothing is damaged");
    let positions = first..=first + rows.len() as u64 - 1;
    let naive: BTreeSet<u64> = positions
        .clone()
        .zip(rows)
        .filter(|(_, row)| wanted(row))
        .map(|(position, _)| position)
        .collect();
    prop_assert!(naive.is_subset(&found), "{naive:?} of {found:?}");
    prop_assert!(found.iter().all(|position| positions.contains(position)));
    prop_assert!(found.len() <= naive.len() * times, "{naive:?} as {found:?}");
    Ok(())
}

fn check_all(
    segment: &Segment,
    parts: &Parts,
    first: u64,
    rows: &[Row],
    asked: &[u32],
    times: usize,
) -> Result<(), TestCaseError> {
    check(segment, parts, first, rows, &users(asked), times, |row| {
        row.user.is_some_and(|user| asked.contains(&user))
    })?;
    check(segment, parts, first, rows, &types(asked), times, |row| {
        asked.contains(&row.event_type)
    })?;
    for (start, latest) in segment.block_times() {
        let naive = rows.iter().zip(first..);
        let naive =
            naive.filter(|(_, position)| block_of(Position::new(*position)) == block_of(start));
        let naive = naive.map(|(row, _)| row.received).max();
        prop_assert_eq!(Some(latest.milliseconds()), naive);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn same_answers_from_a_segment_as_from_its_rows(
        rows in rows(3_000),
        first in 1_u64..1_000_000,
        asked in prop::collection::vec(0_u32..50, 1..6),
    ) {
        let mut parts = Parts::new();
        let segment = build(&mut parts, first, &rows, i64::MIN);
        check_all(&segment, &parts, first, &rows, &asked, 4)?;
        let latest = rows.iter().map(|row| row.received).max();
        prop_assert_eq!(Some(segment.latest_receive_time().milliseconds()), latest);
        let bytes = segment.to_bytes();
        let read = Segment::from_bytes(segment.first()..=segment.last(), segment.latest_receive_time(), &bytes);
        prop_assert_eq!(read, Ok(segment));
    }

    #[test]
    fn same_answers_from_a_merged_segment_as_from_its_rows(
        rows in rows(6_000),
        records in 1_usize..2_000,
        bytes_min in 1_usize..100_000,
        asked in prop::collection::vec(0_u32..50, 1..6),
    ) {
        let mut parts = Parts::new();
        let mut latest = i64::MIN;
        let mut neighbors = Vec::new();
        for (neighbor, first) in rows.chunks(records).zip((1_u64..).step_by(records)) {
            let segment = build(&mut parts, first, neighbor, latest);
            latest = segment.latest_receive_time().milliseconds();
            neighbors.push(Arc::new(segment));
        }
        let first_part = parts.last_key_value().map_or(1, |(number, _)| number + 1);
        let old = parts.clone();
        let mut merge = Merge::new(&neighbors, first_part, reading(&old));
        let mut number = first_part;
        while let Some(made) = merge.next_parts(bytes_min).expect("nothing is damaged") {
            parts.extend((number..).zip(made.iter().cloned()));
            number += made.len() as u64;
        }
        let merged = merge.finish();
        prop_assert_eq!(merged.parts(), first_part..number);
        // A segment, what it is merged into and a look-up each take more than a quarter for all.
        check_all(&merged, &parts, 1, &rows, &asked, 4 * 4 * 4)?;
        prop_assert_eq!(merged.latest_receive_time().milliseconds(), latest);
    }

    #[test]
    fn a_damaged_part_or_directory_is_noticed(
        rows in rows(600),
        bit in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
        asked in prop::collection::vec(0_u32..50, 1..6),
    ) {
        let mut parts = Parts::new();
        let segment = build(&mut parts, 1, &rows, i64::MIN);
        let whole = shown(&segment, &parts, &users(&asked));
        for (number, part) in parts.clone() {
            let mut flipped = part.clone();
            let index = bit.index(part.len() * 8);
            flipped[index / 8] ^= 1 << (index % 8);
            let short = part[..cut.index(part.len())].to_vec();
            for damaged in [flipped, short] {
                prop_assert!(segment.check_part(&damaged).is_err());
                let mut parts = parts.clone();
                parts.insert(number, damaged);
                let found = shown(&segment, &parts, &users(&asked));
                prop_assert!(found.is_err() || found == whole);
            }
        }
        let range = segment.first()..=segment.last();
        let mut bytes = segment.to_bytes();
        let index = bit.index(bytes.len() * 8);
        bytes[index / 8] ^= 1 << (index % 8);
        let read = Segment::from_bytes(range.clone(), segment.latest_receive_time(), &bytes);
        prop_assert!(read.is_err());
        bytes[index / 8] ^= 1 << (index % 8);
        let later = UnixMillis::new(segment.latest_receive_time().milliseconds() + 1);
        prop_assert!(Segment::from_bytes(range, later, &bytes).is_err());
    }

    #[test]
    fn what_is_no_segment_is_refused_and_never_panics(
        mut bytes in prop::collection::vec(any::<u8>(), 0..300),
        records in 0_u32..5_000,
    ) {
        super::part::seal(&mut bytes);
        let segment = build(&mut Parts::new(), 1, &[Row { event_type: 1, user: None, received: 1 }], 0);
        let _refused = segment.check_part(&bytes);
        let range = Position::new(1)..=Position::new(records.into());
        let _refused = Segment::from_bytes(range, UnixMillis::new(1), &bytes);
        let _refused = segment.look_up(&[Term::from_number(1)], |_, buffer| {
            buffer.clone_from(&bytes);
            Ok(())
        });
    }

    #[test]
    fn stretches_are_read_as_they_were_written(
        steps in prop::collection::vec((1_u32..300_000, 1_u32..70_000), 0..50),
    ) {
        let (mut bytes, mut written, mut end) = (Vec::new(), Places::default(), 0);
        for (distance, count) in steps {
            let stretch = Stretch { first: end + distance, count };
            write_stretch(&mut bytes, end, stretch);
            written.push(stretch);
            end = stretch.first + count;
        }
        let mut read = Places::default();
        prop_assert_eq!(read_stretches(&bytes, end, &mut read), Ok(()));
        prop_assert_eq!(&read, &written);
        if end > 0 {
            let beyond = read_stretches(&bytes, end - 1, &mut Places::default());
            prop_assert!(beyond.is_err());
        }
    }

    /// Whatever is lost or trimmed, in the end all complete tiles are in segments, few of them.
    #[test]
    fn every_complete_stretch_comes_into_a_segment(
        steps in prop::collection::vec((0_u64..400, 0_u64..300, any::<prop::sample::Index>(), any::<bool>()), 1..12),
    ) {
        const RECORDS: u64 = 16;
        let tiling = Tiling { records: RECORDS };
        let mut segments = Segments::default();
        let (mut trimmed, mut last) = (0, 0);
        for (appended, removed, lost, is_lost) in steps {
            last += appended;
            trimmed = last.min(trimmed + removed);
            if is_lost && segments.len() > 0 {
                let first = segments.iter().nth(lost.index(segments.len())).map(|segment| segment.first());
                segments.remove(&[first.expect("one")]);
            }
            let [trimmed, last] = [trimmed, last].map(Position::new);
            let mut pieces = 0;
            while let Some(work) = tiling.next_work(&segments, trimmed, last) {
                pieces += 1;
                prop_assert!(pieces < 500, "there is no end: {work:?}");
                do_work(&mut segments, &work, last)?;
            }
            let tail = last.number() % RECORDS;
            let holes = segments.holes(trimmed, last);
            let expected = if tail == 0 || trimmed == last { vec![] } else {
                let before = last.number() - tail;
                vec![(Position::new(before.max(trimmed.number())), last)]
            };
            prop_assert_eq!(holes, expected);
            prop_assert!(segments.uncovered(trimmed, last) < RECORDS);
            let most = 4 * 8 + last.number() / (RECORDS * 512);
            prop_assert!(segments.len() as u64 <= most, "{} segments", segments.len());
        }
    }
}

/// As the indexer does it, without rows.
fn do_work(segments: &mut Segments, work: &Work, last: Position) -> Result<(), TestCaseError> {
    let mut add = |first: Position, end: Position| {
        prop_assert!(first <= end && end <= last);
        let built = Builder::new(first, end, UnixMillis::new(0)).finish(1);
        prop_assert!(segments.insert(Arc::new(built.segment)), "it overlaps");
        Ok(())
    };
    let firsts = |segments: &[Arc<Segment>]| -> Vec<Position> {
        segments.iter().map(|segment| segment.first()).collect()
    };
    match work {
        Work::Build { first, last } => add(*first, *last),
        Work::Remove(gone) => {
            segments.remove(&firsts(gone));
            Ok(())
        }
        Work::Merge(neighbors) => {
            let (first, end) = (neighbors[0].first(), neighbors[7].last());
            let records = end.distance_from(first) + 1;
            prop_assert_eq!(first.number() % records, 1, "others are merged elsewhere");
            segments.remove(&firsts(neighbors));
            let built = Builder::new(first, end, UnixMillis::new(0)).finish(1);
            prop_assert!(segments.insert(Arc::new(built.segment)), "it overlaps");
            Ok(())
        }
    }
}

/// The least and the greatest term of parts, and one that spans several of them.
#[test]
fn a_list_goes_on_in_the_next_part() {
    let rows: Vec<Row> = (0..50_000)
        .map(|number| Row {
            event_type: 1 + u32::from(number % 5 == 0),
            user: Some(number),
            received: i64::from(number),
        })
        .collect();
    let mut parts = Parts::new();
    let segment = build(&mut parts, 1, &rows, i64::MIN);
    let found = shown(&segment, &parts, &types(&[2])).expect("whole");
    let naive: BTreeSet<u64> = (1..=50_000).step_by(5).collect();
    assert_eq!(found, naive);
    for number in (0..50_000).step_by(97) {
        let found = shown(&segment, &parts, &users(&[number])).expect("whole");
        assert_eq!(found, BTreeSet::from([u64::from(number) + 1]));
    }
    let found = shown(&segment, &parts, &users(&[50_001])).expect("whole");
    assert_eq!(found, BTreeSet::new());
    let largest = parts.values().map(Vec::len).max();
    assert!(largest.is_some_and(|bytes| (3_900..=4_040).contains(&bytes)));
}
