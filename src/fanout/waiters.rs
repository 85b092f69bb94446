//! The subscribers that wait for what comes: the [`Index`], shared, with their wakers.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::index::{Arrival, Index, Limits, Questions, TooLarge};
use crate::event::Position;
use crate::filter::Filter;

/// Where subscribers wait.
#[derive(Debug)]
pub(super) struct Waiters {
    index: Mutex<Index<Arc<Notify>>>,
    /// Locked for as long as a batch is shown.
    questions: Mutex<Questions<Arc<Notify>>>,
}

impl Waiters {
    pub(super) fn new(last: Position) -> Self {
        Self {
            index: Mutex::new(Index::new(last, Limits::default())),
            questions: Mutex::default(),
        }
    }

    /// Adds a subscriber. Returns its filter, shared with its equals, and what wakes it.
    ///
    /// # Errors
    /// See [`Index::join`].
    pub(super) fn join(
        &self,
        number: u64,
        filter: Filter,
        principal: &str,
    ) -> Result<(Filter, Arc<Notify>), TooLarge> {
        let waker = Arc::new(Notify::new());
        let joined = self
            .lock()
            .join(number, filter, principal, Arc::clone(&waker));
        Ok((joined?, waker))
    }

    pub(super) fn leave(&self, number: u64) {
        self.lock().leave(number);
    }

    /// See [`Index::wait`].
    pub(super) fn wait(&self, number: u64, position: Position) -> bool {
        self.lock().wait(number, position)
    }

    /// See [`Index::resume`].
    pub(super) fn resume(&self, number: u64) -> Option<Position> {
        self.lock().resume(number)
    }

    /// See [`Index::caught_up_to`].
    pub(super) fn caught_up_to(&self, number: u64) -> Option<Position> {
        self.lock().caught_up_to(number)
    }

    /// See [`Index::filter_bytes`].
    pub(super) fn filter_bytes(&self) -> usize {
        self.lock().filter_bytes()
    }

    /// Wakes every subscriber that waits for one of these events. They must be in the ring.
    pub(super) fn notify(&self, events: &[Arrival<'_>]) {
        let mut questions = self.questions.lock();
        self.lock().announce(events, &mut questions);
        // However long it takes: no subscriber waits for it.
        questions.ask(events);
        self.lock().settle(events, &mut questions);
        for waker in questions.woken.drain(..) {
            waker.notify_one();
        }
    }

    /// Wakes everyone, because what lies before `position` was missed.
    pub(super) fn skip_to(&self, position: Position) {
        let woken = self.lock().skip_to(position);
        for waker in woken {
            waker.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Index<Arc<Notify>>> {
        self.index.lock()
    }
}
