//! Refusals: every client can read them, and the operator sees those of known callers.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use clerkcast::proto;
use clerkcast::proto::EventFilter;
use prost::Message as _;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::raw::{Outcome, Raw};
use crate::access::{Caller, Guarded, new_token};
use crate::harness::{Gateway, body, types};
use crate::interop::tools;

const LIST: &str = "clerkcast.v1.EventService/ListEvents";
const GET: &str = "clerkcast.v1.EventService/GetEvent";
const SUBSCRIBE: &str = "clerkcast.v1.EventService/Subscribe";

fn listing(filter: EventFilter) -> Vec<u8> {
    let request = proto::ListEventsRequest {
        filter: Some(filter),
        ..proto::ListEventsRequest::default()
    };
    request.encode_to_vec()
}

fn many(count: usize, value: &str) -> Vec<String> {
    (0..count)
        .map(|number| format!("{value}{number}"))
        .collect()
}

/// Each kind of error, by the longest input that brings it about.
fn longest() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let long = "é\n\"".repeat(4_000);
    let get = |id: &str, source: &str| {
        let request = proto::GetEventRequest {
            id: id.to_owned(),
            source: source.to_owned(),
            ..proto::GetEventRequest::default()
        };
        request.encode_to_vec()
    };
    let cursor = |cursor: &str| {
        let request = proto::ListEventsRequest {
            page_token: cursor.to_owned(),
            ..proto::ListEventsRequest::default()
        };
        request.encode_to_vec()
    };
    let named = proto::SubscribeRequest {
        subscriber_name: long.clone(),
        ..proto::SubscribeRequest::default()
    };
    vec![
        (
            "INVALID_ARGUMENT",
            LIST,
            listing(types(&["user.craeted"; 256]).expect("a filter")),
        ),
        (
            "INVALID_ARGUMENT",
            LIST,
            listing(EventFilter {
                types: many(256, &"é".repeat(120)),
                ..EventFilter::default()
            }),
        ),
        (
            "INVALID_ARGUMENT",
            LIST,
            listing(EventFilter {
                types: many(10_000, "no.such.type"),
                ..EventFilter::default()
            }),
        ),
        (
            "INVALID_ARGUMENT",
            LIST,
            listing(EventFilter {
                types: vec![long.clone()],
                ..EventFilter::default()
            }),
        ),
        (
            "INVALID_ARGUMENT",
            LIST,
            listing(EventFilter {
                user_ids: many(10_000, "nobody"),
                ..EventFilter::default()
            }),
        ),
        (
            "INVALID_ARGUMENT",
            LIST,
            listing(EventFilter {
                sources: many(1_000, "nowhere"),
                ..EventFilter::default()
            }),
        ),
        ("INVALID_ARGUMENT", LIST, cursor(&long)),
        ("INVALID_ARGUMENT", GET, get(&long, "")),
        ("INVALID_ARGUMENT", GET, get("msg_1", &long)),
        ("INVALID_ARGUMENT", SUBSCRIBE, named.encode_to_vec()),
        ("NOT_FOUND", GET, get(&"é".repeat(128), "")),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_always_readable() {
    let gateway = Gateway::start();
    let mut input = String::new();
    for (_, method, request) in longest() {
        let hex = request.iter().fold(String::new(), |mut hex, byte| {
            let _infallible = write!(hex, "{byte:02x}");
            hex
        });
        input.push_str(&format!("{method} {hex}\n"));
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/refusals.py");
    let mut child = Command::new(tools().join("venv/bin/python"))
        .arg(script)
        .arg(&gateway.grpc)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python runs");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("taken");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    let lines: Vec<&str> = printed.lines().collect();
    let all = longest();
    assert_eq!(lines.len(), all.len(), "{printed}");
    for ((code, method, _), line) in all.iter().zip(lines) {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(line["code"], *code, "{method}: {line}");
        let message = line["message"].as_str().expect("text");
        assert!((10..=1024).contains(&message.len()), "{message}");
        assert_eq!(line["domain"], "clerkcast", "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_of_a_known_caller_is_audited_and_counted() {
    let token = new_token("billing");
    let guarded = Guarded::start(&format!(
        "{}\ntypes = [\"user.*\"]\nmax_streams = 1\n",
        token.stanza
    ));
    let gateway = &guarded.gateway;
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let mut caller = Raw::connect(&gateway.grpc, Some(&token.secret), 1 << 20).await;
    let filtered = |filter| proto::ListEventsRequest {
        filter,
        ..proto::ListEventsRequest::default()
    };
    let asked = |id: &str| proto::GetEventRequest {
        id: id.to_owned(),
        ..proto::GetEventRequest::default()
    };
    let anything = proto::SubscribeRequest::default();
    let _held = caller
        .unread(SUBSCRIBE, &anything)
        .await
        .expect("the first");
    let wrong = proto::SubscribeRequest {
        max_events: -1,
        filter: types(&["user.*"]),
        ..anything.clone()
    };
    let calls = [
        (
            LIST,
            caller.call(LIST, &filtered(types(&["user.craeted"]))).await,
            "types=user.craeted",
        ),
        (
            LIST,
            caller
                .call(LIST, &filtered(types(&["email.created"])))
                .await,
            "types=email.created",
        ),
        (
            GET,
            caller.call(GET, &asked("msg_none")).await,
            "id=msg_none",
        ),
        (
            GET,
            caller.call(GET, &asked("ada@example.com")).await,
            "id=(not shown)",
        ),
        (
            SUBSCRIBE,
            caller.call(SUBSCRIBE, &anything).await,
            "everything",
        ),
        (
            SUBSCRIBE,
            caller.call(SUBSCRIBE, &wrong).await,
            "types=user.*",
        ),
    ];
    let log = gateway.log_text();
    for (method, outcome, shown) in &calls {
        let status = outcome.status();
        let details = status.get_error_details();
        let reason = details.error_info().expect("a reason").reason.clone();
        let name = method.rsplit('/').next().expect("a name");
        let line = log.lines().find(|line| {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            line["message"] == "call refused"
                && line["target"] == "clerkcast::audit"
                && line["principal"] == "billing"
                && line["method"] == name
                && line["reason"] == reason.as_str()
                && line["asked"] == *shown
        });
        assert!(line.is_some(), "{name} {reason} {shown}:\n{log}");
        let counted = format!(
            "clerkcast_grpc_calls_refused_total{{principal=\"billing\",reason=\"{}\"}}",
            reason.to_lowercase()
        );
        assert!(gateway.metric(&counted).await >= 1.0, "{counted}");
    }
    assert!(!log.contains("ada@example.com"));

    // Ten lines a second are enough; the count misses none.
    for _ in 0..100 {
        let outcome = caller.call(GET, &asked("msg_none")).await;
        assert_eq!(outcome.status().code(), Code::NotFound);
    }
    let counted =
        r#"clerkcast_grpc_calls_refused_total{principal="billing",reason="event_not_found"}"#;
    assert_eq!(gateway.metric(counted).await, 102.0);
    let mut nobody = Raw::connect(&gateway.grpc, None, 1 << 20).await;
    let refused = nobody.call(GET, &asked("msg_1")).await;
    assert!(matches!(refused, Outcome::Refused(_)));
    let unknown = r#"clerkcast_grpc_calls_refused_total{principal="",reason="no_credentials"}"#;
    assert_eq!(gateway.metric(unknown).await, 1.0);
    assert!(
        gateway
            .log_text()
            .contains("clerkcast.v1.EventService/GetEvent")
    );
}

#[tokio::test]
async fn what_a_policy_takes_away_is_told_in_every_answer() {
    let token = new_token("billing");
    let guarded = Guarded::start(&format!(
        "{}\nexclude_types = [\"sms.*\"]\nredact = [\"contact\"]\n",
        token.stanza
    ));
    guarded.post_samples().await;
    let mut caller = Caller::of(&guarded.gateway, &token).await;
    let listing = caller.request(proto::ListEventsRequest::default());
    let listed = caller.client.list_events(listing).await.expect("let in");
    let narrowed = listed
        .into_inner()
        .narrowed
        .expect("something is taken away");
    assert_eq!(narrowed.exclude_types, ["sms.*"]);
    assert_eq!(
        narrowed.redacted_fields,
        ["contact", "invitation_urls", "messages"]
    );
    for (id, expected) in [
        ("msg_email.created", &["contact", "messages"][..]),
        ("msg_user.created", &["contact"]),
    ] {
        let getting = caller.request(proto::GetEventRequest {
            id: id.to_owned(),
            ..proto::GetEventRequest::default()
        });
        let got = caller.client.get_event(getting).await.expect("let in");
        let narrowed = got.into_inner().narrowed.expect("something is taken away");
        assert_eq!(narrowed.redacted_fields, expected, "{id}");
    }
    // Where nothing is taken away, nothing is said.
    let all = new_token("all");
    let guarded = Guarded::start(&format!(
        "{}\ngrant = [\"messages\", \"invitation_urls\"]\n",
        all.stanza
    ));
    guarded.post_samples().await;
    let mut caller = Caller::of(&guarded.gateway, &all).await;
    let listing = caller.request(proto::ListEventsRequest::default());
    let listed = caller.client.list_events(listing).await.expect("let in");
    assert_eq!(listed.into_inner().narrowed, None);
}

/// A page of subscribers with large filters, and of the largest events.
#[tokio::test(flavor = "multi_thread")]
async fn no_unary_answer_exceeds_four_mebibytes() {
    const MAX: usize = 4 << 20;
    const SUBSCRIBERS: usize = 600;
    let gateway = Gateway::start();
    let text = "\u{1}".repeat(80 << 10);
    let large =
        serde_json::json!({"type": "user.imported", "data": {"id": "user_1", "text": text}});
    for number in 0..5 {
        gateway
            .accept(&format!("msg_{number}"), large.to_string())
            .await;
    }
    let mut holder = Raw::connect(&gateway.grpc, None, 1 << 16).await;
    let ids = |prefix: &str| -> Vec<String> {
        (0..10)
            .map(|it| format!("{prefix}_{}{it}", "x".repeat(240)))
            .collect()
    };
    let mut held = Vec::new();
    for number in 0..SUBSCRIBERS {
        // h2's client takes no more small frames that it has not read.
        if number % 50 == 49 {
            holder = Raw::connect(&gateway.grpc, None, 1 << 16).await;
        }
        let asked = proto::SubscribeRequest {
            filter: Some(EventFilter {
                user_ids: ids("user"),
                organization_ids: ids("org"),
                session_ids: ids("sess"),
                instance_ids: ids("ins"),
                types: vec!["user.*".to_owned()],
                ..EventFilter::default()
            }),
            subscriber_name: "n".repeat(100),
            ..proto::SubscribeRequest::default()
        };
        held.push(holder.unread(SUBSCRIBE, &asked).await.expect("open"));
    }
    let mut caller = Raw::connect(&gateway.grpc, None, 64 << 20).await;
    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let asked = proto::ListSubscribersRequest {
            page_size: 1000,
            page_token,
        };
        let method = "clerkcast.v1.EventService/ListSubscribers";
        let Outcome::Answered(bytes) = caller.call(method, &asked).await else {
            panic!("not answered");
        };
        assert!(bytes.len() <= (1 << 20) + 64, "{}", bytes.len());
        let page = proto::ListSubscribersResponse::decode(bytes).expect("a page");
        listed.extend(page.subscribers);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed.len(), SUBSCRIBERS);
    let asked = proto::ListEventsRequest {
        include_payload: true,
        page_size: 1000,
        ..proto::ListEventsRequest::default()
    };
    let Outcome::Answered(bytes) = caller.call(LIST, &asked).await else {
        panic!("not answered");
    };
    assert!(bytes.len() <= MAX, "{}", bytes.len());
    for (page_size, page_token) in [(-1, ""), (1, "x"), (1, "-1")] {
        let asked = proto::ListSubscribersRequest {
            page_size,
            page_token: page_token.to_owned(),
        };
        let method = "clerkcast.v1.EventService/ListSubscribers";
        let refused = caller.call(method, &asked).await;
        assert_eq!(refused.status().code(), Code::InvalidArgument);
    }
}
