//! The audit trail: who was sent what, from where, for how long, and how much.
//!
//! Its lines have the target `clerkcast::audit`, so that they can be kept apart from the
//! others (`--log-level warn,clerkcast::audit=info`).

use std::fmt;
use std::time::Duration;

use super::metrics::Ending;
use super::{AskedFilter, Request, Start};

pub(crate) use super::asked::plain;

const TARGET: &str = "clerkcast::audit";

pub(super) fn opened(request: &Request) {
    tracing::info!(
        target: TARGET,
        principal = request.principal.name(),
        subscriber = request.name.as_str(),
        peer = %request.peer,
        filter = %request.asked_filter,
        start = %request.start,
        "subscriber connected"
    );
}

pub(super) fn closed(request: &Request, reason: Ending, held_for: Duration, delivered: u64) {
    tracing::info!(
        target: TARGET,
        principal = request.principal.name(),
        subscriber = request.name.as_str(),
        peer = %request.peer,
        filter = %request.asked_filter,
        reason = reason.name(),
        seconds = held_for.as_secs_f64(),
        delivered,
        "subscriber left"
    );
}

/// For a page of events that was sent.
pub(crate) fn listed(principal: &str, peer: &str, filter: &AskedFilter, delivered: usize) {
    tracing::info!(
        target: TARGET,
        principal,
        peer,
        %filter,
        delivered,
        "events listed"
    );
}

/// For an event that was asked for by its id.
pub(crate) fn got(principal: &str, peer: &str, id: &str, found: bool) {
    let id = plain(id);
    tracing::info!(target: TARGET, principal, peer, id, found, "event looked up");
}

/// As log lines show it: cursors and times as clients write them.
impl fmt::Display for Start {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(cursor) => write!(formatter, "after {cursor}"),
            Self::Latest => formatter.write_str("latest"),
            Self::Earliest => formatter.write_str("earliest"),
            Self::Time(time) => write!(formatter, "at {time}"),
        }
    }
}

/// A call of a known caller that was answered with an error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal<'a> {
    pub(crate) principal: &'a str,
    pub(crate) peer: &'a str,
    pub(crate) method: &'a str,
    pub(crate) code: &'a str,
    pub(crate) reason: &'a str,
    /// What was asked for, shown as filters are.
    pub(crate) asked: &'a str,
    /// Refusals of this principal since the last line that have none.
    pub(crate) unlogged: u64,
}

pub(crate) fn refused(refusal: &Refusal<'_>) {
    let Refusal {
        principal,
        peer,
        method,
        code,
        reason,
        asked,
        unlogged,
    } = *refusal;
    tracing::info!(
        target: TARGET,
        principal,
        peer,
        method,
        code,
        reason,
        asked,
        unlogged = (unlogged > 0).then_some(unlogged),
        "call refused"
    );
}
