//! A log that is not the one in which the subscription was: restored, begun anew, without its
//! end. No new event is taken for one of before.

use std::fs;
use std::path::Path;

use clerkcast::event::{Cursor, Epoch, Position, UnixMillis};
use clerkcast::proto::{
    DeadLetterAction, ResolveDeadLettersRequest, Subscription, SubscriptionState,
};
use clerkcast::subscriptions::{AckId, State};
use tempfile::TempDir;
use tonic::Code;

use super::{Caller, event_id, named, refusal, seconds, worker_of};
use crate::harness::{Gateway, binary, body};

/// One event of a user of its own for each name.
async fn post(gateway: &Gateway, names: &[&str]) {
    for name in names {
        let event = body("user.created", &format!("user_{name}"));
        gateway.accept(&format!("msg_{name}"), event).await;
    }
}

fn held_for_long() -> Subscription {
    Subscription {
        ack_deadline: seconds(3600),
        ..named("crm")
    }
}

async fn acknowledge(caller: &mut Caller, ack_ids: &[&str]) {
    let lost = caller.acknowledge("crm", ack_ids).await;
    assert_eq!(lost.expect("stored"), [""; 0]);
}

async fn resolve(caller: &mut Caller, action: DeadLetterAction) -> i64 {
    let resolved = caller.resolve(ResolveDeadLettersRequest {
        subscription: "crm".to_owned(),
        action: action.into(),
        all: true,
        ..ResolveDeadLettersRequest::default()
    });
    resolved.await.expect("stored")
}

fn backup(gateway: &Gateway) -> TempDir {
    let directory = TempDir::new().expect("a temporary directory");
    let status = binary()
        .arg("backup")
        .arg(gateway.data_dir())
        .arg(directory.path().join("clerkcast.db"))
        .status();
    assert!(status.expect("it runs").success());
    directory
}

/// `kill -9`, and a start on what `from` has instead.
fn replaced(mut gateway: Gateway, from: Option<&Path>) -> Gateway {
    gateway.kill();
    for entry in fs::read_dir(gateway.data_dir()).expect("a directory") {
        fs::remove_file(entry.expect("an entry").path()).expect("removed");
    }
    if let Some(from) = from {
        fs::copy(from.join("clerkcast.db"), gateway.database()).expect("copied");
    }
    gateway.restarted()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_subscription_is_as_of_the_backup_and_misses_no_new_event() {
    let gateway = Gateway::start();
    post(&gateway, &["1", "2", "3", "4"]).await;
    let mut caller = Caller::of(&gateway).await;
    caller.create(held_for_long()).await.expect("created");
    let mut worker = caller.worker("crm").await;
    let (first, second) = (worker.delivery().await, worker.delivery().await);
    let (third, fourth) = (worker.delivery().await, worker.delivery().await);
    acknowledge(&mut caller, &[&first.ack_id]).await;
    caller.reject("crm", &second, "broken").await;
    let saved = backup(&gateway);

    acknowledge(&mut caller, &[&third.ack_id]).await;
    assert_eq!(resolve(&mut caller, DeadLetterAction::Drop).await, 1);
    post(&gateway, &["lost_1", "lost_2"]).await;
    let lost = [worker.delivery().await, worker.delivery().await];
    acknowledge(&mut caller, &[&lost[0].ack_id]).await;

    let gateway = replaced(gateway, Some(saved.path()));
    let mut caller = Caller::of(&gateway).await;
    let seen = caller.look("crm").await;
    assert_eq!(seen.state(), SubscriptionState::Active);
    let counts = (seen.acknowledged_count, seen.outstanding_count);
    assert_eq!((counts, seen.dead_count), ((1, 2), 1));
    // What was with a worker still is, and the same call can be repeated.
    acknowledge(&mut caller, &[&third.ack_id, &fourth.ack_id]).await;
    post(&gateway, &["new_1", "new_2"]).await;
    let mut worker = caller.worker("crm").await;
    let new = [worker.delivery().await, worker.delivery().await];
    assert_eq!(new.each_ref().map(event_id), ["msg_new_1", "msg_new_2"]);
    // They have the places of those that are lost, and nothing else of them.
    let late = caller
        .acknowledge("crm", &[&lost[0].ack_id, &lost[1].ack_id])
        .await;
    let expected = lost.map(|delivery| delivery.ack_id);
    assert_eq!(late.expect("answered"), expected);
    assert_eq!(caller.look("crm").await.outstanding_count, 2);
    acknowledge(&mut caller, &[&new[0].ack_id, &new[1].ack_id]).await;
    assert_eq!(resolve(&mut caller, DeadLetterAction::Replay).await, 1);
    let again = worker.delivery().await;
    assert_eq!((event_id(&again), again.replayed), ("msg_2", true));
    acknowledge(&mut caller, &[&again.ack_id]).await;
    assert_eq!(caller.look("crm").await.acknowledged_count, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_begun_anew_knows_no_subscription_and_takes_no_id_of_before() {
    let gateway = Gateway::start();
    post(&gateway, &["1"]).await;
    let mut caller = Caller::of(&gateway).await;
    caller.create(held_for_long()).await.expect("created");
    let held = caller.worker("crm").await.delivery().await;

    let gateway = replaced(gateway, None);
    post(&gateway, &["new"]).await;
    let mut caller = Caller::of(&gateway).await;
    let refused = [
        caller.receive(worker_of("crm")).await.err(),
        caller.acknowledge("crm", &[&held.ack_id]).await.err(),
    ];
    for status in refused {
        let (code, reason, _) = refusal(&status.expect("there is none"));
        let expected = (Code::NotFound, "SUBSCRIPTION_NOT_FOUND");
        assert_eq!((code, &*reason), expected);
    }
    caller.create(held_for_long()).await.expect("created");
    let mut worker = caller.worker("crm").await;
    assert_eq!(event_id(&worker.delivery().await), "msg_new");
    let late = caller.acknowledge("crm", &[&held.ack_id]).await;
    assert_eq!(late.expect("answered"), [held.ack_id]);
    assert_eq!(caller.look("crm").await.outstanding_count, 1);
}

/// Stalled, in words, for `Receive` and for the metrics.
async fn is_of_another_log(gateway: &Gateway, caller: &mut Caller) {
    let stalled = caller.look("crm").await;
    assert_eq!(stalled.state(), SubscriptionState::Stalled);
    assert!(stalled.stall_reason.contains("another"), "{stalled:?}");
    let metric = "clerkcast_subscription_stalled{subscription=\"crm\"}";
    assert_eq!(gateway.metric(metric).await, 1.0);
    let refused = caller.receive(worker_of("crm")).await.err();
    let status = refused.expect("it is of another log");
    let (code, reason, metadata) = refusal(&status);
    let expected = (Code::FailedPrecondition, "CURSOR_OF_ANOTHER_LOG");
    assert_eq!((code, &*reason), expected);
    assert!(metadata.contains_key("cursor_epoch") && metadata.contains_key("log_epoch"));
    let command = "clerkcast subscription seek crm --to earliest";
    assert!(status.message().contains(command), "{}", status.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lost_its_end_stalls_what_was_there_however_far_it_grows() {
    let gateway = Gateway::start();
    post(&gateway, &["1", "2", "3", "4", "5"]).await;
    let mut caller = Caller::of(&gateway).await;
    caller.create(held_for_long()).await.expect("created");
    let mut worker = caller.worker("crm").await;
    for _ in 0..5 {
        let delivery = worker.delivery().await;
        acknowledge(&mut caller, &[&delivery.ack_id]).await;
    }
    // One that has made no step yet begins with what is lost.
    let latest = caller.create_at(named("latest"), None).await;
    assert_eq!(latest.expect("created").lag.expect("known").events, 0);
    let gateway = gateway.stopped();
    let database = rusqlite::Connection::open(gateway.database()).expect("opens");
    let cut = "DELETE FROM record WHERE position > 2; DELETE FROM body WHERE position > 2";
    database.execute_batch(cut).expect("cut");
    drop(database);

    let gateway = gateway.restarted();
    let mut caller = Caller::of(&gateway).await;
    crate::harness::eventually("it is noticed", || async {
        gateway.log_text().matches("which lost its end").count() == 2
    })
    .await;
    is_of_another_log(&gateway, &mut caller).await;
    post(&gateway, &["new_1", "new_2", "new_3", "new_4"]).await;
    is_of_another_log(&gateway, &mut caller).await;
    let refused = caller.receive(worker_of("latest")).await.err();
    let (_, reason, _) = refusal(&refused.expect("it too"));
    assert_eq!(reason, "CURSOR_OF_ANOTHER_LOG");
    let gateway = gateway.restarted();
    let mut caller = Caller::of(&gateway).await;
    is_of_another_log(&gateway, &mut caller).await;

    caller.seek_to_earliest("crm").await.expect("moved");
    let mut worker = caller.worker("crm").await;
    for name in ["1", "2", "new_1", "new_2", "new_3", "new_4"] {
        let delivery = worker.delivery().await;
        assert_eq!(event_id(&delivery), format!("msg_{name}"));
    }
}

/// What another process wrote, such as one that put the cells back and not the log.
fn replace_state(gateway: &Gateway, state: &State) {
    let database = rusqlite::Connection::open(gateway.database()).expect("opens");
    let sql = "UPDATE cell SET value = ?1, revision = revision + 1 WHERE name = 'state/crm'";
    let written = database.execute(sql, [state.encode()]);
    assert_eq!(written.expect("written"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_stream_ends_where_the_state_is_of_another_log_or_ahead_of_it() {
    let gateway = Gateway::start();
    let mut caller = Caller::of(&gateway).await;
    caller.create(held_for_long()).await.expect("created");
    for (number, expected) in ["CURSOR_OF_ANOTHER_LOG", "CURSOR_AHEAD_OF_LOG"]
        .into_iter()
        .enumerate()
    {
        caller.seek_to_earliest("crm").await.expect("moved");
        let mut worker = caller.worker("crm").await;
        post(&gateway, &[&format!("{number}")]).await;
        let delivery = worker.delivery().await;
        let name = "crm".parse().expect("a name");
        let ack_id = AckId::read(&delivery.ack_id, &name).expect("an id");
        let cursor: Cursor = caller.look("crm").await.cursor.parse().expect("a cursor");
        let (epoch, frontier) = match expected {
            "CURSOR_AHEAD_OF_LOG" => (cursor.epoch, Position::new(1_000)),
            _ => (Epoch::new(7), ack_id.position),
        };
        let generation = ack_id.generation + 1;
        let state = State::new(epoch, generation, frontier, UnixMillis::now());
        replace_state(&gateway, &state);
        let (code, reason, metadata) = refusal(&worker.ended().await);
        assert_eq!((code, &*reason), (Code::FailedPrecondition, expected));
        assert_eq!(metadata["name"], "crm");
        let refused = caller.receive(worker_of("crm")).await.err();
        assert_eq!(refusal(&refused.expect("the same")).1, expected);
    }
    caller.seek_to_earliest("crm").await.expect("moved");
    let mut worker = caller.worker("crm").await;
    assert_eq!(event_id(&worker.delivery().await), "msg_0");
}
