//! What all subscribers share: the log, the ring, the index of waiting subscribers, and
//! who is connected.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use tokio_util::sync::CancellationToken;

use super::error::Error;
use super::history::History;
use super::metrics::Metrics;
use super::names::known_names;
use super::outage::Outage;
use super::registry::Registry;
use super::ring::Ring;
use super::waiters::Waiters;
use crate::access::Principal;
use crate::event::{Cursor, Position};
use crate::filter::KnownNames;
use crate::log::{Bounds, Lineage, Read};

/// How to run the fan-out.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bytes of recent events kept in memory, for all subscribers together.
    pub ring_bytes_max: usize,
    /// Subscribers connected at once; more are refused.
    pub subscribers_max: usize,
    /// The configured sources.
    pub sources: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ring_bytes_max: 64 << 20,
            subscribers_max: 10_000,
            sources: Vec::new(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Hub {
    pub(super) log: Arc<dyn Read>,
    pub(super) config: Config,
    pub(super) ring: RwLock<Ring>,
    pub(super) waiters: Waiters,
    pub(super) history: History,
    pub(super) registry: Registry,
    names: Mutex<Names>,
    pub(super) drain: CancellationToken,
    /// The streams that were open when the drain began.
    drained_streams: OnceLock<usize>,
    outage: Mutex<Outage>,
    pub(super) metrics: Metrics,
}

/// The names that filters may use, as they were prepared last.
#[derive(Debug)]
struct Names {
    /// Those of the configured sources, which can be replaced.
    sources: BTreeSet<String>,
    known: Arc<KnownNames>,
    /// The log's, then.
    version: Option<u64>,
}

impl Hub {
    pub(super) fn new(
        log: Arc<dyn Read>,
        config: Config,
        metrics: Metrics,
        drain: CancellationToken,
    ) -> Self {
        let last = log.bounds().last;
        Self {
            ring: RwLock::new(Ring::new(last, config.ring_bytes_max)),
            waiters: Waiters::new(last),
            history: History::new(Arc::clone(&log)),
            registry: Registry::default(),
            names: Mutex::new(Names {
                sources: config.sources.iter().cloned().collect(),
                known: Arc::default(),
                version: None,
            }),
            log,
            config,
            drain,
            drained_streams: OnceLock::new(),
            outage: Mutex::default(),
            metrics,
        }
    }

    /// See [`super::Fanout::known_names`].
    pub(super) fn known_names(&self) -> Arc<KnownNames> {
        let version = Some(self.log.names_version());
        let mut names = self.names.lock();
        if names.version != version {
            let sources = names.sources.iter().cloned();
            names.known = Arc::new(known_names(sources, &self.log.tallies()));
            names.version = version;
        }
        Arc::clone(&names.known)
    }

    /// See [`super::Fanout::set_sources`].
    pub(super) fn set_sources(&self, sources: BTreeSet<String>) {
        let mut names = self.names.lock();
        names.sources = sources;
        names.version = None;
    }

    /// See [`super::Fanout::crowd`].
    pub(super) fn crowd(&self, error: &Error, principal: &Principal) -> usize {
        let registry = &self.registry;
        match error {
            Error::PolicyChanged => principal.streams_ended(|| registry.count_ended()),
            Error::Draining => *self.drained_streams.get_or_init(|| registry.len()),
            Error::Log(_) => {
                let mut outage = self.outage.lock();
                outage.streams(Instant::now(), || registry.len())
            }
            _ => registry.len(),
        }
    }

    pub(super) fn cursor(&self, position: Position) -> Cursor {
        Cursor {
            epoch: self.log.epoch(),
            run: self.log.run_at(position),
            position,
        }
    }

    /// The position of a client's cursor, if it is one of this log and of its history.
    /// Retention may have removed it.
    pub(super) async fn position_of(&self, cursor: Cursor) -> Result<Position, Error> {
        let expected = self.log.epoch();
        if cursor.epoch != expected {
            return Err(Error::OtherEpoch {
                found: cursor.epoch,
                expected,
            });
        }
        let mut last = self.log.bounds().last;
        if cursor.position > last {
            last = self.log.confirmed_bounds(cursor.position).await?.last;
        }
        if cursor.position > last {
            return Err(Error::AheadOfLog {
                newest: self.cursor(last),
            });
        }
        if cursor.position < self.log.bounds().trimmed {
            return Ok(cursor.position);
        }
        let lineage = self.log.lineage(cursor.position, cursor.run).await?;
        match lineage {
            // Its run may have been removed with it, a moment ago.
            Lineage::Lost { .. } if cursor.position < self.log.bounds().trimmed => {}
            Lineage::Lost { common } => {
                let common = common.map(|position| self.cursor(position));
                return Err(Error::OtherHistory { common });
            }
            Lineage::Replaced => return Err(Error::OtherEvent),
            Lineage::Same => {}
        }
        Ok(cursor.position)
    }

    pub(super) fn expired(&self) -> Error {
        let Bounds { trimmed, last, .. } = self.log.bounds();
        Error::CursorExpired {
            oldest: self.cursor(trimmed),
            newest: self.cursor(last),
        }
    }

    pub(super) fn ring(&self) -> RwLockReadGuard<'_, Ring> {
        self.ring.read()
    }

    pub(super) fn shed_ring(&self) {
        let mut ring = self.ring.write();
        ring.shed();
    }
}
