//! The alert rules and the dashboard: their own tests, by `promtool`; the metrics that they
//! name; and each query of the dashboard, run by a Prometheus that scrapes a gateway.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Instant;

use super::prometheus::Prometheus;
use super::{deploy, root, text_of};
use crate::harness::{Gateway, PATIENCE, POLL_INTERVAL, body, from_earliest};
use crate::interop::{printed, tools};
use crate::subscriptions::{Caller, named};

fn promtool(args: &[&str]) -> String {
    // Installs it.
    tools();
    let mut promtool = Command::new("promtool");
    printed(promtool.args(args).current_dir(deploy("prometheus")))
}

#[test]
fn every_alert_fires_and_stays_silent_when_it_should() {
    let checked = promtool(&["check", "rules", "rules.yml"]);
    assert!(checked.contains("15 rules found"), "{checked}");
    promtool(&["test", "rules", "rules_test.yml"]);
    let tests = text_of(&deploy("prometheus/rules_test.yml"));
    for alert in alerts() {
        for kind in ["fires", "is silent"] {
            let name = format!("  - name: {alert} {kind}\n");
            assert!(tests.contains(&name), "no test that {alert} {kind}");
        }
    }
}

/// The names of the alerts.
fn alerts() -> BTreeSet<String> {
    let rules = text_of(&deploy("prometheus/rules.yml"));
    let names = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    names.map(str::to_owned).collect()
}

#[test]
fn every_alert_has_an_entry_in_the_runbook() {
    let rules = text_of(&deploy("prometheus/rules.yml"));
    let runbook = text_of(&root().join("docs/runbook.md"));
    let headings: BTreeSet<String> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(str::to_owned)
        .collect();
    assert_eq!(headings, alerts());
    for entry in runbook.split("\n## ").skip(1) {
        let alert = entry.lines().next().expect("a heading");
        for part in [
            "**What it means.**",
            "**What to look at.**",
            "**What to do.**",
        ] {
            assert!(entry.contains(part), "{alert} has no {part}");
        }
        let anchor = format!("runbook: docs/runbook.md#{}\n", alert.to_lowercase());
        assert!(rules.contains(&anchor), "{alert} does not name its entry");
    }
}

#[test]
fn every_metric_that_the_rules_and_the_dashboard_name_exists() {
    let exposed = text_of(&root().join("tests/fixtures/metrics.txt"));
    let exposed = metrics_in(&exposed);
    let mut named = metrics_in(&text_of(&deploy("prometheus/rules.yml")));
    for (_, expression) in queries() {
        named.append(&mut metrics_in(&expression));
    }
    assert!(named.len() > 20, "{named:?}");
    let missing: Vec<_> = named.difference(&exposed).collect();
    assert!(missing.is_empty(), "no gateway exposes {missing:?}");
}

/// The words that are names of metrics. A histogram goes by its own name.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let names = words.filter(|word| word.starts_with("clerkcast_") || word.starts_with("process_"));
    names
        .map(|name| name.strip_suffix("_bucket").unwrap_or(name).to_owned())
        .collect()
}

fn dashboard() -> serde_json::Value {
    serde_json::from_str(&text_of(&deploy("grafana/clerkcast.json"))).expect("JSON")
}

/// The expressions of the dashboard's panels, each with its panel's title.
fn queries() -> Vec<(String, String)> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut queries = Vec::new();
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        for target in panel["targets"].as_array().expect("targets") {
            let expression = target["expr"].as_str().expect("an expression");
            queries.push((title.to_owned(), expression.to_owned()));
        }
    }
    queries
}

#[test]
fn the_dashboard_is_one_that_grafana_can_import() {
    let dashboard = dashboard();
    assert_eq!(dashboard["uid"], "clerkcast");
    assert!(dashboard["schemaVersion"].is_u64());
    let panels = dashboard["panels"].as_array().expect("panels");
    assert_eq!(panels.len(), 12);
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len());
    let variables = dashboard["templating"]["list"]
        .as_array()
        .expect("variables");
    let variables: Vec<_> = variables.iter().map(|each| each["name"].as_str()).collect();
    assert_eq!(variables, [Some("datasource"), Some("job"), Some("source")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_of_the_dashboard_returns_a_series() {
    let gateway = Gateway::start();
    let mut caller = Caller::of(&gateway).await;
    caller.create(named("crm")).await.expect("created");
    let mut request = from_earliest();
    request.subscriber_name = "billing".to_owned();
    let mut stream = gateway.subscribe(request).await;
    let mut worker = caller.worker("crm").await;
    gateway
        .accept("msg_first", body("user.created", "user_1"))
        .await;
    stream.next_event().await;
    worker.delivery().await;
    let prometheus = Prometheus::scraping(&gateway.admin);
    let mut missing = queries();
    let deadline = Instant::now() + PATIENCE;
    for number in 0.. {
        // A delivery that is accepted, and one that is not.
        let id = format!("msg_{number}");
        gateway.accept(&id, body("user.updated", "user_1")).await;
        let unsigned = gateway
            .request("POST", "/webhooks/clerk", &[], "{}".into())
            .await;
        assert_eq!(unsigned.expect("answered").status, 400);
        missing = unanswered_of(&prometheus, missing).await;
        if missing.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "no series for {missing:#?}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// The queries that return no series yet.
async fn unanswered_of(
    prometheus: &Prometheus,
    queries: Vec<(String, String)>,
) -> Vec<(String, String)> {
    let mut unanswered = Vec::new();
    for (title, expression) in queries {
        let asked = expression
            .replace("$__rate_interval", "10s")
            .replace("$job", ".+")
            .replace("$source", ".+");
        if prometheus.query(&asked).await.is_empty() {
            unanswered.push((title, expression));
        }
    }
    unanswered
}
