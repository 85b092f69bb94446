//! What the calls of one connection may hold together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::kind::Kind;
use crate::event::numbers::saturating;

/// Calls of one connection that are worked on, or whose answer is not read yet; more wait.
pub(super) const CALLS_MAX: usize = 64;
/// Bytes of answers that one connection has not read yet.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Health watches and reflection streams of one connection.
pub(super) const SIDE_STREAMS_MAX: usize = 16;
/// How long a call waits for a place; then it is refused.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(2);

/// The calls of one connection, each a `C`; clones share them.
#[derive(Debug)]
pub(crate) struct ConnectionCalls<C> {
    counts: Arc<Counts>,
    /// The call whose stream hyper is about to hand to the executor.
    next: Arc<Mutex<Option<Arc<C>>>>,
}

impl<C> Clone for ConnectionCalls<C> {
    fn clone(&self) -> Self {
        Self {
            counts: Arc::clone(&self.counts),
            next: Arc::clone(&self.next),
        }
    }
}

#[derive(Debug)]
struct Counts {
    places: Arc<Semaphore>,
    answer_bytes: Arc<Semaphore>,
    side_streams: Arc<Semaphore>,
    /// Calls that are open.
    open: AtomicUsize,
    /// Calls that are open and have not been ended.
    in_force: AtomicUsize,
    /// Streams of subscribers that are open.
    subscribers: AtomicUsize,
    /// Cancelled when the connection is to be closed.
    closing: CancellationToken,
}

impl<C> ConnectionCalls<C> {
    pub(crate) fn new() -> Self {
        Self {
            counts: Arc::new(Counts {
                places: Arc::new(Semaphore::new(CALLS_MAX)),
                answer_bytes: Arc::new(Semaphore::new(ANSWER_BYTES_MAX)),
                side_streams: Arc::new(Semaphore::new(SIDE_STREAMS_MAX)),
                open: AtomicUsize::new(0),
                in_force: AtomicUsize::new(0),
                subscribers: AtomicUsize::new(0),
                closing: CancellationToken::new(),
            }),
            next: Arc::default(),
        }
    }

    /// A place among the calls that are worked on or unread; none after [`WAIT_MAX`].
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.counts.places).acquire_owned();
        timeout(WAIT_MAX, place).await.ok()?.ok()
    }

    /// Room for an answer of this size; none after [`WAIT_MAX`].
    pub(super) async fn answer_room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = saturating(bytes.min(ANSWER_BYTES_MAX));
        let room = Arc::clone(&self.counts.answer_bytes).acquire_many_owned(bytes);
        timeout(WAIT_MAX, room).await.ok()?.ok()
    }

    /// A place for a health watch or a reflection stream, if there is one.
    pub(super) fn side_stream(&self) -> Option<OwnedSemaphorePermit> {
        let side_streams = Arc::clone(&self.counts.side_streams);
        side_streams.try_acquire_owned().ok()
    }

    /// Whether a call is open.
    pub(crate) fn has_calls(&self) -> bool {
        self.counts.open.load(Ordering::Relaxed) > 0
    }

    /// Completes when the connection is to be closed.
    pub(crate) async fn closing(&self) {
        self.counts.closing.cancelled().await;
    }

    /// Closes the connection, which takes nothing of what is written to it, unless that
    /// would cut off a subscriber, which may be slow.
    pub(super) fn close_unless_subscribed(&self) {
        if self.counts.subscribers.load(Ordering::Relaxed) == 0 {
            self.counts.closing.cancel();
        }
    }

    pub(super) fn close(&self) {
        self.counts.closing.cancel();
    }

    pub(super) fn close_unless_in_force(&self) {
        if self.counts.in_force.load(Ordering::Relaxed) == 0 {
            self.counts.closing.cancel();
        }
    }

    pub(super) fn open(&self, kind: Kind) -> Open {
        let subscribers = usize::from(kind == Kind::Subscriber);
        self.counts.open.fetch_add(1, Ordering::Relaxed);
        self.counts.in_force.fetch_add(1, Ordering::Relaxed);
        let all = &self.counts.subscribers;
        all.fetch_add(subscribers, Ordering::Relaxed);
        Open {
            counts: Arc::clone(&self.counts),
            subscribers,
            is_in_force: AtomicUsize::new(1),
        }
    }

    /// Leaves a call for the executor, which hyper asks to run the call's stream right
    /// after it has asked the service.
    pub(super) fn hand_over(&self, call: &Arc<C>) {
        *self.next() = Some(Arc::clone(call));
    }

    pub(super) fn take_over(&self) -> Option<Arc<C>> {
        self.next().take()
    }

    fn next(&self) -> MutexGuard<'_, Option<Arc<C>>> {
        self.next.lock()
    }
}

/// An open call, as its connection counts it.
#[derive(Debug)]
pub(super) struct Open {
    counts: Arc<Counts>,
    subscribers: usize,
    is_in_force: AtomicUsize,
}

impl Open {
    /// The call has been ended; it stays open until its stream is gone.
    pub(super) fn end(&self) {
        let was_in_force = self.is_in_force.swap(0, Ordering::Relaxed);
        let in_force = &self.counts.in_force;
        in_force.fetch_sub(was_in_force, Ordering::Relaxed);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.end();
        let Counts {
            subscribers, open, ..
        } = &*self.counts;
        subscribers.fetch_sub(self.subscribers, Ordering::Relaxed);
        open.fetch_sub(1, Ordering::Relaxed);
    }
}
