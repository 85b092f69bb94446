//! Whose a subscription is, and what policies keep from whom.

use clerkcast::clerk::samples::SAMPLES;
use clerkcast::proto::receive_response::Kind;
use clerkcast::proto::{
    self, DeadLetterAction, ListDeadLettersRequest, ReceiveRequest, ResolveDeadLettersRequest,
    StartPosition, UpdateSubscriptionRequest,
};
use tonic::Code;

use super::{Caller, event_id, named, refusal, until, worker_of};
use crate::access::{Guarded, new_token};
use crate::harness::{body, types};

#[tokio::test(flavor = "multi_thread")]
async fn others_do_not_see_a_subscription_and_operators_do_not_receive_from_it() {
    let [owner, other, operator] = ["owner", "other", "operator"].map(new_token);
    let guarded = Guarded::start(&format!(
        "{}\n{}\n{}\nall_subscriptions = true\n",
        owner.stanza, other.stanza, operator.stanza
    ));
    let gateway = &guarded.gateway;
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    gateway
        .accept("msg_2", body("user.created", "user_2"))
        .await;
    let mut owner = Caller::with(gateway, &owner).await;
    let mut other = Caller::with(gateway, &other).await;
    let mut operator = Caller::with(gateway, &operator).await;
    owner.create(named("crm")).await.expect("created");
    other.create(named("crm-eu")).await.expect("created");
    let mut worker = owner.worker("crm").await;
    let (dead, held) = (worker.delivery().await, worker.delivery().await);
    owner.reject("crm", &dead, "broken").await;

    // Nothing shows to another that it is there, but for the name.
    let hidden = other.list(&["crm"]).await.expect_err("hidden");
    let (code, reason, metadata) = refusal(&hidden);
    assert_eq!((code, &*reason), (Code::NotFound, "SUBSCRIPTION_NOT_FOUND"));
    assert_eq!(metadata.get("nearest"), None, "crm-eu is not so like it");
    let hidden = other.receive(worker_of("crm")).await.err();
    assert_eq!(
        refusal(&hidden.expect("hidden")).1,
        "SUBSCRIPTION_NOT_FOUND"
    );
    let hidden = other.acknowledge("crm", &[&held.ack_id]).await;
    assert_eq!(
        refusal(&hidden.expect_err("hidden")).1,
        "SUBSCRIPTION_NOT_FOUND"
    );
    let hidden = other.delete("crm").await.expect_err("hidden");
    assert_eq!(refusal(&hidden).1, "SUBSCRIPTION_NOT_FOUND");
    let letters = ListDeadLettersRequest {
        subscription: "crm".to_owned(),
        ..ListDeadLettersRequest::default()
    };
    let hidden = other.letters(letters.clone()).await.expect_err("hidden");
    assert_eq!(refusal(&hidden).1, "SUBSCRIPTION_NOT_FOUND");
    let taken = other.create(named("crm")).await.expect_err("taken");
    let (code, reason, metadata) = refusal(&taken);
    assert_eq!(
        (code, &*reason),
        (Code::AlreadyExists, "SUBSCRIPTION_EXISTS")
    );
    assert_eq!(metadata.get("differing_fields"), None);
    let listed = other.list(&[]).await.expect("listed");
    let names: Vec<&str> = listed.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["crm-eu"]);

    // An operator sees all of them, and whose they are.
    let listed = operator.list(&[]).await.expect("listed");
    let owners: Vec<&str> = listed.iter().map(|it| it.owner.as_str()).collect();
    assert_eq!(owners, ["owner", "other"]);
    for (what, refused) in [
        ("Receive", operator.receive(worker_of("crm")).await.err()),
        (
            "Acknowledge",
            operator.acknowledge("crm", &[&held.ack_id]).await.err(),
        ),
    ] {
        let refused = refused.expect(what);
        let (code, reason, metadata) = refusal(&refused);
        assert_eq!((code, &*reason), (Code::PermissionDenied, "NOT_ALLOWED"));
        assert_eq!(metadata["principal"], "operator");
        assert_eq!(metadata["asked"], what);
    }
    let (seen, _) = operator.letters(letters).await.expect("listed");
    assert_eq!(seen.len(), 1);
    let replay = ResolveDeadLettersRequest {
        subscription: "crm".to_owned(),
        action: DeadLetterAction::Replay.into(),
        all: true,
        ..ResolveDeadLettersRequest::default()
    };
    assert_eq!(operator.resolve(replay).await.expect("replayed"), 1);
    assert!(
        worker.delivery().await.replayed,
        "the owner's worker has it"
    );
    let update = operator.request(UpdateSubscriptionRequest {
        name: "crm".to_owned(),
        max_deliveries: Some(3),
        ..UpdateSubscriptionRequest::default()
    });
    operator
        .client
        .update_subscription(update)
        .await
        .expect("updated");
    let seek = operator.request(proto::SeekSubscriptionRequest {
        name: "crm".to_owned(),
        to: Some(proto::seek_subscription_request::To::StartPosition(
            StartPosition::Latest.into(),
        )),
    });
    operator
        .client
        .seek_subscription(seek)
        .await
        .expect("moved");
    let seen = owner.look("crm").await;
    assert_eq!((seen.max_deliveries, &*seen.owner), (3, "owner"));
    operator.delete("crm-eu").await.expect("deleted");
    assert_eq!(other.list(&[]).await.expect("listed"), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_handed_what_its_owner_s_policy_allows() {
    let token = new_token("owner");
    let guarded = Guarded::start(&format!(
        "{}\ntypes = [\"user.*\"]\nredact = [\"contact\"]\npayload = false\n",
        token.stanza
    ));
    guarded.post_samples().await;
    let mut owner = Caller::with(&guarded.gateway, &token).await;
    let email = proto::Subscription {
        filter: types(&["email.created"]),
        ..named("mails")
    };
    let refused = owner.create(email).await.expect_err("nothing is left");
    let (code, reason, metadata) = refusal(&refused);
    assert_eq!((code, &*reason), (Code::PermissionDenied, "NOT_ALLOWED"));
    assert_eq!(metadata["asked"], "types: email.created");
    owner.create(named("crm")).await.expect("created");
    let with_payload = ReceiveRequest {
        include_payload: true,
        ..worker_of("crm")
    };
    let refused = owner.receive(with_payload).await.err().expect("withheld");
    assert_eq!(refusal(&refused).1, "NOT_ALLOWED");
    assert!(refused.message().contains("include_payload"));

    let mut worker = owner.receive(worker_of("crm")).await.expect("open");
    let Some(Kind::Started(started)) = worker.next().await.expect("no error") else {
        panic!("Started comes first");
    };
    let narrowed = started.narrowed.expect("something is taken away");
    assert_eq!(narrowed.types, ["user.*"]);
    assert!(narrowed.redacted_fields.contains(&"contact".to_owned()));
    assert_eq!(started.subscription.expect("shown").name, "crm");
    let users = SAMPLES
        .iter()
        .filter(|sample| sample.event_type.starts_with("user."));
    for _ in users {
        let delivery = worker.delivery().await;
        let event = delivery.event.as_ref().expect("an event");
        assert!(event.r#type.starts_with("user."), "{}", event.r#type);
        assert!(!format!("{event:?}").contains('@'), "{event:?}");
        assert_eq!(event.payload_json, None);
        owner
            .acknowledge("crm", &[&delivery.ack_id])
            .await
            .expect("stored");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_cut_by_the_policies_of_its_owner_and_of_the_caller() {
    let [owner, operator] = ["owner", "operator"].map(new_token);
    let config = |owner_policy: &str, operator_policy: &str| {
        format!(
            "{}\n{owner_policy}\n{}\nall_subscriptions = true\n{operator_policy}\n",
            owner.stanza, operator.stanza
        )
    };
    let guarded = Guarded::start(&config("", ""));
    let gateway = &guarded.gateway;
    guarded.post_samples().await;
    let mut as_owner = Caller::with(gateway, &owner).await;
    let two = proto::Subscription {
        filter: types(&["user.created", "session.created"]),
        ..named("crm")
    };
    as_owner.create(two).await.expect("created");
    let mut worker = as_owner.worker("crm").await;
    for _ in 0..2 {
        let delivery = worker.delivery().await;
        as_owner.reject("crm", &delivery, "broken").await;
    }
    let asked = |include_payload| ListDeadLettersRequest {
        subscription: "crm".to_owned(),
        include_payload,
        ..ListDeadLettersRequest::default()
    };
    let shown = |letters: &[proto::DeadLetter]| -> Vec<(String, bool, bool)> {
        let events = letters.iter().map(|it| it.event.clone().expect("shown"));
        events
            .map(|event| {
                let has_contact = format!("{event:?}").contains('@');
                let has_client = event.http_request.is_some();
                (event.r#type, has_contact, has_client)
            })
            .collect()
    };
    let mut as_operator = Caller::with(gateway, &operator).await;
    let (whole, _) = as_operator.letters(asked(true)).await.expect("listed");
    let types_of = |seen: &[(String, bool, bool)]| -> Vec<String> {
        seen.iter().map(|(name, ..)| name.clone()).collect()
    };
    let seen = shown(&whole);
    assert_eq!(types_of(&seen), ["user.created", "session.created"]);
    assert!(seen.iter().any(|(_, has_contact, _)| *has_contact));
    assert!(seen.iter().any(|(.., has_client)| *has_client));

    // What either may not see is cut, and what either may not have at all is left out.
    guarded
        .reloaded(&config("redact = [\"contact\"]", "redact = [\"network\"]"))
        .await;
    let (cut, _) = as_operator.letters(asked(true)).await.expect("listed");
    for (name, has_contact, has_client) in shown(&cut) {
        assert!(!has_contact && !has_client, "{name}");
    }
    let (own, _) = as_owner.letters(asked(true)).await.expect("listed");
    assert!(shown(&own).iter().any(|(.., has_client)| *has_client));
    guarded
        .reloaded(&config(
            "exclude_types = [\"session.*\"]",
            "payload = false",
        ))
        .await;
    let (left, _) = as_operator.letters(asked(false)).await.expect("listed");
    assert_eq!(types_of(&shown(&left)), ["user.created"]);
    let refused = as_operator
        .letters(asked(true))
        .await
        .expect_err("withheld");
    assert_eq!(refusal(&refused).1, "NOT_ALLOWED");
    guarded.reloaded(&config("payload = false", "")).await;
    let refused = as_operator
        .letters(asked(true))
        .await
        .expect_err("withheld");
    assert_eq!(refusal(&refused).2["principal"], "owner");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrowed_owner_s_pending_events_are_withdrawn_and_its_streams_end() {
    let token = new_token("owner");
    let config = |policy: &str| format!("{}\n{policy}\n", token.stanza);
    let guarded = Guarded::start(&config(""));
    let gateway = &guarded.gateway;
    let mut owner = Caller::with(gateway, &token).await;
    owner.create(named("crm")).await.expect("created");
    let mut worker = owner.worker("crm").await;
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let held = worker.delivery().await;
    // It waits behind the other.
    gateway
        .accept("msg_2", body("user.deleted", "user_1"))
        .await;
    gateway
        .accept("msg_3", body("user.updated", "user_1"))
        .await;
    gateway
        .accept("msg_4", body("user.created", "user_4"))
        .await;
    assert_eq!(event_id(&worker.delivery().await), "msg_4");
    until(&mut owner, "crm", "two wait", |it| it.blocked_count == 2).await;

    guarded
        .reloaded(&config("exclude_types = [\"user.deleted\"]"))
        .await;
    let (code, reason, _) = refusal(&worker.ended().await);
    assert_eq!((code, &*reason), (Code::Unavailable, "POLICY_CHANGED"));
    let mut worker = owner.worker("crm").await;
    let lost = owner.acknowledge("crm", &[&held.ack_id]).await;
    assert_eq!(lost.expect("stored"), [""; 0]);
    assert_eq!(event_id(&worker.delivery().await), "msg_3", "not msg_2");
    let seen = owner.look("crm").await;
    assert_eq!((seen.acknowledged_count, seen.outstanding_count), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_owner_s_subscriptions_stay_for_operators_and_for_its_successor() {
    let [owner, operator] = ["owner", "operator"].map(new_token);
    let operators = format!("{}\nall_subscriptions = true\n", operator.stanza);
    let guarded = Guarded::start(&format!("{}\n{operators}", owner.stanza));
    let gateway = &guarded.gateway;
    let mut as_owner = Caller::with(gateway, &owner).await;
    as_owner.create(named("crm")).await.expect("created");
    let mut worker = as_owner.worker("crm").await;
    guarded.reloaded(&operators).await;
    let (code, reason, _) = refusal(&worker.ended().await);
    assert_eq!(
        (code, &*reason),
        (Code::Unauthenticated, "PRINCIPAL_REMOVED")
    );
    let mut as_operator = Caller::with(gateway, &operator).await;
    let listed = as_operator.list(&[]).await.expect("listed");
    assert_eq!(listed[0].owner, "owner");
    // Another token, the same name.
    let successor = new_token("owner");
    guarded
        .reloaded(&format!("{}\n{operators}", successor.stanza))
        .await;
    let mut as_successor = Caller::with(gateway, &successor).await;
    let mut worker = as_successor.worker("crm").await;
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    assert_eq!(event_id(&worker.delivery().await), "msg_1");
}
