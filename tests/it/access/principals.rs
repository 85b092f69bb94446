//! Who is let in, what it holds, and how that ends.

use clerkcast::proto;
use clerkcast::proto::subscribe_response::Kind;
use clerkcast::proto::{EventFilter, GetEventRequest, ListEventsRequest, SubscribeRequest};
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::{Caller, Guarded, Token, new_token, reason};
use crate::harness::{OTHER_SECRET, PATIENCE, SECRET, binary, body, eventually, from_earliest};

#[tokio::test]
async fn only_a_known_token_is_let_in_and_every_call_asks_for_it() {
    let token = new_token("billing");
    let guarded = Guarded::start(&token.stanza);
    let gateway = &guarded.gateway;
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let stranger = Token {
        secret: new_token("billing").secret,
        stanza: String::new(),
    };
    let mut nobody = Caller::anonymous(gateway).await;
    let mut strange = Caller::of(gateway, &stranger).await;
    for (caller, expected) in [
        (&mut nobody, "NO_CREDENTIALS"),
        (&mut strange, "UNKNOWN_TOKEN"),
    ] {
        let refused = caller
            .history(from_earliest())
            .await
            .expect_err("not let in");
        assert_eq!(refused.code(), Code::Unauthenticated);
        assert_eq!(reason(&refused), expected);
        let listing = caller.request(ListEventsRequest::default());
        let listed = caller.client.list_events(listing).await;
        let getting = caller.request(GetEventRequest {
            id: "msg_1".to_owned(),
            ..GetEventRequest::default()
        });
        let got = caller.client.get_event(getting).await;
        let about = caller.request(proto::GetLogInfoRequest {});
        let described = caller.client.get_log_info(about).await;
        let counting = caller.request(proto::ListEventTypesRequest {});
        let counted = caller.client.list_event_types(counting).await;
        let looking = caller.request(proto::ListSubscribersRequest::default());
        let looked = caller.client.list_subscribers(looking).await;
        for code in [
            listed.err().map(|it| it.code()),
            got.err().map(|it| it.code()),
            described.err().map(|it| it.code()),
            counted.err().map(|it| it.code()),
            looked.err().map(|it| it.code()),
        ] {
            assert_eq!(code, Some(Code::Unauthenticated));
        }
    }
    let mut known = Caller::of(gateway, &token).await;
    let (_, events) = known.history(from_earliest()).await.expect("let in");
    assert_eq!(events.len(), 1);
    let refusals = r#"clerkcast_grpc_calls_unauthenticated_total{reason="unknown_token"}"#;
    assert!(gateway.metric(refusals).await >= 6.0);
    let log = gateway.log_text();
    assert!(log.contains("caller refused"));
    assert!(!log.contains(&token.secret) && !log.contains(&stranger.secret));
    assert!(!log.contains(token.stanza.rsplit(':').next().expect("a hash")));
}

#[tokio::test]
async fn a_principal_sees_and_holds_its_own_streams_alone() {
    let [one, all] = ["one", "all"].map(new_token);
    let guarded = Guarded::start(&format!(
        "{}\nmax_streams = 2\n{}\nall_subscribers = true\n",
        one.stanza, all.stanza
    ));
    let gateway = &guarded.gateway;
    let mut one = Caller::of(gateway, &one).await;
    let mut all = Caller::of(gateway, &all).await;
    let first = one
        .subscribe(SubscribeRequest::default())
        .await
        .expect("the first");
    let _second = one
        .subscribe(SubscribeRequest::default())
        .await
        .expect("the second");
    let _other = all
        .subscribe(SubscribeRequest::default())
        .await
        .expect("another's");
    let refused = one
        .subscribe(SubscribeRequest::default())
        .await
        .expect_err("one too many");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(reason(&refused), "TOO_MANY_STREAMS");
    for (caller, expected) in [
        (&mut one, &["one", "one"][..]),
        (&mut all, &["one", "one", "all"]),
    ] {
        let looking = caller.request(proto::ListSubscribersRequest::default());
        let seen = caller
            .client
            .list_subscribers(looking)
            .await
            .expect("let in")
            .into_inner();
        let seen: Vec<&str> = seen
            .subscribers
            .iter()
            .map(|it| it.principal.as_str())
            .collect();
        assert_eq!(seen, expected);
    }
    drop(first);
    let again = tokio::time::timeout(PATIENCE, async {
        while one.subscribe(SubscribeRequest::default()).await.is_err() {
            tokio::task::yield_now().await;
        }
    });
    again.await.expect("a stream that has ended makes room");
}

#[tokio::test]
async fn a_removed_principal_s_streams_end_and_a_bad_file_changes_nothing() {
    let [kept, changed, removed] = ["kept", "changed", "removed"].map(new_token);
    let guarded = Guarded::start(&format!(
        "{}\n{}\n{}\n",
        kept.stanza, changed.stanza, removed.stanza
    ));
    let gateway = &guarded.gateway;
    let mut streams = Vec::new();
    for token in [&kept, &changed, &removed] {
        let mut caller = Caller::of(gateway, token).await;
        let stream = caller.subscribe(SubscribeRequest::default()).await;
        streams.push(stream.expect("let in"));
    }
    guarded
        .reload(
            "[[principals]]\nname = 1",
            "configuration not taken; the former stays in force",
        )
        .await;
    let with_types = format!(
        "{}\n{}\ntypes = [\"user.*\"]\n",
        kept.stanza, changed.stanza
    );
    guarded.reload(&with_types, "configuration reloaded").await;
    let mut ends = Vec::new();
    for stream in &mut streams[1..] {
        let end = async {
            loop {
                match stream.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("it ended without a reason"),
                    Err(status) => break status,
                }
            }
        };
        ends.push(tokio::time::timeout(PATIENCE, end).await.expect("it ends"));
    }
    assert_eq!(
        (ends[0].code(), reason(&ends[0])),
        (Code::Unavailable, "POLICY_CHANGED".to_owned())
    );
    assert_eq!(
        (ends[1].code(), reason(&ends[1])),
        (Code::Unauthenticated, "PRINCIPAL_REMOVED".to_owned())
    );
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    loop {
        let next = tokio::time::timeout(PATIENCE, streams[0].message()).await;
        let frame = next.expect("in time").expect("no error").expect("no end");
        if let Some(Kind::Event(event)) = frame.kind {
            assert_eq!(event.id, "msg_1");
            break;
        }
    }
    let mut gone = Caller::of(gateway, &removed).await;
    let refused = gone.history(from_earliest()).await.expect_err("removed");
    assert_eq!(refused.code(), Code::Unauthenticated);
}

/// As where the file is read while somebody writes it.
#[tokio::test]
async fn a_file_without_principals_does_not_allow_anonymous_access() {
    let guarded = Guarded::start(&new_token("billing").stanza);
    guarded.reload("# none\n", "no principals left").await;
    let mut anonymous = Caller::anonymous(&guarded.gateway).await;
    let refused = anonymous.subscribe(SubscribeRequest::default()).await;
    let refused = refused.expect_err("nobody is let in without a token");
    assert_eq!(reason(&refused), "NO_CREDENTIALS");
}

#[tokio::test]
async fn only_tokens_made_by_token_new_are_accepted() {
    // SHA-256 of nothing, and of "test", as a script may have written them down.
    let guarded = Guarded::start(
        "[[principals]]\nname = \"a\"\ntoken_hashes = [\
         \"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\", \
         \"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"]\n",
    );
    for authorization in ["Basic x", "Bearer ", "Bearer test"] {
        let mut client = guarded.gateway.client().await;
        let mut request = tonic::Request::new(SubscribeRequest::default());
        let value = authorization.parse().expect("ASCII");
        request.metadata_mut().insert("authorization", value);
        let refused = client.subscribe(request).await.expect_err("refused");
        assert_eq!(reason(&refused), "UNKNOWN_TOKEN", "{authorization}");
    }
}

#[tokio::test]
async fn a_caller_learns_of_no_source_that_it_may_not_receive() {
    let token = new_token("billing");
    let config = format!(
        "[[sources]]\nname = \"default\"\nsigning_secrets = [\"{SECRET}\"]\n\
         [[sources]]\nname = \"staging\"\nsigning_secrets = [\"{OTHER_SECRET}\"]\n{}\nsources = [\"default\"]\n",
        token.stanza
    );
    let guarded = Guarded::start(&config);
    let mut caller = Caller::of(&guarded.gateway, &token).await;
    let mut asking = async |source: &str| {
        let filter = Some(EventFilter {
            sources: vec![source.to_owned()],
            ..EventFilter::default()
        });
        let request = SubscribeRequest {
            filter,
            ..SubscribeRequest::default()
        };
        let refused = caller.subscribe(request).await;
        refused.expect_err("refused").message().to_owned()
    };
    assert!(!asking("stagin").await.contains("did you mean"));
    assert!(asking("defaul").await.contains("did you mean default?"));
}

#[tokio::test]
async fn the_audit_trail_says_who_was_sent_what_from_where_for_how_long_and_how_much() {
    let token = new_token("billing");
    let guarded = Guarded::start(&token.stanza);
    let gateway = &guarded.gateway;
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let mut caller = Caller::of(gateway, &token).await;
    let request = SubscribeRequest {
        filter: Some(EventFilter {
            types: vec!["user.*".to_owned(), "ada@example.com*".to_owned()],
            user_ids: vec!["user_1".to_owned()],
            ..EventFilter::default()
        }),
        subscriber_name: "invoices".to_owned(),
        ..from_earliest()
    };
    caller.history(request).await.expect("let in");
    let list = caller.request(ListEventsRequest::default());
    caller.client.list_events(list).await.expect("listed");
    let get = caller.request(GetEventRequest {
        id: "msg_1".to_owned(),
        ..GetEventRequest::default()
    });
    caller.client.get_event(get).await.expect("found");
    for message in ["subscriber left", "events listed", "event looked up"] {
        let told = || async { gateway.log_text().contains(message) };
        eventually(message, told).await;
    }
    let log = gateway.log_text();
    let line = log
        .lines()
        .find(|line| line.contains("subscriber left"))
        .expect("a line");
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(line["target"], "clerkcast::audit");
    assert_eq!(line["principal"], "billing");
    assert_eq!(line["subscriber"], "invoices");
    assert_eq!(line["filter"], "types=user.*,(not shown) user_ids=user_1");
    assert_eq!(line["delivered"], 1);
    assert!(line["seconds"].as_f64().is_some_and(|it| it >= 0.0));
    assert!(
        line["peer"]
            .as_str()
            .is_some_and(|it| it.starts_with("127.0.0.1:"))
    );
    assert!(!log.contains("ada@example.com"));
    for (message, field, value) in [
        ("events listed", "delivered", serde_json::json!(1)),
        ("event looked up", "id", serde_json::json!("msg_1")),
    ] {
        let line = log.lines().find(|line| line.contains(message));
        let line: serde_json::Value = serde_json::from_str(line.expect("a line")).expect("JSON");
        assert_eq!(line["target"], "clerkcast::audit");
        assert_eq!(line["principal"], "billing");
        assert_eq!(line[field], value, "{message}");
    }
}

#[tokio::test]
async fn health_and_reflection_are_open_unless_they_are_closed() {
    let token = new_token("billing");
    for (open, code) in [
        ("", None),
        ("grpc_open = \"reflection\"", Some(Code::Unauthenticated)),
    ] {
        let guarded = Guarded::start(&format!("{open}\n{}", token.stanza));
        let address = format!("http://{}", guarded.gateway.grpc);
        let endpoint = Endpoint::from_shared(address).expect("an address");
        let mut health = HealthClient::new(endpoint.connect().await.expect("connects"));
        let asked = health.check(HealthCheckRequest::default()).await;
        assert_eq!(asked.err().map(|it| it.code()), code);
    }
}

#[tokio::test]
async fn tail_sends_its_token_and_reports_a_missing_one() {
    let token = new_token("billing");
    let guarded = Guarded::start(&token.stanza);
    guarded
        .gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let server = format!("http://{}", guarded.gateway.grpc);
    let tail = |token: Option<&str>| {
        let mut command = binary();
        command.args([
            "tail",
            "--server",
            &server,
            "--from",
            "earliest",
            "--until-caught-up",
        ]);
        if let Some(token) = token {
            command.env("CLERKCAST_TOKEN", token);
        }
        command.output().expect("the binary runs")
    };
    let shown = tail(Some(&token.secret));
    assert!(shown.status.success());
    assert!(String::from_utf8_lossy(&shown.stdout).contains("msg_1"));
    let refused = tail(None);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("clerkcast token new"));
}
