//! What scripts, dashboards and clients depend on, held to files: the help of every command,
//! the metrics, and the descriptors. Whoever changes one of them changes its file, on purpose.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use clerkcast::proto::{DESCRIPTORS, GetEventRequest, SubscribeRequest};

use crate::harness::{Gateway, Stream};
use crate::subscriptions;
use crate::tls::Secured;
use crate::voice::{COMMANDS, help_of};

/// Compares with `tests/golden/NAME`. What differs is written, to be copied if it is right.
#[track_caller]
fn hold(name: &str, found: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = root.join("tests/golden").join(name);
    if std::fs::read_to_string(&golden).is_ok_and(|expected| expected == found) {
        return;
    }
    let written = root.join("target/golden").join(name);
    std::fs::create_dir_all(written.parent().expect("below target")).expect("made");
    std::fs::write(&written, found).expect("written");
    panic!(
        "{name} has changed; if that is meant: cp target/golden/{name} tests/golden/{name}\n{found}"
    );
}

#[test]
fn the_help_of_every_command_is_that_of_its_file() {
    let mut all = String::new();
    for command in COMMANDS {
        writeln!(all, "== clerkcast {} --help", command.join(" ")).expect("a string");
        all += &help_of(command);
    }
    hold("help.txt", &all);
}

/// What `/metrics` exposes, metric by metric: how it is declared, and its series with the names
/// of their labels, without values.
fn declared(exposition: &str) -> Vec<Vec<String>> {
    let mut metrics: Vec<Vec<String>> = Vec::new();
    for line in exposition.lines().filter(|line| *line != "# EOF") {
        if line.starts_with("# HELP ") {
            metrics.push(Vec::new());
        }
        let metric = metrics.last_mut().expect("a declaration comes first");
        let shown = if line.starts_with('#') {
            line.to_owned()
        } else {
            series(line)
        };
        if !metric.contains(&shown) {
            metric.push(shown);
        }
    }
    metrics
}

/// `connections{port="http"} 3` as `connections{port}`.
fn series(sample: &str) -> String {
    let (series, _value) = sample.rsplit_once(' ').expect("a value");
    let Some((name, labels)) = series.split_once('{') else {
        return series.to_owned();
    };
    let pairs = labels.trim_end_matches('}').split(',');
    let names = pairs.map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name));
    format!("{name}{{{}}}", names.collect::<Vec<_>>().join(","))
}

/// Adds the metrics that only `others` has, each where it stands there.
fn merge(metrics: &mut Vec<Vec<String>>, others: Vec<Vec<String>>) {
    let mut next = 0;
    for metric in others {
        match metrics.iter().position(|known| known[0] == metric[0]) {
            Some(index) => next = index + 1,
            None => {
                metrics.insert(next, metric);
                next += 1;
            }
        }
    }
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
    stream
}

#[tokio::test]
async fn metrics_are_those_of_the_file() {
    let gateway = Gateway::start();
    let _open = cause_traffic(&gateway).await;
    let mut caller = subscriptions::Caller::of(&gateway).await;
    let created = caller.create(subscriptions::named("crm")).await;
    created.expect("created");
    let mut metrics = declared(&gateway.admin_get("/metrics").await.text);
    let secured = Secured::start("");
    let of_tls = secured.gateway.admin_get("/metrics").await.text;
    merge(&mut metrics, declared(&of_tls));
    let blocks = metrics.iter().map(|lines| lines.join("\n") + "\n");
    hold("metrics.txt", &blocks.collect::<Vec<_>>().join("\n"));
}

#[test]
fn descriptors_are_those_of_the_file() {
    let mut all = BTreeSet::new();
    for service in DESCRIPTORS.services() {
        for method in service.methods() {
            let stream = if method.is_server_streaming() {
                "stream "
            } else {
                ""
            };
            let (input, output) = (method.input(), method.output());
            let name = method.full_name();
            all.insert(format!(
                "rpc {name}({}) returns ({stream}{})",
                input.full_name(),
                output.full_name()
            ));
        }
    }
    for message in DESCRIPTORS.all_messages() {
        for field in message.fields() {
            let repeated = if field.is_list() { "repeated " } else { "" };
            let (name, number, kind) = (field.full_name(), field.number(), field.kind());
            all.insert(format!("{repeated}{name} = {number}: {kind:?}"));
        }
    }
    for values in DESCRIPTORS.all_enums() {
        for value in values.values() {
            all.insert(format!("{} = {}", value.full_name(), value.number()));
        }
    }
    all.retain(|line| line.contains("clerkcast."));
    let mut text = all.into_iter().collect::<Vec<_>>().join("\n");
    text.push('\n');
    hold("descriptors.txt", &text);
}
