//! The alert rules and the dashboard: their own tests, by `promtool`, and a Prometheus that
//! scrapes a gateway.

use std::collections::BTreeSet;
use std::process::Command;

use super::prometheus::Prometheus;
use super::{deploy, printed, root, text_of};
use crate::harness::{Gateway, eventually};
use crate::interop::tools;

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

fn dashboard() -> serde_json::Value {
    serde_json::from_str(&text_of(&deploy("grafana/clerkcast.json"))).expect("JSON")
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

#[tokio::test]
async fn prometheus_scrapes_a_gateway() {
    let gateway = Gateway::start();
    let prometheus = Prometheus::scraping(&gateway.admin);
    let prometheus = &prometheus;
    eventually("a scrape", || async {
        let scraped = prometheus.query("clerkcast_log_writable == 1").await;
        !scraped.is_empty()
    })
    .await;
}
