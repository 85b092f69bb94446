//! Whether a connection has proven itself, or has to make room for others.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use tokio_util::sync::CancellationToken;

/// Maximum number of ended connections in the list, beyond twice the open ones.
const ENDED_MAX: usize = 64;

/// Whether a connection has proven that it may stay; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    is_trusted: AtomicBool,
    given_up: CancellationToken,
}

impl Trust {
    /// Notes that the other end has proven itself, by a signed delivery or by its credentials.
    /// The connection never makes room for another.
    pub fn grant(&self) {
        self.shared.is_trusted.store(true, Ordering::Relaxed);
    }

    /// Cancelled when the connection has to make room.
    pub(super) fn given_up(&self) -> &CancellationToken {
        &self.shared.given_up
    }
}

/// The connections that have not proven themselves, oldest first.
#[derive(Debug, Default)]
pub(super) struct UnprovenConnections(VecDeque<Weak<Shared>>);

impl UnprovenConnections {
    pub(super) fn push(&mut self, trust: &Trust, open: usize) {
        if self.0.len() > 2 * open + ENDED_MAX {
            self.0.retain(|connection| unproven(connection).is_some());
        }
        self.0.push_back(Arc::downgrade(&trust.shared));
    }

    /// Gives up the oldest. Returns whether there was one.
    pub(super) fn give_up_oldest(&mut self) -> bool {
        while let Some(oldest) = self.0.pop_front() {
            if let Some(oldest) = unproven(&oldest) {
                oldest.given_up.cancel();
                return true;
            }
        }
        false
    }
}

fn unproven(connection: &Weak<Shared>) -> Option<Arc<Shared>> {
    let connection = connection.upgrade()?;
    (!connection.is_trusted.load(Ordering::Relaxed)).then_some(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_open_untrusted_connection_makes_room() {
        let mut connections = UnprovenConnections::default();
        let [ended, trusted, first, second] = [(); 4].map(|()| Trust::default());
        for trust in [&ended, &trusted, &first, &second] {
            connections.push(trust, 4);
        }
        trusted.grant();
        drop(ended);
        for unproven in [&first, &second] {
            assert!(!unproven.given_up().is_cancelled());
            assert!(connections.give_up_oldest());
            assert!(unproven.given_up().is_cancelled());
        }
        assert!(!connections.give_up_oldest());
        assert!(!trusted.given_up().is_cancelled());
        for _ in 0..10 * ENDED_MAX {
            connections.push(&Trust::default(), 0);
        }
        assert!(connections.0.len() <= ENDED_MAX + 1);
    }
}
