//! `clerkcast copy`: growing is not starting over.

use std::path::Path;
use std::process::Output;

use clerkcast::clerk::samples::SAMPLES;
use clerkcast::proto::subscribe_request::Start;
use clerkcast::proto::{Event, SubscribeRequest};
use tempfile::TempDir;

use crate::harness::{Gateway, Options, binary, body, eventually, from_earliest, start_unsealed};
use crate::nats::place::on;
use crate::nats::server::Server;

const UNSEALED: &str = "[anonymous]\ngrant = [\"messages\", \"invitation_urls\"]\n";

fn copy(directory: &Path, args: &[&str]) -> Output {
    let output = binary()
        .arg("copy")
        .args(args)
        .current_dir(directory)
        .output();
    output.expect("it runs")
}

#[track_caller]
fn copied(directory: &Path, args: &[&str]) -> String {
    let output = copy(directory, args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {said}");
    said
}

async fn everything(gateway: &Gateway) -> Vec<Event> {
    let request = SubscribeRequest {
        include_payload: true,
        ..from_earliest()
    };
    gateway.history(request).await
}

fn unsealed(directory: &Path, more: Options) -> Options {
    let file = directory.join("clerkcast.toml");
    std::fs::write(&file, UNSEALED).expect("written");
    let mut options = more;
    options.args.push("--config".to_owned());
    options.args.push(file.display().to_string());
    options
}

/// From the embedded log to a stream, into each kind of file, and back: every event is
/// there, with its id, its times, its body byte for byte, typed, and in its place.
#[tokio::test(flavor = "multi_thread")]
async fn lossless_a_log_is_copied_to_a_stream_and_files_and_back() {
    let (gateway, _config) = start_unsealed();
    for sample in SAMPLES {
        let id = format!("msg_{}", sample.event_type);
        gateway.accept(&id, sample.body).await;
    }
    gateway.accept("msg_ping", r#"{"success":true}"#).await;
    gateway.accept("msg_text", "no JSON: \u{2028} \\ \"").await;
    let expected = everything(&gateway).await;
    let stopped = gateway.stopped();
    let count = expected.len();

    let directory = TempDir::new().expect("a temporary directory");
    let here = directory.path();
    let server = Server::start();
    let url = server.url();
    let embedded = stopped.data_dir().display().to_string();
    let told = format!("{count} events copied, 0 were there already");
    let repeated = format!("0 events copied, {count} were there already");
    let nats = ["--nats-url", &url];
    for (args, told) in [
        (&[&embedded, "nats", nats[0], nats[1]][..], &told),
        (&[&embedded, "nats", nats[0], nats[1]], &repeated),
        (&["nats", "a.ndjson", nats[0], nats[1]], &told),
        (&["a.ndjson", "b.binpb"], &told),
        (&["b.binpb", "again"], &told),
        (&["b.binpb", "again"], &repeated),
    ] {
        let said = copied(here, args);
        assert!(said.contains(told), "{args:?}: {said}");
    }
    let lines = std::fs::read_to_string(here.join("a.ndjson")).expect("there");
    assert_eq!(lines.lines().count(), count);

    let gateway = Gateway::start_with(unsealed(here, on(&[&server])));
    assert_eq!(everything(&gateway).await, expected);
    // A subscriber goes on where it was by the time that it knows.
    let handled = &expected[20];
    let since = SubscribeRequest {
        start: handled.receive_time.map(Start::StartTime),
        ..SubscribeRequest::default()
    };
    let rest = gateway.history(since).await;
    let first = rest.iter().position(|event| event.id == handled.id);
    let first = first.expect("what was received in that millisecond comes again");
    assert_eq!(rest.len() - first, count - 20);

    let again = std::sync::Arc::new(TempDir::new_in(here).expect("a directory"));
    std::fs::rename(
        here.join("again/clerkcast.db"),
        again.path().join("clerkcast.db"),
    )
    .expect("moved");
    let gateway = Gateway::start_in(again, unsealed(here, Options::default()));
    assert_eq!(everything(&gateway).await, expected);
}

/// Retention has removed an event, and Svix still resends it: also to the copy.
#[tokio::test(flavor = "multi_thread")]
async fn unique_ids_outlive_their_records_and_a_copy() {
    let directory = TempDir::new().expect("a temporary directory");
    let here = directory.path();
    let retaining = Options::args(&["--retain-for", "1h"]);
    let gateway = Gateway::start_with(retaining.clone());
    let event = body("user.created", "user_1");
    for id in ["msg_old", "msg_forgotten", "msg_kept"] {
        gateway.accept(id, event.clone()).await;
    }
    let stopped = gateway.stopped();
    let database = rusqlite::Connection::open(stopped.database()).expect("opens");
    let age = "UPDATE record SET receive_time_ms = receive_time_ms - ?1 WHERE position = ?2";
    for (hours, position) in [(2, 1), (30, 2)] {
        let aged = database.execute(age, [hours * 3_600_000, position]);
        assert_eq!(aged.expect("aged"), 1);
    }
    drop(database);
    let gateway = stopped.restarted();
    eventually("retention has removed both", || async {
        gateway.metric("clerkcast_log_events").await == 1.0
    })
    .await;
    let stopped = gateway.stopped();
    let from = stopped.data_dir().display().to_string();
    let said = copied(here, &[&from, "copy"]);
    assert!(
        said.contains("1 events copied, 0 were there already"),
        "{said}"
    );
    assert!(said.contains("1 ids of removed events"), "{said}");
    let said = copied(here, &[&from, "copy"]);
    assert!(
        said.contains("0 events copied, 1 were there already"),
        "{said}"
    );
    assert!(!said.contains("ids of removed events"), "{said}");

    let copy = std::sync::Arc::new(TempDir::new_in(here).expect("a directory"));
    let database = "clerkcast.db";
    std::fs::rename(here.join("copy").join(database), copy.path().join(database)).expect("moved");
    let gateway = Gateway::start_in(copy, retaining);
    for (id, is_duplicate) in [
        ("msg_old", true),
        ("msg_kept", true),
        ("msg_forgotten", false),
    ] {
        let answer = gateway.post(id, event.clone()).await;
        assert_eq!(answer.json()["duplicate"], is_duplicate, "{id}");
    }
}

#[tokio::test]
async fn events_that_cannot_be_copied_are_reported_with_a_remedy_and_without_content() {
    let gateway = Gateway::start();
    gateway.accept("msg_1", r#"{"type":"x"}"#).await;
    let directory = TempDir::new().expect("a temporary directory");
    let here = directory.path();
    let in_use = gateway.data_dir().display().to_string();
    let server = Server::start();
    let url = server.url();
    std::fs::write(here.join("there.ndjson"), "").expect("written");
    let secret = r#"{"id":"msg_1","source":"default","payload_json":{"otp":"123456"}}"#;
    std::fs::write(here.join("wrong.ndjson"), secret).expect("written");
    std::fs::write(here.join("cut.binpb"), [200, 1, 10, 5]).expect("written");
    let incomplete = r#"{"id":"msg_1","source":"default","payload_json":"{}"}"#;
    std::fs::write(here.join("incomplete.ndjson"), incomplete).expect("written");
    let whole = r#"{"id":"msg_1","source":"default","send_time":"2026-01-01T00:00:00Z","receive_time":"2026-01-01T00:00:00Z","payload_json":"{}"}"#;
    std::fs::write(here.join("two.ndjson"), format!("{whole}{whole}\n")).expect("written");
    for (args, told) in [
        (&[&in_use, "a.ndjson"][..], "in use by another clerkcast"),
        (
            &["nowhere", "a.ndjson"],
            "there is no log in this directory",
        ),
        (&["wrong.ndjson", "there.ndjson"], "file exists"),
        (&["events.json", "data"], "ends in .ndjson or .binpb"),
        (&["nats", "a.ndjson"], "needs --nats-url"),
        (
            &["nats", "a.ndjson", "--nats-url", &url],
            "there is no stream CLERKCAST",
        ),
        (&["wrong.ndjson", "data"], "wrong.ndjson: event 1"),
        (&["two.ndjson", "data"], "two.ndjson: event 1"),
        (&["cut.binpb", "data"], "the file ends within it"),
        (&["incomplete.ndjson", "data"], "it has no receive_time"),
        (&["data", "data"], "both where to copy from"),
    ] {
        let output = copy(here, args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{args:?}: {said}");
        assert!(said.contains(told), "{args:?}: {said}");
        assert!(!said.contains("123456"), "{said}");
    }
    assert!(
        !here.join("a.ndjson").exists(),
        "it has its name once it is whole"
    );
}
