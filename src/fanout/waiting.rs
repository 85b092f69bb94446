//! The subscribers that wait for what comes: the [`Index`], shared, with their wakers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Filter;
use super::index::Index;
use crate::event::{Attributes, Position};

/// Where subscribers wait.
#[derive(Debug)]
pub(super) struct WaitingRoom {
    index: Mutex<Index<Arc<Notify>>>,
}

impl WaitingRoom {
    pub(super) fn new(tail: Position) -> Self {
        Self {
            index: Mutex::new(Index::new(tail)),
        }
    }

    /// Adds a subscriber. Returns its filter, shared with its equals, and what wakes it.
    pub(super) fn join(&self, number: u64, filter: Filter) -> (Filter, Arc<Notify>) {
        let waker = Arc::new(Notify::new());
        let filter = self.lock().join(number, filter, Arc::clone(&waker));
        (filter, waker)
    }

    pub(super) fn leave(&self, number: u64) {
        self.lock().leave(number);
    }

    /// See [`Index::wait`].
    pub(super) fn wait(&self, number: u64, position: Position) -> bool {
        self.lock().wait(number, position)
    }

    /// See [`Index::read`].
    pub(super) fn read(&self, number: u64) -> Option<Position> {
        self.lock().read(number)
    }

    /// See [`Index::waits_at`].
    pub(super) fn waits_at(&self, number: u64) -> Option<Position> {
        self.lock().waits_at(number)
    }

    /// Wakes whoever waits for one of these events. They must be in the ring.
    pub(super) fn show<'a>(&self, events: impl Iterator<Item = (Position, &'a Attributes)>) {
        let woken = self.lock().show(events);
        wake(&woken);
    }

    /// Wakes everyone, because what lies before `position` was missed.
    pub(super) fn skip_to(&self, position: Position) {
        let woken = self.lock().skip_to(position);
        wake(&woken);
    }

    fn lock(&self) -> MutexGuard<'_, Index<Arc<Notify>>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(woken: &[Arc<Notify>]) {
    for waker in woken {
        waker.notify_one();
    }
}
