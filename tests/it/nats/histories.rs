//! A stream that was made again, or lost its end, beside the cells that know another one.

use std::path::Path;
use std::process::Command;

use clerkcast::proto::{
    DeadLetterAction, ListDeadLettersRequest, ResolveDeadLettersRequest, SubscriptionState,
};
use tonic::Code;

use super::away::ready;
use super::place::on;
use super::server::Server;
use crate::harness::{Gateway, body, eventually};
use crate::subscriptions::{Caller, event_id, named, refusal, worker_of};

/// One event of a user of its own for each name.
async fn post(gateway: &Gateway, names: &[&str]) {
    for name in names {
        let event = body("user.created", &format!("user_{name}"));
        gateway.accept(&format!("msg_{name}"), event).await;
    }
}

async fn acknowledge(caller: &mut Caller, ack_id: &str) {
    let lost = caller.acknowledge("crm", &[ack_id]).await;
    assert_eq!(lost.expect("stored"), [""; 0]);
}

async fn is_of_another_log(gateway: &Gateway) {
    let mut caller = Caller::of(gateway).await;
    let stalled = caller.look("crm").await;
    assert_eq!(stalled.state(), SubscriptionState::Stalled);
    assert!(stalled.stall_reason.contains("another"), "{stalled:?}");
    let refused = caller.receive(worker_of("crm")).await.err();
    let (code, reason, _) = refusal(&refused.expect("it is of another log"));
    let expected = (Code::FailedPrecondition, "CURSOR_OF_ANOTHER_LOG");
    assert_eq!((code, &*reason), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_made_again_hands_out_nothing_until_a_seek_and_keeps_dead_letters() {
    let server = Server::start();
    let mut gateway = Gateway::start_with(on(&[&server]));
    post(&gateway, &["1", "2", "3"]).await;
    let mut caller = Caller::of(&gateway).await;
    caller.create(named("crm")).await.expect("created");
    let mut worker = caller.worker("crm").await;
    let first = worker.delivery().await;
    acknowledge(&mut caller, &first.ack_id).await;
    let second = worker.delivery().await;
    caller.reject("crm", &second, "broken").await;
    let third = worker.delivery().await;
    let context = server.jetstream().await;
    let settings = server.stream().await.config;
    context.delete_stream("CLERKCAST").await.expect("deleted");
    context.create_stream(settings).await.expect("made");
    assert_eq!(gateway.wait().code(), Some(1));

    let gateway = gateway.restarted();
    is_of_another_log(&gateway).await;
    post(&gateway, &["new_1", "new_2", "new_3", "new_4"]).await;
    is_of_another_log(&gateway).await;
    let mut caller = Caller::of(&gateway).await;
    let letters = ListDeadLettersRequest {
        subscription: "crm".to_owned(),
        ..ListDeadLettersRequest::default()
    };
    let (letters, _) = caller.letters(letters).await.expect("listed");
    let event = letters[0].event.as_ref().expect("whole");
    assert_eq!(event.id, "msg_2");
    // Another event has its position in this log.
    let refused = caller.seek_to_earliest("crm").await;
    let status = refused.expect_err("there is a dead letter");
    let (code, reason, _) = refusal(&status);
    let expected = (Code::FailedPrecondition, "CURSOR_OF_ANOTHER_LOG");
    assert_eq!((code, &*reason), expected);
    assert!(status.message().contains("drop them first"), "{status}");
    let dropped = caller.resolve(ResolveDeadLettersRequest {
        subscription: "crm".to_owned(),
        action: DeadLetterAction::Drop.into(),
        all: true,
        ..ResolveDeadLettersRequest::default()
    });
    assert_eq!(dropped.await.expect("dropped"), 1);
    caller.seek_to_earliest("crm").await.expect("moved");
    let late = caller.acknowledge("crm", &[&third.ack_id]).await;
    assert_eq!(late.expect("answered"), [third.ack_id]);
    let mut worker = caller.worker("crm").await;
    for name in ["new_1", "new_2", "new_3", "new_4"] {
        let delivery = worker.delivery().await;
        assert_eq!(event_id(&delivery), format!("msg_{name}"));
    }
}

/// Copies the stream of the gateways, and nothing else.
fn copy_stream(from: &Path, to: &Path) {
    let stream = "jetstream/$G/streams/CLERKCAST";
    std::fs::remove_dir_all(to.join(stream)).expect("removed");
    let copied = Command::new("cp")
        .arg("-RT")
        .args([from.join(stream), to.join(stream)])
        .status();
    assert!(copied.expect("cp runs").success());
}

/// What a power cut can leave where the cells were synced, and the stream was not.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_its_end_hides_no_new_event_from_a_subscription() {
    let mut server = Server::start();
    let mut gateway = Gateway::start_with(on(&[&server]));
    let mut caller = Caller::of(&gateway).await;
    post(&gateway, &["1", "2"]).await;
    server.stop();
    let synced = server.copy_of_store();
    server.run();
    ready(&gateway).await;
    post(&gateway, &["lost_1", "lost_2", "lost_3"]).await;
    caller.create(named("crm")).await.expect("created");
    let mut worker = caller.worker("crm").await;
    for _ in 0..5 {
        let delivery = worker.delivery().await;
        acknowledge(&mut caller, &delivery.ack_id).await;
    }
    server.stop();
    let store = server.copy_of_store();
    copy_stream(synced.path(), store.path());
    server.replace_store(&store);
    server.run();
    ready(&gateway).await;
    let event = body("user.created", "user_1");
    let refused = gateway.post("msg_refused", event).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert_eq!(gateway.wait().code(), Some(1));

    let gateway = gateway.restarted();
    eventually("it is noticed", || async {
        gateway.log_text().contains("which lost its end")
    })
    .await;
    is_of_another_log(&gateway).await;
    post(&gateway, &["new_1", "new_2", "new_3", "new_4"]).await;
    is_of_another_log(&gateway).await;
    let mut caller = Caller::of(&gateway).await;
    caller.seek_to_earliest("crm").await.expect("moved");
    let mut worker = caller.worker("crm").await;
    let mut ids = Vec::new();
    // What was refused may be there after all.
    while ids.last().is_none_or(|id| id != "msg_new_4") {
        ids.push(event_id(&worker.delivery().await).to_owned());
    }
    ids.retain(|id| id != "msg_refused");
    let expected = ["1", "2", "new_1", "new_2", "new_3", "new_4"];
    assert_eq!(ids, expected.map(|name| format!("msg_{name}")));
}
