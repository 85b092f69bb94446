//! For whoever runs it: probes, metrics, logs, stopping, and what start-up refuses.

use std::sync::Arc;

use clerkcast::proto::SubscribeRequest;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{
    Gateway, OTHER_SECRET, Options, SECRET, after, body, eventually, from_earliest, now_seconds,
    sign,
};
use crate::refused::refused_start;

#[tokio::test]
async fn probes_and_metrics_show_what_happened() {
    let gateway = Gateway::start();
    assert_eq!(gateway.admin_get("/healthz").await.status, 200);
    assert_eq!(gateway.admin_get("/readyz").await.status, 200);

    let mut stream = gateway
        .subscribe(SubscribeRequest {
            subscriber_name: "billing".to_owned(),
            ..SubscribeRequest::default()
        })
        .await;
    stream.caught_up().await;
    gateway
        .accept(
            "msg_1",
            r#"{"type":"user.created","data":{"id":"user_1","shoe_size":44}}"#,
        )
        .await;
    gateway.post("msg_1", "{}").await;
    gateway
        .post_signed("", OTHER_SECRET, "msg_2", body("a", "b").into())
        .await;
    stream.next_event().await;

    for (name, value) in [
        ("clerkcast_webhook_received_total", 3.0),
        ("clerkcast_webhook_accepted_total{source=\"default\"}", 1.0),
        (
            "clerkcast_webhook_duplicates_total{source=\"default\"}",
            1.0,
        ),
        (
            "clerkcast_webhook_rejected_total{source=\"default\",reason=\"signature_mismatch\"}",
            1.0,
        ),
        ("clerkcast_log_committed_events_total", 1.0),
        ("clerkcast_log_events", 1.0),
        ("clerkcast_log_writable", 1.0),
        ("clerkcast_subscribers{state=\"live\"}", 1.0),
        (
            "clerkcast_subscriber_lag_events{subscriber=\"billing\",principal=\"anonymous\"}",
            0.0,
        ),
        ("clerkcast_delivered_events_total", 1.0),
        ("clerkcast_delivery_event_age_seconds_count", 1.0),
        (
            "clerkcast_event_drift_total{event_type=\"user.created\",field=\"data.shoe_size\",kind=\"unknown_field\"}",
            1.0,
        ),
    ] {
        assert_eq!(gateway.metric(name).await, value, "{name}");
    }
}

#[tokio::test]
async fn no_secret_payload_or_signature_reaches_a_log_line() {
    let gateway = Gateway::start_with(Options::args(&["--log-level", "trace"]));
    let event = r#"{"type":"email.created","data":{"id":"ema_1","to_email_address":"ada@example.com","data":{"otp_code":"424242"}},"event_attributes":{"http_request":{"client_ip":"203.0.113.9"}}}"#;
    gateway.accept("msg_1", event).await;
    gateway
        .post_signed("", OTHER_SECRET, "msg_2", event.into())
        .await;
    gateway.post("msg_3", "not JSON, ada@example.com").await;
    gateway
        .history(SubscribeRequest {
            include_payload: true,
            ..from_earliest()
        })
        .await;
    let signature = sign(SECRET, "msg_1", now_seconds(), event.as_bytes())[2]
        .1
        .clone();
    let log = gateway.log_text();
    assert!(
        log.contains("signature_mismatch"),
        "the log does say what happened"
    );
    let key = SECRET.trim_start_matches("whsec_");
    for private in [
        key,
        "ada@example.com",
        "424242",
        "203.0.113.9",
        signature.trim_start_matches("v1,"),
    ] {
        assert!(!log.contains(private), "{private} is in the log");
    }
}

#[tokio::test]
async fn a_graceful_stop_answers_what_is_in_flight_and_leaves_cursors_intact() {
    let mut gateway = Gateway::start();
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let mut stream = gateway.subscribe(from_earliest()).await;
    let (cursor, _) = stream.next_event().await;
    stream.caught_up().await;

    // A delivery whose body is still on its way.
    let event = body("user.created", "user_2");
    let headers = sign(SECRET, "msg_2", now_seconds(), event.as_bytes());
    let head: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let length = event.len();
    let mut in_flight = TcpStream::connect(&gateway.http).await.expect("connected");
    let head = format!(
        "POST /webhooks/clerk HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n{head}\r\n"
    );
    in_flight.write_all(head.as_bytes()).await.expect("sent");
    let mut interim = vec![0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    in_flight
        .read_exact(&mut interim)
        .await
        .expect("the body is awaited");

    gateway.signal("-TERM");
    let status = loop {
        match stream.try_next().await {
            Ok(frame) => assert!(frame.is_some(), "it ends with a status"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.get_error_details().retry_info().is_some());
    assert_eq!(gateway.admin_get("/readyz").await.status, 503);

    in_flight.write_all(event.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    in_flight
        .read_to_string(&mut answer)
        .await
        .expect("answered");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(stream);
    assert_eq!(gateway.wait().code(), Some(0), "{}", gateway.log_text());

    let gateway = gateway.restarted();
    let rest = gateway.history(after(&cursor)).await;
    let rest: Vec<String> = rest.into_iter().map(|event| event.id).collect();
    assert_eq!(rest, ["msg_2"]);
}

#[tokio::test]
async fn a_stop_keeps_its_deadline_and_a_second_signal_needs_none() {
    let mut gateway = Gateway::start_with(Options::args(&["--drain-timeout", "1s"]));
    // A connection that never ends by itself.
    let mut slow = TcpStream::connect(&gateway.http).await.expect("connected");
    let head = "POST /webhooks/clerk HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\
                svix-id: msg_1\r\nsvix-timestamp: 1\r\nsvix-signature: v1,x\r\n\r\n";
    slow.write_all(head.as_bytes()).await.expect("sent");
    let mut interim = vec![0; 12];
    slow.read_exact(&mut interim)
        .await
        .expect("the body is awaited");
    gateway.signal("-TERM");
    assert_eq!(gateway.wait().code(), Some(0));

    let mut gateway = Gateway::start_with(Options::args(&[
        "--drain-timeout",
        "1h",
        "--body-timeout",
        "1h",
    ]));
    let mut slow = TcpStream::connect(&gateway.http).await.expect("connected");
    slow.write_all(head.as_bytes()).await.expect("sent");
    slow.read_exact(&mut interim)
        .await
        .expect("the body is awaited");
    gateway.signal("-TERM");
    eventually("it drains", || async {
        gateway.log_text().contains("draining")
    })
    .await;
    // The first moments after a signal belong to its repetitions.
    eventually("a second signal ends it", || {
        gateway.signal("-INT");
        std::future::ready(gateway.has_ended())
    })
    .await;
    assert_eq!(gateway.wait().code(), Some(130));
}

/// Such connections end within the time-out for a request's head, and need no deadline.
#[tokio::test]
async fn a_stop_does_not_wait_for_silent_connections() {
    let mut gateway = Gateway::start_with(Options::args(&["--drain-timeout", "1h"]));
    let _silent = TcpStream::connect(&gateway.http).await.expect("connected");
    let mut half = TcpStream::connect(&gateway.http).await.expect("connected");
    half.write_all(b"POST /webh").await.expect("sent");
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", gateway.grpc));
    let channel = channel.expect("a URI").connect_lazy();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let request = tonic_health::pb::HealthCheckRequest::default();
    let watched = health.watch(request).await.expect("watching");
    gateway.signal("-TERM");
    assert_eq!(gateway.wait().code(), Some(0));
    drop(watched);
}

#[tokio::test]
async fn a_subscriber_that_never_reads_does_not_hold_up_a_stop() {
    let mut gateway = Gateway::start_with(Options::args(&["--drain-timeout", "1s"]));
    let mut stuck = gateway
        .subscribe(SubscribeRequest {
            include_payload: true,
            ..from_earliest()
        })
        .await;
    stuck.caught_up().await;
    let large = format!(
        r#"{{"type":"user.created","data":{{"id":"user_1","unsafe_metadata":{{"x":"{}"}}}}}}"#,
        "x".repeat(200_000)
    );
    for number in 0..20 {
        gateway
            .accept(&format!("msg_{number}"), large.clone())
            .await;
    }
    gateway.signal("-TERM");
    assert_eq!(gateway.wait().code(), Some(0));
}

fn start_up(args: &[&str], secret: Option<&str>) -> (Option<i32>, String) {
    refused_start(|command| {
        command.args(args);
        match secret {
            Some(secret) => command.env("CLERK_WEBHOOK_SIGNING_SECRET", secret),
            None => command.env_remove("CLERK_WEBHOOK_SIGNING_SECRET"),
        };
    })
}

#[test]
fn a_bad_configuration_is_reported_at_start_with_a_remedy() {
    for (args, secret, expected) in [
        (&[][..], None, "set CLERK_WEBHOOK_SIGNING_SECRET"),
        (&[], Some("sk_test_abc"), "Clerk secret key"),
        (&[], Some("pk_test_abc"), "Clerk publishable key"),
        (&[], Some("whsec_123"), "placeholder"),
        (
            &[],
            Some("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD\n"),
            "newline",
        ),
        (
            &[],
            Some("\"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD\""),
            "quotation mark",
        ),
        (
            &[],
            Some("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7o"),
            "not base64",
        ),
        (
            &["--retain-bytes", "1KiB"],
            Some(SECRET),
            "must be at least 16MiB",
        ),
        (&["--retain-for", "soon"], Some(SECRET), "not a duration"),
        (
            &["--body-limit", "1GiB"],
            Some(SECRET),
            "must be at most 512KiB",
        ),
        (
            &["--config", "/nowhere.toml"],
            Some(SECRET),
            "cannot read the configuration file /nowhere.toml",
        ),
        (&["--log-level", "a=b=c"], Some(SECRET), "log level"),
        (
            &["--log-level", "verbose"],
            Some(SECRET),
            "expected error, warn",
        ),
        (
            &["--http-listen", "localhost:80"],
            Some(SECRET),
            "write IP:PORT",
        ),
    ] {
        let (code, stderr) = start_up(args, secret);
        assert_eq!(code, Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(expected), "{args:?}: {stderr}");
        assert!(
            !stderr.contains("C2FVsBQIhrsc"),
            "the secret is shown: {stderr}"
        );
    }
}

#[test]
fn a_bad_configuration_file_is_reported_by_its_line_and_without_secrets() {
    for (text, expected) in [
        (
            "http_lisen = \"127.0.0.1:0\"",
            "line 1, http_lisen: unknown field `http_lisen`",
        ),
        (
            "\n\n[[sources]]\nname = \"a\"\nsigning_secrets = [\"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD\"",
            "line 5",
        ),
        (
            "[[sources]]\nname = \"A b\"\nsigning_secrets = []",
            "a name is 1 to 64 of",
        ),
        ("[[sources]]\nname = \"a\"", "has no signing secret"),
        (
            "[[sources]]\nname = \"a\"\nsigning_secrets = \"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD\"",
            "line 3, signing_secrets: invalid type, expected a sequence",
        ),
        (
            "[[sources]]\nname = \"a\"\nsigning_secrets_env = [\"whsec_C2FVsBQIhrscChlQIMV\"]",
            "write the name of an environment variable",
        ),
        (
            "[[sources]]\nname = \"a\"\nsigning_secrets = [\"sk_live_C2FVsBQIhrsc\"]",
            "signing_secrets[0]",
        ),
        (
            "[[sources]]\nname = \"a\"\nsigning_secrets_env = [\"NOT_SET_ANYWHERE\"]",
            "NOT_SET_ANYWHERE is not set",
        ),
    ] {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("written");
        let path = file.path().display().to_string();
        let (code, stderr) = start_up(&["--config", &path], None);
        assert_eq!(code, Some(2), "{text}: {stderr}");
        assert!(stderr.contains(expected), "{text}: {stderr}");
        assert!(
            !stderr.contains("C2FVsBQIhrsc"),
            "the secret is shown: {stderr}"
        );
    }
}

#[tokio::test]
async fn a_data_directory_in_use_foreign_or_newer_is_refused_and_left_unchanged() {
    let gateway = Gateway::start();
    let in_use = gateway.data_dir().display().to_string();
    let (code, stderr) = start_up(&["--data-dir", &in_use], Some(SECRET));
    assert_eq!(code, Some(1));
    assert!(stderr.contains("in use by another clerkcast"), "{stderr}");
    drop(gateway);

    for (statements, expected) in [
        ("CREATE TABLE theirs (x)", "is not a clerkcast log"),
        (
            "PRAGMA application_id = 1131178851; PRAGMA user_version = 99; CREATE TABLE x (y)",
            "newer clerkcast",
        ),
    ] {
        let directory = TempDir::new().expect("a temporary directory");
        let file = directory.path().join("clerkcast.db");
        let database = rusqlite::Connection::open(&file).expect("opens");
        database.execute_batch(statements).expect("written");
        drop(database);
        let before = std::fs::read(&file).expect("there");
        let path = directory.path().display().to_string();
        let (code, stderr) = start_up(&["--data-dir", &path], Some(SECRET));
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
        assert_eq!(std::fs::read(&file).expect("there"), before);
    }

    let directory = TempDir::new().expect("a temporary directory");
    let file = directory.path().join("clerkcast.db");
    std::fs::write(&file, "this is no database ".repeat(500)).expect("written");
    let path = directory.path().display().to_string();
    let (code, stderr) = start_up(&["--data-dir", &path], Some(SECRET));
    assert_eq!(code, Some(1));
    assert!(stderr.contains("is damaged"), "{stderr}");
}

#[tokio::test]
async fn a_damaged_log_is_reported_at_start_and_left_unchanged() {
    let gateway = Gateway::start();
    for number in 0..100 {
        let id = format!("msg_{number}");
        gateway.accept(&id, body("user.created", "user_1")).await;
    }
    let stopped = gateway.stopped();
    let file = stopped.database();
    let mut damaged = std::fs::read(&file).expect("there");
    assert!(damaged.len() > 20_000, "all of it is in the one file");
    damaged[4096..].fill(0x5a);
    std::fs::write(&file, &damaged).expect("written");
    let path = stopped.data_dir().display().to_string();
    let (code, stderr) = start_up(&["--data-dir", &path], Some(SECRET));
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("is damaged"), "{stderr}");
    assert!(stderr.contains("clerkcast.db"), "{stderr}");
    assert!(stderr.contains(".recover"), "what to do: {stderr}");
    assert_eq!(std::fs::read(&file).expect("there"), damaged);
}

#[tokio::test]
async fn an_address_in_use_is_reported_with_its_flag() {
    let gateway = Gateway::start();
    for flag in ["--http-listen", "--grpc-listen", "--admin-listen"] {
        let (code, stderr) = start_up(&[flag, &gateway.http], Some(SECRET));
        assert_eq!(code, Some(1));
        assert!(stderr.contains(flag), "{stderr}");
    }
}

#[tokio::test]
async fn the_log_can_be_opened_with_sqlite_while_the_gateway_runs() {
    let gateway = Gateway::start();
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let database = rusqlite::Connection::open(gateway.database()).expect("opens");
    let read = "SELECT type, payload ->> '$.data.id', \
                abs(unixepoch(received) - unixepoch()) < 60 FROM webhook WHERE id = 'msg_1'";
    let row: (String, String, bool) = database
        .query_row(read, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .expect("a row");
    let expected = ("user.created".to_owned(), "user_1".to_owned(), true);
    assert_eq!(row, expected);
}

#[test]
fn a_data_directory_is_created_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let parent = Arc::new(TempDir::new().expect("a temporary directory"));
    let data_dir = parent.path().join("new");
    let gateway = Gateway::start_in(
        parent,
        Options::args(&["--data-dir", &data_dir.display().to_string()]),
    );
    let mode = std::fs::metadata(&data_dir)
        .expect("created")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
    drop(gateway);
}
