//! The list of the metrics, which alerts and dashboards depend on.

use std::collections::{BTreeMap, BTreeSet};

use clerkcast::proto::{GetEventRequest, SubscribeRequest};

use crate::golden::hold;
use crate::harness::{Gateway, Stream, eventually};
use crate::subscriptions;
use crate::tls::Secured;

/// Each metric as `NAME TYPE LABEL…`, by its name. A counter's has `_total` at its end, and
/// a histogram's is without `_bucket`, `_sum` and `_count`.
fn listed(exposition: &str) -> BTreeMap<String, String> {
    let mut list = BTreeMap::new();
    let mut current: Option<(String, String, BTreeSet<String>)> = None;
    for line in exposition.lines().chain(["# TYPE"]) {
        if let Some(declared) = line.strip_prefix("# TYPE") {
            if let Some((name, kind, labels)) = current.take() {
                let labels: String = labels.iter().map(|label| format!(" {label}")).collect();
                list.insert(name.clone(), format!("{name} {kind}{labels}"));
            }
            if let Some((name, kind)) = declared.trim().split_once(' ') {
                let total = if kind == "counter" { "_total" } else { "" };
                current = Some((format!("{name}{total}"), kind.to_owned(), BTreeSet::new()));
            }
        } else if let (false, Some((_, _, labels))) = (line.starts_with('#'), &mut current) {
            labels.extend(labels_of(line));
        }
    }
    list
}

/// The names of the labels of a sample.
fn labels_of(sample: &str) -> Vec<String> {
    let labels = sample
        .split_once('{')
        .and_then(|(_, rest)| rest.rsplit_once('}'));
    let pairs = labels.map_or("", |(labels, _)| labels).split("\",");
    let names = pairs.filter_map(|pair| Some(pair.split_once('=')?.0.to_owned()));
    names.filter(|name| name != "le").collect()
}

/// Has a gateway count what it counts only once there is some.
async fn cause_traffic(gateway: &Gateway) -> Stream {
    let unexpected = serde_json::json!({
        "type": "user.created",
        "data": {"id": "user_1", "object": "user", "unexpected": 1},
    });
    gateway.accept("msg_1", unexpected.to_string()).await;
    let mut client = gateway.client().await;
    let refused = client.get_event(GetEventRequest::default()).await;
    refused.expect_err("no id");
    let mut stream = gateway.subscribe(SubscribeRequest::default()).await;
    stream.caught_up().await;
    let mut caller = subscriptions::Caller::of(gateway).await;
    let created = caller.create(subscriptions::named("crm")).await;
    created.expect("created");
    eventually("the log has been looked at", || async {
        let text = gateway.admin_get("/metrics").await.text;
        text.contains("\nclerkcast_log_oldest_timestamp_seconds ")
    })
    .await;
    stream
}

#[tokio::test]
async fn metrics_are_those_of_the_file() {
    let gateway = Gateway::start();
    let _open = cause_traffic(&gateway).await;
    let mut list = listed(&gateway.admin_get("/metrics").await.text);
    let secured = Secured::start("");
    let of_tls = secured.gateway.admin_get("/metrics").await.text;
    for (name, line) in listed(&of_tls) {
        list.entry(name).or_insert(line);
    }
    let lines: String = list.into_values().map(|line| line + "\n").collect();
    hold("fixtures/metrics.txt", &lines);
}

#[test]
fn a_list_has_names_types_and_labels() {
    let exposition = "# HELP a_seconds A.\n# TYPE a_seconds histogram\n# UNIT a_seconds seconds\n\
        a_seconds_sum{source=\"x\"} 1\na_seconds_bucket{le=\"1\",source=\"x\"} 1\n\
        # HELP b B.\n# TYPE b counter\nb_total{y=\"1,{z=\\\"\",x=\"}\"} 1\n# EOF\n";
    let list: Vec<String> = listed(exposition).into_values().collect();
    assert_eq!(list, ["a_seconds histogram source", "b_total counter x y"]);
}
