//! Showing records to a reader: those that the index has for it, and those that are in no
//! segment.

use std::ops::ControlFlow;

use rusqlite::{CachedStatement, Connection, Statement, params_from_iter};

use super::index::{Bell, Index, read_part};
use super::reader::{self, COLUMNS, PAYLOAD, Sql, unreadable};
use super::runs::Walk;
use super::segment::{Places, Segment, Term};
use super::shared::Shared;
use crate::event::{IndexHint, Position, Values};
use crate::log::error::ReadError;
use crate::log::scan::{Payloads, Reader, Scan};

/// Rows judged for one page, so that a page of a rare filter comes to an end.
const ROWS_JUDGED_MAX: usize = 20_000;
/// What looking a term up in a segment costs, in rows judged.
const ROWS_PER_LOOK_UP: usize = 8;
/// Rows that one statement finds by their positions: many, and some of what is left of those.
const ROWS_AT_ONCE: [usize; 2] = [64, 8];
/// More rows than this that follow each other are read in order.
const ROWS_APART_MAX: u32 = 8;
/// With more values than this, an index costs more than it saves.
const NARROW_VALUES_MAX: usize = 64;

/// Shows `reader` the records in `(scan.after, last]`. Returns how far it came.
pub(super) fn scan(
    connection: &mut Connection,
    scan: &Scan,
    last: Position,
    shared: &Shared,
    reader: &mut dyn Reader,
) -> Result<Position, ReadError> {
    // One snapshot for all questions: what is gone, and what is there.
    let transaction = connection.transaction().map_err(unreadable)?;
    let trimmed_position: i64 = transaction
        .prepare_cached("SELECT trimmed FROM meta")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(unreadable)?;
    let trimmed = Position::new(trimmed_position.unsigned_abs());
    if trimmed > scan.after {
        return Err(ReadError::Expired { trimmed });
    }
    let runs = shared.runs();
    let judge = Judge {
        reader,
        runs: runs.walk(),
        through: scan.after,
        left: ROWS_JUDGED_MAX,
    };
    show(&transaction, scan, last, shared, judge).map_err(unreadable)
}

fn show(
    connection: &Connection,
    scan: &Scan,
    last: Position,
    shared: &Shared,
    mut judge: Judge<'_>,
) -> rusqlite::Result<Position> {
    let end = last.max(scan.after);
    let index = shared.index();
    let terms = Term::asked(&scan.narrow);
    let shown = match terms.filter(|terms| (1..=NARROW_VALUES_MAX).contains(&terms.len())) {
        Some(_) if index.is_in_trees => {
            let (sql, values) = select_by_tree(scan);
            let bounds = [judge.through, end].map(Sql::Position);
            let limit = [Sql::Limit(judge.left)];
            let values = values.iter().map(Sql::Text);
            let parameters = bounds.into_iter().chain(limit).chain(values);
            judge.show(&mut *connection.prepare_cached(&sql)?, parameters)?
        }
        terms => {
            let mut rows = Rows::new(connection, scan.payloads, &mut judge)?;
            match terms {
                Some(terms) => rows.show_found(&terms, end, &index, &shared.bell)?,
                None => rows.show_through(end)?,
            }
        }
    };
    if shown.is_continue() {
        judge.through = end;
    }
    Ok(judge.through)
}

/// Shows rows to a reader, until it has enough, or as many were judged as is fair.
struct Judge<'a> {
    reader: &'a mut dyn Reader,
    runs: Walk<'a>,
    /// How far the log was searched.
    through: Position,
    /// Rows that may still be judged.
    left: usize,
}

impl Judge<'_> {
    fn show<'p>(
        &mut self,
        statement: &mut Statement<'_>,
        parameters: impl Iterator<Item = Sql<'p>>,
    ) -> rusqlite::Result<ControlFlow<()>> {
        let mut rows = statement.query(params_from_iter(parameters))?;
        while let Some(row) = rows.next()? {
            self.left = self.left.saturating_sub(1);
            self.through = reader::position(row)?;
            let attributes = reader::attributes(row)?;
            if self.reader.wants(attributes) {
                let record = reader::record(row, attributes, self.runs.at(self.through))?;
                if self.reader.take(record).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            if self.left == 0 {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Shows rows in the order of the log.
struct Rows<'a, 'j, 'r> {
    connection: &'a Connection,
    payloads: Payloads,
    /// For all rows of a range.
    range: CachedStatement<'a>,
    /// For each of [`ROWS_AT_ONCE`], once it is needed.
    several: [Option<CachedStatement<'a>>; ROWS_AT_ONCE.len()],
    judge: &'j mut Judge<'r>,
}

impl<'a, 'j, 'r> Rows<'a, 'j, 'r> {
    fn new(
        connection: &'a Connection,
        payloads: Payloads,
        judge: &'j mut Judge<'r>,
    ) -> rusqlite::Result<Self> {
        let payload = payload(payloads);
        let range = connection.prepare_cached(&format!(
            "SELECT {COLUMNS}, {payload} FROM record \
             WHERE position > ?1 AND position <= ?2 ORDER BY position LIMIT ?3"
        ))?;
        Ok(Self {
            connection,
            payloads,
            range,
            several: [const { None }; ROWS_AT_ONCE.len()],
            judge,
        })
    }

    /// Shows those that segments have of `terms`, and those that are in none.
    fn show_found(
        &mut self,
        terms: &[Term],
        last: Position,
        index: &Index,
        bell: &Bell,
    ) -> rusqlite::Result<ControlFlow<()>> {
        for segment in index.segments.after(self.judge.through) {
            if segment.first() > last {
                break;
            }
            // Look-ups that find nothing are an effort, too.
            if self.show_through(before(segment.first()))?.is_break() || self.judge.left == 0 {
                return Ok(ControlFlow::Break(()));
            }
            self.judge.left = self
                .judge
                .left
                .saturating_sub(ROWS_PER_LOOK_UP * terms.len());
            let connection = self.connection;
            let read = |number, buffer: &mut Vec<u8>| read_part(connection, number, buffer);
            let end = segment.last().min(last);
            let shown = match segment.look_up(terms, read) {
                Ok(places) => self.show_places(segment, &places, end)?,
                Err(_) => {
                    bell.report(segment.first());
                    self.show_through(end)?
                }
            };
            if shown.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        self.show_through(last)
    }

    /// Shows the rows at these places of a segment that are in `(through, last]`, and goes on
    /// to there.
    fn show_places(
        &mut self,
        segment: &Segment,
        places: &Places,
        last: Position,
    ) -> rusqlite::Result<ControlFlow<()>> {
        let mut apart = Vec::with_capacity(ROWS_AT_ONCE[0]);
        for stretch in places.iter() {
            let [first, end] = segment.positions(stretch);
            let first = first.max(self.judge.through.next());
            let end = end.min(last);
            if first > end {
                continue;
            }
            if stretch.count > ROWS_APART_MAX {
                if self.show_each(&mut apart)?.is_break() || self.show_range(first, end)?.is_break()
                {
                    return Ok(ControlFlow::Break(()));
                }
                continue;
            }
            for number in first.number()..=end.number() {
                apart.push(Position::new(number));
                if apart.len() == ROWS_AT_ONCE[0] && self.show_each(&mut apart)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        let shown = self.show_each(&mut apart)?;
        if shown.is_continue() {
            self.judge.through = self.judge.through.max(last);
        }
        Ok(shown)
    }

    /// Shows the rows at these positions, and empties the list. Where there are several, one
    /// statement finds them: starting one for each would take as long as finding its row.
    fn show_each(&mut self, positions: &mut Vec<Position>) -> rusqlite::Result<ControlFlow<()>> {
        let mut left = positions.as_slice();
        for (count, statement) in ROWS_AT_ONCE.into_iter().zip(&mut self.several) {
            while let Some((several, others)) = left.split_at_checked(count) {
                let statement = match statement {
                    Some(statement) => statement,
                    None => {
                        let sql = select_several(count, self.payloads);
                        statement.insert(self.connection.prepare_cached(&sql)?)
                    }
                };
                let several = several.iter().copied().map(Sql::Position);
                if self.judge.show(statement, several)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                left = others;
            }
        }
        for position in left {
            if self.show_range(*position, *position)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        positions.clear();
        Ok(ControlFlow::Continue(()))
    }

    /// Shows the rows from `first` to `last`, and none before them.
    fn show_range(&mut self, first: Position, last: Position) -> rusqlite::Result<ControlFlow<()>> {
        self.judge.through = self.judge.through.max(before(first));
        self.show_through(last)
    }

    /// Shows all rows up to `last`.
    fn show_through(&mut self, last: Position) -> rusqlite::Result<ControlFlow<()>> {
        if last <= self.judge.through {
            return Ok(ControlFlow::Continue(()));
        }
        if self.judge.left == 0 {
            return Ok(ControlFlow::Break(()));
        }
        let bounds = [self.judge.through, last].map(Sql::Position);
        let limit = [Sql::Limit(self.judge.left)];
        let parameters = bounds.into_iter().chain(limit);
        let shown = self.judge.show(&mut self.range, parameters)?;
        if shown.is_continue() {
            self.judge.through = last;
        }
        Ok(shown)
    }
}

fn before(position: Position) -> Position {
    Position::new(position.number().saturating_sub(1))
}

/// The statement for a scan by the B-trees of a log from before segments, and the values
/// that one is asked for. Each arm walks one value's positions in order, and SQLite merges
/// the arms as it goes; only the rows of the page are fetched.
/// Parameters: ?1 after, ?2 last, ?3 limit, ?4… values.
fn select_by_tree(scan: &Scan) -> (String, Values) {
    let (tree, column, values) = match &scan.narrow {
        IndexHint::All => ("record_type", "type", Values::default()),
        IndexHint::Types(values) => ("record_type", "type", values.clone()),
        IndexHint::Users(values) => ("record_user", "user_id", values.clone()),
        IndexHint::Organizations(values) => {
            ("record_organization", "organization_id", values.clone())
        }
        IndexHint::Sessions(values) => ("record_session", "session_id", values.clone()),
    };
    let arms = (4..4 + values.len()).map(|parameter| {
        format!(
            "SELECT position FROM record INDEXED BY {tree} \
             WHERE {column} = ?{parameter} AND position > ?1 AND position <= ?2"
        )
    });
    let merged = arms.collect::<Vec<_>>().join(" UNION ALL ");
    let payload = payload(scan.payloads);
    let sql = format!(
        "SELECT {COLUMNS}, {payload} FROM ({merged} ORDER BY position LIMIT ?3) AS found \
         CROSS JOIN record ON record.position = found.position ORDER BY found.position"
    );
    (sql, values)
}

/// The statement for the rows at this many positions, in the order of the parameters.
fn select_several(count: usize, payloads: Payloads) -> String {
    let positions = vec!["(?)"; count].join(", ");
    let payload = payload(payloads);
    format!(
        "WITH found (position) AS (VALUES {positions}) \
         SELECT {COLUMNS}, {payload} FROM found \
         CROSS JOIN record ON record.position = found.position"
    )
}

/// What is selected as a row's payload.
fn payload(payloads: Payloads) -> String {
    match payloads {
        Payloads::All => PAYLOAD.to_owned(),
        Payloads::UnlessDecodedBy(decoding) => {
            format!("CASE decoding WHEN {decoding} THEN '' ELSE {PAYLOAD} END")
        }
    }
}
