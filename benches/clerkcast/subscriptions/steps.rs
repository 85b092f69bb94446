//! What a step costs that settles 64 acknowledgements and hands out 64 events, while one event
//! that is not acknowledged has thousands with its key behind it; the baseline has few of them.
//! In process: the machine and the encoding of the state, and the same with the swap of its cell
//! on a real disk.

use std::time::Instant;

use clerkcast::event::{Epoch, Position, UnixMillis};
use clerkcast::log::{Cells, Log};
use clerkcast::subscriptions::{
    AckId, Candidate, DueEvent, Key, Limits, Machine, Outcome, OwnLeases, Reading, Settings, State,
};
use tempfile::TempDir;

use crate::support::disk_log::{self, swap};
use crate::support::{Row, count, table};

const ROUNDS: usize = 9;
const STEPS: usize = 100;
const OUTSTANDING: u64 = 64;
const PENDING: u64 = 10_000;
const PENDING_OF_BASELINE: u64 = 100;
const CELL: &str = "state/bench";
const WRITER: u64 = 1;

pub(super) async fn run() {
    let directory = TempDir::new().expect("a directory");
    let disk = disk_log::open(directory.path());
    let mut many = Stepping::new(PENDING);
    let mut few = Stepping::new(PENDING_OF_BASELINE);
    let mut pure = Row::new("machine and encoding");
    let mut stored = Row::new("with the swap");
    for _ in 0..ROUNDS {
        pure.push(many.steps(), few.steps());
        let base = few.stored_steps(&*disk.log).await;
        stored.push(many.stored_steps(&*disk.log).await, base);
    }
    table(
        "subscriptions: a step with 10,000 events pending, µs (goal with the swap: 5 or less)",
        "with 100",
        &[pure, stored],
    );
    disk.close().await;
}

/// A subscription of which as many events as its worker may have are with it.
struct Stepping {
    machine: Machine,
    now: UnixMillis,
    /// The last position that it has looked at.
    last: u64,
    step: u64,
    outstanding: Vec<AckId>,
}

impl Stepping {
    fn new(pending: u64) -> Self {
        let now = UnixMillis::now();
        let state = State::new(Epoch::new(1), 1, Position::START, now);
        let settings = Settings::default();
        let machine = Machine::new(state, settings, Limits::default(), OwnLeases::default());
        let mut stepping = Self {
            machine,
            now,
            last: 0,
            step: 0,
            outstanding: Vec::new(),
        };
        // The first is never acknowledged, and the others wait behind it.
        stepping.advance(pending - OUTSTANDING, |_| Key::new(0));
        stepping.step();
        stepping.outstanding.remove(0);
        stepping
    }

    fn advance(&mut self, events: u64, key: impl Fn(u64) -> Key) {
        let numbers = self.last + 1..=self.last + events;
        let candidates = numbers.map(|number| Candidate::new(Position::new(number), key(number)));
        let candidates: Vec<Candidate> = candidates.collect();
        self.last += events;
        let through = Position::new(self.last);
        let machine = &mut self.machine;
        let used = machine.advance(&candidates, through, candidates.len() + 1, self.now);
        assert_eq!(used, candidates.len(), "there is room for all");
    }

    /// Makes a step. Returns what is to be stored.
    fn step(&mut self) -> Vec<u8> {
        let mut reading = Reading::default();
        for ack_id in self.outstanding.drain(..) {
            let machine = &mut self.machine;
            machine.settle(ack_id, Outcome::Done, &mut reading, self.now);
        }
        self.advance(OUTSTANDING, Key::new);
        let due: Vec<DueEvent> = self.machine.due(self.now).collect();
        for DueEvent { position, .. } in due {
            let grant = self.machine.lease(position, self.now).expect("it is due");
            self.outstanding.push(grant.ack_id);
        }
        self.step += 1;
        self.machine.sign(WRITER, self.step);
        self.machine.note_stored();
        self.machine.state().encode()
    }

    /// The time of one, in µs.
    fn steps(&mut self) -> f64 {
        let started = Instant::now();
        for _ in 0..STEPS {
            std::hint::black_box(self.step());
        }
        1e6 * started.elapsed().as_secs_f64() / count(STEPS)
    }

    /// The same, with the swap of the cell.
    async fn stored_steps(&mut self, log: &dyn Log) -> f64 {
        let current = Cells::read(log, CELL).await.expect("read");
        let mut revision = current.map(|cell| cell.revision);
        let started = Instant::now();
        for _ in 0..STEPS {
            revision = swap(log, CELL, revision, self.step().into()).await;
        }
        1e6 * started.elapsed().as_secs_f64() / count(STEPS)
    }
}
