//! From one log to every subscriber.
//!
//! ```text
//!   log ──batches──► feed ──► ring (the recent tail, each event encoded once)
//!    │                 └─► wakes whoever waits for one   ▲ clone shared bytes
//!    └──────────── pages ──► subscription ◄──────────────┘
//!                              │ pulled by its own HTTP/2 flow control
//! ```
//!
//! A subscription is a cursor, and nothing is queued for it. Behind the ring it reads
//! the log, inside the ring it clones frames, at the head it waits until an event comes
//! that its filter matches. Falling behind is a way back to the first of the three, not an error, so a slow subscriber costs the
//! same few hundred kilobytes however slow it is, and there is no seam between history
//! and live at which an event could be lost or repeated.
//!
//! What a principal may not receive is part of the filter, and what is removed from
//! events part of the view, so that subscribers with the same policy share frames.
//!
//! What this module does not do: gRPC (it yields encoded [`Frame`]s), and recognising
//! who calls.

mod asked;
pub(crate) mod audit;
mod feed;
mod filter;
mod frame;
mod history;
mod index;
mod metrics;
mod outage;
mod read;
mod ready;
mod registry;
mod request;
mod ring;
mod starting;
mod subscription;
mod waiting;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::access::Principal;
use crate::event::{Cursor, Position};
use crate::log::{self, Bounds, Lineage, Log};
use history::History;
use outage::Outage;
use registry::Registry;
use ring::Ring;
use waiting::WaitingRoom;

pub use asked::AskedFilter;
pub use filter::{Denied, Filter, KnownNames, Violation, Violations};
pub use frame::{Frame, Payload, View};
pub use metrics::Metrics;
pub use read::{Listed, Listing};
pub use registry::{Lag, State, SubscriberPage, SubscriberView};
pub use request::{OnExpired, Request, Start};
pub use subscription::Subscription;

/// How to run the fan-out.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bytes of recent events kept in memory, for all subscribers together.
    pub ring_bytes_max: usize,
    /// Subscriptions open at once; more are refused.
    pub subscribers_max: usize,
    /// The configured sources.
    pub sources: Vec<String>,
}

/// Why a subscription or a read did not go on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Retention removed events after the cursor.
    #[error("the events after this cursor have been removed by retention")]
    CursorExpired {
        /// As a cursor, it yields all that is left.
        oldest: Cursor,
        /// The end of the log.
        newest: Cursor,
    },
    /// The cursor belongs to a log that no longer exists.
    #[error("the cursor belongs to another log (epoch {found}; this log is {expected})")]
    OtherEpoch {
        /// The cursor's.
        found: crate::event::Epoch,
        /// The log's.
        expected: crate::event::Epoch,
    },
    /// The cursor is newer than the log, which must have been restored from a backup.
    #[error("the cursor is ahead of the log; was the log restored from a backup?")]
    AheadOfLog {
        /// The end of the log.
        newest: Cursor,
    },
    /// The cursor belongs to a history of the log that a backup has replaced.
    #[error("the log was restored from a backup that is older than this cursor")]
    OtherHistory {
        /// The end of what both histories have, where it is known.
        common: Option<Cursor>,
    },
    /// The bound on open subscriptions is reached.
    #[error("{0} subscribers are connected, which is the limit")]
    TooManySubscribers(usize),
    /// The principal holds as many streams as its policy allows.
    #[error("{principal} holds {limit} streams, which is the limit that its policy sets")]
    TooManyStreams {
        /// Whose.
        principal: String,
        /// How many.
        limit: usize,
    },
    /// The filters of open streams would occupy more memory than they may.
    #[error(
        "the filters of the open streams would occupy more than {limit} bytes, which is the limit; ask for fewer values, or for the same ones on every stream"
    )]
    FiltersTooLarge {
        /// Whose stream it would have been.
        principal: String,
        /// In bytes: the principal's own limit, or that of all principals together.
        limit: usize,
    },
    /// The principal may not call any more.
    #[error("the gateway's operator has removed the principal that this stream belongs to")]
    PrincipalRemoved,
    /// The principal may receive something else now.
    #[error("the policy of this stream's principal has changed; reconnect with the same cursor")]
    PolicyChanged,
    /// The gateway stops.
    #[error("the gateway is shutting down; reconnect with the same cursor")]
    Draining,
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] log::Error),
}

/// The fan-out; cheap to clone.
#[derive(Clone, Debug)]
pub struct Fanout {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    log: Arc<dyn Log>,
    config: Config,
    ring: RwLock<Ring>,
    waiting: WaitingRoom,
    history: History,
    registry: Registry,
    names: Mutex<Names>,
    drain: CancellationToken,
    /// The streams that were open when the drain began.
    drained_streams: OnceLock<usize>,
    outage: Mutex<Outage>,
    metrics: Metrics,
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

impl Fanout {
    /// Starts the fan-out of `log`, with the task that feeds it, which ends only with
    /// the log. Subscriptions end when `drain` is cancelled.
    #[must_use]
    pub fn start(
        log: Arc<dyn Log>,
        config: Config,
        metrics: Metrics,
        drain: CancellationToken,
    ) -> (Self, JoinHandle<()>) {
        // Follow first: what is committed from here on is either below the tail that
        // is read next or in a batch.
        let batches = log.follow();
        let tail = log.bounds().tail;
        let inner = Arc::new(Inner {
            ring: RwLock::new(Ring::new(tail, config.ring_bytes_max)),
            waiting: WaitingRoom::new(tail),
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
        });
        let feed = tokio::spawn(feed::run(Arc::clone(&inner), batches));
        (Self { inner }, feed)
    }

    /// The names that filters may use, shared by all calls until there are others.
    #[must_use]
    pub fn known_names(&self) -> Arc<KnownNames> {
        let Inner { log, names, .. } = &*self.inner;
        let version = Some(log.names_version());
        let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.version != version {
            let sources = names.sources.iter().cloned();
            names.known = Arc::new(KnownNames::new(sources, &log.tallies()));
            names.version = version;
        }
        Arc::clone(&names.known)
    }

    /// Takes these for the configured sources from now on. A source that is not among them
    /// can be asked for as long as the log has counted an event of it.
    pub fn set_sources(&self, names: BTreeSet<String>) {
        let known = &self.inner.names;
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        known.sources = names;
        known.version = None;
    }

    /// Opens a subscription.
    ///
    /// # Errors
    /// When its cursor cannot be honoured, there are too many, or the gateway stops.
    pub async fn subscribe(&self, request: Request) -> Result<Subscription, Error> {
        Subscription::open(Arc::clone(&self.inner), request).await
    }

    /// All subscriptions that are open now, oldest first.
    #[must_use]
    pub fn subscribers(&self) -> Vec<SubscriberView> {
        self.list_subscribers(&SubscriberPage {
            after: None,
            principal: None,
            most: usize::MAX,
        })
    }

    /// A page of the subscriptions that are open now, oldest first.
    #[must_use]
    pub fn list_subscribers(&self, page: &SubscriberPage<'_>) -> Vec<SubscriberView> {
        let Inner {
            registry,
            waiting,
            log,
            ..
        } = &*self.inner;
        registry.views(page, log.bounds(), |number| waiting.waits_at(number))
    }

    /// How many subscriptions are open now.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.inner.registry.len()
    }

    /// How many streams come back at about the same time as the one that this error ends:
    /// the more they are, the longer they should spread out.
    #[must_use]
    pub fn crowd(&self, error: &Error, principal: &Principal) -> usize {
        let registry = &self.inner.registry;
        match error {
            Error::PolicyChanged => principal.streams_ended(|| registry.count_ended()),
            Error::Draining => *self.inner.drained_streams.get_or_init(|| registry.len()),
            Error::Log(_) => {
                let outage = self.inner.outage.lock();
                let mut outage = outage.unwrap_or_else(PoisonError::into_inner);
                outage.streams(Instant::now(), || registry.len())
            }
            _ => registry.len(),
        }
    }

    /// Completes when no subscription is open.
    pub async fn emptied(&self) {
        self.inner.registry.emptied().await;
    }

    /// Brings the gauges up to date.
    pub fn observe(&self) {
        let filter_bytes = self.inner.waiting.filter_bytes();
        let metrics = &self.inner.metrics;
        metrics.observe(&self.subscribers(), filter_bytes);
    }

    /// Where the log begins and ends, as cursors.
    #[must_use]
    pub fn ends(&self) -> (Cursor, Cursor) {
        let Bounds { trimmed, tail, .. } = self.inner.log.bounds();
        (self.inner.cursor(trimmed), self.inner.cursor(tail))
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &dyn Log {
        &*self.inner.log
    }
}

impl Inner {
    fn cursor(&self, position: Position) -> Cursor {
        Cursor {
            epoch: self.log.epoch(),
            run: self.log.run_at(position),
            position,
        }
    }

    /// The position of a client's cursor, if it is one of this log and of its history.
    /// Retention may have removed it.
    async fn position_of(&self, cursor: Cursor) -> Result<Position, Error> {
        let expected = self.log.epoch();
        if cursor.epoch != expected {
            return Err(Error::OtherEpoch {
                found: cursor.epoch,
                expected,
            });
        }
        let mut tail = self.log.bounds().tail;
        if cursor.position > tail {
            tail = self.log.latest_bounds(cursor.position).await?.tail;
        }
        if cursor.position > tail {
            return Err(Error::AheadOfLog {
                newest: self.cursor(tail),
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
            Lineage::Same => {}
        }
        Ok(cursor.position)
    }

    fn expired(&self) -> Error {
        let Bounds { trimmed, tail, .. } = self.log.bounds();
        Error::CursorExpired {
            oldest: self.cursor(trimmed),
            newest: self.cursor(tail),
        }
    }

    fn ring(&self) -> std::sync::RwLockReadGuard<'_, Ring> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn shed_ring(&self) {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        ring.shed();
    }
}
