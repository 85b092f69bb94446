//! The Helm chart: what it renders, by Helm itself, against Kubernetes' own schemas.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::{deploy, root, text_of};
use crate::harness::{SECRET, binary};
use crate::interop::{printed, tools};

#[test]
fn the_chart_renders_for_both_logs_and_the_gateway_accepts_what_it_renders() {
    let rendered = TempDir::new().expect("a temporary directory");
    let mut render = Command::new(tools().join("checks/bin/python"));
    render
        .arg(root().join("tests/tools/chart.py"))
        .arg(deploy("helm/clerkcast"))
        .arg(rendered.path());
    let summary = printed(&mut render);
    assert!(summary.contains("manifests valid"), "{summary}");
    let entries = std::fs::read_dir(rendered.path()).expect("made");
    let files = entries.map(|entry| entry.expect("a file").path());
    let configs: Vec<_> = files
        .filter(|file| file.extension().is_some_and(|end| end == "toml"))
        .collect();
    assert!(configs.len() >= 26, "{configs:?}");
    let secrets = secrets();
    for config in configs {
        check(&config, secrets.path());
    }
}

/// What the chart mounts as `/run/secrets`.
fn secrets() -> TempDir {
    let secrets = TempDir::new().expect("a temporary directory");
    std::fs::create_dir(secrets.path().join("clerk")).expect("made");
    for key in ["clerk/signing-secret", "clerk/production"] {
        std::fs::write(secrets.path().join(key), SECRET).expect("written");
    }
    std::fs::create_dir(secrets.path().join("nats")).expect("made");
    let credentials = nkeys::KeyPair::new_user().seed().expect("a seed");
    let credentials = format!(
        "-----BEGIN NATS USER JWT-----\ne30.e30.e30\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{credentials}\n------END USER NKEY SEED------\n"
    );
    let url = "nats://gateway:p4ssw0rd@one:4222,nats://gateway:p4ssw0rd@two:4222\n";
    for (key, text) in [("nats.creds", credentials.as_str()), ("nats.url", url)] {
        std::fs::write(secrets.path().join("nats").join(key), text).expect("written");
    }
    secrets
}

/// Has the gateway check a configuration with the environment that the chart gives it.
fn check(config: &Path, secrets: &Path) {
    let secrets = secrets.display().to_string();
    let moved = |text: &str| text.replace("/run/secrets", &secrets);
    std::fs::write(config, moved(&text_of(config))).expect("written");
    let environment = text_of(&config.with_extension("env"));
    let variables = environment.lines().filter_map(|line| line.split_once('='));
    let variables: Vec<_> = variables
        .map(|(name, value)| (name, moved(value)))
        .collect();
    let mut check = binary();
    check.args(["config", "check"]).arg(config).envs(variables);
    let summary = printed(&mut check);
    assert!(
        summary.starts_with("ok: "),
        "{}: {summary}",
        config.display()
    );
}
