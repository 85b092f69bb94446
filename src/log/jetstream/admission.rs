//! Decides whether records are accepted. A *look* is one check of the stream's state and
//! settings. A look can find why the stream stores nothing, but a stream that answers does not
//! prove that it stores. The gateway *doubts* a stream that refused a record without such a
//! finding.
//!
//! ```text
//!             a look finds something             a look finds nothing
//!   open ───────────────────────────────► found ─────────────────────► open
//!     │                                     ▲
//!     │ a record is refused                 │ the next look explains it
//!     └────────────────────────► doubt ─────┘
//!                                  │ the next look finds nothing
//!                                  └─► one webhook at a time tries, after 0.25 s, doubled to
//!                                      60 s, until a record is stored
//! ```
//!
//! A load balancer that follows readiness sends no webhook that could try. So after 60 s without
//! a webhook, a look that finds nothing is enough.
//!
//! Pure: the caller passes the time.

use std::time::{Duration, Instant};

use crate::event::Position;

/// Delay before the first try after a refusal that nothing explains; doubled with each try.
const TRY_DELAY_MIN: Duration = Duration::from_millis(250);
const TRY_DELAY_MAX: Duration = Duration::from_secs(60);
/// A try without an outcome after this long has none, because its webhook was given up.
const TRY_WITHIN: Duration = Duration::from_secs(10);

/// Decides whether records are accepted.
#[derive(Debug, Default)]
pub(super) struct Admission {
    /// Why no record can be stored, as the last look found.
    finding: Option<String>,
    doubt: Option<Doubt>,
    /// Grows when records are accepted again, because the outcome of an earlier record shows
    /// nothing about the present.
    term: u64,
    /// Whether a record got no answer, and a look that found nothing was believed. Until a
    /// record is stored, no such look is believed again.
    has_trusted: bool,
}

/// A refusal that is not explained yet.
#[derive(Debug)]
struct Doubt {
    reason: String,
    since: Instant,
    /// The end of the log when a look found nothing that explains the refusal.
    unexplained_at: Option<Position>,
    /// Whether one look that finds nothing ends the doubt.
    is_trusting: bool,
    /// When a webhook came last, accepted or not.
    last_webhook: Instant,
    next_try: Instant,
    delay: Duration,
}

impl Doubt {
    fn next_delay(&self) -> Duration {
        (2 * self.delay).min(TRY_DELAY_MAX)
    }
}

/// The right to send one record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    term: u64,
    is_try: bool,
}

/// How a record was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The stream answered with an error.
    Answered,
    /// No answer came, or none of the stream's: servers restart, networks break, a leader is
    /// elected. Until that happens twice in a row, a look that finds nothing is believed,
    /// because a gateway that is not ready gets no webhook to try with.
    Unanswered,
}

/// What a look at the stream found.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// When the stream was asked.
    pub(super) asked: Instant,
    /// Why no record can be stored.
    pub(super) finding: Option<String>,
    /// The end of the log.
    pub(super) last: Position,
}

impl Admission {
    /// Why records are refused, if they are.
    pub(super) fn refusal(&self) -> Option<&str> {
        let doubt = self.doubt.as_ref().map(|doubt| doubt.reason.as_str());
        self.finding.as_deref().or(doubt)
    }

    /// Lets a record be sent, or returns why the record must not be sent.
    pub(super) fn admit(&mut self, now: Instant) -> Result<Ticket, String> {
        if let Some(doubt) = &mut self.doubt {
            doubt.last_webhook = now;
        }
        if let Some(finding) = &self.finding {
            return Err(finding.clone());
        }
        let term = self.term;
        let Some(doubt) = &mut self.doubt else {
            return Ok(Ticket {
                term,
                is_try: false,
            });
        };
        if doubt.unexplained_at.is_none() || now < doubt.next_try {
            return Err(doubt.reason.clone());
        }
        doubt.next_try = now + TRY_WITHIN.max(doubt.next_delay());
        Ok(Ticket { term, is_try: true })
    }

    /// Notes that the record was stored.
    pub(super) fn note_stored(&mut self, ticket: Ticket) {
        if ticket.term != self.term {
            return;
        }
        self.has_trusted = false;
        if ticket.is_try {
            self.change(|admission| admission.doubt = None);
        }
    }

    /// Notes that the stream refused the record.
    pub(super) fn note_refused(
        &mut self,
        ticket: Ticket,
        now: Instant,
        refusal: Refusal,
        reason: String,
    ) {
        // An outage that is known, or over, explains the refusal.
        if ticket.term != self.term || self.finding.is_some() {
            return;
        }
        match &mut self.doubt {
            Some(doubt) if ticket.is_try => {
                doubt.reason = reason;
                doubt.delay = doubt.next_delay();
                doubt.next_try = now + doubt.delay;
            }
            Some(_) => {}
            None => {
                self.doubt = Some(Doubt {
                    reason,
                    since: now,
                    unexplained_at: None,
                    is_trusting: refusal == Refusal::Unanswered && !self.has_trusted,
                    last_webhook: now,
                    next_try: now + TRY_DELAY_MIN,
                    delay: TRY_DELAY_MIN,
                });
            }
        }
    }

    /// Notes that the outcome shows nothing about the stream, as for a record that it has
    /// already.
    pub(super) fn note_undecided(&mut self, ticket: Ticket, now: Instant) {
        if let Some(doubt) = &mut self.doubt
            && ticket.is_try
            && ticket.term == self.term
        {
            doubt.next_try = now;
        }
    }

    /// Notes what a look found.
    pub(super) fn note_look(&mut self, look: Look) {
        self.change(|admission| {
            if let Some(doubt) = &mut admission.doubt
                && look.asked >= doubt.since
            {
                let is_over = match (&look.finding, doubt.unexplained_at) {
                    // The finding explains the refusal, and replaces the doubt.
                    (Some(_), None) => true,
                    (Some(_), Some(_)) => false,
                    (None, None) => {
                        doubt.unexplained_at = Some(look.last);
                        admission.has_trusted |= doubt.is_trusting;
                        doubt.is_trusting
                    }
                    // Another gateway has stored a record, or no webhook comes to try.
                    (None, Some(last)) => {
                        look.last > last || look.asked >= doubt.last_webhook + TRY_DELAY_MAX
                    }
                };
                if is_over {
                    admission.doubt = None;
                }
            }
            admission.finding = look.finding;
        });
    }

    fn change(&mut self, change: impl FnOnce(&mut Self)) {
        let was_refusing = self.refusal().is_some();
        change(self);
        if was_refusing && self.refusal().is_none() {
            self.term += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// A fault of the stream.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Fault {
        None,
        /// Looks find the fault.
        Visible,
        /// Records are refused, and looks find nothing.
        Full,
        /// Records are not answered, and looks find nothing.
        Mute,
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Fall(Fault),
        Pass(u64),
        Look,
        Send,
        Settle,
        OthersStore,
    }

    /// The admission, the stream that it judges, and a record of what it let through.
    struct World {
        now: Instant,
        fault: Fault,
        last: u64,
        admission: Admission,
        under_way: VecDeque<Ticket>,
        /// The last look found something.
        is_found: bool,
        /// A record was refused in the present term, nothing has explained it, and none was
        /// stored since.
        is_doubted: bool,
        /// When the last try was let through, and how many in a row have failed.
        tried: Option<Instant>,
        failed_tries: u32,
        /// When a webhook came last, or the doubt began.
        last_webhook: Instant,
    }

    impl World {
        fn new() -> Self {
            let now = Instant::now();
            Self {
                now,
                last_webhook: now,
                fault: Fault::None,
                last: 0,
                admission: Admission::default(),
                under_way: VecDeque::new(),
                is_found: false,
                is_doubted: false,
                tried: None,
                failed_tries: 0,
            }
        }

        fn is_open(&self) -> bool {
            self.admission.refusal().is_none()
        }

        fn step(&mut self, step: Step) {
            match step {
                Step::Fall(fault) => self.fault = fault,
                Step::Pass(milliseconds) => self.now += Duration::from_millis(milliseconds),
                Step::Look => self.look(),
                Step::Send => self.send(),
                Step::Settle => self.settle(),
                Step::OthersStore if self.fault == Fault::None => self.last += 1,
                Step::OthersStore => {}
            }
            assert!(!self.is_found || !self.is_open(), "open, though found");
            assert!(!self.is_doubted || !self.is_open(), "open, though doubted");
            if self.is_open() {
                (self.tried, self.failed_tries) = (None, 0);
            }
        }

        fn look(&mut self) {
            self.is_found = self.fault == Fault::Visible;
            let is_unexplained = |doubt: &Doubt| doubt.unexplained_at.is_some();
            let doubt = self.admission.doubt.as_ref();
            let stored_since = doubt
                .and_then(|doubt| doubt.unexplained_at)
                .is_some_and(|last| self.last > last.number() && !self.is_found);
            let explains = self.is_found && !doubt.is_some_and(is_unexplained);
            let is_unexplained_before = doubt.is_some_and(is_unexplained);
            let is_idle = self.now >= self.last_webhook + Duration::from_secs(60);
            let is_given_up = is_unexplained_before && is_idle && !self.is_found;
            self.is_doubted &= !stored_since && !explains && !is_given_up;
            self.admission.note_look(Look {
                asked: self.now,
                finding: self.is_found.then(|| "found".to_owned()),
                last: Position::new(self.last),
            });
        }

        fn send(&mut self) {
            let was_open = self.is_open();
            self.last_webhook = self.now;
            let Ok(ticket) = self.admission.admit(self.now) else {
                assert!(!was_open, "an open stream takes records");
                return;
            };
            assert!(!self.is_found, "none is sent to what cannot store it");
            assert_eq!(ticket.is_try, !was_open);
            if ticket.is_try {
                let delay_ms = 250 << self.failed_tries.min(10);
                let delay = Duration::from_millis(delay_ms).min(TRY_DELAY_MAX);
                let is_early = self.tried.is_some_and(|tried| self.now < tried + delay);
                assert!(!is_early, "tried after less than {delay:?}");
                self.tried = Some(self.now);
            }
            self.under_way.push_back(ticket);
        }

        fn settle(&mut self) {
            let Some(ticket) = self.under_way.pop_front() else {
                return;
            };
            let is_of_now = ticket.term == self.admission.term;
            let refusal = match self.fault {
                Fault::None => {
                    self.last += 1;
                    self.admission.note_stored(ticket);
                    self.is_doubted &= !(is_of_now && ticket.is_try);
                    return;
                }
                Fault::Full => Refusal::Answered,
                Fault::Visible | Fault::Mute => Refusal::Unanswered,
            };
            let begins_doubt = is_of_now
                && !self.is_found
                && refusal == Refusal::Answered
                && self.admission.doubt.is_none();
            if begins_doubt {
                self.is_doubted = true;
                self.last_webhook = self.now;
            }
            self.failed_tries += u32::from(is_of_now && ticket.is_try && !self.is_found);
            let reason = "refused".to_owned();
            self.admission
                .note_refused(ticket, self.now, refusal, reason);
        }

        /// A stream without a fault is accepted again within a minute and one webhook.
        fn recovers(mut self) {
            self.step(Step::Fall(Fault::None));
            self.step(Step::Look);
            self.step(Step::Pass(60_000));
            if !self.is_open() {
                self.under_way.clear();
                self.step(Step::Send);
                self.step(Step::Settle);
            }
            assert!(self.is_open(), "it recovers");
        }

        /// The same, where every webhook goes elsewhere while the gateway is not ready.
        fn recovers_without_webhooks(mut self) {
            self.step(Step::Fall(Fault::None));
            self.step(Step::Look);
            self.step(Step::Pass(60_000));
            self.step(Step::Look);
            assert!(self.is_open(), "it recovers without webhooks");
        }
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let fault = prop_oneof![
            Just(Fault::None),
            Just(Fault::Visible),
            Just(Fault::Full),
            Just(Fault::Mute)
        ];
        let step = prop_oneof![
            1 => fault.prop_map(Step::Fall),
            2 => prop_oneof![0..500_u64, 0..70_000_u64].prop_map(Step::Pass),
            3 => Just(Step::Look),
            4 => Just(Step::Send),
            4 => Just(Step::Settle),
            1 => Just(Step::OthersStore),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn records_are_taken_only_where_they_can_be_stored(
            steps in steps(),
            has_webhooks in any::<bool>(),
        ) {
            let mut world = World::new();
            for step in steps {
                world.step(step);
            }
            if has_webhooks {
                world.recovers();
            } else {
                world.recovers_without_webhooks();
            }
        }
    }

    #[test]
    fn an_unexplained_refusal_is_retried_by_one_webhook_at_a_time() {
        let mut world = World::new();
        world.step(Step::Fall(Fault::Full));
        world.step(Step::Send);
        world.step(Step::Settle);
        world.step(Step::Look);
        let mut tries = Vec::new();
        for _ in 0..2000 {
            world.step(Step::Pass(125));
            world.step(Step::Look);
            let before = world.under_way.len();
            for _ in 0..3 {
                world.step(Step::Send);
            }
            tries.push(world.under_way.len() - before);
            world.step(Step::Settle);
            assert!(!world.is_open());
        }
        assert!(tries.iter().all(|tries| *tries <= 1), "one at a time");
        // 0.25 s, doubled to 60 s: 250 s have room for eleven.
        assert_eq!(tries.iter().sum::<usize>(), 11);
        world.recovers();
    }

    #[test]
    fn a_refusal_ends_after_a_minute_without_webhooks() {
        let mut world = World::new();
        world.step(Step::Fall(Fault::Full));
        for step in [Step::Send, Step::Settle, Step::Look, Step::Pass(30_000)] {
            world.step(step);
        }
        // A webhook that comes is let through, so the minute begins again.
        for step in [Step::Send, Step::Settle, Step::Pass(59_999), Step::Look] {
            world.step(step);
        }
        assert!(!world.is_open());
        for step in [Step::Pass(1), Step::Look] {
            world.step(step);
        }
        assert!(world.is_open(), "no webhook has come for a minute");
        for step in [Step::Send, Step::Settle, Step::Look] {
            world.step(step);
        }
        assert!(!world.is_open(), "and the next one is refused again");
        world.recovers_without_webhooks();
    }

    #[test]
    fn one_unanswered_record_is_forgiven_and_a_second_one_refuses_webhooks() {
        let mut world = World::new();
        world.step(Step::Fall(Fault::Mute));
        for is_open_after in [true, false] {
            for step in [Step::Send, Step::Settle] {
                world.step(step);
            }
            assert!(!world.is_open(), "until a look has been taken");
            world.step(Step::Look);
            assert_eq!(world.is_open(), is_open_after);
        }
        world.recovers();
    }
}
