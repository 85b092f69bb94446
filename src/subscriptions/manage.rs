//! Creating, changing, moving and deleting subscriptions.

use std::time::Duration;

use tokio::time::Instant;

use super::directory::{Entry, cell_name};
use super::error::Error;
use super::handle::{Subscriptions, is_visible};
use super::leftovers;
use super::name::Name;
use super::overview::Overview;
use super::settings::{AskedSettings, Definition, Settings};
use crate::access::Principal;
use crate::event::UnixMillis;
use crate::fanout::Start;
use crate::filter::{Filter, Spec};
use crate::log::{Change, Revision, Swapped};

/// A change of settings is tried again for this long while other gateways change them too.
const CONFLICTS_FOR: Duration = Duration::from_secs(5);

/// A subscription that is this much older was there before, whatever the clocks of gateways show.
const CREATED_BEFORE: Duration = Duration::from_secs(60);

/// What a swap of the settings did.
enum Stored {
    /// They are stored, with this revision; absent where they were deleted.
    Yes(Option<Revision>),
    /// Another gateway was faster.
    Conflict,
}

impl Subscriptions {
    /// Creates a subscription of the caller. One that the caller created before with the same
    /// settings stays as it is. Returns the subscription, and whether it is new.
    ///
    /// # Errors
    /// When there is another one of that name, or as many as the log keeps; when the start cannot
    /// be honored, or the caller may receive nothing of it.
    pub async fn create(
        &self,
        caller: &Principal,
        name: &Name,
        settings: Settings,
        start: Start,
    ) -> Result<(Overview, bool), Error> {
        let shared = &self.shared;
        let _one_at_a_time = shared.creating.lock().await;
        if let Some(existing) = shared.directory.read(name).await? {
            return self.created_before(caller, &existing, &settings).await;
        }
        ensure_receivable(caller, &settings.filter)?;
        let others = shared.directory.list().await?;
        self.ensure_room(caller, others.iter().map(|other| &*other.definition))?;
        let start = shared
            .surroundings
            .fanout
            .place(start, settings.on_expired)
            .await?;
        let definition = Definition::new(
            settings,
            caller.name().to_owned(),
            self.create_time(name).await?,
            self.log().epoch(),
            start,
        );
        match self.swap(name, None, Some(&definition)).await? {
            Stored::Yes(Some(revision)) => {
                let entry = shared.directory.note(name, revision, definition);
                self.withdraw_beyond_limit(caller, &entry).await?;
                Ok((self.overview(&entry).await?, true))
            }
            Stored::Yes(None) | Stored::Conflict => match shared.directory.read(name).await? {
                Some(existing) => {
                    let settings = &definition.settings;
                    self.created_before(caller, &existing, settings).await
                }
                None => Err(Error::NotStored(
                    "it was created and deleted meanwhile".to_owned(),
                )),
            },
        }
    }

    async fn created_before(
        &self,
        caller: &Principal,
        existing: &Entry,
        settings: &Settings,
    ) -> Result<(Overview, bool), Error> {
        let definition = &existing.definition;
        let is_own = definition.owner == caller.name();
        let differing_fields = if is_own {
            definition.settings.differing_fields(settings)
        } else {
            Vec::new()
        };
        if !is_own || !differing_fields.is_empty() {
            return Err(Error::Exists {
                name: existing.name.clone(),
                differing_fields,
            });
        }
        Ok((self.overview(existing).await?, false))
    }

    /// A time later than all generations of earlier lives of the name, whose leftovers are
    /// removed.
    async fn create_time(&self, name: &Name) -> Result<UnixMillis, Error> {
        let now = self.shared.directory.now();
        let last = leftovers::last_generation(self.log(), name).await?;
        leftovers::remove(self.log(), name).await?;
        let least = last.map(|generation| generation.saturating_add(1));
        let least = least.and_then(|least| i64::try_from(least).ok());
        Ok(least.map_or(now, |least| now.max(UnixMillis::new(least))))
    }

    /// Refuses another subscription of the caller beside `others`, where they are as many as the
    /// log keeps, or as one of several principals may have.
    fn ensure_room<'a>(
        &self,
        caller: &Principal,
        others: impl Iterator<Item = &'a Definition>,
    ) -> Result<(), Error> {
        let shared = &self.shared;
        let limit = shared.config.subscriptions_max;
        let own_limit = limit.div_ceil(2);
        let (mut all, mut own) = (0, 0);
        for other in others {
            all += 1;
            own += usize::from(other.owner == caller.name());
        }
        if all >= limit {
            return Err(Error::TooMany(limit));
        }
        let is_exempt =
            caller.policy().operates_all_subscriptions || !shared.access.has_several_principals();
        if own >= own_limit && !is_exempt {
            return Err(Error::TooManyOfPrincipal {
                principal: caller.name().to_owned(),
                limit: own_limit,
            });
        }
        Ok(())
    }

    /// Deletes a new subscription again if another gateway created the last one that there may
    /// be at the same time.
    async fn withdraw_beyond_limit(&self, caller: &Principal, entry: &Entry) -> Result<(), Error> {
        let own = &entry.definition;
        // Where several gateways write, revisions grow from cell to cell. Settings that were
        // changed a moment ago have a later one, but were there before.
        let is_earlier = |other: &&Entry| {
            other.revision < entry.revision
                || other.definition.create_time.after(CREATED_BEFORE) < own.create_time
        };
        let all = self.shared.directory.list().await?;
        let earlier = all.iter().filter(is_earlier);
        let room = self.ensure_room(caller, earlier.map(|other| &*other.definition));
        if room.is_err()
            && let Stored::Yes(_) = self.swap(&entry.name, Some(entry.revision), None).await?
        {
            self.shared.directory.forget(&entry.name);
        }
        room
    }

    /// Changes settings.
    ///
    /// # Errors
    /// When the caller sees no such subscription, or the settings are outside their bounds.
    pub async fn update(
        &self,
        caller: &Principal,
        name: &Name,
        asked: &AskedSettings,
    ) -> Result<Overview, Error> {
        let deadline = Instant::now() + CONFLICTS_FOR;
        loop {
            let entry = self.current(caller, name).await?;
            let before = &entry.definition;
            let settings = before
                .settings
                .change(asked.clone())
                .map_err(Error::Settings)?;
            if asked.filter.is_some()
                && let Some(owner) = self.shared.access.principal(&before.owner)
            {
                ensure_receivable(&owner, &settings.filter)?;
            }
            if settings == before.settings {
                return self.overview(&entry).await;
            }
            let mut changed = Definition::clone(before);
            changed.settings = settings;
            let stored = self
                .swap(name, Some(entry.revision), Some(&changed))
                .await?;
            if let Stored::Yes(Some(revision)) = stored {
                let entry = self.shared.directory.note(name, revision, changed);
                return self.overview(&entry).await;
            }
            ensure_before(deadline)?;
        }
    }

    /// Deletes a subscription. Its state and its dead letters are removed after that.
    ///
    /// # Errors
    /// When the caller sees no such subscription.
    pub async fn delete(&self, caller: &Principal, name: &Name) -> Result<(), Error> {
        let deadline = Instant::now() + CONFLICTS_FOR;
        loop {
            let entry = self.current(caller, name).await?;
            if let Stored::Yes(_) = self.swap(name, Some(entry.revision), None).await? {
                self.shared.directory.forget(name);
                self.remove_leftovers(name);
                return Ok(());
            }
            ensure_before(deadline)?;
        }
    }

    /// Moves a subscription to another place in the log.
    ///
    /// # Errors
    /// When the caller sees no such subscription, or the place cannot be honored.
    pub async fn seek(
        &self,
        caller: &Principal,
        name: &Name,
        to: Start,
    ) -> Result<Overview, Error> {
        let entry = self.visible(caller, name).await?;
        let fanout = &self.shared.surroundings.fanout;
        let on_expired = entry.definition.settings.on_expired;
        let position = fanout.place(to, on_expired).await?;
        let sought = entry.running.seek(position, self.log().epoch()).await;
        sought.map_err(|error| Error::of_step(name, error))?;
        self.overview(&entry).await
    }

    /// The subscription as the log has it now, for a caller that may see it.
    async fn current(&self, caller: &Principal, name: &Name) -> Result<Entry, Error> {
        match self.shared.directory.read(name).await? {
            Some(entry) if is_visible(caller, &entry.definition) => Ok(entry),
            _ => Err(self.not_found(caller, name).await?),
        }
    }

    /// Replaces the settings. Where the answer of the log is lost, reads what is stored.
    async fn swap(
        &self,
        name: &Name,
        expected: Option<Revision>,
        definition: Option<&Definition>,
    ) -> Result<Stored, Error> {
        let change = Change {
            name: cell_name(name),
            expected,
            value: definition.map(|definition| definition.encode().into()),
        };
        let outcome = self.log().swap(vec![change]).await;
        if let Ok(Swapped::Stored(revisions)) = outcome {
            return Ok(Stored::Yes(revisions.into_iter().next().flatten()));
        }
        // An error leaves open whether it was stored, and logs have reported conflicts for what
        // they had stored.
        match (self.log().read(&cell_name(name)).await, definition) {
            (Ok(None), None) => Ok(Stored::Yes(None)),
            (Ok(Some(cell)), Some(own)) if own.encode() == *cell.value => {
                Ok(Stored::Yes(Some(cell.revision)))
            }
            _ => match outcome {
                Ok(_) => Ok(Stored::Conflict),
                Err(error) => Err(error.into()),
            },
        }
    }
}

/// A filter of which its owner may receive nothing would wait for ever in silence.
fn ensure_receivable(owner: &Principal, filter: &Spec) -> Result<(), Error> {
    let filter = Filter::compile_accepted(filter).unwrap_or_default();
    let within = filter.within(&owner.policy().scope);
    within.map(|_| ()).map_err(|denied| Error::NotAllowed {
        principal: owner.name().to_owned(),
        asked: denied.asked,
    })
}

fn ensure_before(deadline: Instant) -> Result<(), Error> {
    if Instant::now() < deadline {
        return Ok(());
    }
    Err(Error::NotStored(
        "other gateways change it at the same time".to_owned(),
    ))
}
