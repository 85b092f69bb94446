//! The places of workers' streams, shared by the streams and the task that serves them.
//!
//! A stream with nothing to take says that its connection has room, and is given events in one
//! piece. It is given no more before it has taken all of them, so that nothing is leased into a
//! buffer that is not read.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::ack_id::AckId;
use super::delivery::{Condition, Delivery, ReceiveOptions};
use super::rooms::Room;
use super::step_error::StepError;

use crate::event::Position;

/// Where the streams of one subscription are.
#[derive(Debug, Default)]
pub(super) struct Seats {
    seats: Mutex<Table>,
    /// Notified when a stream has room, or leaves.
    pub(super) news: Notify,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    occupied: BTreeMap<u64, Stream>,
    /// Deliveries that no stream will take.
    returned: Vec<AckId>,
    /// What the subscription is doing, once that is known.
    condition: Option<Condition>,
}

/// The place of one stream, which leaves it when this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    number: u64,
    woken: Arc<Notify>,
}

/// What is known of one stream.
#[derive(Debug)]
struct Stream {
    outstanding_max: usize,
    /// Deliveries that may still be given to it.
    events_left: u64,
    /// It ends once everything up to here is handled.
    until: Option<Position>,
    /// Given, and not taken.
    queue: VecDeque<Delivery>,
    given_at: Instant,
    last_step: u64,
    /// Its connection waits for more.
    has_room: bool,
    ending: Option<Result<(), StepError>>,
    /// What the stream last reported of the state.
    reported: Option<(bool, bool)>,
    woken: Arc<Notify>,
}

/// What a stream finds at its place.
#[derive(Debug)]
pub(super) enum Served {
    Delivery(Box<Delivery>),
    /// The state changed.
    Changed(Condition),
    Ended(Result<(), StepError>),
    /// Nothing for now.
    Waiting,
}

impl Seats {
    /// Adds a stream.
    pub(super) fn join(
        self: &Arc<Self>,
        options: &ReceiveOptions,
        until: Option<Position>,
    ) -> Seat {
        let mut table = self.seats.lock();
        let number = table.next;
        table.next += 1;
        let woken = Arc::new(Notify::new());
        let stream = Stream {
            outstanding_max: options.outstanding_max,
            events_left: options.events_max.unwrap_or(u64::MAX),
            until,
            queue: VecDeque::new(),
            given_at: Instant::now(),
            last_step: 0,
            has_room: false,
            ending: None,
            reported: table.condition.map(Condition::kind),
            woken: Arc::clone(&woken),
        };
        table.occupied.insert(number, stream);
        drop(table);
        Seat {
            seats: Arc::clone(self),
            number,
            woken,
        }
    }

    /// Removes a stream. What it has not taken is given back.
    fn leave(&self, number: u64) {
        let mut table = self.seats.lock();
        if let Some(stream) = table.occupied.remove(&number) {
            let untaken = stream.queue.into_iter();
            table
                .returned
                .extend(untaken.map(|delivery| delivery.grant.ack_id));
        }
        drop(table);
        self.news.notify_one();
    }

    fn serve(&self, number: u64) -> Served {
        let mut table = self.seats.lock();
        let condition = table.condition;
        let Some(stream) = table.occupied.get_mut(&number) else {
            return Served::Ended(Ok(()));
        };
        if let Some(delivery) = stream.queue.pop_front() {
            return Served::Delivery(Box::new(delivery));
        }
        if let Some(ending) = stream.ending.clone() {
            return Served::Ended(ending);
        }
        if stream.events_left == 0 {
            return Served::Ended(Ok(()));
        }
        let kind = condition.map(Condition::kind);
        if let Some(condition) = condition
            && stream.reported != kind
        {
            stream.reported = kind;
            return Served::Changed(condition);
        }
        let is_news = !std::mem::replace(&mut stream.has_room, true);
        drop(table);
        if is_news {
            self.news.notify_one();
        }
        Served::Waiting
    }

    /// What the subscription was doing when the task last looked.
    pub(super) fn condition(&self) -> Option<Condition> {
        self.seats.lock().condition
    }

    pub(super) fn len(&self) -> usize {
        self.seats.lock().occupied.len()
    }

    /// The streams whose connections have room; `out` has the deliveries of each that are not
    /// acknowledged.
    pub(super) fn rooms(&self, out: &BTreeMap<u64, usize>) -> Vec<Room> {
        let table = self.seats.lock();
        let has_room = |stream: &Stream| stream.has_room && stream.ending.is_none();
        let occupied = table.occupied.iter().filter(|(_, stream)| has_room(stream));
        let rooms = occupied.map(|(number, stream)| {
            let held = out.get(number).copied().unwrap_or(0);
            let credits = stream.outstanding_max.saturating_sub(held);
            let left = usize::try_from(stream.events_left).unwrap_or(usize::MAX);
            Room {
                worker: *number,
                credits: credits.min(left),
                last_step: stream.last_step,
            }
        });
        rooms.collect()
    }

    /// Gives deliveries to the streams of these numbers. Those of streams that have left are
    /// given back.
    pub(super) fn give(&self, deliveries: Vec<(u64, Delivery)>, step: u64) {
        let mut table = self.seats.lock();
        let mut given = BTreeMap::new();
        for (number, delivery) in deliveries {
            let Some(stream) = table.occupied.get_mut(&number) else {
                table.returned.push(delivery.grant.ack_id);
                continue;
            };
            stream.queue.push_back(delivery);
            stream.events_left = stream.events_left.saturating_sub(1);
            stream.has_room = false;
            stream.last_step = step;
            stream.given_at = Instant::now();
            given.insert(number, Arc::clone(&stream.woken));
        }
        drop(table);
        for woken in given.into_values() {
            woken.notify_one();
        }
    }

    /// Takes back deliveries that no stream will take: those of streams that left, and those
    /// that a connection has not taken for this long.
    pub(super) fn take_returned(&self, patience: Duration) -> Vec<AckId> {
        let mut table = self.seats.lock();
        let Table {
            occupied, returned, ..
        } = &mut *table;
        for stream in occupied.values_mut() {
            if !stream.queue.is_empty() && stream.given_at.elapsed() >= patience {
                let untaken = stream.queue.drain(..);
                let before = returned.len();
                returned.extend(untaken.map(|delivery| delivery.grant.ack_id));
                let count = (returned.len() - before) as u64;
                stream.events_left = stream.events_left.saturating_add(count);
            }
        }
        std::mem::take(returned)
    }

    /// When deliveries are next taken back, if their connections do not take them.
    pub(super) fn next_return(&self, patience: Duration) -> Option<Instant> {
        let table = self.seats.lock();
        let untaken = table
            .occupied
            .values()
            .filter(|stream| !stream.queue.is_empty());
        untaken.map(|stream| stream.given_at + patience).min()
    }

    /// Drops deliveries that a seek has voided.
    pub(super) fn void_deliveries(&self) {
        let mut table = self.seats.lock();
        table.returned.clear();
        for stream in table.occupied.values_mut() {
            let count = stream.queue.len() as u64;
            stream.queue.clear();
            stream.events_left = stream.events_left.saturating_add(count);
        }
    }

    /// Shows what the subscription is doing, and ends the streams that wait for what is handled
    /// now.
    pub(super) fn show(&self, condition: Condition, handled_through: Position) {
        let mut table = self.seats.lock();
        let has_changed = table.condition.map(Condition::kind) != Some(condition.kind());
        table.condition = Some(condition);
        for stream in table.occupied.values_mut() {
            let is_over = stream.until.is_some_and(|until| handled_through >= until);
            if is_over && stream.ending.is_none() {
                stream.ending = Some(Ok(()));
                stream.woken.notify_one();
            } else if has_changed {
                stream.woken.notify_one();
            }
        }
    }

    /// Ends all streams, after what they were given.
    pub(super) fn end(&self, error: &StepError) {
        let mut table = self.seats.lock();
        for stream in table.occupied.values_mut() {
            if stream.ending.is_none() {
                stream.ending = Some(Err(error.clone()));
                stream.woken.notify_one();
            }
        }
    }
}

impl Seat {
    /// What the stream takes next.
    pub(super) fn serve(&self) -> Served {
        self.seats.serve(self.number)
    }

    /// Completes when there may be something else.
    pub(super) async fn woken(&self) {
        self.woken.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.leave(self.number);
    }
}
