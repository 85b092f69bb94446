//! What lies outside a caller's scope does not stand in the way of what lies inside.

use clerkcast::proto::GetEventRequest;
use tonic::Code;

use super::{Caller, Guarded, new_token, reason};
use crate::harness::{OTHER_SECRET, SECRET, body};
use crate::nats::Place;

/// Two endpoints of one instance share ids. Whichever copy came first, and on both logs.
#[tokio::test]
async fn get_event_finds_the_copy_that_the_caller_may_receive() {
    for place in [Place::embedded(), Place::nats()] {
        let [of_first, of_second, of_types] = ["first", "second", "types"].map(new_token);
        let config = format!(
            "[[sources]]\nname = \"first\"\nsigning_secrets = [\"{SECRET}\"]\n\
             [[sources]]\nname = \"second\"\nsigning_secrets = [\"{OTHER_SECRET}\"]\n\
             {}\nsources = [\"first\"]\n\n{}\nsources = [\"second\"]\n\n{}\ntypes = [\"session.*\"]\n",
            of_first.stanza, of_second.stanza, of_types.stanza
        );
        let guarded = Guarded::start_on(&place, &config, &[]);
        let gateway = &guarded.gateway;
        // The same id again, of another type: no scope may take one for the other.
        for (id, source, secret, event_type) in [
            ("msg_1", "first", SECRET, "user.created"),
            ("msg_1", "second", OTHER_SECRET, "session.created"),
            ("msg_2", "second", OTHER_SECRET, "user.created"),
            ("msg_2", "first", SECRET, "session.created"),
        ] {
            let event = body(event_type, "user_1").into();
            let answer = gateway
                .post_signed(&format!("/{source}"), secret, id, event)
                .await;
            assert_eq!(answer.status, 200, "{}", answer.text);
        }
        let sources = [
            (&of_first, ["first", "first"]),
            (&of_second, ["second", "second"]),
            (&of_types, ["second", "first"]),
        ];
        for (token, expected) in sources {
            let mut caller = Caller::of(gateway, token).await;
            for (id, source) in ["msg_1", "msg_2"].into_iter().zip(expected) {
                let found = get(&mut caller, id, "").await.expect("its copy");
                assert_eq!(found, source, "{id}");
                let named = get(&mut caller, id, source).await.expect("its copy");
                assert_eq!(named, source, "{id}");
                let other = ["first", "second"][usize::from(source == "first")];
                let hidden = get(&mut caller, id, other).await.expect_err("hidden");
                assert_eq!(hidden.code(), Code::NotFound);
                assert_eq!(reason(&hidden), "EVENT_NOT_FOUND");
            }
        }
    }
}

/// Returns the source of the event that is found.
async fn get(caller: &mut Caller, id: &str, source: &str) -> Result<String, tonic::Status> {
    let request = caller.request(GetEventRequest {
        id: id.to_owned(),
        source: source.to_owned(),
        ..GetEventRequest::default()
    });
    let found = caller.client.get_event(request).await?.into_inner();
    Ok(found.event.expect("set").source)
}
