//! One step, until it is stored.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::super::ack_id::AckId;
use super::super::delivery::Delivery;
use super::super::machine::{DueEvent, Grant, Outcome};
use super::super::rooms::Rooms;
use super::super::shared::random;
use super::super::state::State;
use super::super::step_error::StepError;
use super::draft::{Draft, Look, Materials, draft};
use super::store::Prepared;
use super::{FETCH_AGAIN, MOVED_MAX, STEP_PATIENCE, Task};
use crate::event::{Position, UnixMillis};
use crate::filter::Scope;
use crate::log::{Change, Record, Revision, Swapped};

/// After this many conflicts in a row, a step waits for up to [`CONFLICT_WAIT_MAX`].
const CONFLICTS_WITHOUT_WAIT: u32 = 2;
const CONFLICT_WAIT_MAX: Duration = Duration::from_millis(2);
/// How long reading may take after a swap whose answer is not known.
const READ_PATIENCE: Duration = Duration::from_secs(1);

/// What became of a swap.
enum Attempt {
    /// It is stored, with this revision.
    Stored(Option<Revision>),
    /// Another process was first.
    Overtaken,
}

impl Task {
    /// Makes the next step, if there is one to make, and has it stored.
    pub(super) async fn step(&mut self) -> Result<(), StepError> {
        let deadline = Instant::now() + STEP_PATIENCE;
        let mut conflicts = 0;
        self.has_more = false;
        let late = |_| StepError::NotStored("the log does not answer".to_owned());
        loop {
            let now = self.shared.surroundings.clock.now();
            let outcomes = self.queue.outcomes();
            let Some(known) = &self.known else {
                return Ok(());
            };
            let request = known.machine.read_request(&outcomes, now);
            let epoch = known.machine.state().epoch();
            let first = outcomes.iter().map(|(ack_id, _)| ack_id.position);
            let change = self.queue.change();
            let prepare = self.store.prepare(request, first, change, epoch);
            let mut prepared = timeout_at(deadline, prepare).await.map_err(late)??;
            let has_unread = !prepared.reading.unread.is_empty();
            let Some(mut draft) = self.draft(&outcomes, &mut prepared, now) else {
                return Ok(());
            };
            self.fetch_missing(&mut draft);
            self.note_moved(&draft);
            if !draft.must_store && !self.must_store_move() {
                if has_unread {
                    self.retry_at = Some(Instant::now() + FETCH_AGAIN);
                }
                return Ok(());
            }
            let deliveries = self.deliveries(&draft);
            let number = self.shared.next_step();
            let changes = self.changes(&draft, &prepared, number);
            match self.attempt(changes, number, deadline).await? {
                Attempt::Stored(revision) => {
                    let stored = Stored {
                        draft,
                        deliveries,
                        number,
                        revision,
                        has_unread,
                        now,
                    };
                    self.note_stored(outcomes.len(), stored);
                    return Ok(());
                }
                Attempt::Overtaken => conflicts += 1,
            }
            if Instant::now() >= deadline {
                let reason = "other gateways changed it again and again".to_owned();
                return Err(StepError::NotStored(reason));
            }
            if conflicts >= CONFLICTS_WITHOUT_WAIT {
                let share = (random() % 1024) as f64 / 1024.0;
                sleep(CONFLICT_WAIT_MAX.mul_f64(share)).await;
            }
            if let Some(change) = self.queue.change_mut() {
                let refresh = self.store.refresh_dropped(change);
                timeout_at(deadline, refresh).await.map_err(late)??;
            }
            self.follow_orders();
        }
    }

    /// Has the machine make the next state.
    fn draft(
        &mut self,
        outcomes: &[(AckId, Outcome)],
        prepared: &mut Prepared,
        now: UnixMillis,
    ) -> Option<Draft> {
        let scope = self.orders.selection.scope.as_ref();
        let may_give = scope.is_some() && !self.shared.is_draining() && self.obstacle().is_none();
        let (seats, holders) = (&self.shared.seats, &self.holders);
        let rooms = |state: &State| match may_give {
            true => Rooms::new(seats.rooms(&holders.out(state))),
            false => Rooms::default(),
        };
        let machine = &mut self.known.as_mut()?.machine;
        let (candidates, through, records) = self.ahead.parts();
        let gone = &self.gone;
        let look = |due: DueEvent| match scope {
            Some(scope) => look(due, records, gone, scope),
            // Without an owner, nothing is handed out and nothing is withdrawn.
            None => Look::Missing,
        };
        let materials = Materials {
            now,
            outcomes,
            reading: std::mem::take(&mut prepared.reading),
            change: self.queue.change(),
            bounds: self.shared.surroundings.log.bounds(),
            may_skip: may_give && self.shared.seats.len() > 0,
            candidates,
            through,
            rooms: &rooms,
            look: &look,
        };
        Some(draft(machine, materials))
    }

    /// Has the records read that a step lacked, unless some are being read.
    fn fetch_missing(&mut self, draft: &mut Draft) {
        let may_fetch = self.fetch_at.is_none_or(|at| Instant::now() >= at);
        if !may_fetch {
            return;
        }
        self.fetch_at = None;
        if self.fetch.is_none() && !draft.missing.is_empty() {
            let missing = std::mem::take(&mut draft.missing);
            #[expect(clippy::disallowed_methods, reason = "the handle ends it when dropped")]
            let fetch = tokio::spawn(self.store.clone().fetch(missing));
            self.fetch = Some(AbortOnDropHandle::new(fetch));
        }
    }

    fn note_moved(&mut self, draft: &Draft) {
        if draft.has_moved && self.moved_at.is_none() {
            self.moved_at = Some(Instant::now());
        }
    }

    /// Whether a move of the frontier has waited for long, or keeps the walk from reading on.
    fn must_store_move(&self) -> bool {
        self.moved_at
            .is_some_and(|at| at.elapsed() >= MOVED_MAX || self.ahead.is_half_full())
    }

    /// The deliveries of a step, with their records.
    fn deliveries(&mut self, draft: &Draft) -> Vec<(u64, Delivery)> {
        let (_, _, records) = self.ahead.parts();
        let delivery = |(worker, grant): &(u64, Grant)| {
            let record = records.get(&grant.ack_id.position)?.clone();
            let grant = *grant;
            Some((*worker, Delivery { grant, record }))
        };
        draft.grants.iter().filter_map(delivery).collect()
    }

    fn changes(&mut self, draft: &Draft, prepared: &Prepared, number: u64) -> Vec<Change> {
        let Some(known) = &mut self.known else {
            return Vec::new();
        };
        known.machine.sign(self.shared.writer, number);
        let state = known.machine.state().encode();
        let queue = &self.queue;
        let reason = |position, lease| queue.reason(position, lease);
        let revision = known.revision;
        self.store
            .changes(prepared, &draft.letters, (state, revision), reason)
    }

    /// Swaps, and reads on meanwhile.
    async fn attempt(
        &mut self,
        changes: Vec<Change>,
        number: u64,
        deadline: Instant,
    ) -> Result<Attempt, StepError> {
        let index = changes
            .iter()
            .position(|change| change.name == self.store.state_cell);
        let mut swap = self.store.log.swap(changes);
        let swapped = loop {
            let reads_on = self.reads_on();
            tokio::select! {
                biased;
                swapped = &mut swap => break Some(swapped),
                () = sleep_until(deadline) => break None,
                read = self.ahead.read_on(), if reads_on => {
                    // The walk begins again with the next turn, which meets the same error.
                    let _error_comes_again = read;
                }
            }
        };
        let (reason, is_conflict) = match swapped {
            Some(Ok(Swapped::Stored(revisions))) => {
                let revision = index.and_then(|index| revisions.get(index).copied());
                return Ok(Attempt::Stored(revision.flatten()));
            }
            Some(Ok(Swapped::Conflict(_))) => ("another gateway changed it".to_owned(), true),
            Some(Err(error)) => (error.to_string(), false),
            None => ("the log does not answer".to_owned(), false),
        };
        self.read_after_refusal(number, reason, is_conflict).await
    }

    /// Finds out what became of a swap that was not answered, or refused.
    async fn read_after_refusal(
        &mut self,
        number: u64,
        reason: String,
        is_conflict: bool,
    ) -> Result<Attempt, StepError> {
        let first_generation = self.orders.definition.first_generation();
        let read = self.store.read_state(first_generation);
        let Ok(Ok(cell)) = timeout(READ_PATIENCE, read).await else {
            self.forget_state();
            return Err(StepError::NotStored(reason));
        };
        let written_by = cell.state.as_ref().map(State::written_by);
        if written_by == Some((self.shared.writer, number)) {
            return Ok(Attempt::Stored(cell.revision));
        }
        self.forget_state();
        self.note_state(cell);
        if is_conflict {
            Ok(Attempt::Overtaken)
        } else {
            Err(StepError::NotStored(reason))
        }
    }

    /// Answers calls and hands out deliveries, now that the step is durable.
    fn note_stored(&mut self, outcomes: usize, stored: Stored) {
        let Stored {
            draft,
            deliveries,
            number,
            revision,
            has_unread,
            now,
        } = stored;
        self.count(&draft, now);
        let Some(known) = &mut self.known else { return };
        known.machine.note_stored();
        known.revision = revision;
        known.read_at = Instant::now();
        let state = known.machine.state();
        self.moved_at = None;
        if draft.has_sought {
            self.generation = state.generation();
            self.must_check_end = true;
            self.shared.seats.void_deliveries();
            self.ahead.restart(state.frontier());
        }
        self.ahead.note_stored(state);
        self.gone.retain(|position| state.is_waiting(*position));
        self.holders.follow(state);
        for (worker, grant) in &draft.grants {
            self.ahead.discard(grant.ack_id.position);
            self.holders.note(*worker, grant, now);
        }
        self.shared.seats.give(deliveries, number);
        self.queue.answer(&draft.answers);
        if let Some(changed) = draft.changed {
            self.queue.answer_change(changed.map_err(StepError::Seek));
        }
        let is_left = draft.answers.len() < outcomes;
        self.has_more = is_left || has_unread || self.queue.change().is_some();
    }

    fn count(&self, draft: &Draft, now: UnixMillis) {
        let metrics = &self.metrics;
        let tally = &draft.tally;
        metrics.count_deliveries(draft.grants.len() as u64);
        for ack_id in &tally.acknowledged {
            metrics.count_acknowledged(self.holders.held_for(*ack_id, now));
        }
        for reason in &tally.redelivered {
            metrics.count_redelivery(*reason);
        }
        for cause in &tally.dead {
            metrics.count_dead(*cause);
        }
        if tally.lost > 0 {
            metrics.count_lost(tally.lost);
        }
        if tally.expired > 0 {
            let subscription = self.shared.name.as_str();
            tracing::warn!(
                subscription,
                positions = tally.expired,
                "retention removed events that a subscription had not handled"
            );
            metrics.count_expired(tally.expired);
        }
    }
}

/// A step that is durable.
struct Stored {
    draft: Draft,
    deliveries: Vec<(u64, Delivery)>,
    number: u64,
    revision: Option<Revision>,
    /// Something was left for the next step.
    has_unread: bool,
    now: UnixMillis,
}

/// What is known of an event that is due.
fn look(
    due: DueEvent,
    records: &BTreeMap<Position, Record>,
    gone: &BTreeSet<Position>,
    scope: &Scope,
) -> Look {
    match records.get(&due.position) {
        Some(record) if scope.allows(record.entry.attributes.as_ref()) => Look::Ready {
            bytes: record.entry.bytes(),
        },
        Some(_) => Look::Withheld,
        None if gone.contains(&due.position) => Look::Gone,
        None => Look::Missing,
    }
}
