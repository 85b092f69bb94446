//! What happens to a worker besides events, on standard error.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use clerkcast_client::Notice;

use super::connect::ConnectionReporter;
use super::narrowing;
use super::output::note;
use crate::proto::{ReceiveStarted, SubscriptionState};

/// Reports the notices of a worker of this subscription. A state is reported when it changes.
pub(super) fn reporter(subscription: &str) -> impl Fn(&Notice) + Send + Sync + 'static {
    let reporter = Reporter {
        subscription: subscription.to_owned(),
        connection: ConnectionReporter::default(),
        state: AtomicI32::new(SubscriptionState::Active.into()),
        is_narrowing_reported: AtomicBool::new(false),
    };
    move |notice| reporter.report(notice)
}

struct Reporter {
    subscription: String,
    connection: ConnectionReporter,
    state: AtomicI32,
    is_narrowing_reported: AtomicBool,
}

impl Reporter {
    fn report(&self, notice: &Notice) {
        match notice {
            Notice::Connection(connection) => self.connection.report(connection),
            Notice::Started(started) => self.report_start(started),
            Notice::Heartbeat(heartbeat) => self.report_state(heartbeat.state(), ""),
            Notice::Unanswered { reason, retry_in } => note(format_args!(
                "acknowledgements are not answered ({reason}); trying again in {retry_in:?}"
            )),
            Notice::Lost { event_id } => note(format_args!(
                "{event_id}: the outcome came after the deadline and does not count; the event was handed out again"
            )),
            _ => {}
        }
    }

    fn report_start(&self, started: &ReceiveStarted) {
        let narrowed = started.narrowed.as_ref().and_then(narrowing::described);
        if let Some(text) = narrowed
            && !self.is_narrowing_reported.swap(true, Ordering::Relaxed)
        {
            note(text);
        }
        if let Some(subscription) = &started.subscription {
            self.report_state(subscription.state(), &subscription.stall_reason);
        }
    }

    fn report_state(&self, state: SubscriptionState, reason: &str) {
        if state == SubscriptionState::Unspecified
            || self.state.swap(state.into(), Ordering::Relaxed) == i32::from(state)
        {
            return;
        }
        let name = &self.subscription;
        match state {
            SubscriptionState::Paused => note(format_args!(
                "{name} is paused; `clerkcast subscription resume {name}` hands out events again"
            )),
            SubscriptionState::Stalled if reason.is_empty() => {
                note(format_args!(
                    "{name} is stalled; `clerkcast subscription list` shows why"
                ));
            }
            SubscriptionState::Stalled => note(format_args!("{name} is stalled: {reason}")),
            _ => note(format_args!("{name} is active")),
        }
    }
}
