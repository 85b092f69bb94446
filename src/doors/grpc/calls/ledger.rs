//! What waits, in bytes: how much it is in all, and which gives way.
//!
//! Pure: no clock, no waiting, no locks.

use std::collections::BTreeMap;

/// Those that wait, oldest first. `W` is what makes one give way.
#[derive(Debug)]
pub(super) struct Ledger<W> {
    /// Of all that have not been removed.
    bytes: usize,
    /// Of those that need not give way.
    staying_bytes: usize,
    bytes_max: usize,
    next: u64,
    staying: BTreeMap<u64, Waiting<W>>,
    /// Those that give way count until they are gone.
    leaving: BTreeMap<u64, usize>,
}

#[derive(Debug)]
struct Waiting<W> {
    bytes: usize,
    waiter: W,
}

impl<W> Ledger<W> {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes: 0,
            staying_bytes: 0,
            bytes_max,
            next: 0,
            staying: BTreeMap::new(),
            leaving: BTreeMap::new(),
        }
    }

    /// Adds one. Returns its number, and those that give way to it: the ones that have
    /// waited longest, until what stays is within the bound.
    pub(super) fn add(&mut self, bytes: usize, waiter: W) -> (u64, Vec<W>) {
        let number = self.next;
        self.next += 1;
        self.bytes += bytes;
        self.staying_bytes += bytes;
        self.staying.insert(number, Waiting { bytes, waiter });
        let mut giving_way = Vec::new();
        while self.staying_bytes > self.bytes_max && self.staying.len() > 1 {
            let Some((oldest, waiting)) = self.staying.pop_first() else {
                break;
            };
            self.staying_bytes -= waiting.bytes;
            self.leaving.insert(oldest, waiting.bytes);
            giving_way.push(waiting.waiter);
        }
        (number, giving_way)
    }

    /// Removes one that is gone.
    pub(super) fn remove(&mut self, number: u64) {
        if let Some(waiting) = self.staying.remove(&number) {
            self.staying_bytes -= waiting.bytes;
            self.bytes -= waiting.bytes;
        } else if let Some(bytes) = self.leaving.remove(&number) {
            self.bytes -= bytes;
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BYTES_MAX: usize = 1000;

    #[derive(Clone, Debug)]
    enum Step {
        Add(usize),
        Remove(usize),
    }

    fn steps() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0_usize..400).prop_map(Step::Add),
            2 => (0_usize..40).prop_map(Step::Remove),
        ]
    }

    proptest! {
        /// Against a naive model, which keeps a list and marks its head.
        #[test]
        fn answers_that_have_waited_longest_give_way_and_the_bound_holds(
            steps in prop::collection::vec(steps(), 0..60),
        ) {
            let mut ledger = Ledger::new(BYTES_MAX);
            // Number, bytes, and whether it stays.
            let mut model: Vec<(u64, usize, bool)> = Vec::new();
            let mut added = 0;
            for step in steps {
                match step {
                    Step::Add(bytes) => {
                        let (number, giving_way) = ledger.add(bytes, added);
                        prop_assert_eq!(number, added);
                        model.push((number, bytes, true));
                        let mut expected = Vec::new();
                        loop {
                            let mut staying: Vec<_> = model.iter_mut().filter(|call| call.2).collect();
                            let bytes: usize = staying.iter().map(|call| call.1).sum();
                            if bytes <= BYTES_MAX || staying.len() == 1 {
                                break;
                            }
                            staying[0].2 = false;
                            expected.push(staying[0].0);
                        }
                        prop_assert_eq!(giving_way, expected);
                        added += 1;
                    }
                    Step::Remove(number) => {
                        let number = number as u64;
                        ledger.remove(number);
                        model.retain(|call| call.0 != number);
                    }
                }
                let bytes: usize = model.iter().map(|call| call.1).sum();
                prop_assert_eq!(ledger.bytes(), bytes);
            }
        }
    }
}
