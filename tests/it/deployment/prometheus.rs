//! A real Prometheus that scrapes a gateway.

use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use tempfile::TempDir;

use crate::harness::Poster;
use crate::interop::tools;
use crate::log_file::LogFile;

/// A server, which is killed when dropped.
pub(crate) struct Prometheus {
    process: Child,
    server: Poster,
    _directory: TempDir,
}

impl Prometheus {
    /// Starts one that scrapes this address each second, as the job `clerkcast`.
    pub(crate) fn scraping(admin: &str) -> Self {
        // Installs it.
        tools();
        let directory = TempDir::new().expect("a temporary directory");
        let config = directory.path().join("prometheus.yml");
        let settings = format!(
            "global: {{scrape_interval: 1s}}\n\
             scrape_configs:\n  - job_name: clerkcast\n    \
             static_configs: [{{targets: [\"{admin}\"]}}]\n"
        );
        std::fs::write(&config, settings).expect("written");
        let log = LogFile::new();
        let mut process = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.path().join("data").display()
            ))
            .args(["--web.listen-address=127.0.0.1:0", "--log.format=json"])
            .stdout(Stdio::null())
            .stderr(log.writer())
            .spawn()
            .expect("Debian's package prometheus");
        let address = log.wait_for_address(&mut process, "Listening on");
        // Until then, it answers 503.
        log.wait_for_line(&mut process, "Server is ready to receive web requests");
        Self {
            process,
            server: Poster::new(&address),
            _directory: directory,
        }
    }

    /// The series that an expression has now.
    pub(crate) async fn query(&self, expression: &str) -> Vec<serde_json::Value> {
        let path = format!("/api/v1/query?query={}", percent_encoded(expression));
        let answer = self.server.request("GET", &path, &[], Bytes::new()).await;
        let answer = answer.expect("Prometheus answers");
        assert_eq!(answer.status, 200, "{expression}: {}", answer.text);
        let result = answer.json()["data"]["result"].as_array().cloned();
        result.expect("a vector")
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _has_ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| format!("%{byte:02X}");
    text.bytes().map(encode).collect()
}
