//! The worker of a subscription: it reconnects, acknowledges in batches, and extends leases.

mod delivery;
mod leases;
mod receiving;
mod settling;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
#[cfg(feature = "tls")]
use tonic::transport::ClientTlsConfig;

use crate::error::Error;
use crate::gateway::Gateway;
use crate::proto::v1::{ReceiveHeartbeat, ReceiveRequest, ReceiveStarted};
use crate::retry::Connection;
use crate::watcher::Watcher;
use leases::Leases;
use receiving::{Receiving, Shared};
use settling::Settling;

/// A longer time for one event is cut to this: clocks cannot count on without end.
const HANDLING_MAX_MOST: Duration = Duration::from_secs(365 * 24 * 3600);

pub use delivery::{Answer, Delivery, Failure, Settlement};

/// A worker of a subscription that the gateway keeps.
///
/// ```no_run
/// # async fn handle(_: &clerkcast_client::proto::v1::Event) -> Result<(), String> { Ok(()) }
/// # async fn example() -> Result<(), clerkcast_client::Error> {
/// use std::time::Duration;
///
/// use clerkcast_client::Worker;
/// use clerkcast_client::proto::v1::ReceiveRequest;
///
/// let request = ReceiveRequest {
///     subscription: "crm".to_owned(),
///     ..ReceiveRequest::default()
/// };
/// // An event is this worker's for at most ten minutes; then it is handed out again.
/// let handling_max = Duration::from_secs(600);
/// let mut worker = Worker::new("http://127.0.0.1:50051", request, handling_max)?;
/// while let Some(delivery) = worker.next().await? {
///     match handle(&delivery.event).await {
///         Ok(()) => delivery.acknowledge(),
///         Err(reason) => delivery.fail(reason),
///     };
/// }
/// worker.stop().await
/// # }
/// ```
///
/// It connects again when the connection breaks. In the background it
///
/// * sends outcomes: the first at once, and those that arrive while a call is in progress
///   together with the next call. It repeats a call until the gateway answers;
/// * extends the lease of each event that is being handled, or waits to be, for at most the
///   time given to [`Worker::new`].
///
/// To handle several events at once, move each [`Delivery`] into a task of its own. Events of
/// one user arrive one after the other all the same.
///
/// [`Worker::stop`] gives back what was not handed out by [`Worker::next`], and waits until the
/// gateway has answered for the rest. A worker that is dropped does the same in the background,
/// if the runtime goes on for long enough.
#[derive(Debug)]
pub struct Worker {
    gateway: Gateway,
    request: ReceiveRequest,
    handling_max: Duration,
    watcher: Watcher<Notice>,
    running: Option<Running>,
}

/// The tasks of a worker that was asked for its first event.
#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    /// Stops the task that receives, also by being dropped.
    stop: watch::Sender<bool>,
    receiving: JoinHandle<()>,
    settling: JoinHandle<Result<(), Error>>,
}

/// What a worker reports besides events.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Notice {
    /// The stream was lost, or is open again.
    Connection(Connection),
    /// The first frame of a stream: the subscription as it is now.
    Started(Box<ReceiveStarted>),
    /// What the subscription is doing, and how far it is behind.
    Heartbeat(ReceiveHeartbeat),
    /// The gateway does not answer for outcomes; they are sent again.
    Unanswered {
        /// What happened.
        reason: String,
        /// How long until the next attempt.
        retry_in: Duration,
    },
    /// The outcome of an event came too late: the event was handed out again already.
    Lost {
        /// The event's id.
        event_id: String,
    },
}

impl Worker {
    /// A worker of the subscription that `request` names, at the gateway at `address`, as
    /// [`Gateway::new`] takes it. `handling_max` is how long the lease of one event is extended.
    /// It connects when first asked for an event.
    ///
    /// # Errors
    /// When `address` is not one.
    pub fn new(
        address: &str,
        request: ReceiveRequest,
        handling_max: Duration,
    ) -> Result<Self, Error> {
        Ok(Self::of(Gateway::new(address)?, request, handling_max))
    }

    /// As [`Worker::new`], of this gateway.
    #[must_use]
    pub fn of(gateway: Gateway, request: ReceiveRequest, handling_max: Duration) -> Self {
        Self {
            gateway,
            request,
            handling_max: handling_max.min(HANDLING_MAX_MOST),
            watcher: Watcher::default(),
            running: None,
        }
    }

    /// Speaks TLS in this way: with a CA of your own, or a client certificate.
    ///
    /// # Errors
    /// When a certificate or key is not one.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: ClientTlsConfig) -> Result<Self, Error> {
        self.gateway = self.gateway.tls(tls)?;
        Ok(self)
    }

    /// Shows this bearer token, which `clerkcast token new` made, to the gateway.
    ///
    /// # Errors
    /// When it is not one: it holds characters that a header cannot carry.
    pub fn token(mut self, token: &str) -> Result<Self, Error> {
        self.gateway = self.gateway.token(token)?;
        Ok(self)
    }

    /// Calls `watcher` with what happens besides events. It must not block.
    #[must_use]
    pub fn watch(mut self, watcher: impl Fn(&Notice) + Send + Sync + 'static) -> Self {
        self.watcher = Watcher::new(watcher);
        self
    }

    /// The next event; none once the stream has ended as the request asked. It can be dropped
    /// and called again, as in `select!`.
    ///
    /// # Errors
    /// When the gateway refuses the worker, or its acknowledgements, for good.
    pub async fn next(&mut self) -> Result<Option<Delivery>, Error> {
        let shared = Arc::clone(&self.running().shared);
        shared.next().await
    }

    /// Receives no more, gives back the events that [`Worker::next`] has not returned, and waits
    /// until every [`Delivery`] that it has returned has an outcome and the gateway has
    /// answered for all of them.
    ///
    /// # Errors
    /// When the gateway does not answer within 30 s of the last outcome, or refuses.
    pub async fn stop(mut self) -> Result<(), Error> {
        let Some(running) = self.running.take() else {
            return Ok(());
        };
        running.stop.send_replace(true);
        joined(running.receiving.await);
        running.shared.give_back().await;
        joined(running.settling.await).unwrap_or(Ok(()))
    }

    fn running(&mut self) -> &Running {
        let Self {
            gateway,
            request,
            handling_max,
            watcher,
            running,
        } = self;
        running.get_or_insert_with(|| start(gateway, request, *handling_max, watcher))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the tasks end once the worker and its deliveries are gone"
)]
fn start(
    gateway: &Gateway,
    request: &ReceiveRequest,
    handling_max: Duration,
    watcher: &Watcher<Notice>,
) -> Running {
    let shared = Arc::new(Shared::default());
    let (stop, stopped) = watch::channel(false);
    let (outbox, inbox) = mpsc::unbounded_channel();
    let (refuse, refused) = oneshot::channel();
    let settling = Settling::new(
        gateway.clone(),
        request.subscription.clone(),
        Leases::new(handling_max),
        watcher.clone(),
    );
    let receiving = Receiving::new(
        gateway.clone(),
        request.clone(),
        handling_max,
        outbox,
        watcher.clone(),
    );
    Running {
        receiving: tokio::spawn(receiving.run(Arc::clone(&shared), stopped, refused)),
        settling: tokio::spawn(settling.run(inbox, refuse)),
        shared,
        stop,
    }
}

/// What a task returned; none if its runtime ended it.
fn joined<T>(outcome: Result<T, tokio::task::JoinError>) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}
