//! The place of a subscription's worker among the streams.

use std::sync::Arc;

use super::error::Error;
use super::hub::Hub;
use crate::access::Principal;

/// One stream to a worker. It counts as a subscriber's does until it is dropped.
#[derive(Debug)]
pub struct WorkerPlace {
    hub: Arc<Hub>,
    number: u64,
}

impl WorkerPlace {
    pub(super) fn take(hub: &Arc<Hub>, principal: &Principal) -> Result<Self, Error> {
        if hub.drain.is_cancelled() {
            return Err(Error::Draining);
        }
        let limit = hub.config.subscribers_max;
        let number = hub.registry.join_worker(principal, limit)?;
        let hub = Arc::clone(hub);
        Ok(Self { hub, number })
    }
}

impl Drop for WorkerPlace {
    fn drop(&mut self) {
        self.hub.registry.leave(self.number);
    }
}
