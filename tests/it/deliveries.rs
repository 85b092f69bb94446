//! Deliveries that Clerk's own tool has recorded, in `verify` and `send`.

use std::process::Output;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::commands::{run, stderr, stdout};
use crate::harness::{Gateway, OTHER_SECRET, SECRET, from_earliest, now_seconds, sign};

const READY: &str =
    r#"{"type":"ready","relay_url":"https://relay.example/in/c_1/","forward_to":"http://a"}"#;

/// A line as `clerk webhooks listen --json` prints it.
fn line(secret: &str, id: &str, timestamp: i64, body: &str) -> String {
    let mut headers: serde_json::Map<String, Value> = sign(secret, id, timestamp, body.as_bytes())
        .into_iter()
        .map(|(name, value)| (name, value.into()))
        .collect();
    for (name, value) in [
        ("host", "relay.example"),
        ("content-length", "1"),
        ("connection", "close"),
        ("user-agent", "Svix-Webhooks/1.84.0"),
    ] {
        headers.insert(name.to_owned(), value.into());
    }
    json!({
        "type": "event",
        "svix_id": id,
        "event_type": "user.created",
        "headers": headers,
        "body_b64": STANDARD.encode(body),
        "forward_status": 502,
        "latency_ms": 3,
    })
    .to_string()
}

fn content(number: usize) -> String {
    format!("{{ \"type\": \"user.created\", \"data\": {{\"id\": \"user_{number}\"}} }}\n")
}

/// Three deliveries, the last of them with this secret.
fn recorded(directory: &TempDir, last_secret: &str) -> String {
    let now = now_seconds();
    let lines = [
        READY.to_owned(),
        line(SECRET, "msg_1", now, &content(1)),
        line(SECRET, "msg_2", now, &content(2)),
        READY.to_owned(),
        line(last_secret, "msg_3", now, &content(3)),
    ];
    let path = directory.path().join("deliveries.ndjson");
    std::fs::write(&path, lines.join("\n")).expect("written");
    path.display().to_string()
}

#[test]
fn verify_judges_each_line_that_was_recorded() {
    let directory = TempDir::new().expect("a temporary directory");
    let verify = |path: &str, more: &[&str]| -> Output {
        run(&[
            &["verify", "--secret", SECRET, "--delivery", path][..],
            more,
        ]
        .concat())
    };
    let right = recorded(&directory, SECRET);
    let all = verify(&right, &[]);
    assert!(all.status.success(), "{}", stderr(&all));
    let printed = stdout(&all);
    let verified = "\nverified: the secret made this signature";
    assert_eq!(printed.matches(verified).count(), 3, "{printed}");
    assert!(printed.starts_with("delivery 1: msg_1\n"), "{printed}");

    let wrong = recorded(&directory, OTHER_SECRET);
    let some = verify(&wrong, &["--json"]);
    assert_eq!(some.status.code(), Some(1));
    assert_eq!(stderr(&some), "clerkcast: 2 of 3 deliveries verify\n");
    let verdicts: Vec<Value> = stdout(&some)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let outcomes: Vec<(&str, bool)> = verdicts
        .iter()
        .map(|verdict| {
            let id = verdict["id"].as_str().expect("an id");
            (id, verdict["verified"] == true)
        })
        .collect();
    assert_eq!(
        outcomes,
        [("msg_1", true), ("msg_2", true), ("msg_3", false)]
    );
    std::fs::write(&wrong, READY).expect("written");
    let none = verify(&wrong, &[]);
    assert_eq!(none.status.code(), Some(2));
    assert!(stderr(&none).contains("`clerk webhooks listen --json`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn send_posts_recorded_deliveries_with_their_own_headers() {
    let gateway = Gateway::start();
    let url = gateway.webhook_url();
    let directory = TempDir::new().expect("a temporary directory");
    let send = |path: &str| run(&["send", "--delivery", path, "--url", &url]);
    let path = recorded(&directory, SECRET);
    let sent = send(&path);
    assert!(sent.status.success(), "{}", stderr(&sent));
    assert_eq!(stderr(&sent), "clerkcast: 3 of 3 were accepted\n");
    let again = send(&path);
    assert_eq!(stdout(&again).matches("duplicate").count(), 3);
    let request = clerkcast::proto::SubscribeRequest {
        include_payload: true,
        ..from_earliest()
    };
    let events = gateway.history(request).await;
    let found: Vec<(&str, &str)> = events
        .iter()
        .map(|event| {
            (
                &*event.id,
                event.payload_json.as_deref().unwrap_or_default(),
            )
        })
        .collect();
    let expected = [1, 2, 3].map(|number| (format!("msg_{number}"), content(number)));
    let expected: Vec<(&str, &str)> = expected
        .iter()
        .map(|(id, body)| (id.as_str(), body.as_str()))
        .collect();
    assert_eq!(found, expected);

    // Neither signed again nor with another time.
    let old = line(SECRET, "msg_4", now_seconds() - 3600, &content(4));
    std::fs::write(&path, old).expect("written");
    let refused = send(&path);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(stderr(&refused), "clerkcast: 0 of 1 was accepted\n");
    assert!(
        stdout(&refused).starts_with("400 user.created"),
        "{refused:?}"
    );
    let both = run(&["send", "--delivery", &path, "--secret", SECRET]);
    assert_eq!(both.status.code(), Some(2));
}
