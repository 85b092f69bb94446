//! Clerk's own command line: what the pages have it do, and what it makes of our signatures.

use std::path::PathBuf;
use std::process::{Command, Output};

use axum::Router;
use bytes::Bytes;
use http::HeaderMap;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::page;
use crate::harness::{OTHER_SECRET, SECRET, binary};
use crate::interop::{printed, succeeded, tools};
use crate::readme::{commands, words};

/// Clerk's CLI, with a home of its own and without telemetry.
struct Cli {
    home: TempDir,
}

impl Cli {
    fn new() -> Self {
        let home = TempDir::new().expect("a temporary directory");
        Self { home }
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut clerk = Command::new(tools().join("snippets/node/node_modules/.bin/clerk"));
        clerk.args(args).env("HOME", self.home.path());
        clerk.env("CLERK_TELEMETRY_DISABLED", "1");
        clerk.output().expect("it runs")
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::write(&path, content).expect("written");
        path
    }
}

#[test]
fn clerks_cli_has_the_flags_of_the_pages() {
    let cli = Cli::new();
    let help = succeeded(&cli.run(&["webhooks", "listen", "--help"]));
    assert!(help.contains("--forward-to <url>"), "{help}");
    assert!(help.contains("--token <c_token>"), "{help}");
    let commands = commands();
    let clerk = commands.iter().filter(|line| line.starts_with("npx "));
    let mut lines = 0;
    for line in clerk {
        let words = words(line);
        assert_eq!(words[1..4], ["clerk", "webhooks", "listen"], "{line}");
        for flag in words.iter().filter(|word| word.starts_with("--")) {
            assert!(help.contains(&format!("{flag} ")), "{line}: no {flag}");
        }
        lines += 1;
    }
    assert!(lines > 0, "the README has the command");
    assert!(page("README.md").contains("`npx clerk webhooks token`"));
    let token = succeeded(&cli.run(&["webhooks", "token"]));
    assert!(token.starts_with("c_"), "{token}");
}

/// Answers every request with 200, and hands it on.
async fn recorder() -> (String, UnboundedReceiver<(HeaderMap, Bytes)>) {
    let (sender, receiver) = unbounded_channel();
    let record = move |headers: HeaderMap, body: Bytes| {
        let _receiver_gone = sender.send((headers, body));
        async { "{}" }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    let served = axum::serve(listener, Router::new().fallback(record));
    tokio::spawn(served.into_future());
    (format!("http://{address}/webhooks/clerk"), receiver)
}

#[tokio::test(flavor = "multi_thread")]
async fn clerks_cli_accepts_what_send_signs() {
    let (url, mut received) = recorder().await;
    let mut send = binary();
    send.args(["send", "user.created", "session.created"]);
    printed(send.args(["--secret", SECRET, "--url", &url]));
    let cli = Cli::new();
    for _ in 0..2 {
        let (headers, body) = received.recv().await.expect("a delivery");
        let payload = cli.write("body.json", &body);
        let payload = format!("@{}", payload.display());
        let header = |name: &str| headers[name].to_str().expect("text").to_owned();
        let [id, timestamp, signature] =
            ["svix-id", "svix-timestamp", "svix-signature"].map(header);
        let verify = |secret: &str| {
            let parts = ["--id", &id, "--timestamp", &timestamp];
            let signed = ["--signature", &signature, "--payload", &payload];
            let secret = ["webhooks", "verify", "--secret", secret];
            cli.run(&[&secret[..], &parts, &signed].concat())
        };
        let verified = succeeded(&verify(SECRET));
        assert!(verified.contains("\"valid\":true"), "{verified}");
        assert!(!verify(OTHER_SECRET).status.success());
    }
}
