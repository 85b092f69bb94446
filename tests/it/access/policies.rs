//! What a principal receives: types, sources, fields and payloads, in every call.

use clerkcast::clerk::samples::SAMPLES;
use clerkcast::proto;
use clerkcast::proto::SubscribeRequest;
use clerkcast::proto::event::Data;
use tonic::{Code, Status};

use super::{Caller, Guarded, new_token, reason};
use crate::harness::{Gateway, OTHER_SECRET, SECRET, body, from_earliest, types};

fn all_with_payload() -> SubscribeRequest {
    SubscribeRequest {
        include_payload: true,
        ..from_earliest()
    }
}

#[tokio::test]
async fn sign_in_credentials_reach_only_principals_that_are_granted_them_by_name() {
    let [plain, granted] = ["plain", "granted"].map(new_token);
    let guarded = Guarded::start(&format!(
        "{}\n\n{}\ngrant = [\"messages\", \"invitation_urls\"]\n",
        plain.stanza, granted.stanza
    ));
    guarded.post_samples().await;
    let mut shown = Vec::new();
    for token in [&plain, &granted] {
        let mut caller = Caller::of(&guarded.gateway, token).await;
        shown.push(caller.history(all_with_payload()).await.expect("let in"));
    }
    let secrets = |events: &[proto::Event]| {
        let events = events.iter().map(|event| match &event.data {
            Some(Data::Email(email)) => {
                [&email.subject, &email.body, &email.body_plain]
                    .iter()
                    .any(|it| it.is_some())
                    || email.data.is_some()
            }
            Some(Data::SmsMessage(sms)) => sms.message.is_some() || sms.data.is_some(),
            Some(Data::OrganizationInvitation(invitation)) => invitation.url.is_some(),
            _ => false,
        });
        events.filter(|it| *it).count()
    };
    let [(started, without), (_, with)] = &shown[..] else {
        panic!("two callers");
    };
    assert_eq!(secrets(without), 0);
    assert!(secrets(with) >= 3, "{}", secrets(with));
    let narrowed = started.narrowed.as_ref().expect("something is removed");
    assert_eq!(narrowed.redacted_fields, ["invitation_urls", "messages"]);
    for (without, with) in without.iter().zip(with) {
        let sample = SAMPLES.iter().find(|it| it.event_type == with.r#type);
        let whole = sample.expect("a sample").body;
        assert_eq!(with.payload_json.as_deref(), Some(whole), "lossless");
        let is_sealed = ["email", "sms", "organizationInvitation", "waitlistEntry"]
            .contains(&with.r#type.split('.').next().unwrap_or_default());
        let payload = without.payload_json.as_deref().expect("JSON has fields");
        if !is_sealed {
            assert_eq!(payload, whole, "lossless");
        }
        let payload: serde_json::Value = serde_json::from_str(payload).expect("JSON");
        for key in ["body", "body_plain", "subject", "message", "url"] {
            assert!(
                payload["data"].get(key).is_none(),
                "{} has {key}",
                with.r#type
            );
        }
    }
    // Live as well as from history, and without credentials on a gateway of its own.
    let open = Gateway::start();
    let mut stream = open.subscribe(SubscribeRequest::default()).await;
    stream.caught_up().await;
    let sample = SAMPLES.iter().find(|it| it.event_type == "email.created");
    open.accept("msg_1", sample.expect("a sample").body).await;
    let (_, event) = stream.next_event().await;
    assert_eq!(secrets(&[event]), 0);
}

#[tokio::test]
async fn a_policy_decides_on_types_sources_fields_and_payload_in_every_call() {
    let token = new_token("billing");
    let guarded = Guarded::start(&format!(
        "{}\ntypes = [\"user.*\", \"session.created\"]\nexclude_types = [\"user.deleted\"]\nsources = [\"default\"]\n\
         redact = [\"contact\", \"**.private_metadata\", \"network\"]\npayload = false\n\
         [[sources]]\nname = \"default\"\nsigning_secrets = [\"{SECRET}\"]\n\
         [[sources]]\nname = \"staging\"\nsigning_secrets = [\"{OTHER_SECRET}\"]\n",
        token.stanza
    ));
    guarded.post_samples().await;
    let gateway = &guarded.gateway;
    let staging = body("user.created", "user_staging").into();
    let answer = gateway
        .post_signed("/staging", OTHER_SECRET, "msg_staging", staging)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let mut caller = Caller::of(gateway, &token).await;

    let (started, events) = caller.history(from_earliest()).await.expect("let in");
    let received: Vec<&str> = events.iter().map(|event| event.r#type.as_str()).collect();
    assert_eq!(
        received,
        ["user.created", "user.updated", "session.created"]
    );
    let narrowed = started.narrowed.expect("narrowed");
    assert_eq!(narrowed.types, ["session.created", "user.*"]);
    assert_eq!(narrowed.exclude_types, ["user.deleted"]);
    assert_eq!(narrowed.sources, ["default"]);
    for event in &events {
        let text = format!("{event:?}");
        assert!(
            !text.contains('@') && event.http_request.is_none(),
            "{text}"
        );
        assert!(event.payload_json.is_none());
    }

    for (filter, named) in [
        (types(&["email.created"]), "types: email.created"),
        (types(&["user.deleted"]), "types: user.deleted"),
    ] {
        let request = SubscribeRequest {
            filter: filter.clone(),
            ..from_earliest()
        };
        let denied = caller
            .history(request)
            .await
            .expect_err("nothing is allowed");
        assert_eq!(denied.code(), Code::PermissionDenied);
        assert!(denied.message().contains(named), "{}", denied.message());
        assert_eq!(reason(&denied), "NOT_ALLOWED");
        let listing = caller.request(proto::ListEventsRequest {
            filter,
            ..proto::ListEventsRequest::default()
        });
        let denied = caller
            .client
            .list_events(listing)
            .await
            .expect_err("nothing is allowed");
        assert_eq!(denied.code(), Code::PermissionDenied);
    }
    let denied = caller
        .history(all_with_payload())
        .await
        .expect_err("withheld");
    assert_eq!(denied.code(), Code::PermissionDenied);
    assert!(denied.message().contains("include_payload"));

    let listing = caller.request(proto::ListEventsRequest::default());
    let listed = caller
        .client
        .list_events(listing)
        .await
        .expect("let in")
        .into_inner();
    assert_eq!(listed.events, events);
    for (id, code) in [
        ("msg_user.created", None),
        ("msg_email.created", Some(Code::NotFound)),
        ("msg_staging", Some(Code::NotFound)),
    ] {
        let getting = caller.request(proto::GetEventRequest {
            id: id.to_owned(),
            ..proto::GetEventRequest::default()
        });
        let got = caller.client.get_event(getting).await;
        assert_eq!(got.as_ref().err().map(Status::code), code, "{id}");
        if let Ok(got) = got {
            assert_eq!(got.into_inner().event.as_ref(), events.first());
        }
    }
    let about = caller.request(proto::GetLogInfoRequest {});
    let about = caller
        .client
        .get_log_info(about)
        .await
        .expect("let in")
        .into_inner();
    assert_eq!((about.event_count, about.size_bytes), (3, 0));
    let counting = caller.request(proto::ListEventTypesRequest {});
    let counted = caller
        .client
        .list_event_types(counting)
        .await
        .expect("let in")
        .into_inner();
    let counted: Vec<(&str, i64)> = counted
        .event_types
        .iter()
        .map(|it| (it.name.as_str(), it.count))
        .collect();
    assert_eq!(
        counted,
        [
            ("user.created", 1),
            ("user.updated", 1),
            ("session.created", 1)
        ]
    );
}
