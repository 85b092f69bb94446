//! What the handle of a subscription, its task and its streams share.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::ask::Ask;
use super::changes::StateChanges;
use super::machine::Limits;
use super::metrics::Metrics;
use super::name::Name;
use super::seats::Seats;
use super::settings::Definition;
use crate::event::UnixMillis;
use crate::fanout::Fanout;
use crate::filter::{Filter, Scope};
use crate::log::Log;

/// What all subscriptions of a gateway share; cheap to clone.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The log, with its cells.
    pub log: Arc<dyn Log>,
    /// The fan-out of the same log.
    pub fanout: Fanout,
    /// A clock that does not leap.
    pub clock: Clock,
    /// What each subscription keeps at most.
    pub limits: Limits,
    /// Where each subscription's steps are counted.
    pub metrics: Metrics,
    /// Canceled when the gateway begins to stop: workers' streams end, and calls are served.
    pub drain: CancellationToken,
}

/// Shows the time; cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> UnixMillis + Send + Sync>);

impl Clock {
    /// The clock that `now` shows.
    pub fn new(now: impl Fn() -> UnixMillis + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Clock")
    }
}

/// What a subscription is for now: its settings, and what its owner may receive of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The filter of the settings within the owner's scope; absent where nothing is left of it,
    /// or where the owner was removed.
    pub filter: Option<Filter>,
    /// What the owner may receive. Events outside are withdrawn, also those looked at before.
    /// Absent where the owner was removed: nothing is handed out, and nothing is withdrawn, since
    /// one of the same name may come and find it.
    pub scope: Option<Scope>,
}

/// What a task follows.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    pub(super) definition: Arc<Definition>,
    pub(super) selection: Arc<Selection>,
    pub(super) is_deleted: bool,
}

/// One subscription at this gateway.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) name: Name,
    pub(super) surroundings: Surroundings,
    pub(super) seats: Arc<Seats>,
    orders: Mutex<Orders>,
    pub(super) state_changes: StateChanges,
    /// The task's, while there is one.
    pub(super) asks: Mutex<Option<mpsc::Sender<Ask>>>,
    /// Deliveries to streams of this gateway that are not acknowledged.
    pub(super) outstanding: watch::Sender<usize>,
    /// Signs the states that this gateway writes, with the number of the step.
    pub(super) writer: u64,
    steps: AtomicU64,
}

impl Shared {
    pub(super) fn new(
        name: Name,
        definition: Definition,
        selection: Selection,
        surroundings: Surroundings,
    ) -> Self {
        let orders = Orders {
            definition: Arc::new(definition),
            selection: Arc::new(selection),
            is_deleted: false,
        };
        Self {
            name,
            surroundings,
            seats: Arc::default(),
            orders: Mutex::new(orders),
            state_changes: StateChanges::default(),
            asks: Mutex::default(),
            outstanding: watch::Sender::new(0),
            writer: random(),
            steps: AtomicU64::new(1),
        }
    }

    pub(super) fn orders(&self) -> Orders {
        self.orders.lock().clone()
    }

    /// Has the task follow other settings, or another policy of the owner's.
    pub(super) fn follow(&self, definition: Definition, selection: Selection) {
        let mut orders = self.orders.lock();
        if *orders.definition != definition || *orders.selection != selection {
            orders.definition = Arc::new(definition);
            orders.selection = Arc::new(selection);
            drop(orders);
            self.seats.news.notify_one();
        }
    }

    pub(super) fn note_deleted(&self) {
        self.orders.lock().is_deleted = true;
        self.seats.news.notify_one();
    }

    pub(super) fn next_step(&self) -> u64 {
        self.steps.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn is_draining(&self) -> bool {
        self.surroundings.drain.is_cancelled()
    }
}

/// A random number, for what need not be a secret.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one(())
}
