//! What `docs/operations.md` has operators run: backups in Kubernetes, and what an event takes.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use clerkcast::proto::GetLogInfoRequest;
use serde_json::Value;
use tempfile::TempDir;

use super::{page, root, yaml};
use crate::harness::{Gateway, SECRET, binary, body};
use crate::interop::{printed, succeeded, tools};
use crate::readme::{commands_of, words};

fn file_in(directory: &Path) -> std::path::PathBuf {
    let mut entries = std::fs::read_dir(directory).expect("a directory");
    entries.next().expect("a file").expect("a file").path()
}

fn is_database(file: &Path) -> bool {
    let content = std::fs::read(file).expect("a file");
    content.starts_with(b"SQLite format 3\0")
}

/// Reads the manifest as Kubernetes does, and prints it as JSON.
const READ_MANIFEST: &str = "
import json, sys, yaml
from kubernetes_validate import utils as kubernetes
manifest = yaml.safe_load(sys.stdin)
for version in list(dict.fromkeys(kubernetes.all_versions()))[-3:]:
    kubernetes.validate(manifest, version, strict=True)
print(json.dumps(manifest))
";
pub(super) const READ_YAML: &str =
    "import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin)))";

pub(super) fn read_yaml(program: &str, text: &str) -> Value {
    let mut python = Command::new(tools().join("checks/bin/python"));
    let python = python.args(["-c", program]).current_dir(root());
    let process = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut process = process.expect("it runs");
    let mut input = process.stdin.take().expect("piped");
    input.write_all(text.as_bytes()).expect("read");
    drop(input);
    let output = process.wait_with_output().expect("it ends");
    serde_json::from_str(&succeeded(&output)).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cron_job_of_the_manual_backs_up() {
    let job = read_yaml(READ_MANIFEST, &yaml("kind: CronJob"));
    let pod = &job["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let image = format!("clerkcast:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(container["image"], image.as_str());
    // That of the chart's StatefulSet, if its release is called clerkcast.
    let claim = &pod["volumes"][0]["persistentVolumeClaim"]["claimName"];
    assert_eq!(claim, "data-clerkcast-0");
    let templates = page("deploy/helm/clerkcast/templates/gateway.yaml");
    let of_chart = templates.split("volumeClaimTemplates:").nth(1);
    let of_chart = of_chart.expect("a claim").trim_start();
    assert!(of_chart.starts_with("- metadata:\n        name: data\n"));

    let gateway = Gateway::start();
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let backups = TempDir::new().expect("a temporary directory");
    let args = container["args"].as_array().expect("arguments");
    let args = args.iter().map(|arg| {
        let arg = arg.as_str().expect("text");
        arg.replace("$(POD_NAME)", "clerkcast-backup-1")
            .replace("/backup/", &format!("{}/", backups.path().display()))
            .replace(
                "/var/lib/clerkcast",
                &gateway.data_dir().display().to_string(),
            )
    });
    printed(binary().args(args));
    let file = file_in(backups.path());
    assert!(file.ends_with("clerkcast-backup-1.db"));
    assert!(is_database(&file));
}

/// Lints and renders the chart with these values, and prints what it makes.
const RENDER: &str = "
import json, sys, yaml
import helm_python as helm
chart_path = 'deploy/helm/clerkcast'
values = yaml.safe_load(sys.stdin)
report = helm.lint(chart_path, values, strict=True)
assert not report['errors'], report['errors']
with helm.Chart.load(chart_path) as chart:
    texts = chart.render(values, name='clerkcast', namespace='default')
manifests = [text for path, text in texts.items() if path.endswith('.yaml')]
objects = [each for text in manifests for each in yaml.safe_load_all(text) if each]
print(json.dumps([[each['kind'], each['metadata']['name']] for each in objects]))
";

#[test]
fn the_values_of_the_manual_render() {
    let made = read_yaml(RENDER, &yaml("existingSecret: clerk"));
    let made = made.as_array().expect("a list");
    for object in [
        ["StatefulSet", "clerkcast"],
        ["Service", "clerkcast-webhook"],
        ["Service", "clerkcast-grpc"],
        ["NetworkPolicy", "clerkcast"],
    ] {
        assert!(made.contains(&serde_json::json!(object)), "{made:#?}");
    }
}

/// Its command, on a gateway with an empty log, gives the figure that the table is made of.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_takes_what_the_manual_says() {
    let text = page("docs/operations.md");
    let commands = commands_of(&text);
    let send = commands.iter().find(|line| line.contains("--count 1000"));
    let gateway = Gateway::start();
    let mut command = binary();
    command.args(&words(send.expect("the command"))[1..]);
    printed(command.args(["--secret", SECRET, "--url", &gateway.webhook_url()]));
    let mut client = gateway.client().await;
    let info = client.get_log_info(GetLogInfoRequest {}).await;
    let info = info.expect("answered").into_inner();
    assert_eq!(info.event_count, 1000);
    let kilobytes = info.size_bytes as f64 / 1e6;
    assert!((5.7..6.9).contains(&kilobytes), "{kilobytes} kB an event");
    assert!(text.contains("takes 6.3 kB for a body of 3.4 kB"));

    let days = 30.0;
    let rows = text.split("| events a day |").nth(1).expect("the table");
    let rows = rows
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let mut count = 0;
    for row in rows {
        let cells: Vec<f64> = row.split('|').skip(1).take(3).map(number).collect();
        let [a_day, kept, gigabytes] = cells[..] else {
            panic!("{row}");
        };
        assert!((kept - a_day * days).abs() < 1.0, "{row}");
        let expected = kept * 6.3e3 / 1e9;
        assert!((gigabytes - expected).abs() < 0.06 * expected, "{row}");
        count += 1;
    }
    assert!(count >= 5, "the table was found");
}

fn number(cell: &str) -> f64 {
    let digits: String = cell
        .chars()
        .filter(|c| c.is_ascii_digit() || *c == '.')
        .collect();
    digits.parse().expect("a number")
}
