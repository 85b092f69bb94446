//! Dead letters: parked once and whole, handed out again, dropped.

use std::time::Duration;

use clerkcast::event::Position;
use clerkcast::log::{Cells as _, Read as _};
use clerkcast::subscriptions::{
    AskedSettings, DeadLetter, Delivery, Letters, Limits, Outcome, Stall, list_dead_letters,
    sweep_dead_letters,
};
use tokio::time::sleep;

use super::client::{Client, FAILED, position, positions, report};
use super::faulty::Faults;
use super::world::{World, name, options, settings};

fn asked(max_deliveries: i32) -> AskedSettings {
    AskedSettings {
        ack_deadline: Some(Duration::from_secs(10)),
        max_deliveries: Some(max_deliveries),
        ..AskedSettings::default()
    }
}

async fn letters(world: &World) -> Vec<DeadLetter> {
    let generation = world.definition().first_generation();
    let log = world.healthy_log();
    let mut letters = Vec::new();
    let mut after = Some(Position::START);
    while let Some(from) = after {
        let page = list_dead_letters(&*log, &name(), generation, from, 2).await;
        let page = page.expect("readable");
        assert!(page.letters.len() <= 2);
        letters.extend(page.letters);
        after = page.next;
    }
    letters
}

/// Everything that is handed out is a dead letter at once.
async fn reject_all(client: &mut Client) -> Vec<Delivery> {
    let deliveries = client.deliveries().await;
    client.settle_all(&deliveries, Outcome::Rejected).await;
    deliveries
}

fn ids(numbers: &[u64]) -> Letters {
    let ids = numbers.iter().map(|number| format!("msg_{number}"));
    Letters::Ids(ids.collect())
}

#[tokio::test(start_paused = true)]
async fn parked_after_exactly_so_many_deliveries_whole_and_beyond_retention() {
    let world = World::new(settings(asked(3)));
    world.append("a").await;
    world.append("a").await;
    for attempt in 1..=3 {
        // The worker dies each time, and its gateway with it.
        let gateway = world.gateway();
        let mut client = Client::open(&gateway.running, options(8)).await;
        let delivery = client.delivery().await;
        assert_eq!(position(&delivery).number(), 1);
        assert_eq!(delivery.grant.attempt, attempt);
        gateway.log.set_faults(Faults::DEAD);
    }
    assert_eq!(letters(&world).await.len(), 0);
    let gateway = world.gateway();
    let mut client = Client::open(&gateway.running, options(8)).await;
    let next = client.delivery().await;
    assert_eq!(position(&next).number(), 2, "the next of its key is free");
    client.settle(&next, Outcome::Done).await;
    world.trim(Position::new(2));
    let letters = letters(&world).await;
    let [letter] = &letters[..] else {
        panic!("not one: {letters:?}");
    };
    assert_eq!(letter.deliveries, 3);
    assert_eq!(letter.reason, "deadline passed");
    assert!(!letter.is_replaying);
    let entry = &letter.record.entry;
    assert_eq!(entry.id, "msg_1");
    assert_eq!(entry.attributes, next.record.entry.attributes);
    assert_eq!(entry.payload, next.record.entry.payload);
    let event = clerkcast::fanout::event_message;
    let view = clerkcast::fanout::View {
        payload: clerkcast::fanout::Payload::Included,
        redaction: clerkcast::access::Redaction::default(),
        encoding: clerkcast::fanout::Encoding::default(),
    };
    let mut decoded = event(letter.record.view(), &view).expect("decodes");
    let mut expected = event(next.record.view(), &view).expect("decodes");
    decoded.id.clear();
    expected.id.clear();
    assert_eq!(decoded, expected);
}

/// The reads of a step take turns with those of the letters that come next.
#[tokio::test(start_paused = true)]
async fn replayed_letters_are_acknowledged_in_time_while_others_are_read() {
    const LETTERS: u64 = 300;
    let world = World::new(settings(asked(1)));
    for number in 0..LETTERS {
        world.append(&format!("user_{number}")).await;
    }
    let gateway = world.gateway();
    let mut client = Client::open(&gateway.running, options(1000)).await;
    while world.status().await.counts.dead < LETTERS {
        reject_all(&mut client).await;
    }
    let replayed = gateway.running.replay(Letters::All).await;
    assert_eq!(replayed.expect("stored"), LETTERS);
    for _ in 0..LETTERS {
        let delivery = client.delivery().await;
        client.settle(&delivery, Outcome::Done).await;
    }
    let counts = world.status().await.counts;
    assert_eq!((counts.acknowledged, counts.dead), (LETTERS, 0));
}

#[tokio::test(start_paused = true)]
async fn parked_with_the_last_reason_cut_at_a_character() {
    let world = World::new(settings(asked(1)));
    world.append("a").await;
    let gateway = world.gateway();
    let mut client = Client::open(&gateway.running, options(8)).await;
    let delivery = client.delivery().await;
    let mut failure = report(delivery.grant.ack_id, FAILED);
    failure.reason = format!("x{}", "é".repeat(1000));
    let lost = gateway.running.settle(vec![failure]).await;
    assert_eq!(lost.expect("stored"), []);
    let letters = letters(&world).await;
    let reason = &letters[0].reason;
    assert_eq!(*reason, format!("x{}", "é".repeat(511)));
}

#[tokio::test(start_paused = true)]
async fn replayed_letters_are_handed_out_as_if_never_delivered() {
    let world = World::new(settings(asked(1)));
    for user in ["a", "b", "c"] {
        world.append(user).await;
    }
    let gateway = world.gateway();
    let mut client = Client::open(&gateway.running, options(8)).await;
    assert_eq!(reject_all(&mut client).await.len(), 3);
    world.trim(Position::new(3));
    let running = &gateway.running;
    let count = running.replay(ids(&[1, 3, 9])).await;
    assert_eq!(count.expect("stored"), 2);
    let count = running.replay(ids(&[1, 3])).await;
    assert_eq!(count.expect("stored"), 0, "they are handed out already");
    let replaying = letters(&world).await;
    let replaying: Vec<bool> = replaying.iter().map(|letter| letter.is_replaying).collect();
    assert_eq!(replaying, [true, false, true]);
    let deliveries = client.deliveries().await;
    assert_eq!(positions(&deliveries), [1, 3]);
    for delivery in &deliveries {
        assert_eq!(delivery.grant.attempt, 1);
        assert!(delivery.grant.replayed);
        assert!(!delivery.record.entry.payload.is_empty());
    }
    client.settle(&deliveries[0], Outcome::Done).await;
    let mut failure = report(deliveries[1].grant.ack_id, FAILED);
    failure.reason = "once more".to_owned();
    running.settle(vec![failure]).await.expect("stored");
    let left = letters(&world).await;
    let left: Vec<(u64, &str, bool)> = left
        .iter()
        .map(|letter| {
            let position = letter.record.position.number();
            (position, &*letter.reason, letter.is_replaying)
        })
        .collect();
    assert_eq!(left, [(2, "as asked", false), (3, "once more", false)]);
    let counts = world.status().await.counts;
    assert_eq!((counts.acknowledged, counts.dead), (1, 2));
    let cells = world
        .log
        .list("dead/crm/", "", 100)
        .await
        .expect("readable");
    assert_eq!(cells.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn dropped_letters_are_gone_and_their_workers_are_answered_as_done() {
    let world = World::new(settings(asked(1)));
    for user in ["a", "b", "c"] {
        world.append(user).await;
    }
    let gateway = world.gateway();
    let mut client = Client::open(&gateway.running, options(8)).await;
    reject_all(&mut client).await;
    let running = &gateway.running;
    assert_eq!(running.replay(ids(&[2])).await.expect("stored"), 1);
    let held = client.delivery().await;
    assert_eq!(running.drop_letters(ids(&[2])).await.expect("stored"), 1);
    client.settle(&held, Outcome::Done).await;
    assert_eq!(running.drop_letters(Letters::All).await.expect("stored"), 2);
    assert_eq!(running.drop_letters(Letters::All).await.expect("stored"), 0);
    let cells = world
        .log
        .list("dead/crm/", "", 100)
        .await
        .expect("readable");
    assert_eq!(cells.len(), 0);
    assert_eq!(world.status().await.counts.dead, 0);
}

#[tokio::test(start_paused = true)]
async fn all_events_fail_until_the_limit_and_are_worked_off_once_the_cause_is_gone() {
    const EVENTS: usize = 1_500;
    let mut world = World::new(settings(asked(1)));
    world.limits = Limits {
        dead: EVENTS - 100,
        ..Limits::default()
    };
    for number in 0..EVENTS {
        world.append(&format!("user_{number}")).await;
    }
    let gateway = world.gateway();
    let mut client = Client::open(&gateway.running, options(1000)).await;
    let mut rejected = Vec::new();
    let mut stalled = None;
    while stalled.is_none() {
        rejected.extend(positions(&reject_all(&mut client).await));
        stalled = world.status().await.stall;
    }
    assert_eq!(stalled, Some(Stall::DeadLetters(EVENTS - 100)));
    let reason = stalled.expect("stalled").to_string();
    assert!(reason.contains("1,400 dead letters"), "{reason}");
    assert_eq!(world.status().await.counts.dead, EVENTS as u64 - 100);
    let running = &gateway.running;
    let replayed = running.replay(Letters::All).await.expect("stored");
    assert_eq!(replayed, EVENTS as u64 - 100);
    loop {
        let deliveries = client.deliveries().await;
        if deliveries.is_empty() {
            break;
        }
        client.settle_all(&deliveries, Outcome::Done).await;
    }
    let counts = world.status().await.counts;
    assert_eq!((counts.acknowledged, counts.dead), (EVENTS as u64, 0));
    assert_eq!(world.status().await.stall, None);
}

#[tokio::test(start_paused = true)]
async fn more_letters_than_one_step_takes_are_parked_in_several() {
    let world = World::new(settings(asked(1)));
    for number in 0..700 {
        world.append(&format!("user_{number}")).await;
    }
    let gateway = world.gateway();
    let mut client = Client::open(&gateway.running, options(1000)).await;
    let mut deliveries = Vec::new();
    while deliveries.len() < 700 {
        deliveries.push(client.delivery().await);
    }
    // The last first: what comes first is settled first.
    deliveries.reverse();
    client.settle_all(&deliveries, Outcome::Rejected).await;
    assert_eq!(world.status().await.counts.dead, 700);
    assert_eq!(letters(&world).await.len(), 700);
    let running = &gateway.running;
    assert_eq!(
        running.drop_letters(Letters::All).await.expect("stored"),
        700
    );
}

#[tokio::test(start_paused = true)]
async fn left_over_letters_are_swept_and_those_that_count_stay() {
    let world = World::new(settings(asked(1)));
    for user in ["a", "b"] {
        world.append(user).await;
    }
    let gateway = world.gateway();
    let mut client = Client::open(&gateway.running, options(8)).await;
    reject_all(&mut client).await;
    let log = world.healthy_log();
    let cells = world
        .log
        .list("dead/crm/", "", 100)
        .await
        .expect("readable");
    gateway
        .running
        .drop_letters(ids(&[1]))
        .await
        .expect("stored");
    // As if the deletion had been lost.
    let change = clerkcast::log::Change {
        name: cells[0].name.clone(),
        expected: None,
        value: Some(cells[0].value.clone()),
    };
    world.log.swap(vec![change]).await.expect("stored");
    assert_eq!(letters(&world).await.len(), 1, "it does not count");
    let generation = world.definition().first_generation();
    let count = async |now| {
        let swept = sweep_dead_letters(&*log, &name(), generation, now).await;
        swept.expect("swept");
        world
            .log
            .list("dead/crm/", "", 100)
            .await
            .expect("readable")
            .len()
    };
    assert_eq!(count(world.now()).await, 2, "it may be on its way");
    sleep(Duration::from_secs(3601)).await;
    assert_eq!(count(world.now()).await, 1);
    assert_eq!(letters(&world).await.len(), 1);
}

/// After a seek, an event can be a dead letter that is handed out again and lie ahead at the same
/// time. Its bytes must count once, or there is no room to read on one day.
#[tokio::test(start_paused = true)]
async fn delivered_after_a_seek_to_before_letters_that_are_replayed() {
    const LETTERS: u64 = 400;
    let world = World::new(settings(asked(1)));
    for number in 0..LETTERS {
        let large = format!("user_{number}_{}", "x".repeat(4_000));
        world.append(&large).await;
    }
    let gateway = world.gateway();
    let mut client = Client::open(&gateway.running, options(64)).await;
    let mut rejected = 0;
    while rejected < LETTERS {
        rejected += reject_all(&mut client).await.len() as u64;
    }
    drop(client);
    let epoch = world.log.epoch();
    let sought = gateway.running.seek(Position::START, epoch).await;
    sought.expect("sought");
    let replayed = gateway.running.replay(Letters::All).await;
    assert_eq!(replayed.expect("replayed"), LETTERS);
    let newest = world.append("user_new").await;
    let mut client = Client::open(&gateway.running, options(2)).await;
    let mut replays = 0;
    loop {
        let delivery = client.delivery().await;
        client.settle(&delivery, Outcome::Done).await;
        replays += u64::from(delivery.grant.replayed);
        if position(&delivery) == newest {
            break;
        }
    }
    assert_eq!(replays, LETTERS);
}
