//! What workers send back, and what the cells of subscriptions hold.

use arbitrary::Arbitrary;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clerkcast::event::{Epoch, Position, UnixMillis};
use clerkcast::subscriptions::{
    AckId, Candidate, Key, Lease, Limits, Machine, Name, Outcome, OwnLeases, Reading, Settings,
    State,
};

/// An ack id is read as it was written, by its own subscription, and nothing else is taken for
/// one.
#[derive(Arbitrary, Debug)]
pub(crate) enum AckIdText {
    Any(String),
    Numbers {
        generation: u64,
        position: u64,
        lease: u64,
    },
    Changed {
        generation: u64,
        at: u8,
        to: u8,
    },
    /// Any bytes of the right length.
    Bytes([u8; 29]),
}

impl AckIdText {
    pub(crate) fn hold(self) {
        match self {
            Self::Any(text) => is_one(&text),
            Self::Bytes(bytes) => is_one(&URL_SAFE_NO_PAD.encode(bytes)),
            Self::Numbers {
                generation,
                position,
                lease,
            } => {
                let ack_id = AckId {
                    generation,
                    position: Position::new(position),
                    lease: Lease::new(lease),
                };
                let text = ack_id.to_text(&name("crm"));
                assert_eq!(AckId::read(&text, &name("crm")), Ok(ack_id));
                assert!(AckId::read(&text, &name("crm-2")).is_err());
                assert_eq!(text.len(), AckId::TEXT_BYTES);
                assert!(text.starts_with(|first: char| first.is_ascii_alphabetic()));
            }
            Self::Changed { generation, at, to } => {
                let ack_id = AckId {
                    generation,
                    position: Position::new(1),
                    lease: Lease::new(1),
                };
                let mut text = ack_id.to_text(&name("crm")).into_bytes();
                let index = usize::from(at) % text.len();
                let before = std::mem::replace(&mut text[index], to % 128);
                let is_same = text[index] == before;
                let text = String::from_utf8(text).expect("ascii");
                assert_eq!(AckId::read(&text, &name("crm")).is_ok(), is_same);
            }
        }
    }
}

/// What is read is what is written again.
fn is_one(text: &str) {
    if let Ok(ack_id) = AckId::read(text, &name("crm")) {
        assert_eq!(ack_id.to_text(&name("crm")), text);
    }
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

/// Any bytes are a state that is written as it was read, and that a machine can work with, or an
/// error.
#[derive(Arbitrary, Debug)]
pub(crate) enum StateBytes {
    Any(Vec<u8>),
    Changed {
        steps: Vec<Step>,
        changes: Vec<(u16, u8)>,
        later: Vec<u8>,
    },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Step {
    Advance(u8),
    Lease,
    Report(u8),
    Expire,
    Seek(u8),
}

impl StateBytes {
    pub(crate) fn hold(self) {
        match self {
            Self::Any(bytes) => read(&bytes),
            Self::Changed {
                steps,
                changes,
                later,
            } => {
                let mut bytes = worked(&steps).state().encode();
                for (at, to) in changes {
                    let index = usize::from(at) % bytes.len();
                    bytes[index] = to;
                }
                bytes.extend(later);
                read(&bytes);
            }
        }
    }
}

fn machine(state: State) -> Machine {
    let own = OwnLeases::default();
    Machine::new(state, Settings::default(), Limits::default(), own)
}

/// A machine after some steps.
fn worked(steps: &[Step]) -> Machine {
    let state = State::new(Epoch::new(7), 1, Position::START, UnixMillis::new(0));
    let mut machine = machine(state);
    for (step, seconds) in steps.iter().zip(0..) {
        let now = UnixMillis::new(seconds * 1000);
        take(&mut machine, *step, now);
    }
    machine
}

fn take(machine: &mut Machine, step: Step, now: UnixMillis) {
    let frontier = machine.state().frontier().number();
    match step {
        Step::Advance(key) => {
            let position = Position::new(frontier + 1);
            let event = Candidate::new(position, Key::new(u64::from(key)));
            machine.advance(&[event], position, 1, now);
        }
        Step::Lease => {
            let first = machine.due(now).next();
            if let Some(due) = first {
                let grant = machine.lease(due.position, now);
                assert!(grant.is_some(), "what is due can be leased");
            }
        }
        Step::Report(lease) => {
            let ack_id = AckId {
                generation: machine.state().generation(),
                position: Position::new(frontier),
                lease: Lease::new(u64::from(lease)),
            };
            machine.settle(ack_id, Outcome::Done, &mut Reading::default(), now);
        }
        Step::Expire => {
            machine.expire(&mut Reading::default(), now);
        }
        Step::Seek(place) => {
            let sought = machine.seek(Position::new(u64::from(place)), Epoch::new(7));
            assert!(sought.is_ok() || machine.counts(now).dead > 0);
        }
    }
}

fn read(bytes: &[u8]) {
    let Ok(state) = State::decode(bytes) else {
        return;
    };
    assert_eq!(State::decode(&state.encode()).as_ref(), Ok(&state));
    let mut machine = machine(state);
    let now = UnixMillis::new(i64::MAX);
    let before = machine.state().accounted();
    for step in [Step::Expire, Step::Lease, Step::Report(1), Step::Lease] {
        take(&mut machine, step, now);
        assert_eq!(machine.state().accounted(), before);
    }
    // A count at its end is refused.
    if let Ok(after) = State::decode(&machine.state().encode()) {
        assert_eq!(&after, machine.state());
    }
}
