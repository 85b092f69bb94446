//! What happened to each event, in a list, and the laws.

mod check;

use std::time::Duration;

use super::schedule::TICK_MS;
use super::world::LogEvent;
use crate::event::Position;
use crate::event::numbers::saturating;
use crate::subscriptions::{AckId, Grant, Key, Lease, Limits, Outcome, Settings};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Law {
    Acknowledged,
    Delivered,
    ExclusiveLease,
    KeyedOrder,
    Redelivered,
    Parked,
    Unblocked,
    Accounted,
}

#[derive(Clone, Debug)]
pub(super) struct Violation {
    pub(super) law: Law,
    pub(super) what: String,
}

impl Violation {
    pub(super) fn new(law: Law, what: impl Into<String>) -> Self {
        Self {
            law,
            what: what.into(),
        }
    }
}

fn ensure(
    holds: bool,
    law: Law,
    what: &str,
    about: &impl std::fmt::Debug,
) -> Result<(), Violation> {
    if holds {
        return Ok(());
    }
    Err(Violation::new(law, format!("{what}: {about:?}")))
}

fn milliseconds(duration: Duration) -> i64 {
    saturating(duration.as_millis())
}

/// What a gateway did, by its own clock.
#[derive(Clone, Debug)]
pub(super) struct Note {
    pub(super) clock: i64,
    pub(super) skew: i64,
    pub(super) deed: Deed,
}

#[derive(Clone, Debug)]
pub(super) enum Deed {
    Settled {
        ack_id: AckId,
        outcome: Outcome,
        recorded: bool,
        died: bool,
        is_gone: bool,
    },
    Expired {
        position: Position,
        died: bool,
        is_gone: bool,
    },
    Advanced {
        through: Position,
    },
    Skipped {
        through: Position,
    },
    Passed {
        position: Position,
    },
    Leased {
        grant: Grant,
    },
    Sought {
        to: Position,
    },
    Replayed {
        positions: Vec<Position>,
    },
    Dropped {
        position: Position,
    },
    /// The step had credits left, and knew the log up to `last`.
    Ended {
        credits: usize,
        last: Position,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Unseen,
    Pending,
    Acknowledged,
    Dead,
    Passed,
    Dropped,
}

/// A delivery that its worker still holds.
#[derive(Clone, Copy, Debug)]
struct Claim {
    deadline: i64,
    /// The same, by no gateway's clock.
    promised: i64,
}

#[derive(Clone, Debug)]
struct Event {
    position: Position,
    key: Key,
    bytes: u64,
    status: Status,
    /// A dead letter that is handed out again.
    replaying: bool,
    deliveries: u32,
    lease: Lease,
    held: Option<Claim>,
    /// By the clock of the gateway that noted the failure: not before, and surely then.
    due: (i64, i64),
    /// It was passed over with its position alone, before anyone looked at it.
    skipped: bool,
}

/// How long after its deadline a lease may count, where another gateway set that deadline. An
/// extension may have moved it by a millisecond each.
const MARGIN_MS: i64 = 2_000 + TICK_MS;

const AT_ONCE: (i64, i64) = (i64::MIN, i64::MIN);

impl Event {
    fn is_active(&self) -> bool {
        self.status == Status::Pending || self.replaying
    }

    fn is_dead(&self) -> bool {
        self.status == Status::Dead
    }

    fn forget_deliveries(&mut self) {
        (self.deliveries, self.lease, self.held, self.due) = (0, Lease::NONE, None, AT_ONCE);
    }
}

pub(super) struct Reference {
    settings: Settings,
    limits: Limits,
    /// Those that match.
    events: Vec<Event>,
    generation: u64,
    frontier: Position,
    skipped_positions: u64,
    was_sought: bool,
}

impl Reference {
    pub(super) fn new(settings: &Settings, limits: Limits) -> Self {
        Self {
            settings: settings.clone(),
            limits,
            events: Vec::new(),
            generation: 1,
            frontier: Position::START,
            skipped_positions: 0,
            was_sought: false,
        }
    }

    pub(super) fn append(&mut self, event: LogEvent, key: Key) {
        if event.matches {
            self.events.push(Event {
                position: event.position,
                key,
                bytes: event.bytes,
                status: Status::Unseen,
                replaying: false,
                deliveries: 0,
                lease: Lease::NONE,
                held: None,
                due: AT_ONCE,
                skipped: false,
            });
        }
    }

    fn event(&mut self, position: Position) -> &mut Event {
        let mut events = self.events.iter_mut();
        events
            .find(|event| event.position == position)
            .expect("a matching event")
    }

    pub(super) fn note(&mut self, note: &Note) -> Result<(), Violation> {
        match &note.deed {
            Deed::Settled { .. } => self.settled(note),
            Deed::Expired {
                position,
                died,
                is_gone,
            } => {
                let held = self.event(*position).held;
                ensure(
                    held.is_some(),
                    Law::Redelivered,
                    "expired without a lease",
                    note,
                )?;
                let deadline = held.map_or(0, |held| held.deadline);
                let is_over = held.is_some_and(|held| held.promised <= note.clock - note.skew);
                ensure(
                    is_over,
                    Law::Redelivered,
                    "before its deadline",
                    &(note, held),
                )?;
                self.failed(
                    *position,
                    None,
                    false,
                    (*died, *is_gone),
                    deadline.max(note.clock),
                )
            }
            Deed::Advanced { through } => {
                for event in &mut self.events {
                    let is_new = event.position > self.frontier && event.position <= *through;
                    if is_new && !event.is_dead() {
                        event.status = Status::Pending;
                        event.forget_deliveries();
                    }
                }
                self.frontier = self.frontier.max(*through);
                Ok(())
            }
            Deed::Skipped { through } => {
                for event in &mut self.events {
                    let is_new = event.position > self.frontier && event.position <= *through;
                    if is_new && !event.is_dead() {
                        (event.status, event.skipped) = (Status::Passed, true);
                    }
                }
                self.skipped_positions += through.number() - self.frontier.number();
                self.frontier = *through;
                Ok(())
            }
            Deed::Passed { position } => {
                let event = self.event(*position);
                if !event.replaying {
                    event.status = Status::Passed;
                }
                event.replaying = false;
                Ok(())
            }
            Deed::Leased { grant } => self.leased(note, *grant),
            Deed::Sought { to } => {
                self.sought(*to);
                Ok(())
            }
            Deed::Replayed { positions } => {
                for position in positions {
                    let event = self.event(*position);
                    ensure(
                        event.is_dead() && !event.replaying,
                        Law::Parked,
                        "replayed",
                        event,
                    )?;
                    event.replaying = true;
                    event.forget_deliveries();
                }
                Ok(())
            }
            Deed::Dropped { position } => {
                let event = self.event(*position);
                ensure(event.is_dead(), Law::Parked, "dropped", event)?;
                (event.status, event.replaying, event.held) = (Status::Dropped, false, None);
                Ok(())
            }
            Deed::Ended { credits, last } => self.ended(note, *credits, *last),
        }
    }

    fn sought(&mut self, to: Position) {
        self.was_sought = true;
        self.generation += 1;
        self.frontier = to;
        for event in &mut self.events {
            event.replaying = false;
            if event.is_dead() {
                event.held = None;
            } else {
                event.status = if event.position > to {
                    Status::Unseen
                } else {
                    Status::Passed
                };
                event.forget_deliveries();
            }
        }
    }

    fn settled(&mut self, note: &Note) -> Result<(), Violation> {
        let Deed::Settled {
            ack_id,
            outcome,
            recorded,
            died,
            is_gone,
        } = note.deed
        else {
            return Ok(());
        };
        let (generation, frontier) = (self.generation, self.frontier);
        let ack_deadline = milliseconds(self.settings.ack_deadline);
        let event = self.event(ack_id.position);
        let is_own = ack_id.lease == event.lease && ack_id.generation == generation;
        let is_failure = matches!(outcome, Outcome::Failed { .. } | Outcome::Rejected);
        let is_done = outcome == Outcome::Done;
        let law = Law::Acknowledged;
        if event.is_active() && is_own && is_done {
            ensure(recorded, law, "not taken", note)?;
            (event.status, event.replaying, event.held) = (Status::Acknowledged, false, None);
        } else if event.is_active() && is_own && is_failure {
            ensure(recorded, law, "not taken", note)?;
            let delay = match outcome {
                Outcome::Failed { delay } => delay.map(milliseconds),
                _ => None,
            };
            let is_rejected = outcome == Outcome::Rejected;
            self.failed(
                ack_id.position,
                delay,
                is_rejected,
                (died, is_gone),
                note.clock,
            )?;
        } else if event.is_active() && is_own && recorded {
            let claim = event.held.map_or(i64::MIN, |held| held.deadline);
            ensure(note.clock < claim + MARGIN_MS, law, "late, and taken", note)?;
            if outcome == Outcome::Released {
                (event.deliveries, event.held, event.due) = (event.deliveries - 1, None, AT_ONCE);
            } else if let Some(held) = &mut event.held {
                let deadline = note.clock + ack_deadline;
                held.deadline = held.deadline.max(deadline);
                held.promised = held.promised.max(deadline - note.skew);
            }
        } else if event.is_active() && is_own {
            let is_late = event.held.is_none_or(|held| held.deadline <= note.clock);
            ensure(is_late, law, "lost before its deadline", note)?;
        } else if event.is_dead() && !event.replaying && is_own {
            ensure(
                recorded == (is_done || is_failure),
                law,
                "of a dead letter",
                note,
            )?;
            if is_done {
                event.status = Status::Acknowledged;
            }
        } else if !event.is_active() && !event.is_dead() {
            let is_handled = ack_id.generation == generation && ack_id.position <= frontier;
            ensure(recorded == (is_handled && is_done), law, "repeated", note)?;
        } else {
            ensure(!recorded, law, "by a lease that is not its own", note)?;
        }
        Ok(())
    }

    fn failed(
        &mut self,
        position: Position,
        delay: Option<i64>,
        is_rejected: bool,
        (died, is_gone): (bool, bool),
        clock: i64,
    ) -> Result<(), Violation> {
        let (has_room, max_deliveries) = (!self.are_full(), self.settings.max_deliveries);
        let least = milliseconds(self.settings.min_retry_delay);
        let most = milliseconds(self.settings.max_retry_delay);
        let event = self.event(position);
        let is_last = is_rejected || event.deliveries >= max_deliveries;
        let may_die = is_last && (event.replaying || has_room);
        event.held = None;
        if is_gone {
            event.status = Status::Passed;
            return ensure(may_die, Law::Parked, "passed over too early", event);
        }
        ensure(died == may_die, Law::Parked, "dead or not", event)?;
        if died {
            (event.status, event.replaying) = (Status::Dead, false);
            return Ok(());
        }
        let doubled = (1..event.deliveries)
            .fold(least, |delay, _| delay * 2)
            .min(most);
        event.due = match delay {
            Some(delay) => (clock + delay, clock + delay),
            None => (
                clock + doubled * 9 / 10,
                clock + doubled * 11 / 10 + TICK_MS,
            ),
        };
        Ok(())
    }

    fn are_full(&self) -> bool {
        let dead = self.events.iter().filter(|event| event.is_dead()).count();
        dead >= self.limits.dead || self.are_bytes_full()
    }

    pub(super) fn are_bytes_full(&self) -> bool {
        let dead = self.events.iter().filter(|event| event.is_dead());
        dead.map(|event| event.bytes).sum::<u64>() >= self.limits.dead_bytes
    }

    pub(super) fn is_drained(&self) -> bool {
        self.left() == 0
    }

    pub(super) fn left(&self) -> usize {
        let is_left = |event: &&Event| event.is_active() || event.status == Status::Unseen;
        self.events.iter().filter(is_left).count()
    }
}
