//! Where a subscription is: the frontier, retention, seeks, other logs, limits.

use std::time::Duration;

use clerkcast::event::{Epoch, Position};
use clerkcast::fanout::OnExpired;
use clerkcast::log::Read as _;
use clerkcast::subscriptions::{AskedSettings, Limits, Outcome, Stall, StepError};
use futures_util::future::join;
use tokio::time::{Instant, sleep, timeout};

use super::client::{Client, FAILED, position, positions};
use super::world::{Gateway, World, options, settings, types};

fn asked() -> AskedSettings {
    AskedSettings {
        ack_deadline: Some(Duration::from_secs(10)),
        ..AskedSettings::default()
    }
}

fn on_expired(policy: OnExpired) -> AskedSettings {
    AskedSettings {
        on_expired: Some(policy),
        ..asked()
    }
}

#[tokio::test(start_paused = true)]
async fn a_frontier_that_moves_over_other_events_is_stored_within_ten_seconds() {
    let filter = Some(types(&["session.*"]));
    let world = World::new(settings(AskedSettings { filter, ..asked() }));
    for _ in 0..50 {
        world.append("a").await;
    }
    let gateway = world.gateway();
    let _client = Client::open(&gateway.running, options(1)).await;
    let began = Instant::now();
    world
        .wait_for("the frontier", |status| status.frontier.number() == 50)
        .await;
    assert!(began.elapsed() <= Duration::from_secs(11));
    assert_eq!(gateway.log.swaps(), 1);
}

#[tokio::test(start_paused = true)]
async fn retention_that_passes_the_frontier_stops_or_is_followed() {
    for (policy, expected) in [
        (OnExpired::Earliest, Some(4)),
        (OnExpired::Latest, Some(7)),
        (OnExpired::Fail, None),
    ] {
        let world = World::new(settings(on_expired(policy)));
        for user in ["a", "b", "c", "d", "e", "f"] {
            world.append(user).await;
        }
        world.trim(Position::new(3));
        let gateway = world.gateway();
        let Some(expected) = expected else {
            let refused = gateway.running.receive(options(8)).await;
            let Err(StepError::Expired { oldest, newest }) = refused else {
                panic!("opened");
            };
            assert_eq!(oldest.position, Position::new(3));
            assert_eq!(newest.position, Position::new(6));
            assert_eq!(world.status().await.stall, Some(Stall::Expired));
            let epoch = world.log.epoch();
            let to = gateway.running.seek(oldest.position, epoch).await;
            to.expect("sought");
            let mut client = Client::open(&gateway.running, options(8)).await;
            assert_eq!(position(&client.delivery().await).number(), 4);
            continue;
        };
        let mut client = Client::open(&gateway.running, options(8)).await;
        world.append("g").await;
        let deliveries = client.deliveries().await;
        let all: Vec<u64> = (expected..=7).collect();
        assert_eq!(positions(&deliveries), all, "{policy:?}");
        let passed_over = world.status().await.counts.passed_over;
        assert_eq!(passed_over, expected - 1, "{policy:?}");
    }
}

/// Calls come faster than a page of history is read.
#[tokio::test(start_paused = true)]
async fn history_is_read_while_calls_keep_the_subscription_busy() {
    const EVENTS: u64 = 1_000;
    let world = World::new(settings(asked()));
    for number in 0..EVENTS {
        world.append(&format!("user_{number}")).await;
    }
    let gateway = world.gateway();
    gateway.log.slow_scans(Duration::from_millis(50));
    let mut client = Client::open(&gateway.running, options(1_000)).await;
    let first = client.delivery().await;
    let mut delivered = 1;
    let scans = gateway.log.scans();
    for _ in 0..1_000 {
        client.settle(&first, Outcome::Extended).await;
        while let Ok(delivery) = timeout(Duration::ZERO, client.delivery()).await {
            client.settle(&delivery, Outcome::Done).await;
            delivered += 1;
        }
    }
    assert_eq!(delivered, EVENTS);
    assert!(gateway.log.scans() - scans < 50);
}

/// The other gateway moves the frontier faster than this one reads a page of history.
#[tokio::test(start_paused = true)]
async fn elastic_a_gateway_that_reads_slowly_gets_its_share() {
    const EVENTS: u64 = 2_000;
    let world = World::new(settings(asked()));
    for number in 0..EVENTS {
        world.append(&format!("user_{number}")).await;
    }
    let gateways = [world.gateway(), world.gateway()];
    gateways[1].log.slow_scans(Duration::from_millis(50));
    let work = async |gateway: &Gateway| {
        let mut client = Client::open(&gateway.running, options(8)).await;
        let mut delivered = 0;
        loop {
            let deliveries = client.deliveries_within(Duration::from_secs(1)).await;
            if deliveries.is_empty() {
                return delivered;
            }
            delivered += deliveries.len() as u64;
            client.settle_all(&deliveries, Outcome::Done).await;
        }
    };
    let [fast, slow] = &gateways;
    let (fast, slow) = join(work(fast), work(slow)).await;
    assert_eq!(fast + slow, EVENTS);
    assert!(slow > EVENTS / 10, "{slow} of {EVENTS}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_read_keeps_a_stopped_subscription_idle() {
    let world = World::new(settings(on_expired(OnExpired::Fail)));
    for number in 0..4_000 {
        world.append(&format!("user_{number}")).await;
    }
    let gateway = world.gateway();
    let mut client = Client::open(&gateway.running, options(8)).await;
    client.delivery().await;
    world.trim(Position::new(3_999));
    sleep(Duration::from_secs(10)).await;
    let (scans, swaps) = (gateway.log.scans(), gateway.log.swaps());
    sleep(Duration::from_secs(60)).await;
    assert!(gateway.log.scans() - scans < 20);
    assert!(gateway.log.swaps() - swaps < 20);
    assert!(matches!(
        client.ending().await,
        Err(StepError::Expired { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn retention_that_takes_a_pending_event_stops_or_drops_it() {
    for policy in [OnExpired::Earliest, OnExpired::Latest, OnExpired::Fail] {
        let world = World::new(settings(on_expired(policy)));
        for user in ["a", "b", "a", "c"] {
            world.append(user).await;
        }
        let gateway = world.gateway();
        let mut client = Client::open(&gateway.running, options(8)).await;
        let deliveries = client.deliveries().await;
        assert_eq!(positions(&deliveries), [1, 2, 4]);
        client.settle(&deliveries[0], FAILED).await;
        client.settle(&deliveries[1], Outcome::Done).await;
        world.trim(Position::new(2));
        if policy == OnExpired::Fail {
            let ending = client.ending().await;
            assert!(matches!(ending, Err(StepError::Expired { .. })));
            // What is with workers can still be acknowledged.
            client.settle(&deliveries[2], Outcome::Done).await;
            continue;
        }
        let next = client.delivery().await;
        assert_eq!(position(&next).number(), 3);
        let counts = world.status().await.counts;
        assert_eq!(counts.passed_over, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_seek_voids_what_is_handed_out_and_streams_go_on() {
    let world = World::new(settings(asked()));
    for user in ["a", "b", "c"] {
        world.append(user).await;
    }
    let gateway = world.gateway();
    let other = world.gateway();
    let mut client = Client::open(&gateway.running, options(8)).await;
    let first = client.delivery().await;
    // Another gateway moves it, while two deliveries are still to be taken here.
    let epoch = world.log.epoch();
    let sought = other.running.seek(Position::START, epoch).await;
    sought.expect("sought");
    sleep(Duration::from_secs(1)).await;
    let late = client.try_settle(&first, Outcome::Done).await;
    assert_eq!(late.expect("answered"), [first.grant.ack_id]);
    let deliveries = client.deliveries().await;
    assert_eq!(positions(&deliveries), [1, 2, 3]);
    let generation = first.grant.ack_id.generation + 1;
    for delivery in &deliveries {
        assert_eq!(delivery.grant.ack_id.generation, generation);
        assert_eq!(delivery.grant.attempt, 1);
    }
    client.settle_all(&deliveries, Outcome::Done).await;
    let end = gateway.running.seek(Position::new(2), epoch).await;
    end.expect("sought");
    assert_eq!(positions(&client.deliveries().await), [3]);
}

#[tokio::test(start_paused = true)]
async fn a_state_of_another_log_or_of_more_of_it_hands_out_nothing_until_a_seek() {
    let world = World::new(settings(asked()));
    world.append("a").await;
    let gateway = world.gateway();
    let running = &gateway.running;
    let epoch = world.log.epoch();
    let elsewhere = Epoch::new(epoch.number() + 1);
    let sought = running.seek(Position::START, elsewhere).await;
    sought.expect("sought");
    let refused = running.receive(options(1)).await;
    assert!(matches!(refused, Err(StepError::OtherLog { .. })));
    let sought = running.seek(Position::new(9), epoch).await;
    sought.expect("sought");
    let refused = running.receive(options(1)).await;
    let Err(StepError::AheadOfLog { newest }) = refused else {
        panic!("opened");
    };
    assert_eq!(newest.position, Position::new(1));
    let sought = running.seek(Position::START, epoch).await;
    sought.expect("sought");
    let mut client = Client::open(running, options(1)).await;
    client.delivery().await;
}

#[tokio::test(start_paused = true)]
async fn unblocked_a_key_that_fails_delays_no_other_and_stalls_at_the_limit() {
    let mut world = World::new(settings(asked()));
    world.limits = Limits {
        pending: 40,
        ..Limits::default()
    };
    world.append("hot").await;
    for number in 0..20 {
        world.append("hot").await;
        world.append(&format!("cold_{number}")).await;
    }
    let gateway = world.gateway();
    let mut client = Client::open(&gateway.running, options(8)).await;
    let mut cold = 0;
    let failing = loop {
        let delivery = client.delivery().await;
        if position(&delivery).number() == 1 {
            if cold == 20 {
                break delivery;
            }
            client.settle(&delivery, FAILED).await;
        } else {
            assert_eq!(delivery.grant.attempt, 1);
            client.settle(&delivery, Outcome::Done).await;
            cold += 1;
        }
    };
    // The same key goes on and on, until there is no room for others.
    for _ in 0..40 {
        world.append("hot").await;
    }
    world.append("cold").await;
    client.settle(&failing, FAILED).await;
    let stall = loop {
        for delivery in client.deliveries().await {
            client.settle(&delivery, FAILED).await;
        }
        if let Some(stall) = world.status().await.stall {
            break stall;
        }
    };
    assert_eq!(stall, Stall::Pending(40));
    assert!(stall.to_string().contains("40 events are pending"));
    // Retries go on, and once the cause is gone everything is worked off.
    let mut has_come_to_the_last = false;
    while !has_come_to_the_last || world.status().await.cursor < world.log.bounds().last {
        let delivery = client.delivery().await;
        client.settle(&delivery, Outcome::Done).await;
        has_come_to_the_last |= position(&delivery) == world.log.bounds().last;
    }
    assert_eq!(world.status().await.stall, None);
}

#[tokio::test(start_paused = true)]
async fn elastic_gateways_share_the_events_and_take_over_from_one_that_is_gone() {
    let world = World::new(settings(asked()));
    let gateways = [world.gateway(), world.gateway(), world.gateway()];
    let mut clients = Vec::new();
    for gateway in &gateways {
        clients.push(Client::open(&gateway.running, options(4)).await);
    }
    for number in 0..12 {
        world.append(&format!("user_{number}")).await;
    }
    let mut held = Vec::new();
    for client in &mut clients {
        let deliveries = client.deliveries().await;
        assert_eq!(deliveries.len(), 4);
        held.push(deliveries);
    }
    gateways[0].log.set_faults(super::faulty::Faults::DEAD);
    for index in [1, 2] {
        // Acknowledged at the other gateway.
        clients[3 - index]
            .settle_all(&held[index], Outcome::Done)
            .await;
    }
    let mut again = Vec::new();
    while again.len() < 4 {
        for client in &mut clients[1..] {
            let deliveries = client.deliveries().await;
            client.settle_all(&deliveries, Outcome::Done).await;
            again.extend(deliveries);
        }
    }
    let mut again_positions = positions(&again);
    again_positions.sort_unstable();
    assert_eq!(again_positions, positions(&held[0]));
    assert!(again.iter().all(|delivery| delivery.grant.attempt == 2));
    assert_eq!(world.status().await.counts.acknowledged, 12);
}
