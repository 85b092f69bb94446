//! Subscriptions as lines with aligned columns.

use crate::cli::table::{NO_VALUE, aligned, to_the_second};
use crate::proto::{Subscription, SubscriptionState};

const COLUMNS: [&str; 8] = [
    "NAME",
    "STATE",
    "LAG",
    "OUTSTANDING",
    "RETRYING",
    "BLOCKED",
    "DEAD",
    "EXPIRES",
];

/// A header and a line for each; below one that is stalled, the reason.
pub(super) fn of<'a>(subscriptions: impl IntoIterator<Item = &'a Subscription>) -> Vec<String> {
    let subscriptions: Vec<&Subscription> = subscriptions.into_iter().collect();
    let header = COLUMNS.map(str::to_owned);
    let rows: Vec<_> = std::iter::once(header)
        .chain(subscriptions.iter().copied().map(cells))
        .collect();
    let mut lines = aligned(&rows).into_iter();
    let mut table: Vec<String> = lines.next().into_iter().collect();
    for (line, subscription) in lines.zip(subscriptions) {
        table.push(line);
        if !subscription.stall_reason.is_empty() {
            table.push(format!("  {}", subscription.stall_reason));
        }
    }
    table
}

fn cells(subscription: &Subscription) -> [String; COLUMNS.len()] {
    let lag = subscription.lag.as_ref();
    [
        subscription.name.clone(),
        state(subscription.state()).to_owned(),
        lag.map_or_else(|| NO_VALUE.to_owned(), |lag| lag.events.to_string()),
        subscription.outstanding_count.to_string(),
        subscription.retrying_count.to_string(),
        subscription.blocked_count.to_string(),
        subscription.dead_count.to_string(),
        subscription
            .expire_time
            .map_or_else(|| NO_VALUE.to_owned(), to_the_second),
    ]
}

fn state(state: SubscriptionState) -> &'static str {
    match state {
        SubscriptionState::Unspecified => NO_VALUE,
        SubscriptionState::Active => "active",
        SubscriptionState::Paused => "paused",
        SubscriptionState::Stalled => "stalled",
    }
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;

    use super::*;
    use crate::proto::Lag;

    #[test]
    fn a_table_is_aligned_and_shows_why_a_subscription_is_stalled() {
        let crm = Subscription {
            name: "crm".to_owned(),
            state: SubscriptionState::Active.into(),
            lag: Some(Lag {
                events: 1200,
                seconds: 3.5,
            }),
            expire_time: Some(Timestamp {
                seconds: 1_795_600_000,
                nanos: 5,
            }),
            ..Subscription::default()
        };
        let billing = Subscription {
            name: "billing-of-all".to_owned(),
            state: SubscriptionState::Stalled.into(),
            stall_reason: "10,000 dead letters".to_owned(),
            dead_count: 10_000,
            ..Subscription::default()
        };
        assert_eq!(
            of([&crm, &billing]).join("\n"),
            "\
NAME            STATE    LAG   OUTSTANDING  RETRYING  BLOCKED  DEAD   EXPIRES
crm             active   1200  0            0         0        0      2026-11-25T09:46:40Z
billing-of-all  stalled  -     0            0         0        10000  -
  10,000 dead letters"
        );
    }
}
