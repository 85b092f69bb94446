//! The commands for subscriptions, as they are typed.

use std::process::{Command, Output, Stdio};

use clerkcast::proto::Subscription;
use serde_json::Value;

use super::{Caller, event_id, named, until};
use crate::client::free_port;
use crate::commands::{stderr, stdout};
use crate::harness::{Gateway, Options, binary, body, eventually};
use crate::interop::tools;
use crate::worker::work::Process;

/// Runs `clerkcast subscription …` against the gateway.
fn subscription(gateway: &Gateway, args: &[&str]) -> Output {
    let mut command = binary();
    command
        .arg("subscription")
        .args(args)
        .env("CLERKCAST_GRPC_URL", format!("http://{}", gateway.grpc))
        .stdin(Stdio::null());
    command.output().expect("it runs")
}

/// Standard output of a command that succeeds.
#[track_caller]
fn succeeded(gateway: &Gateway, args: &[&str]) -> String {
    let output = subscription(gateway, args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

/// Standard error of a command that fails.
#[track_caller]
fn failed(gateway: &Gateway, args: &[&str]) -> String {
    let output = subscription(gateway, args);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{args:?}: {}",
        stderr(&output)
    );
    assert_eq!(stdout(&output), "");
    stderr(&output)
}

/// The only line of JSON.
fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The second word of the second line of a table.
fn state_in(table: &str) -> Option<&str> {
    table.lines().nth(1)?.split_whitespace().nth(1)
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_manage_a_subscription() {
    let gateway = Gateway::start();
    let none = subscription(&gateway, &["list"]);
    assert!(none.status.success());
    assert_eq!(stdout(&none), "");
    assert!(stderr(&none).contains("`clerkcast subscription create NAME` creates one"));

    let create = ["create", "crm", "--type", "user.*", "--from", "earliest"];
    let created = succeeded(&gateway, &create);
    assert!(created.starts_with("NAME"), "{created}");
    assert_eq!(state_in(&created), Some("active"));
    // As a deployment does at each start.
    succeeded(&gateway, &create);
    let differs = failed(&gateway, &[&create[..], &["--ack-deadline", "1m"]].concat());
    assert!(
        differs.contains("another ack_deadline: update it, or delete it first; `clerkcast subscription update crm`"),
        "{differs}"
    );
    let misspelt = failed(&gateway, &["create", "crm2", "--type", "user.craeted"]);
    assert!(
        misspelt.contains("did you mean user.created?"),
        "{misspelt}"
    );

    let settings = [
        "--ack-deadline",
        "2m",
        "--max-deliveries",
        "5",
        "--on-expired",
        "earliest",
    ];
    succeeded(&gateway, &[&["update", "crm"], &settings[..]].concat());
    let listed = json_of(&succeeded(&gateway, &["list", "--json"]));
    assert_eq!(listed["name"], "crm");
    assert_eq!(listed["ack_deadline"], "120s");
    assert_eq!(listed["max_deliveries"], 5);
    assert_eq!(listed["on_expired"], "EXPIRED_CURSOR_POLICY_EARLIEST");
    assert_eq!(listed["filter"]["types"], serde_json::json!(["user.*"]));
    let nothing = subscription(&gateway, &["update", "crm"]);
    assert_eq!(nothing.status.code(), Some(2));

    assert_eq!(
        state_in(&succeeded(&gateway, &["pause", "crm"])),
        Some("paused")
    );
    assert_eq!(
        state_in(&succeeded(&gateway, &["resume", "crm"])),
        Some("active")
    );

    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let lag_in = |table: &str| {
        let line = table.lines().nth(1).expect("a line");
        line.split_whitespace().nth(2).map(str::to_owned)
    };
    assert_eq!(
        lag_in(&succeeded(&gateway, &["list"])).as_deref(),
        Some("1")
    );
    let moved = succeeded(&gateway, &["seek", "crm", "--to", "latest"]);
    assert_eq!(lag_in(&moved).as_deref(), Some("0"));
    let moved = succeeded(&gateway, &["seek", "crm", "--to", "2020-01-01T00:00:00Z"]);
    assert_eq!(lag_in(&moved).as_deref(), Some("1"));
    let cursor = json_of(&succeeded(&gateway, &["list", "crm", "--json"]));
    let cursor = cursor["cursor"].as_str().expect("a cursor");
    succeeded(&gateway, &["seek", "crm", "--to", cursor]);

    let unknown = failed(&gateway, &["pause", "crn"]);
    assert!(unknown.contains("crm"), "{unknown}");
    assert!(
        unknown.contains("`clerkcast subscription list`"),
        "{unknown}"
    );
    assert_eq!(succeeded(&gateway, &["delete", "crm"]), "crm is deleted\n");
    assert_eq!(succeeded(&gateway, &["list"]), "");
}

#[tokio::test]
async fn commands_about_subscriptions_say_when_there_is_no_gateway() {
    let output = binary()
        .args(["subscription", "list", "--server", "http://127.0.0.1:1"])
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let report = stderr(&output);
    assert!(report.contains("is the gateway running?"), "{report}");
    assert_eq!(report.lines().count(), 1, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_show_replay_and_drop_dead_letters() {
    let gateway = Gateway::start();
    for (id, user) in [
        ("msg_1", "user_1"),
        ("msg_2", "user_2"),
        ("msg_3", "user_3"),
    ] {
        gateway.accept(id, body("user.created", user)).await;
    }
    let mut caller = Caller::of(&gateway).await;
    caller.create(named("crm")).await.expect("created");
    let none = subscription(&gateway, &["dead", "crm"]);
    assert!(none.status.success() && stdout(&none).is_empty());
    assert!(stderr(&none).contains("crm has no dead letters"));

    let mut worker = caller.worker("crm").await;
    for _ in 0..3 {
        let delivery = worker.delivery().await;
        caller
            .reject("crm", &delivery, "no such user\nat step 2")
            .await;
    }
    let shown = succeeded(&gateway, &["dead", "crm"]);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 3, "{shown}");
    assert!(
        lines[0].ends_with("msg_1  no such user at step 2"),
        "{shown}"
    );
    let shown = succeeded(&gateway, &["dead", "crm", "--json", "--include-payload"]);
    let letter = json_of(shown.lines().nth(1).expect("a line"));
    assert_eq!(letter["event"]["id"], "msg_2");
    assert_eq!(letter["reason"], "no such user\nat step 2");
    assert_eq!(letter["deliveries"], 1);
    let payload = letter["event"]["payload_json"].as_str().expect("a body");
    assert!(payload.contains("user_2"));

    let replay = subscription(&gateway, &["replay", "crm", "msg_2", "msg_9"]);
    assert!(replay.status.success(), "{}", stderr(&replay));
    assert_eq!(stdout(&replay), "1 to be handed out again\n");
    assert!(
        stderr(&replay).contains("1 of 2 ids"),
        "{}",
        stderr(&replay)
    );
    let again = worker.delivery().await;
    assert!(again.replayed);
    caller
        .acknowledge("crm", &[&again.ack_id])
        .await
        .expect("stored");
    assert_eq!(
        succeeded(&gateway, &["drop", "crm", "msg_1"]),
        "1 dropped\n"
    );
    assert_eq!(
        succeeded(&gateway, &["drop", "crm", "--all"]),
        "1 dropped\n"
    );
    assert_eq!(succeeded(&gateway, &["dead", "crm"]), "");
    // Neither ids nor all of them, and both.
    for args in [&["drop", "crm"][..], &["drop", "crm", "msg_1", "--all"]] {
        assert_eq!(subscription(&gateway, args).status.code(), Some(2));
    }
}

/// Handles again what fails, in the order of each user.
#[tokio::test(flavor = "multi_thread")]
async fn work_redelivers_what_fails_and_keeps_the_order_of_a_user() {
    let gateway = Gateway::start();
    let mut caller = Caller::of(&gateway).await;
    let settings = Subscription {
        min_retry_delay: Some(prost_types::Duration {
            seconds: 0,
            nanos: 100_000_000,
        }),
        ..named("crm")
    };
    caller.create(settings).await.expect("created");
    for number in 0..6 {
        let user = format!("user_{}", number % 2);
        let id = format!("msg_{number}");
        gateway.accept(&id, body("user.updated", &user)).await;
    }
    let script = "echo $CLERKCAST_EVENT_ID $CLERKCAST_ATTEMPT >> runs
        [ $CLERKCAST_EVENT_ID != msg_0 ] || [ $CLERKCAST_ATTEMPT = 3 ]";
    let server = format!("http://{}", gateway.grpc);
    let flags = ["--concurrency", "4", "--until-handled"];
    let mut work = Process::work(&server, &flags, script);
    assert_eq!(work.ended().await.code(), Some(0), "{}", work.stderr());
    let runs = work.file("runs");
    let of = |ids: [&str; 3]| {
        let lines = runs.lines().filter(|line| ids.contains(&&line[..5]));
        lines.collect::<Vec<_>>()
    };
    let even = ["msg_0 1", "msg_0 2", "msg_0 3", "msg_2 1", "msg_4 1"];
    assert_eq!(of(["msg_0", "msg_2", "msg_4"]), even);
    let odd = ["msg_1 1", "msg_3 1", "msg_5 1"];
    assert_eq!(of(["msg_1", "msg_3", "msg_5"]), odd);
    assert!(work.stderr().ends_with("6 events handled, 2 failed"));
    let now = caller.look("crm").await;
    assert_eq!((now.acknowledged_count, now.dead_count), (6, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn work_outlives_a_restart_of_the_gateway() {
    let address = free_port();
    let mut gateway = Gateway::start_with(Options::args(&["--grpc-listen", &address]));
    let mut caller = Caller::of(&gateway).await;
    caller.create(named("crm")).await.expect("created");
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let script = "echo $CLERKCAST_EVENT_ID $CLERKCAST_ATTEMPT >> runs
        while [ ! -e go ]; do sleep 0.05; done";
    let mut work = Process::work(&format!("http://{address}"), &["--max", "2"], script);
    eventually("the command runs", async || !work.file("runs").is_empty()).await;
    gateway.kill();
    work.reports("connection lost").await;
    work.write("go");
    work.reports("acknowledgements are not answered").await;
    let gateway = gateway.restarted();
    gateway
        .accept("msg_2", body("user.created", "user_1"))
        .await;
    assert_eq!(work.ended().await.code(), Some(0), "{}", work.stderr());
    // Acknowledged over another connection, and handed to nobody else meanwhile.
    assert_eq!(work.file("runs"), "msg_1 1\nmsg_2 1\n");
    let mut caller = Caller::of(&gateway).await;
    let now = caller.look("crm").await;
    assert_eq!((now.acknowledged_count, now.outstanding_count), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_is_stopped_leaves_the_rest_to_others() {
    let gateway = Gateway::start();
    let server = format!("http://{}", gateway.grpc);
    let mut caller = Caller::of(&gateway).await;
    caller.create(named("crm")).await.expect("created");
    for (id, user) in [
        ("msg_1", "user_1"),
        ("msg_2", "user_2"),
        ("msg_3", "user_1"),
    ] {
        gateway.accept(id, body("user.created", user)).await;
    }
    let script = "echo $CLERKCAST_EVENT_ID >> runs; while [ ! -e go ]; do sleep 0.05; done";
    let mut work = Process::work(&server, &[], script);
    eventually("the command runs", async || !work.file("runs").is_empty()).await;
    work.signal("-TERM");
    let no_worker = |now: &Subscription| now.worker_count == 0;
    until(&mut caller, "crm", "the stream has ended", no_worker).await;
    // It holds the event of one user, so the other's is free.
    let mut other = caller.worker("crm").await;
    let delivery = other.delivery().await;
    assert_eq!((event_id(&delivery), delivery.attempt), ("msg_2", 1));
    work.write("go");
    assert_eq!(work.ended().await.code(), Some(0), "{}", work.stderr());
    assert_eq!(work.file("runs"), "msg_1\n");
    assert_eq!(event_id(&other.delivery().await), "msg_3");
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_prints_and_acknowledges_the_events_of_a_subscription() {
    let gateway = Gateway::start();
    let server = format!("http://{}", gateway.grpc);
    let mut caller = Caller::of(&gateway).await;
    caller.create(named("crm")).await.expect("created");
    for number in 0..20 {
        let id = format!("msg_{number}");
        gateway.accept(&id, body("user.created", "user_1")).await;
    }
    let args = ["tail", "--subscription", "crm", "--max", "3"];
    let mut tail = Process::start(&server, &args);
    assert_eq!(tail.ended().await.code(), Some(0), "{}", tail.stderr());
    assert_eq!(tail.file("stdout").lines().count(), 3);
    assert_eq!(caller.look("crm").await.acknowledged_count, 3);
    let args = [
        "tail",
        "--subscription",
        "crm",
        "--until-caught-up",
        "--json",
    ];
    let mut tail = Process::start(&server, &args);
    assert_eq!(tail.ended().await.code(), Some(0), "{}", tail.stderr());
    let printed = tail.file("stdout");
    assert_eq!(printed.lines().count(), 17, "{printed}");
    let first = json_of(printed.lines().next().expect("a line"));
    assert_eq!(first["delivery"]["event"]["id"], "msg_3");
    assert_eq!(caller.look("crm").await.acknowledged_count, 20);

    let unknown = ["tail", "--subscription", "crn"];
    let mut refused = Process::start(&server, &unknown);
    assert_eq!(refused.ended().await.code(), Some(1));
    let report = refused.stderr();
    assert!(report.contains("`clerkcast subscription list`"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_in_python_needs_no_client_of_ours() {
    let gateway = Gateway::start();
    for number in 0..5 {
        let id = format!("msg_{number}");
        gateway.accept(&id, body("user.created", "user_1")).await;
    }
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/worker.py");
    let output = Command::new(tools().join("venv/bin/python"))
        .arg(script)
        .args(["--grpc", &gateway.grpc, "--dead", "msg_2"])
        .output()
        .expect("python runs");
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output), "msg_0\nmsg_1\nmsg_3\nmsg_4\n");
    let mut caller = Caller::of(&gateway).await;
    let now = caller.look("python").await;
    assert_eq!((now.acknowledged_count, now.dead_count), (4, 1));
}
