//! Subscribers by the names that they gave themselves, connected or away: what each was sent, and
//! where it was when its last stream ended.
//!
//! Pure: no clock, no locks.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::request::UNNAMED;
use crate::event::{Position, UnixMillis};

/// How long a subscriber is remembered after its last stream.
const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// Subscribers that are remembered. Beyond, one of the principal with the most is forgotten, the
/// one that has been away longest: names of one principal cost the others nothing.
const REMEMBERED_MAX: usize = 1000;

/// A named subscriber of a principal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pair {
    pub(super) principal: String,
    pub(super) name: String,
}

/// A stream that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Departure {
    /// Up to where it was served.
    pub(super) position: Position,
    /// Of what it had reached; absent where that is not known.
    pub(super) reached_time: Option<UnixMillis>,
    /// When it ended.
    pub(super) time: UnixMillis,
    /// Events that it was sent.
    pub(super) delivered: u64,
}

/// A subscriber whose last stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Away {
    /// Its last stream; `delivered` counts its former streams too.
    pub(super) last: Departure,
    since: Instant,
    /// Its place in the order of departures.
    number: u64,
}

/// A subscriber with open streams.
#[derive(Debug, Default)]
struct Present {
    streams: usize,
    /// The stream that ended last.
    former: Option<Away>,
}

/// The named subscribers.
#[derive(Debug)]
pub(super) struct Roster {
    present: HashMap<Pair, Present>,
    /// In the order of departures.
    away: BTreeMap<u64, (Pair, Away)>,
    numbers: HashMap<Pair, u64>,
    departures: u64,
    remembered_max: usize,
}

impl Default for Roster {
    fn default() -> Self {
        Self::remembering(REMEMBERED_MAX)
    }
}

impl Roster {
    fn remembering(remembered_max: usize) -> Self {
        Self {
            present: HashMap::new(),
            away: BTreeMap::new(),
            numbers: HashMap::new(),
            departures: 0,
            remembered_max,
        }
    }

    /// A subscriber opens a stream.
    pub(super) fn join(&mut self, pair: &Pair, now: Instant) {
        self.forget(now);
        let former = self.numbers.remove(pair);
        let former = former.and_then(|number| self.away.remove(&number));
        let present = self.present.entry(pair.clone()).or_default();
        present.streams += 1;
        present.former = former.map(|(_, away)| away).or(present.former);
    }

    /// A stream of a subscriber ends; one without a departure was never served.
    pub(super) fn leave(&mut self, pair: &Pair, departure: Option<Departure>, now: Instant) {
        self.forget(now);
        let Some(present) = self.present.get_mut(pair) else {
            return;
        };
        present.streams = present.streams.saturating_sub(1);
        if let Some(departure) = departure {
            let former = present.former.map(|away| away.last);
            let delivered = former.map_or(0, |former| former.delivered) + departure.delivered;
            let reached_before = former.and_then(|former| former.reached_time);
            self.departures += 1;
            present.former = Some(Away {
                last: Departure {
                    delivered,
                    reached_time: departure.reached_time.or(reached_before),
                    ..departure
                },
                since: now,
                number: self.departures,
            });
        }
        if present.streams == 0 {
            let former = present.former;
            self.present.remove(pair);
            // An operator cannot tell which one without a name is away.
            if let Some(away) = former.filter(|_| pair.name != UNNAMED) {
                self.remember(pair, away);
            }
        }
    }

    fn remember(&mut self, pair: &Pair, away: Away) {
        self.numbers.insert(pair.clone(), away.number);
        self.away.insert(away.number, (pair.clone(), away));
        if self.away.len() > self.remembered_max {
            self.forget_one_of_the_most();
        }
    }

    fn forget_one_of_the_most(&mut self) {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for (pair, _) in self.away.values() {
            *counts.entry(&pair.principal).or_default() += 1;
        }
        let most = counts.values().max();
        let has_the_most = |pair: &Pair| counts.get(pair.principal.as_str()) == most;
        let mut oldest = self.away.iter();
        let found = oldest.find(|(_, (pair, _))| has_the_most(pair));
        let number = found.map(|(number, _)| *number);
        if let Some((pair, _)) = number.and_then(|number| self.away.remove(&number)) {
            self.numbers.remove(&pair);
        }
    }

    fn forget(&mut self, now: Instant) {
        let is_old = |away: &Away| now.saturating_duration_since(away.since) >= REMEMBERED_FOR;
        while self
            .away
            .first_key_value()
            .is_some_and(|(_, (_, away))| is_old(away))
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, (pair, _))) = self.away.pop_first() {
            self.numbers.remove(&pair);
        }
    }

    /// Events that a connected subscriber was sent by streams that have ended.
    pub(super) fn delivered_before(&self, pair: &Pair) -> u64 {
        let present = self.present.get(pair);
        let former = present.and_then(|present| present.former);
        former.map_or(0, |former| former.last.delivered)
    }

    /// The subscribers that are away, the longest first.
    pub(super) fn away(&mut self, now: Instant) -> impl Iterator<Item = (&Pair, &Departure)> {
        self.forget(now);
        self.away.values().map(|(pair, away)| (pair, &away.last))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 3;
    const HOUR: Duration = Duration::from_secs(60 * 60);

    #[derive(Clone, Debug)]
    enum Step {
        Join(usize),
        /// With whether the stream was served, and whether it reached anything.
        Leave(usize, bool, bool),
        Pass(u32),
    }

    fn steps() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0_usize..6).prop_map(Step::Join),
            (0_usize..6, any::<bool>(), any::<bool>())
                .prop_map(|(pair, is_served, reached)| Step::Leave(pair, is_served, reached)),
            (1_u32..20).prop_map(Step::Pass),
        ]
    }

    fn pair(number: usize) -> Pair {
        Pair {
            principal: format!("principal {}", number % 2),
            name: format!("name {}", number / 2),
        }
    }

    /// A subscriber as a naive list has it.
    #[derive(Clone, Debug)]
    struct Known {
        pair: usize,
        streams: usize,
        last: Option<(Instant, Departure)>,
    }

    /// What is forgotten: the old, and beyond the bound those of the principal with the most.
    fn forget(list: &mut Vec<Known>, now: Instant) {
        let left = |known: &Known| known.last.map(|(then, _)| then);
        list.retain(|known| {
            known.streams > 0 || left(known).is_some_and(|then| now < then + 24 * HOUR)
        });
        while list.iter().filter(|known| known.streams == 0).count() > MAX {
            let count_of = |principal: usize| {
                let away = list.iter().filter(|known| known.streams == 0);
                away.filter(|known| known.pair % 2 == principal).count()
            };
            let counts = [count_of(0), count_of(1)];
            let most = counts[0].max(counts[1]);
            // The list is in the order of departures.
            let oldest = list
                .iter()
                .position(|known| known.streams == 0 && counts[known.pair % 2] == most);
            list.remove(oldest.expect("there is one"));
        }
    }

    proptest! {
        #[test]
        fn a_roster_remembers_what_a_naive_list_does(
            steps in prop::collection::vec(steps(), 0..80),
        ) {
            let mut roster = Roster::remembering(MAX);
            let mut list: Vec<Known> = Vec::new();
            let mut now = Instant::now();
            for (number, step) in steps.into_iter().enumerate() {
                let number = number as u64;
                match step {
                    Step::Pass(hours) => now += HOUR * hours,
                    Step::Join(joining) => {
                        roster.join(&pair(joining), now);
                        forget(&mut list, now);
                        match list.iter_mut().find(|known| known.pair == joining) {
                            Some(known) => known.streams += 1,
                            None => list.push(Known { pair: joining, streams: 1, last: None }),
                        }
                    }
                    Step::Leave(leaving, is_served, has_reached) => {
                        let reached = UnixMillis::new(number.cast_signed());
                        let departure = is_served.then_some(Departure {
                            position: Position::new(number),
                            reached_time: has_reached.then_some(reached),
                            time: reached,
                            delivered: number,
                        });
                        roster.leave(&pair(leaving), departure, now);
                        forget(&mut list, now);
                        let is_open = |known: &Known| known.pair == leaving && known.streams > 0;
                        let Some(index) = list.iter().position(is_open) else {
                            continue;
                        };
                        list[index].streams -= 1;
                        if let Some(departure) = departure {
                            let mut known = list.remove(index);
                            let former = known.last.map(|(_, former)| former);
                            known.last = Some((now, Departure {
                                delivered: number + former.map_or(0, |former| former.delivered),
                                reached_time: departure
                                    .reached_time
                                    .or_else(|| former?.reached_time),
                                ..departure
                            }));
                            list.push(known);
                        }
                        forget(&mut list, now);
                    }
                }
                forget(&mut list, now);
                let away = roster.away(now).map(|(pair, last)| (pair.clone(), *last));
                let away: Vec<_> = away.collect();
                let expected = list.iter().filter(|known| known.streams == 0);
                let expected = expected.filter_map(|known| Some((pair(known.pair), known.last?.1)));
                prop_assert_eq!(away, expected.collect::<Vec<_>>());
                for known in list.iter().filter(|known| known.streams > 0) {
                    let delivered = known.last.map_or(0, |(_, last)| last.delivered);
                    prop_assert_eq!(roster.delivered_before(&pair(known.pair)), delivered);
                }
            }
        }
    }
}
