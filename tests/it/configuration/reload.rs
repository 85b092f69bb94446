//! SIGHUP takes up the whole configuration, or nothing of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use clerkcast::proto;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{BILLING, Configured, line, secret_of, source};
use crate::harness::{
    Gateway, OTHER_SECRET, Poster, SECRET, body, eventually, from_earliest, now_seconds, sign,
};

const THIRD_SECRET: &str = "whsec_Y2xlcmtjYXN0IGhhcyBhIHRoaXJkIHNlY3JldA==";

async fn status(gateway: &Gateway, source: &str, secret: &str, id: &str) -> u16 {
    let event = body("user.created", "user_1").into();
    let path = format!("/{source}");
    gateway.post_signed(&path, secret, id, event).await.status
}

/// A delivery of which half is sent.
async fn half_delivery(gateway: &Gateway, path: &str, secret: &str) -> (TcpStream, String) {
    let event = body("user.created", "user_half");
    let headers = sign(secret, "msg_half", now_seconds(), event.as_bytes());
    let head: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let length = event.len();
    let head = format!(
        "POST /webhooks/clerk/{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n{head}\r\n"
    );
    let mut stream = TcpStream::connect(&gateway.http).await.expect("connected");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut interim = vec![0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    stream
        .read_exact(&mut interim)
        .await
        .expect("the body is awaited");
    (stream, event)
}

#[tokio::test]
async fn a_reload_takes_up_secrets_and_drops_the_old() {
    let configured = Configured::start(&format!(
        "{}{}",
        secret_of("production", SECRET),
        secret_of("gone", SECRET)
    ));
    let gateway = &configured.gateway;
    assert_eq!(status(gateway, "production", SECRET, "msg_1").await, 200);
    assert_eq!(status(gateway, "gone", SECRET, "msg_2").await, 200);
    let (mut half, rest) = half_delivery(gateway, "production", SECRET).await;

    let production = format!("signing_secrets = [\"{OTHER_SECRET}\"]\ninstance_id = \"ins_1\"");
    let lines = configured
        .reload(&format!(
            "retain_for = \"7d\"\nretain_bytes = \"1GiB\"\n{}{}",
            source("production", &production),
            secret_of("new", THIRD_SECRET)
        ))
        .await;
    let reloaded = line(&lines, "configuration reloaded");
    assert_eq!(reloaded["level"], "INFO");
    assert_eq!(reloaded["target"], "clerkcast::audit");
    for (field, value) in [
        ("sources_added", "new"),
        ("sources_changed", "production"),
        ("sources_removed", "gone"),
        ("principals_added", ""),
        ("principals_widened", ""),
    ] {
        assert_eq!(reloaded[field], value, "{field}");
    }
    let added = reloaded["secrets_added"].as_str().expect("text");
    assert!(
        added.contains("new:") && added.contains("production:"),
        "{added}"
    );
    assert_eq!(
        reloaded["secrets_removed"]
            .as_str()
            .expect("text")
            .matches(':')
            .count(),
        2
    );
    for secret in [SECRET, OTHER_SECRET, THIRD_SECRET] {
        let key = secret.trim_start_matches("whsec_");
        assert!(!gateway.log_text().contains(key));
    }

    assert_eq!(status(gateway, "production", SECRET, "msg_3").await, 400);
    assert_eq!(
        status(gateway, "production", OTHER_SECRET, "msg_3").await,
        200
    );
    assert_eq!(status(gateway, "new", THIRD_SECRET, "msg_4").await, 200);
    assert_eq!(status(gateway, "gone", SECRET, "msg_5").await, 404);
    // One that was on its way when its secret went.
    half.write_all(rest.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    half.read_to_string(&mut answer).await.expect("answered");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("signature_mismatch"), "{answer}");
    let foreign = Bytes::from_static(br#"{"type":"user.created","data":{},"instance_id":"ins_2"}"#);
    let pinned = gateway.post_signed("/production", OTHER_SECRET, "msg_6", foreign);
    assert_eq!(pinned.await.json()["error"], "instance_mismatch");

    let sources = gateway.history(from_earliest()).await.into_iter();
    let sources: Vec<String> = sources.map(|event| event.source).collect();
    assert_eq!(sources, ["production", "gone", "production", "new"]);
    let mut client = gateway.client().await;
    let about = client.get_log_info(proto::GetLogInfoRequest {});
    let about = about.await.expect("answered").into_inner();
    assert_eq!(about.retain_for.map(|it| it.seconds), Some(7 * 86_400));
    assert_eq!(about.retain_bytes, 1 << 30);
}

#[tokio::test]
async fn a_reload_changes_what_is_logged() {
    let configured = Configured::start("log_level = \"info\"\n");
    let gateway = &configured.gateway;
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    configured.reload("log_level = \"debug\"\n").await;
    gateway
        .accept("msg_2", body("user.created", "user_1"))
        .await;
    eventually("it is logged", || async {
        gateway.log_text().contains("msg_2")
    })
    .await;
    assert!(!gateway.log_text().contains("msg_1"));
}

#[tokio::test]
async fn a_policy_that_was_widened_is_warned_of() {
    let config = |types: &str| format!("{BILLING}types = [{types}]\n");
    let configured = Configured::start(&config("\"user.*\""));
    let lines = configured.reload(&config("\"user.created\"")).await;
    let narrowed = line(&lines, "configuration reloaded");
    assert_eq!(narrowed["level"], "INFO");
    assert_eq!(narrowed["principals_changed"], "billing");
    let lines = configured
        .reload(&config("\"user.created\", \"session.*\""))
        .await;
    let widened = line(&lines, "configuration reloaded");
    assert_eq!(widened["level"], "WARN");
    assert_eq!(widened["principals_widened"], "billing");
}

#[tokio::test]
async fn a_wrong_file_changes_nothing() {
    let right = format!("{}{BILLING}", secret_of("production", SECRET));
    let configured = Configured::start(&right);
    let gateway = &configured.gateway;
    let succeeded_at = "clerkcast_config_last_reload_success_timestamp_seconds";
    let started_at = gateway.metric(succeeded_at).await;
    assert!(started_at > 0.0);
    // All else in each of them is right, and would be a change.
    let changed = secret_of("production", OTHER_SECRET);
    for wrong in [
        "nonsense".to_owned(),
        format!("{changed}{BILLING}types = [\"user.craeted\"]\n"),
        format!("{changed}{}{BILLING}", source("staging", "")),
        format!("retain_for = \"soon\"\n{changed}{BILLING}"),
        format!("ring_size = \"1KiB\"\n{changed}{BILLING}"),
        format!(
            "http_tls_cert = \"/does/not/exist\"\nhttp_tls_key = \"/does/not/exist\"\n{changed}{BILLING}"
        ),
        format!("log_level = \"verbose\"\n{changed}{BILLING}"),
        changed.clone(),
    ] {
        let lines = configured.reload(&format!("{wrong}\n")).await;
        let refused = line(&lines, "configuration not taken; the former stays in force");
        assert_eq!(refused["level"], "ERROR", "{wrong}");
        assert_eq!(
            gateway
                .metric("clerkcast_config_last_reload_successful")
                .await,
            0.0
        );
        assert_eq!(gateway.metric(succeeded_at).await, started_at);
        assert_eq!(
            status(gateway, "production", OTHER_SECRET, "msg_1").await,
            400,
            "{wrong}"
        );
        assert_eq!(
            status(gateway, "production", SECRET, "msg_1").await,
            200,
            "{wrong}"
        );
        let mut client = gateway.client().await;
        let anonymous = client.get_log_info(proto::GetLogInfoRequest {});
        anonymous.await.expect_err("still guarded");
    }
    std::fs::remove_file(configured.file()).expect("removed");
    line(&configured.hang_up().await, "configuration not taken");
    let lines = configured.reload(&format!("# the same\n{right}")).await;
    line(&lines, "configuration reloaded");
    assert_eq!(
        gateway
            .metric("clerkcast_config_last_reload_successful")
            .await,
        1.0
    );
}

/// Posts to a source with one secret until it is asked to stop; all must be accepted.
struct Posting {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<u64>,
}

impl Posting {
    fn start(poster: &Poster, name: &'static str, secret: &'static str) -> Self {
        let (poster, stop) = (poster.clone(), Arc::new(AtomicBool::new(false)));
        let asked = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let accepted = AtomicU64::new(0);
            while !asked.load(Ordering::Relaxed) {
                let number = accepted.fetch_add(1, Ordering::Relaxed);
                let event = Bytes::from(body("user.created", "user_1"));
                let headers = sign(secret, &format!("{name}_{number}"), now_seconds(), &event);
                let path = "/webhooks/clerk/production";
                let answer = poster.request("POST", path, &headers, event).await;
                let answer = answer.expect("the gateway answers");
                assert_eq!(answer.status, 200, "{name}: {}", answer.text);
            }
            accepted.into_inner()
        });
        Self { stop, task }
    }

    async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("all were accepted")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_under_load_loses_no_delivery() {
    let config = |secrets: &[&str]| {
        let quoted: Vec<String> = secrets.iter().map(|it| format!("\"{it}\"")).collect();
        let quoted = quoted.join(", ");
        source("production", &format!("signing_secrets = [{quoted}]"))
    };
    let configured = Configured::start(&config(&[THIRD_SECRET, SECRET]));
    let gateway = &configured.gateway;
    let mut accepted = 0;
    let steady = Posting::start(&gateway.poster, "steady", THIRD_SECRET);
    let old = Posting::start(&gateway.poster, "old", SECRET);
    configured
        .reload(&config(&[THIRD_SECRET, SECRET, OTHER_SECRET]))
        .await;
    let new = Posting::start(&gateway.poster, "new", OTHER_SECRET);
    accepted += old.end().await;
    configured
        .reload(&config(&[OTHER_SECRET, THIRD_SECRET]))
        .await;
    assert_eq!(status(gateway, "production", SECRET, "late").await, 400);
    accepted += new.end().await + steady.end().await;
    let received = gateway.history(from_earliest()).await.len();
    assert_eq!(received as u64, accepted);
}
