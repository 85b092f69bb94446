//! What is asked of the task and is not answered.

use std::collections::VecDeque;

use super::super::ack_id::AckId;
use super::super::ask::{Ask, Join, Move, Reply, Report};
use super::super::machine::{Answer, Outcome};
use super::super::seats::Seat;
use super::super::state::Lease;
use super::super::status::Status;
use super::super::step_error::StepError;
use crate::event::Position;

/// One step settles at most this many outcomes, and what one more call reports.
const STEP_OUTCOMES_MAX: usize = 4_000;

/// Calls in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Deliveries that no stream will take, given back on behalf of their workers.
    released: VecDeque<AckId>,
    settles: VecDeque<Settle>,
    moves: VecDeque<(Move, Reply<u64>)>,
    joins: Vec<(Join, Reply<(Seat, Status)>)>,
}

/// A call that reports outcomes.
#[derive(Debug)]
struct Settle {
    reports: Vec<Report>,
    /// How many of them are durable.
    settled: usize,
    lost: Vec<AckId>,
    reply: Reply<Vec<AckId>>,
}

impl Queue {
    pub(super) fn push(&mut self, ask: Ask) {
        match ask {
            Ask::Settle(reports, reply) => self.settles.push_back(Settle {
                reports,
                settled: 0,
                lost: Vec::new(),
                reply,
            }),
            Ask::Move(change, reply) => self.moves.push_back((change, reply)),
            Ask::Join(join, reply) => self.joins.push((join, reply)),
        }
    }

    pub(super) fn release(&mut self, ack_ids: Vec<AckId>) {
        self.released.extend(ack_ids);
    }

    pub(super) fn is_empty(&self) -> bool {
        let Self {
            released,
            settles,
            moves,
            joins,
        } = self;
        released.is_empty() && settles.is_empty() && moves.is_empty() && joins.is_empty()
    }

    /// Whether one step has enough to do.
    pub(super) fn is_full(&self) -> bool {
        let reports = self.settles.iter().map(|settle| settle.reports.len());
        reports.sum::<usize>() >= STEP_OUTCOMES_MAX
    }

    /// The outcomes for the next step.
    pub(super) fn outcomes(&self) -> Vec<(AckId, Outcome)> {
        let released = self.released.iter();
        let mut outcomes: Vec<(AckId, Outcome)> = released
            .map(|ack_id| (*ack_id, Outcome::Released))
            .collect();
        for settle in &self.settles {
            if outcomes.len() >= STEP_OUTCOMES_MAX {
                break;
            }
            let left = settle.reports.iter().skip(settle.settled);
            outcomes.extend(left.map(|report| (report.ack_id, report.outcome)));
        }
        outcomes
    }

    /// Why a delivery failed, as its worker reports it.
    pub(super) fn reason(&self, position: Position, lease: Lease) -> Option<&str> {
        let mut reports = self.settles.iter().flat_map(|settle| &settle.reports);
        let is_failure = |report: &&Report| {
            report.ack_id.position == position
                && report.ack_id.lease == lease
                && matches!(report.outcome, Outcome::Failed { .. } | Outcome::Rejected)
        };
        reports.find(is_failure).map(|report| &*report.reason)
    }

    /// What the next step changes beside.
    pub(super) fn change(&self) -> Option<&Move> {
        self.moves.front().map(|(change, _)| change)
    }

    /// The same, to be brought up to date.
    pub(super) fn change_mut(&mut self) -> Option<&mut Move> {
        self.moves.front_mut().map(|(change, _)| change)
    }

    /// Answers what is durable: the first outcomes, in order.
    pub(super) fn answer(&mut self, answers: &[Answer]) {
        let released = answers.len().min(self.released.len());
        self.released.drain(..released);
        let mut answers = answers.iter().skip(released);
        while let Some(settle) = self.settles.front_mut() {
            let left = settle.reports.iter().skip(settle.settled);
            for (report, answer) in left.zip(answers.by_ref()) {
                settle.settled += 1;
                if *answer == Answer::Lost {
                    settle.lost.push(report.ack_id);
                }
            }
            if settle.settled < settle.reports.len() {
                return;
            }
            if let Some(Settle { lost, reply, .. }) = self.settles.pop_front() {
                let _caller_left = reply.send(Ok(lost));
            }
        }
    }

    /// Answers the first change.
    pub(super) fn answer_change(&mut self, answer: Result<u64, StepError>) {
        if let Some((_, reply)) = self.moves.pop_front() {
            let _caller_left = reply.send(answer);
        }
    }

    pub(super) fn has_joins(&self) -> bool {
        !self.joins.is_empty()
    }

    pub(super) fn take_joins(&mut self) -> Vec<(Join, Reply<(Seat, Status)>)> {
        std::mem::take(&mut self.joins)
    }

    /// Answers all calls with an error. What no stream will take stays to be given back.
    pub(super) fn fail(&mut self, error: &StepError) {
        for settle in self.settles.drain(..) {
            let _caller_left = settle.reply.send(Err(error.clone()));
        }
        for (_, reply) in self.moves.drain(..) {
            let _caller_left = reply.send(Err(error.clone()));
        }
        for (_, reply) in self.joins.drain(..) {
            let _caller_left = reply.send(Err(error.clone()));
        }
    }
}
