//! The exposition as Prometheus' own parser and a Prometheus server read it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use clerkcast::proto::SubscribeRequest;

use crate::deployment::prometheus::Prometheus;
use crate::harness::{Gateway, Stream, body, eventually};
use crate::interop::tools;

/// Prints `NAME TYPE SAMPLES` of each metric. The parser refuses what the format does not allow.
const PARSE: &str = "\
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
for family in parse(sys.stdin.buffer.read().decode()):
    print(family.name, family.type, len(family.samples))
";

/// What may stand in a subscriber's name.
const NAME: &str = "a \"quoted\" \\ name{x=\"1\"} 1 # é";

async fn with_traffic() -> (Gateway, Stream) {
    let gateway = Gateway::start();
    let stream = gateway
        .subscribe(SubscribeRequest {
            subscriber_name: NAME.to_owned(),
            ..SubscribeRequest::default()
        })
        .await;
    for number in 0..3 {
        let id = format!("msg_{number}");
        gateway.accept(&id, body("user.created", "user_1")).await;
    }
    gateway.post("msg_1", body("user.created", "user_1")).await;
    (gateway, stream)
}

/// How many samples the parser finds.
fn parsed_samples(text: &str) -> usize {
    let mut python = Command::new(tools().join("checks/bin/python"))
        .args(["-c", PARSE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python runs");
    let mut input = python.stdin.take().expect("piped");
    input.write_all(text.as_bytes()).expect("it reads");
    drop(input);
    let output = python.wait_with_output().expect("it ends");
    assert!(output.status.success(), "not OpenMetrics:\n{text}");
    let families = String::from_utf8(output.stdout).expect("text");
    let samples = families.lines().map(|family| {
        let count = family.rsplit(' ').next().expect("a number");
        count.parse::<usize>().expect("a number")
    });
    samples.sum()
}

/// The value of the one series that a metric has.
async fn value(prometheus: &Prometheus, metric: &str) -> Option<String> {
    let series = prometheus.query(metric).await;
    let value = series.first()?["value"][1].as_str();
    value.map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_open_metrics() {
    let (gateway, _open) = with_traffic().await;
    let text = gateway.admin_get("/metrics").await.text;
    let samples = text.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(parsed_samples(&text), samples);

    let prometheus = Prometheus::scraping(&gateway.admin);
    eventually("prometheus has scraped the gateway", || async {
        value(&prometheus, "up").await.as_deref() == Some("1")
    })
    .await;
    eventually("prometheus has taken every sample", || async {
        let scraped = value(&prometheus, "scrape_samples_scraped").await;
        let now = gateway.admin_get("/metrics").await.text;
        let samples = now.lines().filter(|line| !line.starts_with('#')).count();
        scraped == Some(samples.to_string())
    })
    .await;
    for (query, expected) in [
        ("clerkcast_webhook_accepted_total", "3"),
        ("clerkcast_webhook_duplicates_total", "1"),
        ("clerkcast_webhook_event_age_seconds_count", "3"),
        ("clerkcast_build_info", "1"),
    ] {
        let shown = value(&prometheus, query).await;
        assert_eq!(shown.as_deref(), Some(expected), "{query}");
    }
}
