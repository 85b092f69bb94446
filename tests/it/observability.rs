//! What a gateway says of itself: log lines and counters.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use bytes::Bytes;
use tempfile::TempDir;

use crate::harness::{
    Gateway, OTHER_SECRET, Options, SECRET, after, binary, body, eventually, from_earliest,
};

const CONFIG: &str = "retain_for = \"36h\"\n\
    [[sources]]\nname = \"production\"\nsigning_secrets = [\"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD\"]\ninstance_id = \"ins_1\"\n\
    [[sources]]\nname = \"staging\"\nsigning_secrets = [\"whsec_plJ3nmyCDGBKInavdOK15jsl\"]\n\
    [[principals]]\nname = \"billing\"\n\
    token_hash = \"sha256:715342a7f0f617a41815b5615f866ebaa82d0e37fb211bcfb784279fd992ee9b\"\n";

/// The lines of a start, up to `ready`.
fn start_lines(format: &str) -> Vec<String> {
    let directory = TempDir::new().expect("a temporary directory");
    let file = directory.path().join("clerkcast.toml");
    std::fs::write(&file, CONFIG).expect("written");
    let mut process = binary()
        .args(["serve", "--log-format", format, "--config"])
        .arg(&file)
        .args(["--http-listen", "127.0.0.1:0"])
        .args(["--grpc-listen", "127.0.0.1:0"])
        .args(["--admin-listen", "127.0.0.1:0"])
        .arg("--data-dir")
        .arg(directory.path().join("data"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let stderr = BufReader::new(process.stderr.take().expect("piped"));
    let mut lines = Vec::new();
    for line in stderr.lines() {
        lines.push(line.expect("text"));
        let last = lines.last().expect("a line");
        if last.contains("\"ready\"") || last.contains(": ready") {
            break;
        }
    }
    process.kill().expect("it runs");
    process.wait().expect("it was started");
    lines
}

#[test]
fn a_start_says_what_it_serves() {
    let lines: Vec<serde_json::Value> = start_lines("json")
        .iter()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let messages: Vec<&str> = lines
        .iter()
        .map(|line| line["message"].as_str().expect("text"))
        .collect();
    let expected = [
        "clerkcast starts",
        "source configured",
        "source configured",
        "principals loaded",
        "listening for webhooks",
        "listening for subscribers",
        "listening for operators",
        "ready",
    ];
    assert_eq!(messages.len(), expected.len(), "{messages:?}");
    for (message, expected) in messages.iter().zip(expected) {
        assert!(message.starts_with(expected), "{messages:?}");
    }
    let start = &lines[0];
    assert_eq!(start["version"], env!("CARGO_PKG_VERSION"));
    assert!(start["commit"].is_string());
    for (field, end) in [("config", "clerkcast.toml"), ("data_dir", "data")] {
        let text = start[field].as_str().expect(field);
        assert!(text.ends_with(end), "{field}: {text}");
    }
    let epoch = start["epoch"].as_str().expect("text");
    assert_eq!((epoch.len(), start["events"].as_u64()), (16, Some(0)));
    assert!(start["used_bytes"].is_u64() && start["file_bytes"].is_u64());
    for (field, value) in [
        ("log", "embedded"),
        ("retain_for", "36h"),
        ("retain_bytes", "10737418240"),
    ] {
        assert_eq!(start[field], value, "{field}");
    }
    assert_eq!(
        (&start["sources"], &start["principals"]),
        (&2.into(), &1.into())
    );
    assert_eq!(start["anonymous"], false);
    for (line, field) in [(0, "recovered_in"), (7, "after")] {
        let duration = lines[line][field].as_str().expect("a duration");
        let number = duration.strip_suffix('s').expect("in seconds");
        assert!(number.parse::<f64>().is_ok(), "{duration}");
    }
    assert_eq!(lines[1]["source"], "production");
    assert_eq!(lines[1]["instance_id"], "ins_1");
    assert_eq!(lines[3]["target"], "clerkcast::audit");
    assert_eq!(lines[3]["principals"], "billing");
    for line in &lines[4..7] {
        assert_eq!(line["scheme"], "http");
    }

    let text = start_lines("text").join("\n");
    for part in [
        "clerkcast::app::announce: clerkcast starts",
        "clerkcast::audit: principals loaded",
        "events=0",
        "retain_for=\"36h\"",
        "sources=2",
        ": ready",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    for private in ["C2FVsBQIhrsc", "plJ3nmyCDGB", "715342a7f0f6"] {
        assert!(!text.contains(private), "{text}");
    }
}

/// Where a text is as Rust's `Debug` would write it: a name with a capital, and at once
/// a parenthesis or a brace.
fn debug_text(text: &str) -> Option<&str> {
    text.match_indices(['(', '{']).find_map(|(at, bracket)| {
        let before = &text[..at];
        let before = match bracket {
            "{" => before.strip_suffix(' ')?,
            _ => before,
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let name = before.rsplit(|c| !is_name(c)).next()?;
        name.starts_with(|c: char| c.is_ascii_uppercase())
            .then_some(text)
    })
}

#[tokio::test]
async fn no_log_line_holds_debug_text() {
    assert!(debug_text("start=After(Cursor { epoch: 1 })").is_some());
    assert!(debug_text("a set (contact, names) and {\"json\":1}").is_none());
    let mut gateway = Gateway::start();
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let mut stream = gateway.subscribe(from_earliest()).await;
    let (cursor, _) = stream.next_event().await;
    drop(stream);
    gateway.history(after(&cursor)).await;
    let event = Bytes::from(body("user.created", "user_1"));
    gateway.post_signed("", OTHER_SECRET, "msg_2", event).await;
    let mut client = gateway.client().await;
    let mut request = tonic::Request::new(from_earliest());
    let value = "Bearer cct_unknown".parse().expect("ASCII");
    request.metadata_mut().insert("authorization", value);
    client.subscribe(request).await.expect_err("refused");
    gateway.signal("-HUP");
    eventually("all of it is logged", || async {
        let log = gateway.log_text();
        let messages = [
            "subscriber left",
            "webhook refused",
            "caller refused",
            "configuration reloaded",
        ];
        messages.iter().all(|message| log.contains(message))
    })
    .await;
    gateway.signal("-TERM");
    assert_eq!(gateway.wait().code(), Some(0));
    let log = gateway.log_text();
    assert!(
        log.contains(&cursor),
        "a cursor is shown as clients have it"
    );
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        for (field, value) in line.as_object().expect("an object") {
            assert_ne!(
                (field.as_str(), value.as_u64()),
                ("unlogged", Some(0)),
                "{line}"
            );
            let shown = value.as_str().and_then(debug_text);
            assert_eq!(shown, None, "{field} of {line}");
        }
    }
    let refused = log.lines().find(|line| line.contains("caller refused"));
    let refused: serde_json::Value = serde_json::from_str(refused.expect("a line")).expect("JSON");
    let method = refused["method"].as_str().unwrap_or_default();
    assert!(method.ends_with("Subscribe"), "{refused}");
}

#[tokio::test]
async fn counters_exist_before_their_first_event() {
    let directory = TempDir::new().expect("a temporary directory");
    let file = directory.path().join("clerkcast.toml");
    std::fs::write(&file, CONFIG).expect("written");
    let path = file.display().to_string();
    let gateway = Gateway::start_with(Options::args(&["--config", &path]));
    let text = gateway.admin_get("/metrics").await.text;
    let has = |series: &str| {
        let series = format!("clerkcast_{series} 0");
        assert!(text.lines().any(|line| line == series), "{series}\n{text}");
    };
    for source in ["", "production", "staging"] {
        for reason in [
            "missing_header",
            "signature_mismatch",
            "timestamp_too_old",
            "instance_mismatch",
            "body_too_large",
            "unknown_source",
            "overloaded",
            "not_stored",
        ] {
            has(&format!(
                "webhook_rejected_total{{source=\"{source}\",reason=\"{reason}\"}}"
            ));
        }
    }
    for source in ["production", "staging"] {
        has(&format!("webhook_accepted_total{{source=\"{source}\"}}"));
        has(&format!("webhook_duplicates_total{{source=\"{source}\"}}"));
        has(&format!(
            "webhook_event_age_seconds_count{{source=\"{source}\"}}"
        ));
    }
    for reason in ["no_credentials", "unknown_token", "unknown_certificate"] {
        has(&format!(
            "grpc_calls_unauthenticated_total{{reason=\"{reason}\"}}"
        ));
    }
    for reason in ["event_not_found", "not_allowed", "too_many_calls"] {
        has(&format!(
            "grpc_calls_refused_total{{principal=\"billing\",reason=\"{reason}\"}}"
        ));
    }
    for method in ["Subscribe", "Receive", "GetEvent", "Check"] {
        has(&format!(
            "grpc_calls_total{{method=\"{method}\",code=\"OK\"}}"
        ));
    }
    for outcome in ["accepted", "duplicate", "rejected", "unavailable"] {
        has(&format!(
            "webhook_answer_seconds_count{{outcome=\"{outcome}\"}}"
        ));
    }
    for outcome in ["stored", "conflict", "failed"] {
        has(&format!("cell_swaps_total{{outcome=\"{outcome}\"}}"));
    }
    for reason in ["client_left", "draining", "cursor_expired"] {
        has(&format!("subscriptions_ended_total{{reason=\"{reason}\"}}"));
    }
    for port in ["http", "grpc"] {
        for reason in ["limit", "silent", "tls"] {
            has(&format!(
                "connections_refused_total{{port=\"{port}\",reason=\"{reason}\"}}"
            ));
        }
    }
    has("http_not_found_total");
    assert_eq!(
        gateway
            .metric("clerkcast_config_last_reload_successful")
            .await,
        1.0
    );

    // Each failure is counted where it belongs.
    let event = || Bytes::from(body("user.created", "user_1"));
    gateway
        .post_signed("/staging", SECRET, "msg_1", event())
        .await;
    gateway
        .post_signed("/nowhere", SECRET, "msg_1", event())
        .await;
    for path in ["/", "/.env", "/api/webhooks/clerk", "/webhooks/other"] {
        let answer = gateway.request("POST", path, &[], Bytes::new()).await;
        assert_eq!(answer.expect("answered").status, 404, "{path}");
    }
    let patched = gateway.request("PATCH", "/webhooks/clerk/staging", &[], Bytes::new());
    assert_eq!(patched.await.expect("answered").status, 405);
    for (labels, count) in [
        ("source=\"staging\",reason=\"signature_mismatch\"", 1.0),
        ("source=\"production\",reason=\"signature_mismatch\"", 0.0),
        ("source=\"\",reason=\"unknown_source\"", 1.0),
        ("source=\"\",reason=\"not_found\"", 1.0),
        ("source=\"staging\",reason=\"method_not_allowed\"", 1.0),
    ] {
        let series = format!("clerkcast_webhook_rejected_total{{{labels}}}");
        assert_eq!(gateway.metric(&series).await, count, "{labels}");
    }
    assert_eq!(gateway.metric("clerkcast_http_not_found_total").await, 3.0);
}

#[tokio::test]
async fn scanners_from_elsewhere_are_no_rejected_deliveries() {
    let gateway = Gateway::start_with(Options::args(&["--http-allow-from", "10.0.0.0/8"]));
    for path in ["/.env", "/webhooks/clerk"] {
        let answer = gateway.request("GET", path, &[], Bytes::new()).await;
        assert_eq!(answer.expect("answered").status, 403, "{path}");
    }
    for (series, count) in [
        ("clerkcast_http_not_found_total", 1.0),
        (
            "clerkcast_webhook_rejected_total{source=\"\",reason=\"source_not_allowed\"}",
            1.0,
        ),
    ] {
        assert_eq!(gateway.metric(series).await, count, "{series}");
    }
}
