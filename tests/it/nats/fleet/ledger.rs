//! What the workers saw, and the laws that it must show.

use std::collections::{BTreeMap, HashMap};

use clerkcast::event::UnixMillis;

use super::{ACK_DEADLINE, KEYS};

/// Times are of milliseconds.
const ROUNDING_MS: i64 = 5;

/// An event, by its key and its number among those of the key.
pub(super) type Id = (usize, usize);

/// One delivery. Its times are of this machine's clock.
pub(super) struct Lease {
    pub(super) id: Id,
    pub(super) attempt: i32,
    pub(super) granted_ms: i64,
    /// When the worker began to tell its outcome.
    ended_ms: Option<i64>,
}

impl Lease {
    fn deadline_ms(&self) -> i64 {
        self.granted_ms + i64::try_from(ACK_DEADLINE.as_millis()).expect("short")
    }

    fn until_ms(&self) -> i64 {
        let deadline = self.deadline_ms();
        self.ended_ms.map_or(deadline, |ended| ended.min(deadline))
    }
}

#[derive(Default)]
pub(super) struct Ledger {
    posted: [usize; KEYS],
    leases: Vec<Lease>,
    /// When the first acknowledgement of an event was sent, and when one was answered.
    sent: HashMap<Id, i64>,
    acknowledged: HashMap<Id, i64>,
    /// Where workers in time were told that they are late.
    broken: Vec<String>,
}

pub(super) fn now_ms() -> i64 {
    UnixMillis::now().milliseconds()
}

impl Ledger {
    pub(super) fn note_posted(&mut self, key: usize, number: usize) {
        self.posted[key] = number + 1;
    }

    /// Events of a key that are not acknowledged.
    pub(super) fn backlog(&self, key: usize) -> usize {
        self.posted[key].saturating_sub(self.acknowledged_per_key()[key])
    }

    /// Notes a delivery. Returns its number.
    pub(super) fn note_lease(&mut self, id: Id, attempt: i32, granted_ms: i64) -> usize {
        self.leases.push(Lease {
            id,
            attempt,
            granted_ms,
            ended_ms: None,
        });
        self.leases.len() - 1
    }

    /// Notes that the worker tells the outcome of a delivery.
    pub(super) fn note_end(&mut self, lease: usize, is_acknowledgement: bool) {
        let now = now_ms();
        let lease = &mut self.leases[lease];
        lease.ended_ms = Some(now);
        if is_acknowledgement {
            self.sent.entry(lease.id).or_insert(now);
        }
    }

    /// Notes that an acknowledgement was answered and not lost.
    pub(super) fn note_acknowledged(&mut self, lease: usize) {
        let id = self.leases[lease].id;
        self.acknowledged.entry(id).or_insert_with(now_ms);
    }

    /// Notes that an acknowledgement came too late.
    pub(super) fn note_lost(&mut self, lease: usize) {
        let lease = &self.leases[lease];
        let early = lease.deadline_ms() - now_ms();
        if early > ROUNDING_MS {
            let id = lease.id;
            self.broken
                .push(format!("{id:?} was lost {early} ms before its deadline"));
        }
    }

    pub(super) fn acknowledged_per_key(&self) -> [usize; KEYS] {
        let mut counts = [0; KEYS];
        for (key, _) in self.acknowledged.keys() {
            counts[*key] += 1;
        }
        counts
    }

    pub(super) fn is_finished(&self) -> bool {
        self.acknowledged_per_key() == self.posted
    }

    /// Holds what was seen to the laws. Returns how many events there were.
    pub(super) fn check(&self) -> usize {
        let mut keys: BTreeMap<usize, Vec<&Lease>> = BTreeMap::new();
        for lease in &self.leases {
            keys.entry(lease.id.0).or_default().push(lease);
        }
        for leases in keys.values_mut() {
            leases.sort_by_key(|lease| lease.granted_ms);
            self.check_key(leases);
        }
        assert_eq!(self.broken, [""; 0], "Elastic");
        assert!(self.is_finished(), "Delivered");
        self.posted.iter().sum()
    }

    /// Holds the deliveries of one key, in the order in which they were granted, to the laws.
    fn check_key(&self, leases: &[&Lease]) {
        for (lease, next) in leases.iter().zip(leases.iter().skip(1)) {
            assert!(
                next.granted_ms + ROUNDING_MS >= lease.until_ms(),
                "Exclusive lease: {:?} was handed out {} ms before the end of the lease of {:?}",
                next.id,
                lease.until_ms() - next.granted_ms,
                lease.id,
            );
        }
        let mut attempts: HashMap<Id, i32> = HashMap::new();
        for lease in leases {
            let (key, number) = lease.id;
            if let Some(answered) = self.acknowledged.get(&lease.id) {
                assert!(
                    lease.granted_ms <= answered + ROUNDING_MS,
                    "Acknowledged: {:?} was handed out {} ms after its answer",
                    lease.id,
                    lease.granted_ms - answered,
                );
            }
            for earlier in 0..number {
                let sent = self.sent.get(&(key, earlier));
                assert!(
                    sent.is_some_and(|sent| *sent <= lease.granted_ms + ROUNDING_MS),
                    "Keyed order: {:?} was handed out before {earlier} was acknowledged",
                    lease.id,
                );
            }
            let attempt = attempts.insert(lease.id, lease.attempt);
            assert!(attempt < Some(lease.attempt), "Redelivered: {:?}", lease.id);
        }
    }
}
