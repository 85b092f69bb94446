//! Traces of webhooks and calls: what is in them, who may name their parents, and that their
//! receiver holds up nothing.

mod receiver;

use std::collections::BTreeMap;

use bytes::Bytes;
use clerkcast::proto::SubscribeRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tonic::metadata::MetadataValue;

use crate::access::{Caller, Guarded, new_token};
use crate::commands::{run, stdout};
use crate::harness::{Gateway, OTHER_SECRET, Options, SECRET, body, eventually, now_seconds, sign};
use crate::tls::Authority;
use receiver::{Receiver, texts};

const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT_ID: &str = "b7ad6b7169203331";
const WEBHOOK: &str = "POST /webhooks/clerk/{source}";

fn traceparent() -> String {
    format!("00-{TRACE_ID}-{PARENT_ID}-01")
}

fn traced(receiver: &Receiver) -> Gateway {
    traced_with(receiver, &[])
}

fn traced_with(receiver: &Receiver, more: &[&str]) -> Gateway {
    let url = receiver.url();
    let args = [&["--otlp-endpoint", &url], more].concat();
    Gateway::start_with(Options::args(&args))
}

/// Posts a body that is signed with `secret`, as a part of another trace.
async fn post_in_a_trace(gateway: &Gateway, secret: &str, id: &str) -> u16 {
    let body = Bytes::from(body("user.created", "user_1"));
    let mut headers = sign(secret, id, now_seconds(), &body);
    headers.push(("traceparent".to_owned(), traceparent()));
    headers.push(("tracestate".to_owned(), "vendor=payload".to_owned()));
    let answer = gateway
        .request("POST", "/webhooks/clerk", &headers, body)
        .await;
    answer.expect("the gateway answers").status
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    owned.collect()
}

/// The spans of one webhook: the whole, and its steps.
fn of_webhook<'a>(spans: &'a [Span], steps: &[&str]) -> &'a Span {
    let names: Vec<&str> = spans.iter().map(|span| &*span.name).collect();
    assert_eq!(names, [&[WEBHOOK], steps].concat());
    let root = &spans[0];
    assert_eq!(root.kind(), SpanKind::Server);
    for step in &spans[1..] {
        assert_eq!(hex(&step.parent_span_id), hex(&root.span_id));
        assert_eq!(step.trace_id, root.trace_id);
        assert_eq!(texts(&step.attributes), BTreeMap::new());
        assert!(step.start_time_unix_nano >= root.start_time_unix_nano);
        assert!(step.end_time_unix_nano <= root.end_time_unix_nano);
    }
    root
}

const STEPS: [&str; 3] = ["verify", "decode", "append"];

#[tokio::test]
async fn a_webhook_is_traced_with_its_steps() {
    let receiver = Receiver::start();
    let gateway = traced(&receiver);
    for (outcome, status) in [("accepted", 200), ("duplicate", 200)] {
        let answered = post_in_a_trace(&gateway, SECRET, "msg_1").await;
        assert_eq!(answered, status);
        let spans = receiver.spans(4).await;
        let root = of_webhook(&spans, &STEPS);
        assert_eq!(hex(&root.trace_id), TRACE_ID);
        assert_eq!(hex(&root.parent_span_id), PARENT_ID);
        assert_eq!(root.trace_state, "");
        let expected = [
            ("clerkcast.source", "default"),
            ("clerkcast.event_type", "user.created"),
            ("clerkcast.outcome", outcome),
            ("messaging.message.id", "msg_1"),
            ("http.response.status_code", "200"),
        ];
        assert_eq!(texts(&root.attributes), attributes(&expected));
        let extras = spans
            .iter()
            .map(|span| span.events.len() + span.links.len());
        assert_eq!(extras.sum::<usize>(), 0);
    }
    let resource = receiver.taken().resource.lock().clone();
    assert_eq!(resource["service.name"], "clerkcast");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        gateway.metric("clerkcast_otlp_spans_dropped_total").await,
        0.0
    );
}

#[tokio::test]
async fn a_traceparent_without_a_valid_signature_is_ignored() {
    let receiver = Receiver::start();
    let gateway = traced(&receiver);
    let status = post_in_a_trace(&gateway, OTHER_SECRET, "msg_1").await;
    assert_eq!(status, 400);
    let spans = receiver.spans(2).await;
    let root = of_webhook(&spans, &["verify"]);
    assert_ne!(hex(&root.trace_id), TRACE_ID);
    assert_eq!(root.parent_span_id, Vec::<u8>::new());
    // Neither the id that it claims.
    let expected = [
        ("clerkcast.source", "default"),
        ("clerkcast.outcome", "rejected"),
        ("http.response.status_code", "400"),
    ];
    assert_eq!(texts(&root.attributes), attributes(&expected));
}

#[tokio::test]
async fn a_call_is_traced_until_its_stream_ends() {
    let token = new_token("billing");
    let receiver = Receiver::start();
    let guarded = Guarded::start_with(&token.stanza, &["--otlp-endpoint", &receiver.url()]);
    let gateway = &guarded.gateway;
    let mut caller = Caller::of(gateway, &token).await;
    let in_trace = |caller: &Caller| {
        let mut request = caller.request(SubscribeRequest {
            max_events: 1,
            ..SubscribeRequest::default()
        });
        let parent: MetadataValue<_> = traceparent().parse().expect("ASCII");
        request.metadata_mut().insert("traceparent", parent);
        request
    };
    // Of a caller that is not known, nothing is.
    let mut unknown = in_trace(&caller);
    unknown.metadata_mut().remove("authorization");
    caller.client.subscribe(unknown).await.expect_err("refused");
    let subscribed = caller.client.subscribe(in_trace(&caller)).await;
    let mut stream = subscribed.expect("subscribed").into_inner();
    stream.message().await.expect("a frame");
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    while stream.message().await.expect("no error").is_some() {}
    let spans = receiver.spans(5).await;
    let find = |name: &str| spans.iter().find(|span| span.name == name);
    let webhook = find(WEBHOOK).expect("it is traced");
    let span = find("clerkcast.v1.EventService/Subscribe").expect("it is traced");
    assert_eq!(span.kind(), SpanKind::Server);
    assert_eq!(hex(&span.trace_id), TRACE_ID);
    assert_eq!(hex(&span.parent_span_id), PARENT_ID);
    assert!(span.start_time_unix_nano < webhook.start_time_unix_nano);
    assert!(span.end_time_unix_nano > webhook.start_time_unix_nano);
    let expected = [
        ("clerkcast.principal", "billing"),
        ("rpc.grpc.status_code", "0"),
    ];
    assert_eq!(texts(&span.attributes), attributes(&expected));
}

#[tokio::test]
async fn calls_without_credentials_and_given_up_streams_are_traced() {
    let receiver = Receiver::start();
    let gateway = traced(&receiver);
    let mut client = gateway.client().await;
    let mut request = tonic::Request::new(SubscribeRequest::default());
    let parent: MetadataValue<_> = traceparent().parse().expect("ASCII");
    request.metadata_mut().insert("traceparent", parent);
    let subscribed = client.subscribe(request).await.expect("subscribed");
    drop(subscribed);
    let asked = clerkcast::proto::GetEventRequest {
        id: "msg_1".to_owned(),
        ..Default::default()
    };
    client.get_event(asked).await.expect_err("no such event");
    let mut spans = receiver.spans(2).await;
    spans.sort_by(|one, other| one.name.cmp(&other.name));
    let [get, subscribe] = &spans[..] else {
        panic!("two spans");
    };
    assert_eq!(get.name, "clerkcast.v1.EventService/GetEvent");
    for (span, code) in [(get, "5"), (subscribe, "1")] {
        assert_ne!(hex(&span.trace_id), TRACE_ID);
        assert_eq!(span.parent_span_id, Vec::<u8>::new());
        let expected = [
            ("clerkcast.principal", "anonymous"),
            ("rpc.grpc.status_code", code),
        ];
        assert_eq!(texts(&span.attributes), attributes(&expected));
    }
}

/// Posts this many webhooks, all of which are accepted.
async fn post_many(gateway: &Gateway, count: usize) {
    let mut posting = JoinSet::new();
    for number in 0..count {
        let poster = gateway.poster.clone();
        posting.spawn(async move {
            let body = body("user.created", "user_1");
            let answer = poster.post(&format!("msg_{number}"), body.into()).await;
            assert_eq!(answer.expect("an answer").status, 200);
        });
        if posting.len() == 16 {
            posting
                .join_next()
                .await
                .expect("one")
                .expect("it was accepted");
        }
    }
    posting.join_all().await;
}

/// More than the queue of 2,048 spans and the batch under way hold.
const WEBHOOKS_BEYOND_THE_QUEUE: usize = 700;

#[tokio::test]
async fn webhooks_and_the_stop_wait_for_no_receiver_that_hangs() {
    let receiver = Receiver::start_hanging();
    let mut gateway = traced(&receiver);
    post_many(&gateway, WEBHOOKS_BEYOND_THE_QUEUE).await;
    eventually("spans are dropped", || async {
        gateway.metric("clerkcast_otlp_spans_dropped_total").await > 0.0
    })
    .await;
    gateway.signal("-TERM");
    assert_eq!(gateway.wait().code(), Some(0));
    let log = gateway.log_text();
    assert!(
        log.contains("did not take the last spans within 1 s"),
        "{log}"
    );
}

#[tokio::test]
async fn webhooks_go_on_while_the_receiver_is_gone() {
    let mut receiver = Receiver::start();
    let gateway = traced(&receiver);
    gateway
        .accept("msg_first", body("user.created", "user_1"))
        .await;
    receiver.spans(4).await;
    receiver.stop();
    post_many(&gateway, 3).await;
    eventually("spans are lost", || async {
        gateway.metric("clerkcast_otlp_spans_dropped_total").await > 0.0
    })
    .await;
    let lost = "traces cannot be sent";
    assert_eq!(gateway.log_text().matches(lost).count(), 1);
    let receiver = receiver.restarted();
    let mut number = 0;
    eventually("traces are sent again", || {
        number += 1;
        let id = format!("msg_again_{number}");
        let (gateway, receiver) = (&gateway, &receiver);
        async move {
            gateway.accept(&id, body("user.created", "user_1")).await;
            !receiver.taken().spans.lock().is_empty()
        }
    })
    .await;
    eventually("a line says so", || async {
        gateway.log_text().contains("traces are sent again")
    })
    .await;
}

#[tokio::test]
async fn a_stop_sends_the_last_spans() {
    let receiver = Receiver::start();
    let gateway = traced(&receiver);
    gateway
        .accept("msg_first", body("user.created", "user_1"))
        .await;
    receiver.spans(4).await;
    post_many(&gateway, 20).await;
    let log = gateway.stopped().log_text();
    // On a machine that is very busy.
    let gave_up = log.contains("did not take the last spans");
    assert!(gave_up || receiver.taken().spans.lock().len() == 80);
}

#[tokio::test]
async fn only_the_share_of_traces_that_is_asked_for_is_sent() {
    let receiver = Receiver::start();
    let gateway = traced_with(&receiver, &["--otlp-sample-ratio", "0"]);
    post_many(&gateway, 10).await;
    // A sender that is known decides for its own trace.
    post_in_a_trace(&gateway, SECRET, "msg_in_a_trace").await;
    receiver.spans(4).await;
    gateway.stopped();
    assert_eq!(receiver.taken().spans.lock().len(), 0);
}

#[tokio::test]
async fn headers_for_the_receiver_reach_it_and_no_log_line() {
    let mut receiver = Receiver::start();
    let mut options = Options::args(&["--log-level", "trace"]);
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url()),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "authorization=Bearer%20s3cr3t,x-key=t0p".to_owned(),
        ),
        ("OTEL_SERVICE_NAME", "events".to_owned()),
    ] {
        options.env.push((name.to_owned(), value));
    }
    let gateway = Gateway::start_with(options);
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    receiver.spans(4).await;
    let metadata = receiver.taken().metadata.lock()[0].clone();
    assert_eq!(
        metadata.get("authorization").expect("sent"),
        "Bearer s3cr3t"
    );
    assert_eq!(metadata.get("x-key").expect("sent"), "t0p");
    assert_eq!(receiver.taken().resource.lock()["service.name"], "events");
    receiver.stop();
    gateway
        .accept("msg_2", body("user.created", "user_1"))
        .await;
    eventually("spans are lost", || async {
        gateway.log_text().contains("traces cannot be sent")
    })
    .await;
    let log = gateway.log_text();
    assert!(!log.contains("s3cr3t") && !log.contains("t0p"), "{log}");
}

#[tokio::test]
async fn traces_are_compressed_where_the_standard_variable_asks_for_it() {
    let receiver = Receiver::start();
    let mut options = Options::args(&["--otlp-endpoint", &receiver.url()]);
    let variable = "OTEL_EXPORTER_OTLP_COMPRESSION".to_owned();
    options.env.push((variable, "gzip".to_owned()));
    let gateway = Gateway::start_with(options);
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    receiver.spans(4).await;
    let metadata = receiver.taken().metadata.lock()[0].clone();
    assert_eq!(metadata.get("grpc-encoding").expect("compressed"), "gzip");
}

#[tokio::test]
async fn traces_go_over_tls_to_a_receiver_that_the_system_trusts() {
    let authority = Authority::new();
    let receiver = Receiver::start_with_tls(authority.issue_server());
    let directory = TempDir::new().expect("a directory");
    let roots = directory.path().join("roots.pem");
    std::fs::write(&roots, authority.pem()).expect("written");
    let url = format!("https://{}", receiver.address);
    let mut options = Options::args(&["--otlp-endpoint", &url]);
    let roots = roots.display().to_string();
    options.env.push(("SSL_CERT_FILE".to_owned(), roots));
    let gateway = Gateway::start_with(options);
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    receiver.spans(4).await;
}

/// What the gateway logs about one webhook, without the time.
async fn lines_about_a_webhook(gateway: &Gateway) -> Vec<serde_json::Value> {
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let lines = || {
        let text = gateway.log_text();
        let lines = text
            .lines()
            .filter(|line| line.contains("webhook accepted"));
        let parsed = lines.map(|line| {
            let mut line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let fields = line.as_object_mut().expect("an object");
            fields.remove("timestamp");
            line
        });
        parsed.collect::<Vec<_>>()
    };
    eventually("a line", || async { !lines().is_empty() }).await;
    lines()
}

#[tokio::test]
async fn traces_change_no_log_line() {
    let receiver = Receiver::start();
    let debug = ["--log-level", "clerkcast=trace"];
    let with = traced_with(&receiver, &debug);
    let without = Gateway::start_with(Options::args(&debug));
    let lines = lines_about_a_webhook(&with).await;
    assert_eq!(lines, lines_about_a_webhook(&without).await);
    assert!(lines[0].get("span").is_none(), "{lines:?}");
}

/// The value and the origin of the endpoint, as `config check --print` shows them.
fn printed(standard: &str, config: &str, args: &[&str]) -> String {
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("clerkcast.toml");
    std::fs::write(&file, config).expect("written");
    let file = file.display().to_string();
    let checked = crate::harness::binary()
        .args(["config", "check", &file, "--print"])
        .args(args)
        .env("CLERK_WEBHOOK_SIGNING_SECRET", SECRET)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", standard)
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        .output()
        .expect("it runs");
    let text = stdout(&checked);
    let line = text.lines().find(|line| line.starts_with("otlp_endpoint"));
    let warns = String::from_utf8_lossy(&checked.stderr).contains("traces are sent over gRPC");
    format!(
        "{}{}",
        line.unwrap_or(&text),
        if warns { ", warned" } else { "" }
    )
}

#[test]
fn every_place_wins_over_the_standard_variable() {
    let standard = "http://collector:4317";
    for (standard, config, args, expected) in [
        ("", "", &[][..], "otlp_endpoint = (none) (default)"),
        (
            standard,
            "",
            &[],
            "otlp_endpoint = http://collector:4317 (env OTEL_EXPORTER_OTLP_ENDPOINT), warned",
        ),
        (
            standard,
            "otlp_endpoint = \"https://other:4317\"\notlp_sample_ratio = 0.25\n",
            &[],
            "otlp_endpoint = https://other:4317 (file 1), warned",
        ),
        (
            standard,
            "otlp_sample_ratio = 1\n",
            &["--otlp-endpoint", "off"],
            "otlp_endpoint = off (flag)",
        ),
        (
            standard,
            "",
            &["--no-env"],
            "otlp_endpoint = (none) (default)",
        ),
    ] {
        assert_eq!(printed(standard, config, args), expected);
    }
}

#[test]
fn a_url_that_is_no_receiver_is_refused_without_being_shown() {
    for (url, reason) in [
        ("collector:4317", "expected http://HOST:PORT"),
        ("ftp://collector:4317", "expected http://HOST:PORT"),
        ("http://user:s3cr3t@collector:4317", "would be shown"),
        ("http://collector:4318/v1/traces", "gRPC has no path"),
        ("http://collector:4317?key=s3cr3t", "gRPC has no path"),
    ] {
        let refused = run(&["serve", "--signing-secret", SECRET, "--otlp-endpoint", url]);
        assert_eq!(refused.status.code(), Some(2), "{url}");
        let message = crate::commands::stderr(&refused);
        assert!(message.contains(reason), "{url}: {message}");
        assert!(!message.contains("s3cr3t"), "{message}");
    }
}
