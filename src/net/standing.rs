//! What a connection has shown so far, and whether it has to make room for others.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use tokio_util::sync::CancellationToken;

/// Connections that have ended and are still listed, beside twice those that are open.
const ENDED_MAX: usize = 64;

/// Where a connection stands with the one who serves it; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    is_trusted: AtomicBool,
    given_up: CancellationToken,
}

impl Standing {
    /// Its other end has shown that it is one of those whom the port is for, by a signed
    /// delivery or by its credentials: it makes room for nobody.
    pub fn trust(&self) {
        self.shared.is_trusted.store(true, Ordering::Relaxed);
    }

    /// Cancelled when it has to make room.
    pub(super) fn given_up(&self) -> &CancellationToken {
        &self.shared.given_up
    }
}

/// The connections that have not shown who they are, oldest first.
#[derive(Debug, Default)]
pub(super) struct Strangers(VecDeque<Weak<Shared>>);

impl Strangers {
    pub(super) fn push(&mut self, standing: &Standing, open: usize) {
        if self.0.len() > 2 * open + ENDED_MAX {
            self.0.retain(|stranger| is_stranger(stranger).is_some());
        }
        self.0.push_back(Arc::downgrade(&standing.shared));
    }

    /// Gives up the oldest. Says whether there was one.
    pub(super) fn give_up_oldest(&mut self) -> bool {
        while let Some(oldest) = self.0.pop_front() {
            if let Some(oldest) = is_stranger(&oldest) {
                oldest.given_up.cancel();
                return true;
            }
        }
        false
    }
}

fn is_stranger(connection: &Weak<Shared>) -> Option<Arc<Shared>> {
    let connection = connection.upgrade()?;
    (!connection.is_trusted.load(Ordering::Relaxed)).then_some(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_that_is_open_and_not_trusted_makes_room() {
        let mut strangers = Strangers::default();
        let [ended, trusted, first, second] = [(); 4].map(|()| Standing::default());
        for standing in [&ended, &trusted, &first, &second] {
            strangers.push(standing, 4);
        }
        trusted.trust();
        drop(ended);
        for stranger in [&first, &second] {
            assert!(!stranger.given_up().is_cancelled());
            assert!(strangers.give_up_oldest());
            assert!(stranger.given_up().is_cancelled());
        }
        assert!(!strangers.give_up_oldest());
        assert!(!trusted.given_up().is_cancelled());
        for _ in 0..10 * ENDED_MAX {
            strangers.push(&Standing::default(), 0);
        }
        assert!(strangers.0.len() <= ENDED_MAX + 1);
    }
}
