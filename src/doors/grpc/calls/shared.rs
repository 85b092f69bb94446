//! What all calls of the gateway share, and what one of them holds of it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Code;

use super::ledger::Ledger;
use crate::api::Api;
use crate::doors::grpc::metrics::Metrics;

/// For the end of a stream to be read.
pub(super) const END_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of answers that wait to be read; beyond, the one that has waited longest goes.
const UNREAD_BYTES_MAX: usize = 256 << 20;
/// Bytes of requests that arrive or are worked on; beyond, the one that has been there
/// longest goes.
const REQUESTS_BYTES_MAX: usize = 64 << 20;
/// Health watches and reflection streams of all connections.
pub(super) const SIDE_STREAMS_MAX: usize = 1000;

/// The gateway's calls; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) ledger: Mutex<Ledger<Arc<CancellationToken>>>,
    pub(super) requests: Mutex<Ledger<Arc<CancellationToken>>>,
    pub(super) side_streams: Arc<Semaphore>,
    pub(super) api: Api,
    pub(super) metrics: Metrics,
    pub(super) drain: CancellationToken,
    /// Calls that come to an end by themselves.
    pub(super) running: TaskTracker,
}

impl Calls {
    pub(crate) fn new(api: Api, metrics: Metrics, drain: CancellationToken) -> Self {
        Self {
            shared: Arc::new(Shared {
                ledger: Mutex::new(Ledger::new(UNREAD_BYTES_MAX)),
                requests: Mutex::new(Ledger::new(REQUESTS_BYTES_MAX)),
                side_streams: Arc::new(Semaphore::new(SIDE_STREAMS_MAX)),
                api,
                metrics,
                drain,
                running: TaskTracker::new(),
            }),
        }
    }

    /// Counts a call that ended before it was open.
    pub(crate) fn count(&self, path: &str, code: Code) {
        self.shared.metrics.calls(path).count(code);
    }

    /// Completes when every call has ended, or at most [`END_TIMEOUT`] after the drain began.
    /// Side streams never end, so they do not count.
    pub(crate) async fn drained(&self) {
        self.shared.running.close();
        let _not_read = tokio::time::timeout(END_TIMEOUT, self.shared.running.wait()).await;
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger<Arc<CancellationToken>>> {
        self.shared.ledger.lock()
    }

    /// Counts a request, from when its length is known until it is dropped.
    pub(super) fn hold_request(
        &self,
        bytes: usize,
        gives_way: &Arc<CancellationToken>,
    ) -> HeldRequest {
        let (number, giving_way) = self.requests().add(bytes, Arc::clone(gives_way));
        for other in giving_way {
            other.cancel();
        }
        HeldRequest {
            calls: self.clone(),
            number,
        }
    }

    fn requests(&self) -> MutexGuard<'_, Ledger<Arc<CancellationToken>>> {
        self.shared.requests.lock()
    }
}

/// A request that arrives or is worked on.
#[derive(Debug)]
pub(super) struct HeldRequest {
    calls: Calls,
    number: u64,
}

impl Drop for HeldRequest {
    fn drop(&mut self) {
        self.calls.requests().remove(self.number);
    }
}

/// An answer that is not read yet, and what it holds until it is.
#[derive(Debug)]
pub(super) struct Unread {
    pub(super) calls: Calls,
    pub(super) number: u64,
    pub(super) held: Vec<OwnedSemaphorePermit>,
    pub(super) taken: CancellationToken,
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.taken.cancel();
        let mut ledger = self.calls.ledger();
        ledger.remove(self.number);
        self.calls.shared.metrics.set_unread(ledger.bytes());
    }
}
