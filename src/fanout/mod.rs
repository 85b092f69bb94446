//! Distributes one log to every subscriber.
//!
//! ```text
//!   log ──batches──► feed ──► ring (the last events, each encoded once)
//!    │                 └─► wakes those that wait for one ▲ clone shared bytes
//!    └──────────── pages ──► subscriber ◄────────────────┘
//!                              │ pulled by its own HTTP/2 flow control
//! ```
//!
//! A subscriber is a cursor, and nothing is queued for it. Behind the ring it reads the log,
//! inside the ring it clones frames, and at the ring's end it waits for an event that its filter
//! matches. A subscriber that falls behind reads the log again, which is not an error. So a slow
//! subscriber costs the same few hundred kilobytes however slow it is, and there is no seam
//! between history and live at which an event could be lost or repeated.
//!
//! The filter excludes the events that a principal may not receive. The [`View`] decides which
//! parts of an event a frame has, so subscribers with the same policy share frames.
//!
//! What this module does not do: gRPC (it yields encoded [`Frame`]s), and authentication.

#![warn(clippy::indexing_slicing)]

mod control;
mod entry;
mod error;
mod feed;
mod frame;
mod history;
mod hub;
mod index;
mod metrics;
mod names;
mod outage;
mod outbox;
mod page_cache;
mod read;
mod records;
mod registry;
mod request;
mod ring;
mod roster;
mod series;
mod sink;
mod start;
mod subscriber;
mod waiters;
mod walk;
mod worker;

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::access::Principal;
use crate::event::{Cursor, Position};
use crate::filter::{KnownNames, Scope};
use crate::log::{Bounds, Read};
use hub::Hub;
use start::starting_position;

pub use control::{Control, Delivery};
pub use entry::{Lag, State, SubscriberView};
pub use error::Error;
pub use frame::{Encoding, Event, Frame, Payload, View, encoded_event, event_message};
pub use hub::Config;
pub use metrics::Metrics;
pub use names::known_names;
pub use read::{EventPage, ListRequest};
pub use records::{RecordBatch, RecordWalk};
pub use registry::SubscriberPage;
pub use request::{OnExpired, Request, Start, UNNAMED};
pub use subscriber::Subscriber;
pub use worker::WorkerPlace;

/// The fan-out; cheap to clone.
#[derive(Clone, Debug)]
pub struct Fanout {
    hub: Arc<Hub>,
}

impl Fanout {
    /// Starts the fan-out of `log`, with the task that feeds it, which ends only with
    /// the log. Subscribers' streams end when `drain` is cancelled.
    #[must_use]
    pub fn start(
        log: Arc<dyn Read>,
        config: Config,
        metrics: Metrics,
        drain: CancellationToken,
    ) -> (Self, JoinHandle<()>) {
        // Follow first: what is committed from here on is either below the position that
        // the ring begins at or in a batch.
        let follower = log.follow();
        let hub = Arc::new(Hub::new(log, config, metrics, drain));
        #[expect(
            clippy::disallowed_methods,
            reason = "the caller is handed the task, which ends with the log"
        )]
        let feed = tokio::spawn(feed::run(Arc::clone(&hub), follower));
        (Self { hub }, feed)
    }

    /// The names that filters may use, shared by all calls until there are others.
    #[must_use]
    pub fn known_names(&self) -> Arc<KnownNames> {
        self.hub.known_names()
    }

    /// Takes these for the configured sources from now on. A source that is not among them
    /// can be asked for as long as the log has counted an event of it.
    pub fn set_sources(&self, names: BTreeSet<String>) {
        self.hub.set_sources(names);
    }

    /// Opens a subscriber's stream.
    ///
    /// # Errors
    /// When its cursor cannot be honoured, there are too many, or the gateway stops.
    pub async fn subscribe(&self, request: Request) -> Result<Subscriber, Error> {
        Subscriber::open(Arc::clone(&self.hub), request).await
    }

    /// Admits a worker of a subscription, which is one more stream beside those of subscribers.
    ///
    /// # Errors
    /// When there are too many streams, in all or of this principal, or the gateway stops.
    pub fn admit_worker(&self, principal: &Principal) -> Result<WorkerPlace, Error> {
        WorkerPlace::take(&self.hub, principal)
    }

    /// The position that a subscription starts after. The end of the log is asked of the store,
    /// since other gateways may have appended events that this one has not heard of.
    ///
    /// # Errors
    /// When a cursor cannot be honored or the log not be read.
    pub async fn place(&self, start: Start, on_expired: OnExpired) -> Result<Position, Error> {
        let bounds = self.hub.log.confirmed_bounds(Position::START).await?;
        let (_, position) = starting_position(&self.hub, bounds, start, on_expired).await?;
        Ok(position)
    }

    /// Lists one page of matching events, perhaps none where that takes much to find out.
    ///
    /// # Errors
    /// When the cursor cannot be honoured or the log not be read.
    pub async fn list(&self, listing: ListRequest) -> Result<EventPage, Error> {
        read::list(&self.hub, listing).await
    }

    /// Finds one event by its id, among those of the source and the scope.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn find(
        &self,
        id: String,
        source: Option<String>,
        scope: &Scope,
        view: &View,
    ) -> Result<Option<(Event, Cursor)>, Error> {
        read::find(&self.hub, id, source, scope, view).await
    }

    /// A position of this log as a cursor.
    #[must_use]
    pub fn cursor_at(&self, position: Position) -> Cursor {
        self.hub.cursor(position)
    }

    /// All subscribers that are connected now, oldest first.
    #[must_use]
    pub fn subscribers(&self) -> Vec<SubscriberView> {
        self.list_subscribers(&SubscriberPage {
            after: None,
            principal: None,
            most: usize::MAX,
        })
    }

    /// A page of the subscribers that are connected now, oldest first.
    #[must_use]
    pub fn list_subscribers(&self, page: &SubscriberPage<'_>) -> Vec<SubscriberView> {
        let Hub {
            registry,
            waiters,
            log,
            ..
        } = &*self.hub;
        registry.views(page, log.bounds(), |number| waiters.caught_up_to(number))
    }

    /// How many subscribers are connected now.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.hub.registry.len()
    }

    /// How many streams come back at about the same time as the one that this error ends:
    /// the more they are, the longer they should spread out.
    #[must_use]
    pub fn crowd(&self, error: &Error, principal: &Principal) -> usize {
        self.hub.crowd(error, principal)
    }

    /// Completes when no subscriber is connected.
    pub async fn emptied(&self) {
        self.hub.registry.emptied().await;
    }

    /// Brings the gauges up to date.
    pub fn observe(&self) {
        let Hub {
            registry,
            waiters,
            log,
            metrics,
            ..
        } = &*self.hub;
        let observed = registry.observe(log.bounds(), |number| waiters.caught_up_to(number));
        metrics.observe(observed, waiters.filter_bytes());
    }

    /// Where the log begins and ends, as cursors.
    #[must_use]
    pub fn ends(&self) -> (Cursor, Cursor) {
        let Bounds { trimmed, last, .. } = self.hub.log.bounds();
        (self.hub.cursor(trimmed), self.hub.cursor(last))
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &dyn Read {
        &*self.hub.log
    }
}
