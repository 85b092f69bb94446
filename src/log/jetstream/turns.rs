//! Limits searches: at most [`SEARCHES_MAX`] run at once, and none while the consumer that
//! follows the stream has no room.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::log::error::ReadError;

/// Maximum number of searches under way; more wait their turn.
pub(super) const SEARCHES_MAX: usize = 4;

/// The turns of the searches.
#[derive(Debug)]
pub(super) struct Searches {
    permits: Arc<Semaphore>,
    /// Whether the follower has no consumer, and no room for one.
    follower_waits: watch::Sender<bool>,
}

impl Default for Searches {
    fn default() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(SEARCHES_MAX)),
            follower_waits: watch::Sender::new(false),
        }
    }
}

impl Searches {
    /// Makes searches end and wait while the follower has no room.
    pub(super) fn give_way_to_follower(&self, follower_waits: bool) {
        self.follower_waits.send_replace(follower_waits);
    }

    /// Waits until a search may begin.
    pub(super) async fn turn(&self) -> Result<Turn, ReadError> {
        let mut follower_waits = self.follower_waits.subscribe();
        let may_begin = follower_waits.wait_for(|waits| !waits).await;
        may_begin.map_err(|_| ReadError::Closed)?;
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        permit
            .map(|permit| Turn { _permit: permit })
            .map_err(|_| ReadError::Closed)
    }

    /// Waits until the follower needs the room.
    pub(super) async fn give_way(&self) {
        let mut follower_waits = self.follower_waits.subscribe();
        let _closed = follower_waits.wait_for(|waits| *waits).await;
    }
}

/// The right to have a consumer, until this is dropped.
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
}
