//! Answers that wait to be read: how many bytes they are, and which gives way.
//!
//! Pure: no clock, no waiting, no locks.

use std::collections::BTreeMap;

/// The answers that wait, oldest first. `W` is what makes one give way.
#[derive(Debug)]
pub(super) struct Ledger<W> {
    bytes: usize,
    bytes_max: usize,
    next: u64,
    waiting: BTreeMap<u64, Waiting<W>>,
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
            bytes_max,
            next: 0,
            waiting: BTreeMap::new(),
        }
    }

    /// Adds an answer. Returns its number, and those that give way to it: the ones that
    /// have waited longest, until what is left is within the bound.
    pub(super) fn add(&mut self, bytes: usize, waiter: W) -> (u64, Vec<W>) {
        let number = self.next;
        self.next += 1;
        self.bytes += bytes;
        self.waiting.insert(number, Waiting { bytes, waiter });
        let mut giving_way = Vec::new();
        while self.bytes > self.bytes_max && self.waiting.len() > 1 {
            let Some((_, oldest)) = self.waiting.pop_first() else {
                break;
            };
            self.bytes -= oldest.bytes;
            giving_way.push(oldest.waiter);
        }
        (number, giving_way)
    }

    /// Removes an answer that is read or given up; one that gave way is gone already.
    pub(super) fn remove(&mut self, number: u64) {
        if let Some(waiting) = self.waiting.remove(&number) {
            self.bytes -= waiting.bytes;
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
        /// Against a naive model, which keeps a list and drops its head.
        #[test]
        fn those_that_have_waited_longest_give_way_and_the_bound_holds(
            steps in prop::collection::vec(steps(), 0..60),
        ) {
            let mut ledger = Ledger::new(BYTES_MAX);
            let mut model: Vec<(u64, usize)> = Vec::new();
            let mut added = 0;
            for step in steps {
                match step {
                    Step::Add(bytes) => {
                        let (number, giving_way) = ledger.add(bytes, added);
                        prop_assert_eq!(number, added);
                        model.push((number, bytes));
                        let mut expected = Vec::new();
                        while model.len() > 1
                            && model.iter().map(|(_, bytes)| bytes).sum::<usize>() > BYTES_MAX
                        {
                            expected.push(model.remove(0).0);
                        }
                        prop_assert_eq!(giving_way, expected);
                        added += 1;
                    }
                    Step::Remove(number) => {
                        let number = number as u64;
                        ledger.remove(number);
                        model.retain(|(it, _)| *it != number);
                    }
                }
                let bytes: usize = model.iter().map(|(_, bytes)| bytes).sum();
                prop_assert_eq!(ledger.bytes(), bytes);
                prop_assert!(bytes <= BYTES_MAX || model.len() == 1);
            }
        }
    }
}
