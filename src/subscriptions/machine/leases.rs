//! Which leases a process gave itself, and when a lease expires for it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::state::{Lease, Pending, Standing};
use crate::event::UnixMillis;

/// How much later than its deadline a lease expires for a process that did not set that deadline:
/// clocks of gateways are up to one second apart, and as much again for caution.
pub(in crate::subscriptions) const CLOCK_MARGIN: Duration = Duration::from_secs(2);

/// The deadlines that this process set by its own clock. A lease whose deadline another gateway
/// set, by giving or extending it, expires later.
#[derive(Clone, Debug, Default)]
pub struct OwnLeases {
    stored: BTreeMap<Lease, UnixMillis>,
    /// Set since the state was last stored. Another gateway may give a lease the same number.
    unstored: BTreeMap<Lease, UnixMillis>,
}

impl OwnLeases {
    /// When a pending event's lease expires for this process, if it has one.
    pub(super) fn expires_at(&self, pending: &Pending) -> Option<UnixMillis> {
        match pending.standing {
            Standing::Leased { until } if self.is_own(pending) => Some(until),
            Standing::Leased { until } => Some(until.after(CLOCK_MARGIN)),
            Standing::Waiting { .. } => None,
        }
    }

    /// Whether this process set the deadline of a lease.
    pub(super) fn is_own(&self, pending: &Pending) -> bool {
        let unstored = self.unstored.get(&pending.lease);
        let own = unstored.or_else(|| self.stored.get(&pending.lease));
        let deadline = own.copied().map(|until| Standing::Leased { until });
        deadline == Some(pending.standing)
    }

    pub(super) fn note(&mut self, lease: Lease, until: UnixMillis) {
        self.unstored.insert(lease, until);
    }

    pub(super) fn forget(&mut self, lease: Lease) {
        self.unstored.remove(&lease);
        self.stored.remove(&lease);
    }

    pub(super) fn note_stored(&mut self) {
        self.stored.append(&mut self.unstored);
    }

    pub(super) fn stored_only(mut self) -> Self {
        self.unstored.clear();
        self
    }
}
