//! What is said at start-up, and to whom it leads.

use std::process::Output;

use super::place::on;
use super::server::Server;
use crate::harness::{Gateway, Options, SECRET, binary, body};

fn serve(args: &[&str]) -> Output {
    let output = binary()
        .args(["serve", "--http-listen", "127.0.0.1:0"])
        .args([
            "--grpc-listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
        ])
        .args(args)
        .env("CLERK_WEBHOOK_SIGNING_SECRET", SECRET)
        .output();
    output.expect("it runs")
}

#[track_caller]
fn said(output: &Output, code: i32, text: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains(text), "{stderr}");
}

#[test]
fn incompatible_flags_are_named() {
    let nats = ["--log", "nats", "--nats-url", "nats://127.0.0.1:4222"];
    let with = |more: &[&'static str]| {
        let args: Vec<&str> = nats.iter().chain(more).copied().collect();
        serve(&args)
    };
    said(&serve(&["--log", "nats"]), 2, "--log nats needs --nats-url");
    said(&serve(&nats[2..]), 2, "add --log nats");
    let window = with(&["--nats-duplicate-window", "1h"]);
    said(
        &window,
        2,
        "must be at least 28h, since Svix retries a delivery for 27 h 35 min",
    );
    let age = with(&["--retain-for", "24h"]);
    said(&age, 2, "make --retain-for at least as long");
    said(&with(&["--nats-stream", "a.b"]), 2, "a stream's name is");
    said(
        &with(&["--nats-subject-prefix", "a.>"]),
        2,
        "a subject prefix is",
    );
    said(&with(&["--nats-replicas", "7"]), 2, "7 is not 1 to 5");
    said(&with(&["--nats-tls-key", "x"]), 2, "belong together");
    let url = serve(&["--log", "nats", "--nats-url", "http://user:pa55@h"]);
    said(&url, 2, "write nats://HOST:PORT");
    assert!(!String::from_utf8_lossy(&url.stderr).contains("pa55"));
    let two = "nats://me:pa55@127.0.0.1,nats://you:pa55@127.0.0.1";
    let two = serve(&["--log", "nats", "--nats-url", two]);
    said(&two, 2, "the URLs hold different users");
    assert!(!String::from_utf8_lossy(&two.stderr).contains("pa55"));
    let both = ["--nats-url", "nats://s3cr3t@h", "--nats-credentials", "x"];
    let both = serve(&[&["--log", "nats"], &both[..]].concat());
    said(&both, 2, "leave one of them out");
}

#[test]
fn nats_that_is_not_there_is_named_without_its_password() {
    let output = serve(&[
        "--log",
        "nats",
        "--nats-url",
        "nats://user:pa55@127.0.0.1:1",
    ]);
    said(
        &output,
        1,
        "cannot use NATS at nats://127.0.0.1:1 within 10 s",
    );
    assert!(!String::from_utf8_lossy(&output.stderr).contains("pa55"));
}

#[tokio::test]
async fn a_stream_with_other_settings_is_explained() {
    let server = Server::start();
    drop(Gateway::start_with(on(&[&server])));
    let url = server.url();
    let output = tokio::task::spawn_blocking(move || {
        serve(&["--log", "nats", "--nats-url", &url, "--retain-for", "60d"])
    });
    let output = output.await.expect("it runs");
    said(
        &output,
        1,
        "max age: is 720h, configured 1440h (nats stream edit CLERKCAST --max-age 1440h, or --retain-for)",
    );
}

#[tokio::test]
async fn nats_too_little_room_is_told_with_both_sizes() {
    for (servers, account, room) in [
        ("64MB", "", "63 MB"),
        (
            "1GB",
            "accounts { A { jetstream { max_file: 96MB }, users: [{ user: a, password: b }] } }\nno_auth_user: a\n",
            "95 MB",
        ),
        ("512KB", "", "less than 1 MB"),
    ] {
        let server = Server::start_with_room(servers, account);
        let url = server.url();
        let output =
            tokio::task::spawn_blocking(move || serve(&["--log", "nats", "--nats-url", &url]));
        let output = output.await.expect("it runs");
        let text = format!(
            "cannot create the stream CLERKCAST: the servers have room for {room}, and --retain-bytes sets 10 GiB aside on each: lower it, or raise max_file_store"
        );
        said(&output, 1, &text);
        // Nothing is left of finding out.
        let context = server.jetstream().await;
        let account = context.query_account().await.expect("answered");
        assert_eq!(account.streams, 0);
    }
    // Where servers form a cluster, they say it in other words.
    let servers = Server::cluster_with_room("64MB");
    let url = servers[0].url();
    let output = tokio::task::spawn_blocking(move || {
        serve(&["--log", "nats", "--nats-url", &url, "--nats-replicas", "3"])
    });
    let text = "the servers have room for 63 MB, and --retain-bytes sets 10 GiB aside on each";
    said(&output.await.expect("it runs"), 1, text);
    // What there is room for is made.
    let server = Server::start_with_room("64MB", "");
    let mut options = on(&[&server]);
    options
        .args
        .extend(["--retain-bytes", "63MiB"].map(str::to_owned));
    let gateway = Gateway::start_with(options);
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
}

/// As after an upgrade, where the stream is there and has set everything aside.
#[tokio::test]
async fn nats_no_room_for_the_bucket_is_told() {
    let server = Server::start_with_room("64MB", "");
    let url = server.url();
    let args = [
        "--log",
        "nats",
        "--nats-url",
        &url,
        "--retain-bytes",
        "64MiB",
    ];
    let args = args.map(str::to_owned);
    let output = tokio::task::spawn_blocking(move || {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        serve(&args)
    });
    said(
        &output.await.expect("it runs"),
        1,
        "cannot create the stream KV_CLERKCAST_CELLS: the servers have no room beside the stream CLERKCAST: lower its --max-bytes and --retain-bytes, or raise max_file_store",
    );
}

/// Everything that the flags can say, from the configuration file.
#[tokio::test]
async fn nats_options_can_be_set_in_the_file() {
    let server = Server::start();
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let file = directory.path().join("clerkcast.toml");
    let config = format!(
        "log = \"nats\"\nnats_url = \"{}\"\nnats_stream = \"EVENTS\"\nnats_subject_prefix = \"prod.clerk\"\nnats_replicas = 1\nnats_duplicate_window = \"48h\"\n",
        server.url()
    );
    std::fs::write(&file, config).expect("written");
    let file = file.display().to_string();
    let gateway = Gateway::start_with(Options::args(&["--config", &file]));
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let client = async_nats::connect(server.url()).await.expect("connects");
    let context = async_nats::jetstream::new(client);
    let stream = context.get_stream("EVENTS").await.expect("there");
    let message = stream.get_raw_message(1).await.expect("stored");
    assert_eq!(message.subject.as_str(), "prod.clerk.default.user.created");
    let settings = &stream.cached_info().config;
    assert_eq!(settings.duplicate_window.as_secs(), 48 * 3600);
}
