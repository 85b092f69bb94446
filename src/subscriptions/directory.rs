//! The subscriptions that this gateway knows: their settings as they were read last, and the
//! handle of each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::name::Name;
use super::running::Running;
use super::settings::Definition;
use super::shared::{Selection, Surroundings};
use crate::access::Access;
use crate::event::UnixMillis;
use crate::filter::{Filter, Scope};
use crate::log::{Cell, ReadError, Revision};

/// The first word of the cells that hold settings.
pub(super) const PREFIX: &str = "subscription/";
/// Settings are read again after this long, since a hint that they changed can be lost.
const FRESH_FOR: Duration = Duration::from_secs(1);
/// A subscription without workers is read again by itself this long after its last call.
const ACTIVE_FOR: Duration = Duration::from_secs(10);
/// Cells in one page of a list.
const PAGE_CELLS: usize = 100;

/// A subscription as this gateway knows it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: Name,
    /// Of the cell with the settings.
    pub(super) revision: Revision,
    pub(super) definition: Arc<Definition>,
    pub(super) running: Running,
}

#[derive(Debug)]
struct Known {
    entry: Entry,
    read_at: Instant,
    /// Absent where it was only listed.
    called_at: Option<Instant>,
    /// What the owner could receive when the handle last followed it; absent if it was removed.
    scope: Option<Scope>,
}

#[derive(Debug)]
pub(super) struct Directory {
    surroundings: Surroundings,
    access: Access,
    known: Mutex<BTreeMap<Name, Known>>,
}

/// The name of the cell that makes a subscription.
pub(super) fn cell_name(name: &Name) -> String {
    format!("{PREFIX}{name}")
}

/// The subscription whose settings a cell of this name holds.
pub(super) fn name_of_cell(cell: &str) -> Option<Name> {
    cell.strip_prefix(PREFIX)?.parse().ok()
}

impl Directory {
    pub(super) fn new(surroundings: Surroundings, access: Access) -> Self {
        Self {
            surroundings,
            access,
            known: Mutex::default(),
        }
    }

    /// The subscription of this name, if there is one. Its settings may be a second old.
    pub(super) async fn find(&self, name: &Name) -> Result<Option<Entry>, ReadError> {
        match self.fresh(name) {
            Some(entry) => Ok(Some(entry)),
            None => self.read(name).await,
        }
    }

    fn fresh(&self, name: &Name) -> Option<Entry> {
        let mut known = self.known.lock();
        let known = known.get_mut(name)?;
        if known.read_at.elapsed() >= FRESH_FOR {
            return None;
        }
        known.called_at = Some(Instant::now());
        self.follow_owner(known);
        Some(known.entry.clone())
    }

    /// The subscription of this name, as the log has it now.
    pub(super) async fn read(&self, name: &Name) -> Result<Option<Entry>, ReadError> {
        let entry = self.read_quietly(name).await?;
        if let Some(known) = self.known.lock().get_mut(name) {
            known.called_at = Some(Instant::now());
        }
        Ok(entry)
    }

    /// The same, for no call.
    async fn read_quietly(&self, name: &Name) -> Result<Option<Entry>, ReadError> {
        let Some(cell) = self.surroundings.log.read(&cell_name(name)).await? else {
            self.forget(name);
            return Ok(None);
        };
        let definition = decode(&cell)?;
        Ok(Some(self.note(name, cell.revision, definition)))
    }

    /// All subscriptions in the log, by name. One that a later version made, and that this one
    /// cannot read, is left out.
    pub(super) async fn list(&self) -> Result<Vec<Entry>, ReadError> {
        let mut entries = Vec::new();
        let mut after = String::new();
        loop {
            let log = &self.surroundings.log;
            let page = log.list(PREFIX, &after, PAGE_CELLS).await?;
            let Some(last) = page.last() else {
                return Ok(entries);
            };
            after.clone_from(&last.name);
            for cell in &page {
                let Some(name) = name_of_cell(&cell.name) else {
                    continue;
                };
                match decode(cell) {
                    Ok(definition) => entries.push(self.note(&name, cell.revision, definition)),
                    Err(error) => {
                        tracing::warn!(subscription = %name, %error, "subscription passed over");
                    }
                }
            }
        }
    }

    /// Takes settings that were read or stored. Those that are older than what is known change
    /// nothing.
    pub(super) fn note(&self, name: &Name, revision: Revision, definition: Definition) -> Entry {
        let mut all = self.known.lock();
        let former = all.get_mut(name);
        let life = |definition: &Definition| definition.create_time;
        if let Some(known) = former
            && life(&known.entry.definition) == life(&definition)
        {
            known.read_at = Instant::now();
            if revision > known.entry.revision {
                known.entry.revision = revision;
                known.entry.definition = Arc::new(definition);
                self.follow(known);
            } else {
                self.follow_owner(known);
            }
            return known.entry.clone();
        }
        // Another life of the name.
        if let Some(former) = all.remove(name) {
            former.entry.running.note_deleted();
        }
        let (selection, scope) = self.selection(&definition);
        let entry = Entry {
            name: name.clone(),
            revision,
            running: Running::new(
                name.clone(),
                definition.clone(),
                selection,
                self.surroundings.clone(),
            ),
            definition: Arc::new(definition),
        };
        let known = Known {
            entry: entry.clone(),
            read_at: Instant::now(),
            called_at: None,
            scope,
        };
        all.insert(name.clone(), known);
        entry
    }

    /// Notes that there is no subscription of this name: its workers' streams end.
    pub(super) fn forget(&self, name: &Name) {
        if let Some(known) = self.known.lock().remove(name) {
            known.entry.running.note_deleted();
        }
    }

    /// Reads the settings of a subscription again, if it is one that this gateway knows.
    pub(super) async fn refresh(&self, name: &Name) {
        if self.knows(name) {
            // What cannot be read now is read again in a second, or by the next call.
            let _unread = self.read_quietly(name).await;
        }
    }

    /// Reads the settings of those that are in use again.
    pub(super) async fn refresh_active(&self) {
        for name in self.active() {
            self.refresh(&name).await;
        }
    }

    /// Those that are in use.
    pub(super) fn active(&self) -> Vec<Name> {
        let known = self.known.lock();
        let is_active = |known: &&Known| {
            let called_at = known.called_at;
            called_at.is_some_and(|called_at| called_at.elapsed() < ACTIVE_FOR)
                || known.entry.running.worker_count() > 0
        };
        let active = known.values().filter(is_active);
        active.map(|known| known.entry.name.clone()).collect()
    }

    /// Hands a change of a state to the handle of its subscription, if this gateway has one.
    pub(super) fn note_state_changed(&self, name: &Name, revision: Option<Revision>) {
        if let Some(known) = self.known.lock().get(name) {
            known.entry.running.note_changed(revision);
        }
    }

    /// Whether this gateway knows a subscription of this name.
    pub(super) fn knows(&self, name: &Name) -> bool {
        self.known.lock().contains_key(name)
    }

    /// The handles of all that are known.
    pub(super) fn running(&self) -> Vec<Running> {
        let known = self.known.lock();
        let running = known.values().map(|known| known.entry.running.clone());
        running.collect()
    }

    /// The time, by the clock that leases are judged by.
    pub(super) fn now(&self) -> UnixMillis {
        self.surroundings.clock.now()
    }

    /// Follows the owner's policy if that has changed.
    fn follow_owner(&self, known: &mut Known) {
        let owner = self.access.principal(&known.entry.definition.owner);
        let scope = owner.as_ref().map(|owner| &owner.policy().scope);
        if scope != known.scope.as_ref() {
            self.follow(known);
        }
    }

    fn follow(&self, known: &mut Known) {
        let entry = &known.entry;
        let (selection, scope) = self.selection(&entry.definition);
        known.scope = scope;
        let definition = Definition::clone(&entry.definition);
        entry.running.follow(definition, selection);
    }

    /// What a subscription is for, as far as its owner may receive it now.
    fn selection(&self, definition: &Definition) -> (Selection, Option<Scope>) {
        let owner = self.access.principal(&definition.owner);
        let Some(owner) = owner else {
            let selection = Selection {
                filter: None,
                scope: None,
            };
            return (selection, None);
        };
        let scope = owner.policy().scope.clone();
        let asked = Filter::compile_accepted(&definition.settings.filter);
        let within = asked.and_then(|filter| filter.within(&scope).ok());
        let selection = Selection {
            filter: within.map(|(filter, _)| filter),
            scope: Some(scope.clone()),
        };
        (selection, Some(scope))
    }
}

fn decode(cell: &Cell) -> Result<Definition, ReadError> {
    let definition = Definition::decode(&cell.value);
    definition.map_err(|error| ReadError::Unreadable(format!("{}: {error}", cell.name)))
}
