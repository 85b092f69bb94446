//! One gateway, and what its streams are handed.

use std::time::Duration;

use clerkcast::event::Position;
use clerkcast::filter::{Scope, TypePattern};
use clerkcast::subscriptions::{
    AskedSettings, OrderBy, Outcome, ReceiveOptions, Selection, StepError, WorkerFrame,
};
use tokio::time::{Instant, sleep};

use super::client::{Client, FAILED, position, positions};
use super::faulty::Faults;
use super::world::{World, options, settings};

const SECOND: Duration = Duration::from_secs(1);

fn asked() -> AskedSettings {
    AskedSettings {
        ack_deadline: Some(Duration::from_secs(10)),
        ..AskedSettings::default()
    }
}

/// A world whose log has one event of each of these users.
async fn world(asked: AskedSettings, users: &[&str]) -> World {
    let world = World::new(settings(asked));
    for user in users {
        world.append(user).await;
    }
    world
}

#[tokio::test(start_paused = true)]
async fn redelivered_to_another_worker_at_the_deadline_and_not_before() {
    let world = world(asked(), &["a"]).await;
    let gateway = world.gateway();
    let mut first = Client::open(&gateway.running, options(1)).await;
    let mut second = Client::open(&gateway.running, options(1)).await;
    let delivery = tokio::select! {
        delivery = first.delivery() => delivery,
        delivery = second.delivery() => {
            std::mem::swap(&mut first, &mut second);
            delivery
        }
    };
    assert_eq!(delivery.grant.attempt, 1);
    let again = second.delivery().await;
    assert!(world.now() >= delivery.grant.deadline);
    assert!(world.now() < delivery.grant.deadline.after(2 * SECOND));
    assert_eq!(again.grant.attempt, 2);
    let late = first.try_settle(&delivery, Outcome::Done).await;
    assert_eq!(late.expect("answered"), [delivery.grant.ack_id]);
    second.settle(&again, Outcome::Done).await;
}

#[tokio::test(start_paused = true)]
async fn redelivered_after_the_delay_with_attempts_that_survive_restarts() {
    let world = world(asked(), &["a"]).await;
    for attempt in 1..=4 {
        let gateway = world.gateway();
        let mut client = Client::open(&gateway.running, options(1)).await;
        let before = world.now();
        let delivery = client.delivery().await;
        assert_eq!(delivery.grant.attempt, attempt);
        if attempt > 1 {
            let delay = Duration::from_secs(1 << (attempt - 2));
            let waited = world.now().since(before);
            assert!(waited >= delay.mul_f64(0.85), "{attempt}: {waited:?}");
            assert!(waited <= delay.mul_f64(1.2), "{attempt}: {waited:?}");
        }
        client.settle(&delivery, FAILED).await;
        gateway.log.set_faults(Faults::DEAD);
    }
}

#[tokio::test(start_paused = true)]
async fn exclusive_lease_survives_the_gateway_that_gave_it() {
    let world = world(asked(), &["a", "a"]).await;
    let gateway = world.gateway();
    let mut client = Client::open(&gateway.running, options(8)).await;
    let delivery = client.delivery().await;
    gateway.log.set_faults(Faults::DEAD);
    let next = world.gateway();
    let mut other = Client::open(&next.running, options(8)).await;
    assert_eq!(other.deliveries().await.len(), 0);
    // The worker outlives its gateway, and acknowledges at another one.
    other.settle(&delivery, Outcome::Done).await;
    assert_eq!(position(&other.delivery().await).number(), 2);
}

#[tokio::test(start_paused = true)]
async fn keyed_order_hands_out_one_event_of_a_key_at_a_time() {
    let world = world(asked(), &["a", "a", "b", "a"]).await;
    let gateway = world.gateway();
    let mut client = Client::open(&gateway.running, options(8)).await;
    for (expected, done) in [(vec![1, 3], 0), (vec![2], 1), (vec![4], 2)] {
        let deliveries = client.deliveries().await;
        assert_eq!(positions(&deliveries), expected, "after {done}");
        client.settle_all(&deliveries, Outcome::Done).await;
    }
    let status = world.status().await;
    assert_eq!(status.counts.acknowledged, 4);
    assert_eq!(status.cursor.number(), 4);
}

#[tokio::test(start_paused = true)]
async fn keyed_order_of_the_log_is_one_event_at_a_time() {
    let order_by = Some(OrderBy::Log);
    let world = world(
        AskedSettings {
            order_by,
            ..asked()
        },
        &["a", "b", "c"],
    )
    .await;
    let gateway = world.gateway();
    let mut client = Client::open(&gateway.running, options(8)).await;
    for number in 1..=3 {
        let deliveries = client.deliveries().await;
        assert_eq!(positions(&deliveries), [number]);
        client.settle_all(&deliveries, Outcome::Done).await;
    }
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_and_the_next_leases_share_a_swap() {
    let users: Vec<String> = (0..640).map(|user| format!("user_{user}")).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let world = world(asked(), &users).await;
    let gateway = world.gateway();
    let mut client = Client::open(&gateway.running, options(64)).await;
    let mut deliveries = Vec::new();
    for _ in 0..64 {
        deliveries.push(client.delivery().await);
    }
    let before = gateway.log.swaps();
    for _ in 0..9 {
        let running = gateway.running.clone();
        let reports = deliveries
            .drain(..)
            .map(|delivery| super::client::report(delivery.grant.ack_id, Outcome::Done));
        let reports = reports.collect();
        let settled = tokio::spawn(async move { running.settle(reports).await });
        for _ in 0..64 {
            deliveries.push(client.delivery().await);
        }
        assert_eq!(settled.await.expect("no panic").expect("stored"), []);
    }
    assert!(gateway.log.swaps() - before <= 10);
}

#[tokio::test(start_paused = true)]
async fn elastic_a_stream_that_is_not_read_is_given_no_more() {
    let users: Vec<String> = (0..200).map(|user| format!("user_{user}")).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let world = world(asked(), &users).await;
    let gateway = world.gateway();
    let mut stuck = Client::open(&gateway.running, options(1000)).await;
    let held = stuck.delivery().await;
    let mut reader = Client::open(&gateway.running, options(1000)).await;
    let mut seen = vec![position(&held)];
    while seen.len() < 200 {
        let delivery = reader.delivery().await;
        seen.push(position(&delivery));
        reader.settle(&delivery, Outcome::Done).await;
        // What the stuck connection did not take came back in time, and counts for nothing.
        assert_eq!(delivery.grant.attempt, 1);
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 200);
}

#[tokio::test(start_paused = true)]
async fn elastic_what_a_stream_has_not_taken_is_released_when_it_ends() {
    let world = world(asked(), &["a", "b", "c"]).await;
    let gateway = world.gateway();
    let mut client = Client::open(&gateway.running, options(8)).await;
    let taken = client.delivery().await;
    drop(client);
    let began = Instant::now();
    let mut next = Client::open(&gateway.running, options(8)).await;
    let deliveries = [next.delivery().await, next.delivery().await];
    assert!(began.elapsed() < SECOND);
    assert!(
        deliveries
            .iter()
            .all(|delivery| delivery.grant.attempt == 1)
    );
    assert!(!positions(&deliveries).contains(&position(&taken).number()));
    let again = next.delivery().await;
    assert_eq!(position(&again), position(&taken));
    assert_eq!(again.grant.attempt, 2);
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_after_its_events_or_once_all_is_handled() {
    let world = world(asked(), &["a", "b", "c"]).await;
    let gateway = world.gateway();
    let few = ReceiveOptions {
        events_max: Some(2),
        ..options(8)
    };
    let mut client = Client::open(&gateway.running, few).await;
    let deliveries = client.deliveries().await;
    assert_eq!(deliveries.len(), 2);
    client.ending().await.expect("ends as asked");
    client.settle(&deliveries[0], Outcome::Done).await;
    client.settle(&deliveries[1], FAILED).await;
    let until_handled = ReceiveOptions {
        stop_when_handled: true,
        ..options(8)
    };
    let mut client = Client::open(&gateway.running, until_handled).await;
    for _ in 0..2 {
        let delivery = client.delivery().await;
        client.settle(&delivery, Outcome::Done).await;
    }
    client.ending().await.expect("ends as asked");
    assert_eq!(world.status().await.counts.acknowledged, 3);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_comes_after_the_interval_and_at_once_when_the_state_changes() {
    let mut world = world(asked(), &[]).await;
    let gateway = world.gateway();
    let mut client = Client::open(&gateway.running, options(1)).await;
    let began = Instant::now();
    let frame = client.frame().await.expect("goes on").expect("a frame");
    let WorkerFrame::Heartbeat(condition) = frame else {
        panic!("not a heartbeat: {frame:?}");
    };
    assert!(!condition.is_paused);
    assert_eq!(began.elapsed().as_secs(), 15);
    world.settings.paused = true;
    gateway
        .running
        .follow(world.definition(), world.selection());
    let frame = client.frame().await.expect("goes on").expect("a frame");
    assert!(matches!(frame, WorkerFrame::Heartbeat(condition) if condition.is_paused));
    assert_eq!(began.elapsed().as_secs(), 15);
    world.append("a").await;
    assert_eq!(client.deliveries().await.len(), 0);
    world.settings.paused = false;
    gateway
        .running
        .follow(world.definition(), world.selection());
    client.delivery().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_owner_may_no_longer_receive_is_withdrawn() {
    let world = world(asked(), &["a", "a"]).await;
    let gateway = world.gateway();
    let mut client = Client::open(&gateway.running, options(8)).await;
    let delivery = client.delivery().await;
    world.append_type("session.created", "b").await;
    let sessions: TypePattern = "session.*".parse().expect("a pattern");
    let scope = Scope {
        types: [sessions].into(),
        ..Scope::default()
    };
    let all = world.selection().filter.expect("a filter");
    let (filter, _) = all.within(&scope).expect("something is left");
    let selection = Selection {
        filter: Some(filter),
        scope: Some(scope),
    };
    gateway.running.follow(world.definition(), selection);
    client.settle(&delivery, Outcome::Done).await;
    let next = client.delivery().await;
    assert_eq!(position(&next).number(), 3);
    client.settle(&next, Outcome::Done).await;
    assert_eq!(client.deliveries().await.len(), 0);
    let counts = world.status().await.counts;
    assert_eq!((counts.acknowledged, counts.passed_over), (2, 1));
}

/// One of the same name may come and find what is pending.
#[tokio::test(start_paused = true)]
async fn nothing_is_withdrawn_from_an_owner_that_is_removed() {
    let world = world(asked(), &["a", "a", "b"]).await;
    let gateway = world.gateway();
    let mut client = Client::open(&gateway.running, options(8)).await;
    let deliveries = client.deliveries().await;
    assert_eq!(positions(&deliveries), [1, 3]);
    let removed = Selection {
        filter: None,
        scope: None,
    };
    gateway.running.follow(world.definition(), removed);
    client.settle(&deliveries[0], Outcome::Done).await;
    client.settle(&deliveries[1], Outcome::Released).await;
    assert_eq!(client.deliveries().await.len(), 0);
    assert_eq!(world.status().await.counts.passed_over, 0);
    let (definition, selection) = (world.definition(), world.selection());
    gateway.running.follow(definition, selection);
    let mut again = positions(&client.deliveries().await);
    again.sort_unstable();
    assert_eq!(again, [2, 3]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_an_error_until_the_step_is_stored_and_the_call_can_be_repeated() {
    let world = world(asked(), &["a"]).await;
    let gateway = world.gateway();
    let mut client = Client::open(&gateway.running, options(8)).await;
    let delivery = client.delivery().await;
    gateway.log.set_faults(Faults::FULL);
    let refused = client.try_settle(&delivery, Outcome::Done).await;
    assert!(matches!(refused, Err(StepError::NotStored(reason)) if reason.contains("disk full")));
    gateway.log.set_faults(Faults::DEAD);
    let began = Instant::now();
    let unknown = client.try_settle(&delivery, Outcome::Done).await;
    assert!(
        matches!(unknown, Err(StepError::NotStored(_))),
        "{unknown:?}"
    );
    assert!(began.elapsed() <= 7 * SECOND);
    gateway.log.set_faults(Faults::default());
    client.settle(&delivery, Outcome::Done).await;
    client.settle(&delivery, Outcome::Done).await;
    assert_eq!(world.status().await.counts.acknowledged, 1);
}

#[tokio::test(start_paused = true)]
async fn a_step_that_was_stored_and_refused_is_recognized_by_its_writer() {
    let world = world(asked(), &["a", "a"]).await;
    let gateway = world.gateway();
    gateway.log.set_faults(Faults::REFUSED);
    let mut client = Client::open(&gateway.running, options(8)).await;
    let began = Instant::now();
    for number in 1..=2 {
        let delivery = client.delivery().await;
        assert_eq!(position(&delivery).number(), number);
        assert_eq!(delivery.grant.attempt, 1);
        client.settle(&delivery, Outcome::Done).await;
    }
    assert!(began.elapsed() < SECOND);
    assert_eq!(gateway.log.swaps(), 4, "two leases, two acknowledgements");
    assert_eq!(world.status().await.counts.acknowledged, 2);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_not_stored_is_given_again_at_once() {
    let world = world(asked(), &["a"]).await;
    let gateway = world.gateway();
    gateway.log.set_faults(Faults::FULL);
    let mut client = Client::open(&gateway.running, options(8)).await;
    assert_eq!(client.deliveries().await.len(), 0);
    assert!(gateway.log.swaps() > 1, "it is tried again and again");
    gateway.log.set_faults(Faults::default());
    let began = Instant::now();
    let delivery = client.delivery().await;
    assert!(began.elapsed() < SECOND);
    assert_eq!(delivery.grant.attempt, 1);
}

#[tokio::test(start_paused = true)]
async fn elastic_what_another_gateway_freed_is_handed_out_at_once() {
    let world = world(asked(), &["a", "a"]).await;
    let gateways = [world.gateway(), world.gateway()];
    let mut first = Client::open(&gateways[0].running, options(1)).await;
    let held = first.delivery().await;
    let mut second = Client::open(&gateways[1].running, options(1)).await;
    assert_eq!(second.deliveries().await.len(), 0);
    let began = Instant::now();
    first.settle(&held, Outcome::Done).await;
    let next = second.delivery().await;
    assert_eq!(position(&next).number(), 2);
    assert!(began.elapsed() < SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_task_reads_nothing_once_it_is_not_used() {
    let world = world(asked(), &["a"]).await;
    let gateway = world.gateway();
    let mut client = Client::open(&gateway.running, options(8)).await;
    let delivery = client.delivery().await;
    client.settle(&delivery, Outcome::Done).await;
    drop(client);
    sleep(11 * SECOND).await;
    let (reads, swaps) = (gateway.log.reads(), gateway.log.swaps());
    sleep(60 * SECOND).await;
    assert_eq!((gateway.log.reads(), gateway.log.swaps()), (reads, swaps));
    // And begins again with the next call.
    world.append("a").await;
    let mut client = Client::open(&gateway.running, options(8)).await;
    assert_eq!(position(&client.delivery().await), Position::new(2));
}

#[tokio::test(start_paused = true)]
async fn a_drained_gateway_hands_out_nothing_and_takes_acknowledgements() {
    let world = world(asked(), &["a", "a"]).await;
    let gateway = world.gateway();
    let mut client = Client::open(&gateway.running, options(8)).await;
    let delivery = client.delivery().await;
    gateway.drain.cancel();
    assert!(matches!(client.ending().await, Err(StepError::Draining)));
    let refused = gateway.running.receive(options(1)).await;
    assert!(matches!(refused, Err(StepError::Draining)));
    let settled = tokio::spawn({
        let running = gateway.running.clone();
        async move { running.settled().await }
    });
    sleep(SECOND).await;
    assert!(!settled.is_finished());
    client.settle(&delivery, Outcome::Done).await;
    settled.await.expect("settled");
    assert_eq!(world.status().await.counts.outstanding, 0);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_subscription_ends_its_streams_and_refuses_calls() {
    let world = world(asked(), &["a"]).await;
    let gateway = world.gateway();
    let mut client = Client::open(&gateway.running, options(8)).await;
    let delivery = client.delivery().await;
    gateway.running.note_deleted();
    assert!(matches!(client.ending().await, Err(StepError::Deleted)));
    let refused = client.try_settle(&delivery, Outcome::Done).await;
    assert!(matches!(refused, Err(StepError::Deleted)));
}
