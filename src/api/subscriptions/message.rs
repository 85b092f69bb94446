//! Subscriptions and dead letters as messages.

use crate::api::filter;
use crate::event::Position;
use crate::event::numbers::saturating;
use crate::fanout::OnExpired;
use crate::proto::{self, SubscriptionState};
use crate::subscriptions::{DeadLetter, OrderBy, Overview, Settings, Stall};

/// The message for a subscription.
pub(super) fn subscription(overview: Overview) -> proto::Subscription {
    let Overview {
        name,
        definition,
        status,
        cursor,
        lag,
        worker_count,
        expire_time,
        headroom_bytes: _,
    } = overview;
    let Settings {
        filter,
        order_by,
        ack_deadline,
        max_deliveries,
        min_retry_delay,
        max_retry_delay,
        on_expired,
        paused,
    } = definition.settings.clone();
    let counts = status.counts;
    proto::Subscription {
        name: name.to_string(),
        filter: Some(filter::message(filter)),
        order_by: order(order_by).into(),
        ack_deadline: ack_deadline.try_into().ok(),
        max_deliveries: i32::try_from(max_deliveries).unwrap_or(i32::MAX),
        min_retry_delay: min_retry_delay.try_into().ok(),
        max_retry_delay: max_retry_delay.try_into().ok(),
        on_expired: policy(on_expired).into(),
        paused,
        state: state(status.is_paused, status.stall).into(),
        stall_reason: status
            .stall
            .map(|stall| stall.to_string())
            .unwrap_or_default(),
        cursor: cursor.to_string(),
        lag: Some(lag.into()),
        outstanding_count: saturating(counts.outstanding),
        retrying_count: saturating(counts.retrying),
        blocked_count: saturating(counts.blocked),
        dead_count: saturating(counts.dead),
        acknowledged_count: saturating(counts.acknowledged),
        worker_count: saturating(worker_count),
        expire_time: expire_time.map(Into::into),
        owner: definition.owner.clone(),
        create_time: Some(definition.create_time.into()),
    }
}

/// What a subscription is doing.
pub(super) fn state(is_paused: bool, stall: Option<Stall>) -> SubscriptionState {
    match stall {
        _ if is_paused => SubscriptionState::Paused,
        Some(_) => SubscriptionState::Stalled,
        None => SubscriptionState::Active,
    }
}

/// The message for a dead letter, with its event as the caller may see it.
pub(super) fn dead_letter(letter: &DeadLetter, event: proto::Event) -> proto::DeadLetter {
    proto::DeadLetter {
        event: Some(event),
        deliveries: i32::try_from(letter.deliveries).unwrap_or(i32::MAX),
        reason: letter.reason.clone(),
        dead_time: Some(letter.dead_time.into()),
        replaying: letter.is_replaying,
    }
}

/// Names the last position of a page.
pub(super) fn page_token(last: Position) -> String {
    last.number().to_string()
}

fn order(order_by: OrderBy) -> proto::OrderBy {
    match order_by {
        OrderBy::User => proto::OrderBy::User,
        OrderBy::Organization => proto::OrderBy::Organization,
        OrderBy::None => proto::OrderBy::None,
        OrderBy::Log => proto::OrderBy::Log,
    }
}

fn policy(on_expired: OnExpired) -> proto::ExpiredCursorPolicy {
    match on_expired {
        OnExpired::Fail => proto::ExpiredCursorPolicy::Fail,
        OnExpired::Earliest => proto::ExpiredCursorPolicy::Earliest,
        OnExpired::Latest => proto::ExpiredCursorPolicy::Latest,
    }
}
