//! The handle of all subscriptions of a log, at one gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, join4};
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};

use super::ahead;
use super::config::Config;
use super::dead::sweep_dead_letters;
use super::directory::{Directory, Entry, name_of_cell};
use super::error::Error;
use super::leftovers;
use super::name::Name;
use super::settings::Definition;
use super::shared::Surroundings;
use super::state_cell;
use crate::access::{Access, Principal};
use crate::log::{Changed, Log, Revision};

/// How often settings are read again, in case that no hint of a change came, and a removal that
/// failed is tried again.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);
/// For comparing all subscriptions with the end of the log, before webhooks are taken.
const COMPARE_PATIENCE: Duration = Duration::from_secs(20);
/// A second look for what a deleted subscription left: another gateway may have been in the
/// middle of a step, which takes at most five seconds.
const SECOND_LOOK_AFTER: Duration = Duration::from_secs(10);
/// Minimum likeness of a suggestion to the name that was asked for.
const LIKENESS_MIN: f64 = 0.6;

/// The subscriptions of one log, at this gateway; clones share them.
///
/// Only the cells say which there are, so that any gateway answers any call.
#[derive(Clone, Debug)]
pub struct Subscriptions {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) surroundings: Surroundings,
    pub(super) access: Access,
    pub(super) config: Config,
    pub(super) directory: Directory,
    /// One creation at a time, so that this gateway does not exceed the limit of subscriptions.
    pub(super) creating: tokio::sync::Mutex<()>,
    resettings: Resettings,
    removals: Removals,
}

/// Subscriptions whose settings may have been changed, and are still to be read.
#[derive(Debug, Default)]
struct Resettings {
    names: Mutex<BTreeSet<Name>>,
    added: Notify,
}

/// Deleted subscriptions whose cells are still to be removed, and when.
#[derive(Debug, Default)]
struct Removals {
    due: Mutex<BTreeMap<Name, BTreeSet<Instant>>>,
    added: Notify,
}

impl Subscriptions {
    /// The subscriptions of the log of `surroundings`, with the task that keeps what this gateway
    /// knows of them up to date. Nothing depends on when that task ends.
    #[must_use]
    pub fn start(
        surroundings: Surroundings,
        access: Access,
        config: Config,
    ) -> (Self, JoinHandle<()>) {
        // Watch first: what changes from here on is noticed.
        let changes = surroundings.log.watch();
        let shared = Arc::new(Shared {
            directory: Directory::new(surroundings.clone(), access.clone()),
            surroundings,
            access,
            config,
            creating: tokio::sync::Mutex::default(),
            resettings: Resettings::default(),
            removals: Removals::default(),
        });
        #[expect(
            clippy::disallowed_methods,
            reason = "the caller is handed the task, and aborts it"
        )]
        let keeping = tokio::spawn(keep(Arc::clone(&shared), changes));
        (Self { shared }, keeping)
    }

    /// Looks whether the log lost events that subscriptions have handled. Has to end before new
    /// events take their positions; it gives up after a while.
    pub async fn compare_with_log(&self) {
        let log = &*self.shared.surroundings.log;
        let marked = ahead::mark_all(log, &self.shared.directory);
        if timeout(COMPARE_PATIENCE, marked).await.is_err() {
            tracing::warn!(
                "not every subscription could be compared with the end of the log in time; trying again at the next start"
            );
        }
    }

    /// Completes once nothing that workers of this gateway were sent is outstanding.
    pub async fn settled(&self) {
        let running = self.shared.directory.running();
        join_all(running.iter().map(|running| running.settled())).await;
    }

    /// The subscription of this name, for a caller that may see it.
    pub(super) async fn visible(&self, caller: &Principal, name: &Name) -> Result<Entry, Error> {
        match self.shared.directory.find(name).await? {
            Some(entry) if is_visible(caller, &entry.definition) => Ok(entry),
            _ => Err(self.not_found(caller, name).await?),
        }
    }

    /// The same, of a caller that owns it.
    pub(super) async fn owned(
        &self,
        caller: &Principal,
        name: &Name,
        method: &'static str,
    ) -> Result<Entry, Error> {
        let entry = self.visible(caller, name).await?;
        let owner = &entry.definition.owner;
        if owner == caller.name() {
            return Ok(entry);
        }
        Err(Error::NotOwner {
            principal: caller.name().to_owned(),
            method,
            owner: owner.clone(),
        })
    }

    /// The error for a name that the caller sees no subscription of.
    pub(super) async fn not_found(&self, caller: &Principal, name: &Name) -> Result<Error, Error> {
        let all = self.shared.directory.list().await?;
        let seen = all
            .iter()
            .filter(|entry| is_visible(caller, &entry.definition));
        Ok(Error::NotFound {
            name: name.clone(),
            nearest: nearest(name, seen.map(|entry| &entry.name)),
        })
    }

    pub(super) fn log(&self) -> &dyn Log {
        &*self.shared.surroundings.log
    }

    /// Has the cells of a deleted subscription removed.
    pub(super) fn remove_leftovers(&self, name: &Name) {
        let now = Instant::now();
        let removals = &self.shared.removals;
        let mut due = removals.due.lock();
        let times = due.entry(name.clone()).or_default();
        times.extend([now, now + SECOND_LOOK_AFTER]);
        drop(due);
        removals.added.notify_one();
    }
}

/// Whether the caller sees a subscription: its own, and all of them where its policy says so.
pub(super) fn is_visible(caller: &Principal, definition: &Definition) -> bool {
    definition.owner == caller.name() || caller.policy().operates_all_subscriptions
}

/// The name most like `asked`, if one is like it.
fn nearest<'a>(asked: &Name, names: impl Iterator<Item = &'a Name>) -> Option<Name> {
    let likeness =
        |name: &Name| strsim::normalized_damerau_levenshtein(asked.as_str(), name.as_str());
    let nearest = names.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    nearest
        .filter(|name| likeness(name) >= LIKENESS_MIN)
        .cloned()
}

/// Follows what other gateways change, and removes what deleted subscriptions left: none of these
/// waits for another, since removing may take long.
async fn keep(shared: Arc<Shared>, changes: broadcast::Receiver<Changed>) {
    join4(
        sweep(&shared),
        hand_on(&shared, changes),
        follow(&shared),
        clean(&shared),
    )
    .await;
}

/// Hands each change of a cell to what it concerns. Waits for nothing else, and so seldom lags.
async fn hand_on(shared: &Shared, mut changes: broadcast::Receiver<Changed>) {
    loop {
        match changes.recv().await {
            Ok(Changed { name, revision }) => shared.note_changed(&name, revision),
            Err(broadcast::error::RecvError::Lagged(_)) => shared.note_missed(),
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// Reads settings again that other gateways changed, when that is watched, and each second.
async fn follow(shared: &Shared) {
    let mut ticks = ticks();
    loop {
        tokio::select! {
            () = shared.resettings.added.notified() => {
                for name in shared.resettings.take() {
                    shared.directory.refresh(&name).await;
                }
            }
            _ = ticks.tick() => shared.directory.refresh_active().await,
        }
    }
}

/// Removes what is left of subscriptions that this gateway deletes.
async fn clean(shared: &Shared) {
    let mut ticks = ticks();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shared.removals.added.notified() => {}
        }
        shared.remove_due().await;
    }
}

fn ticks() -> Interval {
    let mut ticks = interval(REFRESH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Removes what subscriptions left that were deleted before this gateway started, and what
/// gateways that stopped within a step left.
async fn sweep(shared: &Shared) {
    let names = match leftovers::names(&*shared.surroundings.log).await {
        Ok(names) => names,
        Err(error) => {
            tracing::warn!(%error, "left cells of subscriptions cannot be listed; trying again at the next start");
            return;
        }
    };
    for name in names {
        if let Err(error) = sweep_one(shared, &name).await {
            tracing::warn!(subscription = %name, %error, "left cells cannot be removed; trying again at the next start");
        }
    }
}

async fn sweep_one(shared: &Shared, name: &Name) -> Result<(), Error> {
    let log = &*shared.surroundings.log;
    let Some(entry) = shared.directory.find(name).await? else {
        return leftovers::remove(log, name).await;
    };
    let first_generation = entry.definition.first_generation();
    let swept = sweep_dead_letters(log, name, first_generation, shared.directory.now());
    swept.await.map_err(|error| Error::of_step(name, error))
}

impl Shared {
    fn note_changed(&self, cell: &str, revision: Option<Revision>) {
        if let Some(name) = state_cell::name_of_cell(cell) {
            self.directory.note_state_changed(&name, revision);
        } else if let Some(name) = name_of_cell(cell)
            && self.directory.knows(&name)
        {
            self.resettings.add([name]);
        }
    }

    /// Any cell may have been changed.
    fn note_missed(&self) {
        for running in self.directory.running() {
            running.note_changed(None);
        }
        self.resettings.add(self.directory.active());
    }

    async fn remove_due(&self) {
        for name in self.removals.due_now() {
            let began = Instant::now();
            let removed = leftovers::remove(&*self.surroundings.log, &name).await;
            match removed {
                Ok(()) => self.removals.finish(&name, began),
                Err(error) => {
                    tracing::debug!(subscription = %name, %error, "left cells not removed yet");
                }
            }
        }
    }
}

impl Resettings {
    fn add(&self, names: impl IntoIterator<Item = Name>) {
        self.names.lock().extend(names);
        self.added.notify_one();
    }

    fn take(&self) -> BTreeSet<Name> {
        std::mem::take(&mut *self.names.lock())
    }
}

impl Removals {
    fn due_now(&self) -> Vec<Name> {
        let now = Instant::now();
        let is_due = |times: &BTreeSet<Instant>| times.first().is_some_and(|first| *first <= now);
        let due = self.due.lock();
        let names = due.iter().filter(|(_, times)| is_due(times));
        names.map(|(name, _)| name.clone()).collect()
    }

    /// Forgets what was due when the removal began.
    fn finish(&self, name: &Name, began: Instant) {
        let mut due = self.due.lock();
        if let Some(times) = due.get_mut(name) {
            times.retain(|time| *time > began);
            if times.is_empty() {
                due.remove(name);
            }
        }
    }
}
