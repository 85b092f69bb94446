//! A subscription that an operator changes while events come in and workers receive.

use clerkcast::proto::seek_subscription_request::To;
use clerkcast::proto::{
    self, DeadLetterAction, ResolveDeadLettersRequest, StartPosition, Subscription,
};

use super::load::{Load, POISON, Record};
use super::{Caller, named, seconds, until};
use crate::access::{Guarded, new_token};
use crate::harness::{Gateway, body, types};

const CREATED: &str = "user.created";
const UPDATED: &str = "user.updated";
const DELETED: &str = "user.deleted";
const ALL: &[&str] = &[CREATED, UPDATED, DELETED];

fn crm() -> Subscription {
    Subscription {
        ack_deadline: seconds(2),
        ..named("crm")
    }
}

/// A gateway whose oldest event is the poison.
async fn gateway_with_poison() -> (Gateway, Caller) {
    let gateway = Gateway::start();
    gateway.accept(POISON, body(CREATED, "user_poison")).await;
    let mut caller = Caller::of(&gateway).await;
    caller.create(crm()).await.expect("created");
    (gateway, caller)
}

async fn all_is_handled(caller: &mut Caller) -> Subscription {
    until(caller, "crm", "all is handled", |found| {
        let pending = found.outstanding_count + found.retrying_count + found.blocked_count;
        pending == 0 && found.lag.as_ref().is_some_and(|lag| lag.events == 0)
    })
    .await
}

/// Ends posters and workers once everything is handled, and the poison is replayed.
async fn end(mut load: Load, caller: &mut Caller) -> (Subscription, Record) {
    load.stop_posting().await;
    let handled = all_is_handled(caller).await;
    assert_eq!(handled.dead_count, 1);
    let replayed = caller.resolve(ResolveDeadLettersRequest {
        subscription: "crm".to_owned(),
        action: DeadLetterAction::Replay.into(),
        all: true,
        ..ResolveDeadLettersRequest::default()
    });
    assert_eq!(replayed.await.expect("stored"), 1);
    let last = all_is_handled(caller).await;
    assert_eq!(last.dead_count, 0);
    (last, load.end().await)
}

fn count(number: i64) -> usize {
    usize::try_from(number).expect("a count")
}

/// Every event was acknowledged after the last change.
fn is_delivered(record: &Record) {
    let last = record.last_life();
    for id in record.posted.keys() {
        assert!(last.is_acknowledged(id), "{id}");
    }
    assert_eq!(last.acknowledged, record.posted.len() + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_delivered_and_parked_through_seeks_under_load() {
    let (gateway, mut caller) = gateway_with_poison().await;
    let load = Load::start(&gateway, None, &[UPDATED]).await;
    load.poison_is_rejected().await;
    load.goes_on().await;
    for round in 0..8 {
        let to = if round % 2 == 0 {
            To::AfterCursor(caller.look("crm").await.cursor)
        } else {
            To::StartPosition(StartPosition::Earliest.into())
        };
        load.voided_by(async { caller.seek("crm", to).await.expect("moved") })
            .await;
        load.goes_on().await;
    }
    let (last, record) = end(load, &mut caller).await;
    assert_eq!(record.lives(), 9);
    assert_eq!(record.rejected, 1, "a dead letter stays dead");
    assert_eq!(count(last.acknowledged_count), record.acknowledged());
    is_delivered(&record);
    assert_eq!(record.refusals, [].into(), "streams go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_and_delivered_in_each_life_of_a_name_under_load() {
    let (gateway, mut caller) = gateway_with_poison().await;
    let load = Load::start(&gateway, None, &[UPDATED]).await;
    let mut lives = 1;
    load.poison_is_rejected().await;
    for _ in 0..5 {
        load.goes_on().await;
        let created_anew = async {
            caller.delete("crm").await.expect("deleted");
            caller.create(crm()).await.expect("created")
        };
        let anew = load.voided_by(created_anew).await;
        assert_eq!((anew.acknowledged_count, anew.dead_count), (0, 0));
        lives += 1;
    }
    load.goes_on().await;
    let (last, record) = end(load, &mut caller).await;
    assert_eq!(record.lives(), lives);
    assert_eq!(
        count(last.acknowledged_count),
        record.last_life().acknowledged
    );
    is_delivered(&record);
    let refusals: Vec<&str> = record.refusals.keys().map(String::as_str).collect();
    assert_eq!(refusals[0], "SUBSCRIPTION_DELETED");
    assert!(refusals.len() <= 2, "{refusals:?}");
    if let Some(other) = refusals.get(1) {
        assert_eq!(*other, "SUBSCRIPTION_NOT_FOUND");
    }
}

/// Holds what was seen to the types that were in force, one set after the other: `since` is how
/// many changes were answered before an event could be looked at.
fn only_in_force(
    record: &Record,
    in_force: &[&[&str]],
    since: impl Fn(&super::load::Seen) -> usize,
) {
    for seen in &record.seen {
        let (first, last) = (since(seen), seen.before);
        let allowed = in_force[first..=last]
            .iter()
            .any(|types| types.contains(&&*seen.event_type));
        assert!(
            allowed,
            "{} is of type {}, between changes {first} and {last}",
            seen.id, seen.event_type
        );
    }
}

/// What was in force all the time since an event was posted is acknowledged.
fn delivered_what_was_in_force(record: &Record, in_force: &[&[&str]]) {
    for (id, posted) in &record.posted {
        let types = &in_force[posted.after..];
        if types.iter().all(|types| types.contains(&posted.event_type)) {
            let is_acknowledged = record.last_life().is_acknowledged(id);
            assert!(is_acknowledged || record.unknown.contains(id), "{id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn delivered_and_accounted_while_the_filter_changes_under_load() {
    const EVEN: &[&str] = &[CREATED, UPDATED];
    const ODD: &[&str] = &[CREATED, DELETED];
    let filters: Vec<&[&str]> = (0..=9).map(|it| [EVEN, ODD][it % 2]).collect();
    let gateway = Gateway::start();
    let mut caller = Caller::of(&gateway).await;
    let filtered = Subscription {
        filter: types(filters[0]),
        ..crm()
    };
    caller.create(filtered).await.expect("created");
    let mut load = Load::start(&gateway, None, ALL).await;
    for filter in &filters[1..] {
        load.goes_on().await;
        let request = caller.request(proto::UpdateSubscriptionRequest {
            name: "crm".to_owned(),
            filter: types(filter),
            ..proto::UpdateSubscriptionRequest::default()
        });
        let updated = load.during(caller.client.update_subscription(request));
        updated.await.expect("updated");
    }
    load.goes_on().await;
    load.stop_posting().await;
    let last = all_is_handled(&mut caller).await;
    let record = load.end().await;
    only_in_force(&record, &filters, |seen| record.posted[&seen.id].after);
    delivered_what_was_in_force(&record, &filters);
    assert_eq!((last.dead_count, record.lives()), (0, 1));
    assert_eq!(count(last.acknowledged_count), record.acknowledged());
    assert_eq!(record.refusals, [].into(), "streams go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn delivered_and_accounted_while_the_owner_is_narrowed_and_removed_under_load() {
    const NARROW: &[&str] = &[CREATED, UPDATED];
    const NONE: &[&str] = &[];
    let policies = [ALL, NARROW, ALL, NONE, ALL, NARROW, NONE, NARROW, ALL];
    let [owner, operator] = ["owner", "operator"].map(new_token);
    let config = |policy: &[&str]| {
        let owned = match policy.len() {
            3 => owner.stanza.clone(),
            2 => format!("{}\nexclude_types = [\"user.deleted\"]", owner.stanza),
            _ => String::new(),
        };
        format!("{owned}\n{}\nall_subscriptions = true\n", operator.stanza)
    };
    let guarded = Guarded::start(&config(policies[0]));
    let gateway = &guarded.gateway;
    let mut as_owner = Caller::with(gateway, &owner).await;
    as_owner.create(crm()).await.expect("created");
    let mut as_operator = Caller::with(gateway, &operator).await;
    let mut load = Load::start(gateway, Some(&owner), ALL).await;
    for (before, policy) in policies.iter().zip(&policies[1..]) {
        if before.is_empty() {
            load.is_kept_out().await;
        } else {
            load.goes_on().await;
        }
        load.during(guarded.reloaded(&config(policy))).await;
    }
    load.goes_on().await;
    load.stop_posting().await;
    let last = all_is_handled(&mut as_operator).await;
    let record = load.end().await;
    only_in_force(&record, &policies, |seen| seen.opened_after);
    let while_it_was_there: Vec<&[&str]> = policies
        .iter()
        .map(|policy| if policy.is_empty() { ALL } else { policy })
        .collect();
    delivered_what_was_in_force(&record, &while_it_was_there);
    assert_eq!((last.dead_count, record.lives()), (0, 1));
    let stored = count(last.acknowledged_count);
    let answered = record.acknowledged();
    assert!(answered <= stored && stored <= answered + record.unknown.len());
    let refusals: Vec<&str> = record.refusals.keys().map(String::as_str).collect();
    assert_eq!(
        refusals,
        ["POLICY_CHANGED", "PRINCIPAL_REMOVED", "UNKNOWN_TOKEN"]
    );
}
