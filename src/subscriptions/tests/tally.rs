//! What schedules come through.

use super::reference::Deed;

/// What a schedule came through.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) deliveries: u64,
    pub(super) redeliveries: u64,
    pub(super) replays: u64,
    pub(super) conflicts: u64,
    pub(super) crashes: u64,
    pub(super) expired: u64,
    pub(super) dead: u64,
    pub(super) lost: u64,
    pub(super) passed_over: u64,
}

impl Tally {
    pub(super) fn note(&mut self, deed: &Deed) {
        match deed {
            Deed::Leased { grant } => {
                self.deliveries += 1;
                self.redeliveries += u64::from(grant.attempt > 1);
                self.replays += u64::from(grant.replayed);
            }
            Deed::Expired { died, .. } => {
                self.expired += 1;
                self.dead += u64::from(*died);
            }
            Deed::Settled { recorded, died, .. } => {
                self.lost += u64::from(!recorded);
                self.dead += u64::from(*died);
            }
            Deed::Passed { .. } | Deed::Skipped { .. } => self.passed_over += 1,
            _ => {}
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.deliveries += other.deliveries;
        self.redeliveries += other.redeliveries;
        self.replays += other.replays;
        self.conflicts += other.conflicts;
        self.crashes += other.crashes;
        self.expired += other.expired;
        self.dead += other.dead;
        self.lost += other.lost;
        self.passed_over += other.passed_over;
    }
}
