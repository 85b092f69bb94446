//! `clerkcast info`, `get`, `types` and `subscribers`.

use std::process::Output;

use clerkcast::proto::{EventFilter, ListSubscribersRequest, SubscribeRequest};
use serde_json::Value;

use crate::commands::{stderr, stdout};
use crate::harness::{Gateway, Options, binary, body, eventually};

/// With large filters, more than a page holds.
const SUBSCRIBERS: usize = 450;

fn run(gateway: &Gateway, args: &[&str]) -> Output {
    let mut command = binary();
    command
        .args(args)
        .env("CLERKCAST_GRPC_URL", format!("http://{}", gateway.grpc));
    command.output().expect("it runs")
}

#[track_caller]
fn succeeded(gateway: &Gateway, args: &[&str]) -> String {
    let output = run(gateway, args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

fn objects(text: &str) -> Vec<Value> {
    let lines = text.lines().map(serde_json::from_str);
    lines.map(|line| line.expect("JSON")).collect()
}

/// The value that stands beside a name.
#[track_caller]
fn value<'a>(table: &'a str, name: &str) -> &'a str {
    let mut values = table.lines().filter_map(|line| line.strip_prefix(name));
    let value = values.find(|rest| rest.starts_with(' '));
    value.unwrap_or_else(|| panic!("no {name}: {table}")).trim()
}

#[tokio::test(flavor = "multi_thread")]
async fn info_describes_the_log() {
    let gateway = Gateway::start_with(Options::args(&["--retain-bytes", "64MiB"]));
    let empty = succeeded(&gateway, &["info"]);
    assert_eq!(value(&empty, "events"), "0");
    assert_eq!(value(&empty, "oldest received"), "-");
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let info = succeeded(&gateway, &["info"]);
    assert_eq!(value(&info, "events"), "1");
    assert_eq!(value(&info, "retain for"), "30d");
    assert_eq!(value(&info, "retain bytes"), "64 MiB");
    assert!(value(&info, "newest received").ends_with('Z'), "{info}");
    let [json] = &objects(&succeeded(&gateway, &["info", "--json"]))[..] else {
        panic!("one object");
    };
    assert_eq!(json["event_count"], "1");
    assert_eq!(json["epoch"], value(&info, "epoch"));
    let cursor = value(&info, "newest cursor");
    assert_eq!(json["newest_cursor"], cursor);
    gateway
        .accept("msg_2", body("user.created", "user_1"))
        .await;
    let rest = succeeded(&gateway, &["tail", "--after", cursor, "--until-caught-up"]);
    assert!(rest.contains("msg_2") && rest.lines().count() == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn get_prints_one_event() {
    let gateway = Gateway::start();
    let content = body("user.created", "user_1");
    gateway.accept("msg_1", content.clone()).await;
    let event = succeeded(&gateway, &["get", "msg_1"]);
    assert_eq!(value(&event, "id"), "msg_1");
    assert_eq!(value(&event, "type"), "user.created");
    assert_eq!(value(&event, "user"), "user_1");
    assert!(!event.contains("organization"), "{event}");
    assert!(!event.contains('{'), "{event}");
    let with_body = succeeded(&gateway, &["get", "msg_1", "-v"]);
    let printed: String = with_body
        .lines()
        .skip_while(|line| *line != "    {")
        .collect();
    let printed: Value = serde_json::from_str(&printed).expect("JSON");
    let expected: Value = serde_json::from_str(&content).expect("JSON");
    assert_eq!(printed, expected);
    let args = ["get", "msg_1", "--json", "--include-payload"];
    let [json] = &objects(&succeeded(&gateway, &args))[..] else {
        panic!("one object");
    };
    assert_eq!(json["event"]["payload_json"], content);
    assert_eq!(json["cursor"], value(&event, "cursor"));

    for args in [
        &["get", "msg_2"][..],
        &["get", "msg_1", "--source", "other"],
    ] {
        let absent = run(&gateway, args);
        let said = stderr(&absent);
        assert_eq!(absent.status.code(), Some(1), "{said}");
        assert!(
            said.starts_with("clerkcast: no event with this id"),
            "{said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn types_are_listed_with_their_events() {
    let gateway = Gateway::start();
    for (id, name) in [("msg_1", "user.created"), ("msg_2", "planet.created")] {
        gateway.accept(id, body(name, "user_1")).await;
    }
    let types = succeeded(&gateway, &["types"]);
    let rows: Vec<Vec<&str>> = types
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0], ["TYPE", "EVENTS", "MESSAGE"]);
    assert_eq!(rows.len(), 48);
    assert!(rows.contains(&vec!["user.created", "1", "clerkcast.clerk.v1.User"]));
    assert!(rows.contains(&vec!["planet.created", "1", "google.protobuf.Struct"]));
    assert!(rows.contains(&vec!["user.updated", "0", "clerkcast.clerk.v1.User"]));
    let json = objects(&succeeded(&gateway, &["types", "--json"]));
    assert_eq!(json.len(), 47);
    assert_eq!(json[46]["name"], "planet.created");
}

/// A filter that takes some kilobytes in a list of subscribers.
fn large_filter() -> EventFilter {
    let ids = |prefix: &str| {
        let numbers = 0..10;
        let ids = numbers.map(|number| format!("{prefix}{number}{}", "x".repeat(55)));
        ids.collect::<Vec<_>>()
    };
    EventFilter {
        user_ids: ids("user_"),
        organization_ids: ids("org_"),
        session_ids: ids("sess_"),
        instance_ids: ids("ins_"),
        ..EventFilter::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_are_listed_page_by_page() {
    let gateway = Gateway::start();
    let none = run(&gateway, &["subscribers"]);
    assert!(none.status.success() && stdout(&none).is_empty());
    assert_eq!(stderr(&none), "clerkcast: no subscribers are connected\n");
    let mut streams = Vec::new();
    let mut client = gateway.client().await;
    for number in 0..SUBSCRIBERS {
        if number % 50 == 0 {
            client = gateway.client().await;
        }
        let request = SubscribeRequest {
            subscriber_name: format!("crm {number}"),
            filter: Some(large_filter()),
            ..SubscribeRequest::default()
        };
        let stream = client.subscribe(request).await.expect("subscribed");
        streams.push(stream.into_inner());
    }
    let request = ListSubscribersRequest {
        page_size: 1000,
        ..ListSubscribersRequest::default()
    };
    let page = client.list_subscribers(request).await.expect("a page");
    assert_ne!(page.into_inner().next_page_token, "", "two pages");
    let are_live = || async {
        let json = objects(&succeeded(&gateway, &["subscribers", "--json"]));
        assert_eq!(json.len(), SUBSCRIBERS);
        assert_eq!(
            json[SUBSCRIBERS - 1]["name"],
            format!("crm {}", SUBSCRIBERS - 1)
        );
        json.iter()
            .all(|one| one["state"] == "SUBSCRIBER_STATE_LIVE")
    };
    eventually("all are live", are_live).await;
    let table = succeeded(&gateway, &["subscribers"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), SUBSCRIBERS + 1);
    assert!(lines[0].starts_with("NAME  "), "{}", lines[0]);
    let cells = lines[1].split("  ").filter(|cell| !cell.is_empty());
    let cells: Vec<&str> = cells.map(str::trim).collect();
    assert_eq!(cells[..6], ["crm 0", "anonymous", "live", "0", "0.0s", "0"]);
    assert!(cells[7].starts_with("127.0.0.1:"), "{}", lines[1]);
}

#[test]
fn commands_name_what_to_do_about_a_gateway_that_does_not_answer() {
    for args in [
        &["info"][..],
        &["get", "msg_1"],
        &["types"],
        &["subscribers"],
    ] {
        let output = binary()
            .args(args)
            .args(["--server", "http://127.0.0.1:1"])
            .output()
            .expect("it runs");
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("--server names another"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
