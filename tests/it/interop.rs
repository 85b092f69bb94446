//! Other people's software on both ends: Svix's own libraries sign, clients in other
//! languages subscribe, knowing nothing but what reflection tells them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use crate::harness::{Gateway, SECRET, body, from_earliest, now_seconds, start_unsealed};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where `tests/tools/install` puts the other languages' clients; installs them first
/// if they are missing.
pub(crate) fn tools() -> &'static Path {
    static TOOLS: OnceLock<PathBuf> = OnceLock::new();
    TOOLS.get_or_init(|| {
        let output = Command::new(root().join("tests/tools/install")).output();
        let output = output.expect("tests/tools/install runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success(),
            "the clients for this test cannot be installed:\n{said}"
        );
        let directory = std::env::var_os("CLERKCAST_TEST_TOOLS").map(PathBuf::from);
        directory.unwrap_or_else(|| root().join("target/test-tools"))
    })
}

#[track_caller]
pub(crate) fn succeeded(output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}\n{stderr}");
    stdout
}

/// What a command printed, which has to succeed.
#[track_caller]
pub(crate) fn printed(command: &mut Command) -> String {
    succeeded(&command.output().expect("it runs"))
}

/// Each type as a realistic sample, with every field of `shapes.tsv` at once, with zeros
/// and with nulls, signed by Svix's Python library, received by grpcio, compared field
/// by field.
#[tokio::test]
async fn typed_every_field_of_every_type_reaches_a_python_client() {
    let (gateway, _directory) = start_unsealed();
    let output = Command::new(tools().join("venv/bin/python"))
        .arg(root().join("tests/tools/interop.py"))
        .args(["--webhook-url", &gateway.webhook_url()])
        .args(["--grpc", &gateway.grpc])
        .args(["--secret", SECRET])
        .arg("--samples")
        .arg(root().join("src/clerk/samples"))
        .arg("--shapes")
        .arg(root().join("tests/fixtures/shapes.tsv"))
        .output()
        .expect("python runs");
    let stdout = succeeded(&output);
    assert_eq!(
        stdout
            .lines()
            .filter(|line| line.starts_with("ok "))
            .count(),
        46,
        "{stdout}"
    );
    assert!(stdout.contains(" 0 differences"), "{stdout}");
    println!("{}", stdout.lines().last().unwrap_or_default());
    // What every field of every view is called is known, so nothing of it is drift.
    let metrics = gateway.admin_get("/metrics").await.text;
    let drift = metrics
        .lines()
        .find(|line| line.starts_with("clerkcast_event_drift_total{"));
    assert_eq!(drift, None);
}

#[tokio::test]
async fn buf_curl_walks_the_service_through_reflection_alone() {
    let gateway = Gateway::start();
    for number in 0..8 {
        gateway
            .accept(&format!("msg_{number}"), body("user.created", "user_1"))
            .await;
    }
    let output = Command::new(root().join("tests/tools/buf_walk"))
        .arg(&gateway.grpc)
        .env("CLERKCAST_TEST_TOOLS", tools())
        .output();
    succeeded(&output.expect("buf_walk runs"));
}

/// `buf curl` knows the types of details that are compiled into it, and does not ask
/// reflection for others: it prints them as base64. The message says the same in words.
#[tokio::test]
async fn interop_buf_curl_reads_errors() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD_NO_PAD;
    use prost::Message as _;
    use tonic_types::pb::{BadRequest, ErrorInfo};

    let gateway = Gateway::start();
    // buf takes a module in the current directory for the schema: there must be none.
    let empty = tempfile::TempDir::new().expect("a temporary directory");
    let output = Command::new(tools().join("venv/bin/buf"))
        .args([
            "curl",
            "--protocol",
            "grpc",
            "--http2-prior-knowledge",
            "--data",
        ])
        .arg("{\"filter\":{\"types\":[\"user.craeted\"]}}")
        .arg(format!(
            "http://{}/clerkcast.v1.EventService/Subscribe",
            gateway.grpc
        ))
        .current_dir(empty.path())
        .output()
        .expect("buf runs");
    assert!(!output.status.success());
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).expect("JSON");
    assert_eq!(error["code"], "invalid_argument");
    let message = error["message"].as_str().expect("a message");
    assert!(message.contains("did you mean user.created?"), "{message}");
    let detail = |name: &str| {
        let details = error["details"].as_array().expect("details");
        let found = details.iter().find(|detail| detail["type"] == name);
        let value = found.and_then(|detail| detail["value"].as_str());
        STANDARD_NO_PAD
            .decode(value.expect("a value"))
            .expect("base64")
    };
    let info = ErrorInfo::decode(&detail("google.rpc.ErrorInfo")[..]).expect("a message");
    assert_eq!(
        (info.reason.as_str(), info.domain.as_str()),
        ("INVALID_REQUEST", "clerkcast")
    );
    let request = BadRequest::decode(&detail("google.rpc.BadRequest")[..]).expect("a message");
    assert_eq!(request.field_violations[0].field, "filter.types[0]");
}

#[tokio::test]
async fn signatures_of_svix_for_javascript_verify() {
    let gateway = Gateway::start();
    let timestamp = now_seconds();
    let bodies = [
        body("user.created", "user_1"),
        "{\"type\":\"a\",\"data\":{\"n\":\"Zoë 🦀\"}}".to_owned(),
    ];
    let mut node = Command::new("node")
        .arg(root().join("tests/tools/sign.mjs"))
        .env("CLERKCAST_TEST_TOOLS", tools())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node runs");
    let mut input = node.stdin.take().expect("piped");
    for (number, body) in bodies.iter().enumerate() {
        let id = format!("msg_{number}");
        let line =
            serde_json::json!({"secret": SECRET, "id": id, "timestamp": timestamp, "body": body});
        writeln!(input, "{line}").expect("node reads");
    }
    drop(input);
    let signatures = succeeded(&node.wait_with_output().expect("node ends"));
    let signatures: Vec<&str> = signatures.lines().collect();
    assert_eq!(signatures.len(), bodies.len());
    for (number, (body, signature)) in bodies.iter().zip(signatures).enumerate() {
        let headers = [
            ("svix-id", format!("msg_{number}")),
            ("svix-timestamp", timestamp.to_string()),
            ("svix-signature", signature.to_owned()),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value));
        let answer = gateway
            .request("POST", "/webhooks/clerk", &headers, body.clone().into())
            .await;
        assert_eq!(answer.expect("answered").status, 200);
    }
    assert_eq!(gateway.history(from_earliest()).await.len(), 2);
}
