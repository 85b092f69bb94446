//! The audit trail: who was sent what, from where, for how long and how much, and who changed
//! which subscription.
//!
//! Its lines have the target `clerkcast::audit`, so that they can be kept apart from the
//! others (`--log-level warn,clerkcast::audit=info`).

use std::fmt;
use std::time::Duration;

use crate::filter::{AskedFilter, plain};

pub(crate) const TARGET: &str = "clerkcast::audit";

/// A stream of events to one subscriber.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream<'a> {
    pub(crate) principal: &'a str,
    pub(crate) subscriber: &'a str,
    pub(crate) peer: &'a str,
    pub(crate) filter: &'a AskedFilter,
}

pub(crate) fn opened(stream: Stream<'_>, start: impl fmt::Display) {
    let Stream {
        principal,
        subscriber,
        peer,
        filter,
    } = stream;
    tracing::info!(
        target: TARGET,
        principal,
        subscriber,
        peer,
        %filter,
        %start,
        "subscriber connected"
    );
}

pub(crate) fn closed(stream: Stream<'_>, reason: &str, held_for: Duration, delivered: u64) {
    let Stream {
        principal,
        subscriber,
        peer,
        filter,
    } = stream;
    tracing::info!(
        target: TARGET,
        principal,
        subscriber,
        peer,
        %filter,
        reason,
        seconds = held_for.as_secs_f64(),
        delivered,
        "subscriber left"
    );
}

/// A stream of deliveries to one worker of a subscription.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Worker<'a> {
    pub(crate) principal: &'a str,
    pub(crate) subscription: &'a str,
    pub(crate) worker: &'a str,
    pub(crate) peer: &'a str,
    pub(crate) filter: &'a AskedFilter,
}

/// A line with what all lines of a worker have.
macro_rules! worker_line {
    ($stream:ident, $($field:tt)*) => {{
        let Worker {
            principal,
            subscription,
            worker,
            peer,
            filter,
        } = $stream;
        tracing::info!(
            target: TARGET,
            principal,
            subscription,
            worker,
            peer,
            %filter,
            $($field)*
        );
    }};
}

pub(crate) fn worker_opened(stream: Worker<'_>) {
    worker_line!(stream, "worker connected");
}

pub(crate) fn worker_closed(stream: Worker<'_>, reason: &str, held_for: Duration, delivered: u64) {
    let seconds = held_for.as_secs_f64();
    worker_line!(stream, reason, seconds, delivered, "worker left");
}

/// What a principal did to a subscription.
#[derive(Clone, Copy)]
pub(crate) enum Managed<'a> {
    Created {
        filter: &'a AskedFilter,
        start: &'a dyn fmt::Display,
        /// It was not there before.
        is_new: bool,
    },
    Updated {
        /// The filter, where that was replaced.
        filter: Option<&'a AskedFilter>,
        /// Whether it is paused.
        paused: bool,
    },
    Sought {
        to: &'a dyn fmt::Display,
    },
    Deleted,
    DeadLettersListed {
        delivered: usize,
    },
    DeadLettersResolved {
        action: &'static str,
        count: u64,
    },
}

pub(crate) fn managed(principal: &str, peer: &str, subscription: &str, managed: Managed<'_>) {
    // What all of these lines have.
    macro_rules! line {
        ($($field:tt)*) => {
            tracing::info!(target: TARGET, principal, peer, subscription, $($field)*)
        };
    }
    match managed {
        Managed::Created {
            filter,
            start,
            is_new,
        } => line!(%filter, %start, is_new, "subscription created"),
        Managed::Updated { filter, paused } => {
            let filter = filter.map(tracing::field::display);
            line!(filter, paused, "subscription changed");
        }
        Managed::Sought { to } => line!(%to, "subscription moved"),
        Managed::Deleted => line!("subscription deleted"),
        Managed::DeadLettersListed { delivered } => line!(delivered, "dead letters listed"),
        Managed::DeadLettersResolved { action, count } => {
            line!(action, count, "dead letters resolved");
        }
    }
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
