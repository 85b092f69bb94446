//! The configuration: what is taken of it, what is reported, and what a reload does.

mod check;
mod cut;
mod kinds;
mod options;
mod reload;
mod secrets;
mod sources;

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::harness::{Gateway, Options, eventually};

pub(super) const BILLING: &str = "[[principals]]\nname = \"billing\"\n\
    token_hash = \"sha256:715342a7f0f617a41815b5615f866ebaa82d0e37fb211bcfb784279fd992ee9b\"\n";

/// A gateway whose configuration file can be replaced.
struct Configured {
    gateway: Gateway,
    directory: TempDir,
}

impl Configured {
    fn start(config: &str) -> Self {
        Self::start_with(config, Vec::new())
    }

    fn start_with(config: &str, env: Vec<(String, String)>) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let file = directory.path().join("clerkcast.toml");
        std::fs::write(&file, config).expect("written");
        let gateway = Gateway::start_with(Options {
            args: vec!["--config".to_owned(), file.display().to_string()],
            env,
        });
        Self { gateway, directory }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("clerkcast.toml")
    }

    /// Replaces the file, as it should be done, and has it taken up. Returns the lines that
    /// this had the gateway log.
    async fn reload(&self, config: &str) -> Vec<serde_json::Value> {
        let beside = self.directory.path().join("beside.toml");
        std::fs::write(&beside, config).expect("written");
        std::fs::rename(beside, self.file()).expect("renamed");
        self.hang_up().await
    }

    /// SIGHUP, and what the gateway logs of it up to its outcome.
    async fn hang_up(&self) -> Vec<serde_json::Value> {
        let outcomes = ["configuration reloaded", "configuration not taken"];
        let is_outcome = |line: &str| outcomes.iter().any(|outcome| line.contains(outcome));
        let count = |text: &str| text.lines().filter(|line| is_outcome(line)).count();
        let before = self.gateway.log_text();
        self.gateway.signal("-HUP");
        eventually("a reload", || async {
            count(&self.gateway.log_text()) > count(&before)
        })
        .await;
        let log = self.gateway.log_text();
        let lines = log.lines().skip(before.lines().count());
        lines
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }
}

/// The one of `lines` whose message begins so.
#[track_caller]
fn line<'a>(lines: &'a [serde_json::Value], message: &str) -> &'a serde_json::Value {
    let is_it = |line: &&serde_json::Value| {
        let text = line["message"].as_str();
        text.is_some_and(|text| text.starts_with(message))
    };
    let found: Vec<_> = lines.iter().filter(is_it).collect();
    assert_eq!(found.len(), 1, "{message}: {lines:?}");
    found[0]
}

fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

/// A `[[sources]]` table.
fn source(name: &str, more: &str) -> String {
    format!("[[sources]]\nname = \"{name}\"\n{more}\n")
}

fn secret_of(name: &str, secret: &str) -> String {
    source(name, &format!("signing_secrets = [\"{secret}\"]"))
}
