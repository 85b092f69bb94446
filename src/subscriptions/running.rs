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

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::ack_id::AckId;
use super::ask::{Ask, DroppedLetter, Join, Move, Reply, Report};
use super::dead::{LettersAfter, StoredLetter, read_page};
use super::delivery::ReceiveOptions;
use super::name::Name;
use super::settings::Definition;
use super::shared::{Selection, Shared, Surroundings};
use super::step;
use super::step_error::StepError;
use super::worker::Worker;
use crate::event::{Epoch, Position};
use crate::log::{Log, Revision};

/// Dead letters that are handed out again in one step.
const REPLAYED_MAX: usize = 1000;
/// Dead letters that are dropped in one step.
const DROPPED_MAX: usize = 500;

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
    shared: Arc<Shared>,
}

impl Running {
    /// A handle that does nothing until it is called.
    #[must_use]
    pub fn new(
        name: Name,
        definition: Definition,
        selection: Selection,
        surroundings: Surroundings,
    ) -> Self {
        let shared = Shared::new(name, definition, selection, surroundings);
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Has the next steps follow other settings, or what the owner may receive now. Cheap where
    /// nothing changed.
    pub fn follow(&self, definition: Definition, selection: Selection) {
        self.shared.follow(definition, selection);
    }

    /// Notes that the subscription was deleted: its workers' streams end, and calls fail.
    pub fn note_deleted(&self) {
        self.shared.note_deleted();
    }

    /// Notes that the cell of the state was changed, maybe by this gateway. Its new revision is
    /// absent where it was deleted, or where changes were missed. A hint: without any, the state is
    /// read again after 5 s.
    pub fn note_changed(&self, revision: Option<Revision>) {
        self.shared.state_changes.note(revision);
    }

    /// Workers connected here.
    #[must_use]
    pub fn worker_count(&self) -> usize {
        self.shared.seats.len()
    }

    /// Completes once nothing that workers of this gateway were sent is outstanding.
    pub async fn settled(&self) {
        let mut outstanding = self.shared.outstanding.subscribe();
        let _handle_is_held = outstanding.wait_for(|count| *count == 0).await;
    }

    /// Records what became of deliveries, at most 1000. Returns, once that is durable, those
    /// whose outcome came too late.
    ///
    /// # Errors
    /// If it is not known to be durable.
    pub async fn settle(&self, reports: Vec<Report>) -> Result<Vec<AckId>, StepError> {
        if reports.is_empty() {
            return Ok(Vec::new());
        }
        self.ask(|reply| Ask::Settle(reports, reply)).await
    }

    /// Moves the subscription to the events after `to` in the log of `epoch`.
    ///
    /// # Errors
    /// If it is refused, or not known to be durable.
    pub async fn seek(&self, to: Position, epoch: Epoch) -> Result<(), StepError> {
        self.change(Move::Seek { to, epoch }).await?;
        Ok(())
    }

    /// Hands dead letters out again. Returns how many.
    ///
    /// # Errors
    /// If it is not known to be durable; some may be handed out all the same.
    pub async fn replay(&self, letters: Letters) -> Result<u64, StepError> {
        let order_by = self.shared.orders().definition.settings.order_by;
        let mut count = 0;
        let mut search = Search::new(&self.shared, letters);
        let to_candidate = |letter: &StoredLetter, _| letter.candidate(order_by);
        while let Some(page) = search.next_page(REPLAYED_MAX, to_candidate).await? {
            count += self.change(Move::Replay(page)).await?;
        }
        Ok(count)
    }

    /// Drops dead letters. Returns how many.
    ///
    /// # Errors
    /// If it is not known to be durable; some may be dropped all the same.
    pub async fn drop_letters(&self, letters: Letters) -> Result<u64, StepError> {
        let mut count = 0;
        let mut search = Search::new(&self.shared, letters);
        let to_dropped = |letter: &StoredLetter, revision| DroppedLetter {
            position: letter.position,
            bytes: letter.bytes(),
            revision,
        };
        while let Some(page) = search.next_page(DROPPED_MAX, to_dropped).await? {
            count += self.change(Move::Drop(page)).await?;
        }
        Ok(count)
    }

    /// Opens a worker's stream.
    ///
    /// # Errors
    /// When the subscription cannot continue where it is, or the gateway stops.
    pub async fn receive(&self, options: ReceiveOptions) -> Result<Worker, StepError> {
        if self.shared.is_draining() {
            return Err(StepError::Draining);
        }
        let until = if options.stop_when_handled {
            let log = &self.shared.surroundings.log;
            Some(log.confirmed_bounds(Position::START).await?.last)
        } else {
            None
        };
        let join = Join { options, until };
        let options = join.options.clone();
        let seated = self.ask(|reply| Ask::Join(join, reply)).await?;
        Ok(Worker::new(Arc::clone(&self.shared), seated, &options))
    }

    async fn change(&self, change: Move) -> Result<u64, StepError> {
        self.ask(|reply| Ask::Move(change, reply)).await
    }

    /// Asks the task. One that has just ended did not begin with what it was asked.
    async fn ask<T>(&self, to_ask: impl FnOnce(Reply<T>) -> Ask) -> Result<T, StepError> {
        let (reply, answer) = oneshot::channel();
        let mut ask = to_ask(reply);
        loop {
            let asks = step::task_of(&self.shared);
            match asks.send(ask).await {
                Ok(()) => break,
                Err(refused) => ask = refused.0,
            }
        }
        let ended = |_| StepError::NotStored("the gateway is stopping".to_owned());
        answer.await.map_err(ended)?
    }
}

/// A walk through the cells of dead letters.
struct Search<'a> {
    log: &'a dyn Log,
    name: &'a Name,
    /// The ids asked for; absent where all letters are.
    ids: Option<BTreeSet<String>>,
    /// The last cell that was read.
    after: String,
}

impl<'a> Search<'a> {
    fn new(shared: &'a Shared, letters: Letters) -> Self {
        Self {
            log: &*shared.surroundings.log,
            name: &shared.name,
            ids: match letters {
                Letters::Ids(ids) => Some(ids.into_iter().collect()),
                Letters::All => None,
            },
            after: String::new(),
        }
    }

    /// What `to` makes of the next letters, of about this many; absent at the end. Their bodies
    /// are not kept.
    async fn next_page<T>(
        &mut self,
        letters_max: usize,
        to: impl Fn(&StoredLetter, Revision) -> T,
    ) -> Result<Option<Vec<T>>, StepError> {
        let mut page = Vec::new();
        while page.len() < letters_max {
            let LettersAfter { letters, last } =
                read_page(self.log, self.name, &self.after).await?;
            let Some(last) = last else { break };
            self.after = last;
            for (letter, revision) in &letters {
                if self.wants(&letter.id) {
                    page.push(to(letter, *revision));
                }
            }
        }
        Ok((!page.is_empty()).then_some(page))
    }

    /// Whether a letter is asked for. Several sources may have an event of the same id.
    fn wants(&self, id: &str) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.contains(id))
    }
}
