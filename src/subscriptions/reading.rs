//! What the steps of a subscription have of the log: matching events behind the frontier, read
//! ahead, and single events again by their positions.
//!
//! ```text
//!                    frontier                  through
//!   … kept records ─────┴── candidates, records ──┴── walk ──►
//! ```
//!
//! A candidate stays until a stored state has its position behind the frontier. So a step that
//! was not stored loses none.

mod lookup;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::key::{Key, KeySource};
use super::machine::Candidate;
use super::settings::OrderBy;
use super::state::State;
use crate::event::Position;
use crate::fanout::{self, Fanout, RecordBatch, RecordWalk};
use crate::filter::Filter;
use crate::log::Record;

pub(super) use lookup::{Found, look_up};

/// Matching records are read ahead up to this many bytes.
pub(super) const AHEAD_BYTES_MAX: usize = 1 << 20;
/// And up to this many records.
const AHEAD_RECORDS_MAX: usize = 2_000;
/// Where other gateways moved the frontier at most this far ahead of the walk, the walk goes on: it
/// reads faster than a subscription is worked off, while a new one would begin behind them again.
const BEHIND_MAX: u64 = 2_000;
/// Records of events that wait are kept up to this many bytes; others are read again.
const KEPT_BYTES_MAX: usize = 1 << 20;
/// What the walk returns at once.
const BATCH: RecordBatch = RecordBatch {
    records_max: 256,
    bytes_max: 256 << 10,
};
/// A walk that finds nothing returns after this long.
const WALK_PATIENCE: Duration = Duration::from_secs(10);

/// A walk, and what its last step returned.
type WalkStep = (RecordWalk, Result<Vec<Record>, fanout::Error>);

/// What was read of the log and is not handed out.
#[derive(Debug)]
pub(super) struct ReadAhead {
    fanout: Fanout,
    owner: String,
    order_by: OrderBy,
    filter: Option<Filter>,
    /// Absent while it reads history.
    walk: Option<RecordWalk>,
    reading: Option<AbortOnDropHandle<WalkStep>>,
    /// Everything that matches after here, up to `through`, is among the candidates.
    base: Position,
    through: Position,
    candidates: VecDeque<Candidate>,
    ahead_bytes: usize,
    /// Of the candidates, and of events that wait.
    records: BTreeMap<Position, Record>,
    kept_bytes: usize,
}

impl ReadAhead {
    pub(super) fn new(fanout: Fanout, owner: String, order_by: OrderBy) -> Self {
        Self {
            fanout,
            owner,
            order_by,
            filter: None,
            walk: None,
            reading: None,
            base: Position::START,
            through: Position::START,
            candidates: VecDeque::new(),
            ahead_bytes: 0,
            records: BTreeMap::new(),
            kept_bytes: 0,
        }
    }

    /// Follows the frontier of a stored state, with this filter from now on; without one,
    /// nothing is read. Begins the walk again where the frontier moved back, or far ahead.
    ///
    /// # Errors
    /// When the filter would be too much beside those of the other walks.
    pub(super) fn follow(
        &mut self,
        frontier: Position,
        filter: Option<&Filter>,
    ) -> Result<(), fanout::Error> {
        let is_within = self.base <= frontier && frontier.distance_from(self.through) <= BEHIND_MAX;
        let is_same = self.filter.as_ref() == filter;
        if self.has_walk() == filter.is_some() && is_within && is_same {
            return Ok(());
        }
        self.restart(frontier);
        self.filter = filter.cloned();
        self.walk = match filter {
            Some(filter) => {
                let walker = (filter.clone(), self.owner.as_str());
                Some(self.fanout.walk_records(walker, frontier, BATCH)?)
            }
            None => None,
        };
        Ok(())
    }

    /// Forgets what was read. The walk begins again with the next [`Self::follow`].
    pub(super) fn restart(&mut self, frontier: Position) {
        self.walk = None;
        self.reading = None;
        self.base = frontier;
        self.through = frontier;
        self.candidates.clear();
        self.records.clear();
        self.ahead_bytes = 0;
        self.kept_bytes = 0;
    }

    /// Forgets what was read, where there is a walk.
    pub(super) fn pause(&mut self) {
        if self.has_walk() {
            self.restart(self.base);
        }
    }

    const fn has_walk(&self) -> bool {
        self.walk.is_some() || self.reading.is_some()
    }

    /// Whether there is room to read on.
    pub(super) fn has_room(&self) -> bool {
        self.has_walk()
            && self.ahead_bytes < AHEAD_BYTES_MAX
            && self.candidates.len() < AHEAD_RECORDS_MAX
    }

    /// Whether half of the room is taken.
    pub(super) fn is_half_full(&self) -> bool {
        self.ahead_bytes >= AHEAD_BYTES_MAX / 2 || self.candidates.len() >= AHEAD_RECORDS_MAX / 2
    }

    /// Reads on, and returns once something matched or the walk moved. Cancel-safe. Without a
    /// walk it never returns.
    ///
    /// # Errors
    /// When retention removed what was not read, or the log cannot be read. The walk is over.
    pub(super) async fn read_on(&mut self) -> Result<(), fanout::Error> {
        if let Some(walk) = self.walk.take_if(|walk| !walk.is_live()) {
            self.reading = Some(read_history(walk));
        }
        let (read, through) = match (&mut self.reading, &mut self.walk) {
            (Some(reading), _) => {
                let (walk, read) = finished(reading).await;
                let through = walk.position();
                self.reading = None;
                self.walk = Some(walk);
                (read, through)
            }
            (None, Some(walk)) => {
                let read = walk.next(Instant::now() + WALK_PATIENCE).await;
                (read, walk.position())
            }
            (None, None) => std::future::pending().await,
        };
        match read {
            Ok(records) => {
                self.take(records);
                self.through = through;
                Ok(())
            }
            Err(error) => {
                self.walk = None;
                Err(error)
            }
        }
    }

    fn take(&mut self, records: Vec<Record>) {
        // Other gateways may have been faster.
        let base = self.base;
        let ahead = records.into_iter().filter(|record| record.position > base);
        for record in ahead {
            let entry = &record.entry;
            let source = KeySource {
                position: record.position,
                event_id: &entry.id,
                attributes: entry.attributes.as_ref(),
            };
            let key = Key::of(self.order_by, source);
            let candidate = Candidate::new(record.position, key);
            self.candidates.push_back(candidate);
            self.ahead_bytes += entry.bytes();
            if let Some(kept) = self.records.insert(record.position, record) {
                self.kept_bytes -= kept.entry.bytes();
            }
        }
    }

    /// What was read: matching events after the frontier, in order, and how far the log was
    /// searched for them; and the records of these and of events that wait.
    pub(super) fn parts(&mut self) -> (&[Candidate], Position, &BTreeMap<Position, Record>) {
        let candidates = self.candidates.make_contiguous();
        (candidates, self.through, &self.records)
    }

    /// Keeps a record of an event that waits.
    pub(super) fn keep(&mut self, record: Record) {
        if !self.records.contains_key(&record.position) {
            *self.account(record.position) += record.entry.bytes();
            self.records.insert(record.position, record);
        }
    }

    /// Moves along with the frontier of a stored state. Records of events behind it that wait
    /// are kept.
    pub(super) fn note_stored(&mut self, state: &State) {
        let frontier = state.frontier();
        while let Some(candidate) = self.candidates.front() {
            let position = candidate.position;
            if position > frontier {
                break;
            }
            self.candidates.pop_front();
            if let Some(record) = self.records.get(&position) {
                self.ahead_bytes -= record.entry.bytes();
                self.kept_bytes += record.entry.bytes();
            }
            if !state.is_waiting(position) {
                self.discard(position);
            }
        }
        self.base = self.base.max(frontier);
        if self.kept_bytes > KEPT_BYTES_MAX {
            self.discard_unneeded(state);
        }
    }

    /// Drops the records of events that no longer wait, and more where too much waits.
    pub(super) fn discard_unneeded(&mut self, state: &State) {
        let kept = self.records.range(..=self.base);
        let unneeded = kept.filter(|(position, _)| !state.is_waiting(**position));
        let unneeded: Vec<Position> = unneeded.map(|(position, _)| *position).collect();
        for position in unneeded {
            self.discard(position);
        }
        while self.kept_bytes > KEPT_BYTES_MAX {
            // The last is needed last, unless others fail.
            let last = self.records.range(..=self.base).next_back();
            let Some(position) = last.map(|(position, _)| *position) else {
                return;
            };
            self.discard(position);
        }
    }

    /// Drops a record.
    pub(super) fn discard(&mut self, position: Position) {
        if let Some(record) = self.records.remove(&position) {
            *self.account(position) -= record.entry.bytes();
        }
    }

    /// What the bytes of a record count towards. A dead letter that is handed out again may also
    /// be a candidate, after a seek to a place before it.
    fn account(&mut self, position: Position) -> &mut usize {
        let candidates = &self.candidates;
        match candidates.binary_search_by_key(&position, |candidate| candidate.position) {
            Ok(_) => &mut self.ahead_bytes,
            Err(_) => &mut self.kept_bytes,
        }
    }
}

/// Has a walk make a step in a task of its own. What a dropped step has read of history is lost,
/// with its turn to read, and calls and swaps may come faster than a step ends.
fn read_history(mut walk: RecordWalk) -> AbortOnDropHandle<WalkStep> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the handle aborts it, and it ends with the step"
    )]
    let step = tokio::spawn(async move {
        let read = walk.next(Instant::now() + WALK_PATIENCE).await;
        (walk, read)
    });
    AbortOnDropHandle::new(step)
}

/// Waits for a task of the caller's own, whose panic is the caller's.
pub(super) async fn finished<T>(task: &mut AbortOnDropHandle<T>) -> T {
    match task.await {
        Ok(output) => output,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime ends.
        Err(_) => std::future::pending().await,
    }
}
