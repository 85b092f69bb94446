//! What a step reads and writes: the state's cell, the cells of dead letters, and the bodies of
//! events that may become dead letters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::try_join_all;

use super::super::ask::Move;
use super::super::dead::{self, DEADLINE_PASSED, Death, StoredLetter};
use super::super::machine::{Body, Cause, DueEvent, LetterChange, ReadRequest, Reading};
use super::super::name::Name;
use super::super::reading::{Found, look_up};
use super::super::state::Lease;
use super::super::state_cell::{StateCell, read_state};
use super::super::step_error::StepError;
use crate::event::numbers::saturating;
use crate::event::{Epoch, Position};
use crate::log::{Change, Log, Read, Record, Revision};

/// Dead letters, and bodies of letters to come, that are read at the same time.
const READS_MAX: usize = 8;
/// One step reads, and so changes, at most this many groups of them.
const STEP_GROUPS_MAX: usize = 32;
/// And none after they reach this many bytes. What is left waits for the next step, so that
/// a swap stays small.
const STEP_BYTES_MAX: usize = 4 << 20;

/// The cells and the log, as one subscription uses them.
#[derive(Clone, Debug)]
pub(super) struct Store {
    pub(super) log: Arc<dyn Log>,
    pub(super) name: Name,
    /// The name of the state's cell.
    pub(super) state_cell: String,
}

/// What was read for a step.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub(super) reading: Reading,
    /// Events that may become dead letters.
    records: BTreeMap<Position, Record>,
    /// Dead letters that may change.
    letters: BTreeMap<Position, StoredLetter>,
    /// Of the cells of letters, also of those that do not count.
    revisions: BTreeMap<Position, Revision>,
}

/// What was read of events that are due.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    pub(super) records: Vec<Record>,
    /// Neither the log nor a dead letter's cell has these.
    pub(super) gone: BTreeSet<Position>,
}

impl Store {
    pub(super) async fn read_state(&self, first_generation: u64) -> Result<StateCell, StepError> {
        read_state(&*self.log, &self.name, first_generation).await
    }

    /// Reads what a step needs: bodies if the positions are in the log of `epoch`, which is
    /// there. Begins with the positions that come first, so that these are never left unread.
    pub(super) async fn prepare(
        &self,
        request: ReadRequest,
        first: impl Iterator<Item = Position>,
        change: Option<&Move>,
        epoch: Epoch,
    ) -> Result<Prepared, StepError> {
        let mut prepared = Prepared::default();
        let letters: BTreeSet<Position> = request.letters.into_iter().collect();
        let mut bodies: BTreeSet<Position> = request.bodies.into_iter().collect();
        if epoch != self.log.epoch() {
            bodies.clear();
        }
        let mut left: BTreeSet<Position> = letters.union(&bodies).copied().collect();
        let mut order: Vec<Position> = first.filter(|position| left.remove(position)).collect();
        order.extend(left);
        let mut bytes = 0;
        for (index, group) in order.chunks(READS_MAX).enumerate() {
            if index >= STEP_GROUPS_MAX || bytes >= STEP_BYTES_MAX {
                prepared.reading.unread.extend(group);
                continue;
            }
            let group: BTreeSet<Position> = group.iter().copied().collect();
            let letters = group.intersection(&letters).copied().collect();
            bytes += self.read_letters(&mut prepared, letters).await?;
            let bodies = group.intersection(&bodies).copied().collect();
            bytes += self.read_bodies(&mut prepared, bodies).await?;
        }
        if let Some(Move::Drop(dropped)) = change {
            let revisions = dropped.iter();
            let revisions = revisions.map(|letter| (letter.position, letter.revision));
            prepared.revisions.extend(revisions);
        }
        Ok(prepared)
    }

    /// Reads dead letters. Returns how many bytes they have.
    async fn read_letters(
        &self,
        prepared: &mut Prepared,
        positions: BTreeSet<Position>,
    ) -> Result<usize, StepError> {
        let mut bytes = 0;
        for (position, letter, revision) in self.letters(positions).await? {
            bytes += letter.payload.len();
            prepared.reading.letters.insert(position, letter.letter());
            prepared.revisions.insert(position, revision);
            prepared.letters.insert(position, letter);
        }
        Ok(bytes)
    }

    /// Reads events that may become dead letters. Returns how many bytes they have.
    async fn read_bodies(
        &self,
        prepared: &mut Prepared,
        positions: BTreeSet<Position>,
    ) -> Result<usize, StepError> {
        if positions.is_empty() {
            return Ok(0);
        }
        let last = self.log.bounds().last;
        let log: &dyn Read = &*self.log;
        let Found { records, gone } = look_up(log, positions.clone(), usize::MAX).await?;
        let Prepared {
            reading, revisions, ..
        } = prepared;
        for position in positions {
            let body = match records.get(&position) {
                Some(record) => Body::Kept(saturating(record.entry.payload.len())),
                None if gone.contains(&position) => Body::Gone,
                // Beyond the end of the log, where it stays pending.
                None if position > last => continue,
                None => {
                    reading.unread.insert(position);
                    continue;
                }
            };
            reading.bodies.insert(position, body);
        }
        // Left over from a swap that was stored in part, or from before a seek.
        let dying = records.keys().copied().collect();
        for (position, _, revision) in self.letters(dying).await? {
            revisions.insert(position, revision);
        }
        let bytes = records.values().map(|record| record.entry.bytes()).sum();
        prepared.records.extend(records);
        Ok(bytes)
    }

    /// Reads the letters at some positions, whether they count or not.
    async fn letters(
        &self,
        positions: BTreeSet<Position>,
    ) -> Result<Vec<(Position, StoredLetter, Revision)>, StepError> {
        let read = |position: Position| async move {
            let name = dead::cell_name(&self.name, position);
            let Some(cell) = self.log.read(&name).await? else {
                return Ok::<_, StepError>(None);
            };
            let letter = StoredLetter::decode(&cell.value)?;
            Ok(Some((position, letter, cell.revision)))
        };
        let letters = try_join_all(positions.into_iter().map(read)).await?;
        Ok(letters.into_iter().flatten().collect())
    }

    /// Reads the revisions again that another process may have changed.
    pub(super) async fn refresh_dropped(&self, change: &mut Move) -> Result<(), StepError> {
        let Move::Drop(dropped) = change else {
            return Ok(());
        };
        let mut positions = dropped.iter().map(|letter| letter.position).collect();
        let mut revisions = BTreeMap::new();
        while !BTreeSet::is_empty(&positions) {
            let group = take_first(READS_MAX, &mut positions);
            for (position, _, revision) in self.letters(group).await? {
                revisions.insert(position, revision);
            }
        }
        dropped.retain_mut(|letter| match revisions.get(&letter.position) {
            Some(revision) => {
                letter.revision = *revision;
                true
            }
            None => false,
        });
        Ok(())
    }

    /// The changes of a swap: letters that are written, the state, letters that are deleted.
    pub(super) fn changes<'a>(
        &self,
        prepared: &Prepared,
        letters: &BTreeMap<Position, LetterChange>,
        (state, revision): (Vec<u8>, Option<Revision>),
        reason: impl Fn(Position, Lease) -> Option<&'a str>,
    ) -> Vec<Change> {
        let mut written = Vec::new();
        let mut deleted = Vec::new();
        for change in letters.values() {
            match *change {
                LetterChange::Write {
                    position,
                    deliveries,
                    lease,
                    cause,
                    dead_time,
                    again,
                } => {
                    let reason = match cause {
                        Cause::Deadline => None,
                        Cause::Failed | Cause::Rejected => reason(position, lease),
                    };
                    let death = Death {
                        deliveries,
                        lease,
                        reason: reason.unwrap_or(DEADLINE_PASSED).to_owned(),
                        dead_time,
                    };
                    let letter = prepared.letter(position, death, again);
                    written.extend(letter.map(|letter| Change {
                        name: dead::cell_name(&self.name, position),
                        expected: prepared.revisions.get(&position).copied(),
                        value: Some(letter.encode()),
                    }));
                }
                LetterChange::Delete { position } => {
                    let revision = prepared.revisions.get(&position);
                    deleted.extend(revision.map(|revision| Change {
                        name: dead::cell_name(&self.name, position),
                        expected: Some(*revision),
                        value: None,
                    }));
                }
            }
        }
        written.push(Change {
            name: self.state_cell.clone(),
            expected: revision,
            value: Some(state.into()),
        });
        written.append(&mut deleted);
        written
    }

    /// Reads events that are due: of the log, or of dead letters.
    pub(super) async fn fetch(self, due: Vec<DueEvent>) -> Result<Fetched, StepError> {
        let (letters, events): (Vec<_>, Vec<_>) = due.into_iter().partition(|due| due.replayed);
        let positions = |due: Vec<DueEvent>| due.into_iter().map(|due| due.position).collect();
        let log: &dyn Read = &*self.log;
        let Found { records, gone } = look_up(log, positions(events), STEP_BYTES_MAX).await?;
        let mut fetched = Fetched {
            records: records.into_values().collect(),
            gone,
        };
        let mut letters: BTreeSet<Position> = positions(letters);
        let mut bytes = 0;
        while !letters.is_empty() && bytes < STEP_BYTES_MAX {
            let mut group = take_first(READS_MAX, &mut letters);
            for (position, letter, _) in self.letters(group.clone()).await? {
                bytes += letter.payload.len();
                group.remove(&position);
                fetched.records.push(letter.to_record());
            }
            fetched.gone.append(&mut group);
        }
        Ok(fetched)
    }
}

impl Prepared {
    /// The letter of an event that is given up.
    fn letter(&self, position: Position, death: Death, again: bool) -> Option<StoredLetter> {
        if again {
            let letter = self.letters.get(&position).cloned();
            return letter.map(|letter| letter.again(death));
        }
        let record = self.records.get(&position);
        record.map(|record| StoredLetter::new(record, death))
    }
}

/// Takes the lowest positions, at most this many.
fn take_first(most: usize, positions: &mut BTreeSet<Position>) -> BTreeSet<Position> {
    let Some(next) = positions.iter().nth(most).copied() else {
        return std::mem::take(positions);
    };
    let rest = positions.split_off(&next);
    std::mem::replace(positions, rest)
}
