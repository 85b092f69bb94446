//! The handle of one subscription at this gateway.
//!
//! ```text
//!   calls ──┐                    ┌──► cells
//!           ├─► Running ─► task ─┤
//!   workers ┘                    └──► log
//! ```
//!
//! One task makes the steps. It begins with the first call or worker, and ends 10 s after the
//! last; the handle stays, and has another one begin with the next call.

use std::fmt;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::ack_id::AckId;
use super::machine::{Limits, Outcome};
use super::name::Name;
use super::settings::Definition;
use super::step_error::StepError;
use super::worker::{ReceiveOptions, Worker};
use crate::event::{Epoch, Position, UnixMillis};
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
    /// Cancelled when the gateway begins to stop: workers' streams end, and calls are served.
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
#[derive(Clone, Debug)]
pub struct Selection {
    /// The filter of the settings within the owner's scope; absent where nothing is left of it,
    /// or where the owner was removed.
    pub filter: Option<Filter>,
    /// What the owner may receive. Events outside are withdrawn, also those looked at before.
    pub scope: Scope,
}

/// What a worker reports of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The delivery.
    pub ack_id: AckId,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it failed, for the dead letter; at most 1 KiB is kept.
    pub reason: String,
}

/// Which dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Letters {
    /// Those of the events with these ids.
    Ids(Vec<String>),
    /// All there are.
    All,
}

/// One subscription at this gateway; clones share it.
#[derive(Clone, Debug)]
pub struct Running {
    _private: (),
}

impl Running {
    /// A handle that does nothing until it is called.
    #[must_use]
    pub fn new(
        _name: Name,
        _definition: Definition,
        _selection: Selection,
        _surroundings: Surroundings,
    ) -> Self {
        Self { _private: () }
    }

    /// Has the next steps follow other settings, or what the owner may receive now. Cheap where
    /// nothing changed.
    pub fn follow(&self, _definition: Definition, _selection: Selection) {}

    /// Notes that the subscription was deleted: its workers' streams end, and calls fail.
    pub fn note_deleted(&self) {}

    /// Workers connected here.
    #[must_use]
    pub fn worker_count(&self) -> usize {
        0
    }

    /// Completes once nothing that workers of this gateway were sent is outstanding.
    #[expect(clippy::unused_async, reason = "still to come")]
    pub async fn settled(&self) {}

    /// Records what became of deliveries, at most 1000. Returns, once that is durable, those
    /// whose outcome came too late.
    ///
    /// # Errors
    /// If it is not known to be durable.
    #[expect(clippy::unused_async, reason = "still to come")]
    pub async fn settle(&self, _reports: Vec<Report>) -> Result<Vec<AckId>, StepError> {
        Err(StepError::NotStored("still to come".to_owned()))
    }

    /// Moves the subscription to the events after `to` in the log of `epoch`.
    ///
    /// # Errors
    /// If it is refused, or not known to be durable.
    #[expect(clippy::unused_async, reason = "still to come")]
    pub async fn seek(&self, _to: Position, _epoch: Epoch) -> Result<(), StepError> {
        Err(StepError::NotStored("still to come".to_owned()))
    }

    /// Hands dead letters out again. Returns how many.
    ///
    /// # Errors
    /// If it is not known to be durable; some may be handed out all the same.
    #[expect(clippy::unused_async, reason = "still to come")]
    pub async fn replay(&self, _letters: Letters) -> Result<u64, StepError> {
        Err(StepError::NotStored("still to come".to_owned()))
    }

    /// Drops dead letters. Returns how many.
    ///
    /// # Errors
    /// If it is not known to be durable; some may be dropped all the same.
    #[expect(clippy::unused_async, reason = "still to come")]
    pub async fn drop_letters(&self, _letters: Letters) -> Result<u64, StepError> {
        Err(StepError::NotStored("still to come".to_owned()))
    }

    /// Opens a worker's stream.
    ///
    /// # Errors
    /// When the subscription cannot continue where it is, or the gateway stops.
    #[expect(clippy::unused_async, reason = "still to come")]
    pub async fn receive(&self, _options: ReceiveOptions) -> Result<Worker, StepError> {
        Err(StepError::NotStored("still to come".to_owned()))
    }
}
