//! What a gateway, or another server of a test, logs.

use std::fs::{File, OpenOptions};
use std::process::Child;
use std::time::Instant;

use tempfile::NamedTempFile;

use crate::harness::{PATIENCE, POLL_INTERVAL};

/// Where a gateway logs: a file, which holds a line as soon as the gateway has written it.
/// From a pipe, a line could still be unread when the answer that it explains is there.
#[derive(Debug)]
pub(crate) struct LogFile(NamedTempFile);

impl LogFile {
    pub(crate) fn new() -> Self {
        Self(NamedTempFile::new().expect("a temporary file"))
    }

    pub(crate) fn writer(&self) -> File {
        let mut options = OpenOptions::new();
        let file = options.append(true).open(self.0.path());
        file.expect("it exists")
    }

    /// The lines that are whole.
    pub(crate) fn text(&self) -> String {
        let bytes = std::fs::read(self.0.path()).expect("it exists");
        let mut text = String::from_utf8_lossy(&bytes).into_owned();
        text.truncate(text.rfind('\n').unwrap_or_default());
        text
    }

    pub(crate) fn wait_for_address(&self, process: &mut Child, message: &str) -> String {
        let line = self.wait_for_line(process, message);
        line["address"].as_str().expect("an address").to_owned()
    }

    /// The first line whose message begins so.
    pub(crate) fn wait_for_line(&self, process: &mut Child, message: &str) -> serde_json::Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let has_ended = process.try_wait().expect("it was started").is_some();
            let text = self.text();
            let mut lines = text
                .lines()
                .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap_or_default());
            let line = lines.find(|line| {
                // Prometheus calls it `msg`.
                let found = line["message"].as_str().or_else(|| line["msg"].as_str());
                found.is_some_and(|found| found.starts_with(message))
            });
            if let Some(line) = line {
                return line;
            }
            assert!(
                !has_ended && Instant::now() < deadline,
                "the server did not start:\n{text}"
            );
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}
