//! The task of one subscription: gather, have the machine make the next state, swap, answer.
//!
//! ```text
//!   calls, streams ─► queue ──┐
//!                   walk ─────┼─► draft ─► swap ─┬─► answers, deliveries
//!   state's cell ─► machine ──┘     ▲            │
//!                                   └─ conflict ─┘
//! ```
//!
//! What arrives during a swap waits for the next one, so that calls and leases share a commit
//! without a timer. A lease is durable before its delivery is sent.
//!
//! Any gateway may write the state. After a conflict the step is made again on the new value.
//! After an answer that leaves open whether the step was stored, the cell shows who wrote it.

mod commit;
mod draft;
mod holders;
mod queue;
mod store;
mod watching;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::ask::Ask;
use super::delivery::Condition;
use super::machine::{Machine, OwnLeases, Stall};
use super::metrics::NameMetrics;
use super::reading::ReadAhead;
use super::shared::{Orders, Shared, Surroundings};
use super::state_cell::cell_name;
use super::status::Status;
use super::step_error::StepError;
use crate::event::{Cursor, Position};
use crate::fanout;
use crate::log::Revision;

use holders::Holders;
use queue::Queue;
use store::{Fetched, Store};

/// Calls that wait for the task.
const ASKS_MAX: usize = 64;
/// How long a step tries, before its calls are answered with an error.
const STEP_PATIENCE: Duration = Duration::from_secs(5);
/// Between tries of steps that no call waits for.
const RETRY: Duration = Duration::from_millis(250);
/// Without news, the state is read again after this long.
const NEWS_PATIENCE: Duration = Duration::from_secs(5);
/// A frontier that moved is stored after this long, where nothing else is.
const MOVED_MAX: Duration = Duration::from_secs(10);
/// Another gateway may have an end of the log that this one has not heard of yet, so what is not
/// there is looked for again after this long.
const FETCH_AGAIN: Duration = Duration::from_millis(50);
/// The task ends this long after its last call or stream.
const LINGER: Duration = Duration::from_secs(10);

/// The calls of the task of a subscription, which begins if there is none.
pub(super) fn task_of(shared: &Arc<Shared>) -> mpsc::Sender<Ask> {
    let mut slot = shared.asks.lock();
    if let Some(asks) = slot.as_ref().filter(|asks| !asks.is_closed()) {
        return asks.clone();
    }
    let (sender, asks) = mpsc::channel(ASKS_MAX);
    *slot = Some(sender.clone());
    let task = Task::new(Arc::clone(shared), asks);
    #[expect(
        clippy::disallowed_methods,
        reason = "it ends 10 s after the last call or stream"
    )]
    let _detached = tokio::spawn(task.run());
    sender
}

struct Task {
    shared: Arc<Shared>,
    metrics: NameMetrics,
    asks: mpsc::Receiver<Ask>,
    queue: Queue,
    store: Store,
    orders: Orders,
    /// Absent before it is read, and when it is unknown what is stored.
    known: Option<Known>,
    /// Of states that are no longer known.
    own: OwnLeases,
    /// Another process may have changed the state.
    is_stale: bool,
    /// The state is ahead of the log, as of the last look.
    is_ahead: bool,
    /// Another look is due.
    must_check_end: bool,
    /// Of the state that was known last.
    generation: u64,
    ahead: ReadAhead,
    /// A task of its own, because a read that is not polled keeps its turn, and the reads of the
    /// next step would wait for it.
    fetch: Option<AbortOnDropHandle<Result<Fetched, StepError>>>,
    /// Due events that the log no longer has.
    gone: BTreeSet<Position>,
    holders: Holders,
    /// Outcomes and changes are left for the next step.
    has_more: bool,
    /// When the frontier moved first since it was stored.
    moved_at: Option<Instant>,
    /// Nothing is tried before this, unless a call waits.
    retry_at: Option<Instant>,
    /// When nothing came of the last look for due events, the next is not before this.
    fetch_at: Option<Instant>,
    /// The last turn failed.
    is_failing: bool,
    /// As it was last shown.
    stall: Option<Stall>,
    had_streams: bool,
    last_used: Instant,
}

/// A state, and what the next swap expects of its cell.
struct Known {
    machine: Machine,
    revision: Option<Revision>,
    read_at: Instant,
}

impl Task {
    fn new(shared: Arc<Shared>, asks: mpsc::Receiver<Ask>) -> Self {
        let surroundings = &shared.surroundings;
        let orders = shared.orders();
        let definition = &orders.definition;
        let order_by = definition.settings.order_by;
        Self {
            metrics: surroundings.metrics.of(&shared.name),
            asks,
            queue: Queue::default(),
            store: Store {
                log: Arc::clone(&surroundings.log),
                name: shared.name.clone(),
                state_cell: cell_name(&shared.name),
            },
            ahead: ReadAhead::new(
                surroundings.fanout.clone(),
                definition.owner.clone(),
                order_by,
            ),
            orders,
            known: None,
            own: OwnLeases::default(),
            is_stale: false,
            is_ahead: false,
            must_check_end: false,
            generation: 0,
            fetch: None,
            gone: BTreeSet::new(),
            holders: Holders::default(),
            has_more: false,
            moved_at: None,
            retry_at: None,
            fetch_at: None,
            is_failing: false,
            stall: None,
            had_streams: false,
            last_used: Instant::now(),
            shared,
        }
    }

    async fn run(mut self) {
        loop {
            self.wait().await;
            self.orders = self.shared.orders();
            if self.orders.is_deleted {
                self.end(&StepError::Deleted);
            } else if self.is_retry_due()
                && let Err(error) = self.turn().await
            {
                self.note_failed(&error);
            }
            if self.is_over() {
                return self.hand_over().await;
            }
        }
    }

    /// Looks at everything once, and makes a step if there is one to make.
    async fn turn(&mut self) -> Result<(), StepError> {
        self.refresh().await?;
        self.note_end().await?;
        self.retry_at = None;
        self.follow_orders();
        self.admit();
        self.step().await?;
        // A seek moved the frontier out of what was read.
        self.follow_orders();
        self.show();
        self.note_working();
        Ok(())
    }

    /// Whether this turn may try: after an error, only a call or time is a reason to.
    fn is_retry_due(&self) -> bool {
        let is_due = self.retry_at.is_none_or(|at| Instant::now() >= at);
        is_due || !self.queue.is_empty()
    }

    /// Has the machine and the walk follow the settings and the owner's policy.
    fn follow_orders(&mut self) {
        let Some(known) = &mut self.known else { return };
        let settings = &self.orders.definition.settings;
        if known.machine.settings() != settings {
            known.machine.set_settings(settings.clone());
        }
        if self.shared.seats.len() == 0 {
            // Nothing is read that no stream asks for.
            self.ahead.pause();
            return;
        }
        let frontier = known.machine.state().frontier();
        let filter = self.orders.selection.filter.as_ref();
        if let Err(error) = self.ahead.follow(frontier, filter) {
            self.shared.seats.end(&StepError::Walk(error));
        }
    }

    /// Opens the streams that are asked for, if the subscription can go on.
    fn admit(&mut self) {
        if !self.queue.has_joins() {
            return;
        }
        self.show();
        let obstacle = self.obstacle();
        let Some(known) = &self.known else { return };
        let Surroundings { log, clock, .. } = &self.shared.surroundings;
        for (join, reply) in self.queue.take_joins() {
            let opened = match &obstacle {
                Some(error) => Err(error.clone()),
                None => {
                    let status = Status::new(&known.machine, &**log, clock.now());
                    Ok((self.shared.seats.join(&join.options, join.until), status))
                }
            };
            let _caller_left = reply.send(opened);
        }
        self.follow_orders();
    }

    /// What ends all streams until the subscription is moved.
    fn obstacle(&self) -> Option<StepError> {
        let machine = &self.known.as_ref()?.machine;
        let log = &self.shared.surroundings.log;
        let bounds = log.bounds();
        let now = self.shared.surroundings.clock.now();
        let cursor = |position: Position| Cursor {
            epoch: log.epoch(),
            run: log.run_at(position),
            position,
        };
        match machine.stall(log.epoch(), bounds.trimmed, now) {
            Some(Stall::OtherLog) => Some(StepError::OtherLog {
                found: machine.state().epoch(),
                expected: log.epoch(),
            }),
            Some(Stall::Expired) => Some(StepError::Expired {
                oldest: cursor(bounds.trimmed),
                newest: cursor(bounds.last),
            }),
            _ if self.is_ahead => Some(StepError::AheadOfLog {
                newest: cursor(bounds.last),
            }),
            _ => None,
        }
    }

    /// Shows streams and handles where the subscription is.
    fn show(&mut self) {
        if let Some(error) = self.obstacle() {
            self.shared.seats.end(&error);
        }
        let Some(known) = &self.known else { return };
        let machine = &known.machine;
        let outstanding = self.holders.len();
        self.shared.outstanding.send_if_modified(|shown| {
            let has_changed = *shown != outstanding;
            *shown = outstanding;
            has_changed
        });
        let Surroundings { log, clock, .. } = &self.shared.surroundings;
        let handled_through = machine.handled_through();
        let condition = Condition {
            is_paused: machine.settings().paused,
            stall: machine.stall(log.epoch(), log.bounds().trimmed, clock.now()),
            cursor: handled_through,
        };
        self.shared.seats.show(condition, handled_through);
        self.note_stall(condition.stall);
    }

    fn note_stall(&mut self, stall: Option<Stall>) {
        if stall == self.stall {
            return;
        }
        self.stall = stall;
        let subscription = self.shared.name.as_str();
        match stall {
            Some(reason) => tracing::warn!(
                subscription,
                %reason,
                "a subscription is stalled, and hands out nothing new"
            ),
            None => tracing::info!(subscription, "a subscription is no longer stalled"),
        }
    }

    /// Answers all calls with an error, and has the next try wait. Ends the streams where the
    /// same error would come again.
    fn note_failed(&mut self, error: &StepError) {
        self.queue.fail(error);
        self.has_more = false;
        self.retry_at = Some(Instant::now() + RETRY);
        if !std::mem::replace(&mut self.is_failing, true) {
            let subscription = self.shared.name.as_str();
            tracing::warn!(subscription, %error, "a subscription makes no steps; trying again");
        }
        let is_transient = match error {
            StepError::NotStored(_) => true,
            StepError::Log(error) | StepError::Walk(fanout::Error::Log(error)) => {
                error.is_retryable()
            }
            StepError::Walk(fanout::Error::CursorExpired { .. }) => true,
            _ => false,
        };
        if !is_transient {
            self.shared.seats.end(error);
        }
    }

    fn note_working(&mut self) {
        if std::mem::take(&mut self.is_failing) {
            let subscription = self.shared.name.as_str();
            tracing::info!(subscription, "a subscription makes steps again");
        }
    }

    /// Answers calls and ends streams: there is nothing to wait for.
    fn end(&mut self, error: &StepError) {
        // With what was to be given back, which no longer matters.
        std::mem::take(&mut self.queue).fail(error);
        self.shared.seats.void_deliveries();
        self.shared.seats.end(error);
        self.holders = Holders::default();
        self.shared.outstanding.send_replace(0);
        self.known = None;
        self.ahead.pause();
        self.has_more = false;
        self.moved_at = None;
        self.fetch_at = None;
        self.retry_at = None;
    }

    /// Whether the task has something to do by itself: for streams, and for the deliveries that
    /// a gateway waits for before it stops.
    fn is_served(&self) -> bool {
        self.shared.seats.len() > 0 || (self.shared.is_draining() && self.holders.len() > 0)
    }

    fn is_over(&self) -> bool {
        let is_unused = self.queue.is_empty() && !self.is_served();
        is_unused && (self.last_used.elapsed() >= LINGER || self.orders.is_deleted)
    }

    /// Ends the task. Calls that came at the last moment go to the next one.
    async fn hand_over(mut self) {
        {
            let mut slot = self.shared.asks.lock();
            self.asks.close();
            *slot = None;
        }
        self.shared.outstanding.send_replace(0);
        while let Some(ask) = self.asks.recv().await {
            let next = task_of(&self.shared);
            let _task_ended = next.send(ask).await;
        }
    }
}
