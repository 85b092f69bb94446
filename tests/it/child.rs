//! Processes of their own that acknowledge what is durable, until they are killed: this binary,
//! started at one test.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;

use crate::harness::eventually;

/// What an acknowledgment begins with, up to the id. `trace.c` looks for it.
const ACKNOWLEDGED: &str = "{\"acknowledged\":true,\"id\":";
/// The same of what was refused.
const REFUSED: &str = "{\"refused\":true,\"id\":";

/// For the child: what has this id is durable.
pub(crate) fn acknowledge(id: &str) {
    print_at_once(ACKNOWLEDGED, id);
}

/// For the child: what has this id was refused.
pub(crate) fn refuse(id: &str) {
    print_at_once(REFUSED, id);
}

/// Writes a line by one call, which `trace.c` relies on.
fn print_at_once(start: &str, id: &str) {
    let line = format!("{start}\"{id}\"}}\n");
    let written = std::io::stdout().write_all(line.as_bytes());
    written.expect("the parent reads");
}

/// A child, killed when dropped.
pub(crate) struct Child {
    process: std::process::Child,
    noted: Arc<Noted>,
    reading: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Noted {
    acknowledged: Mutex<Vec<String>>,
    refused: Mutex<Vec<String>>,
}

impl Child {
    /// Starts this binary at one test, which does its work only with this environment.
    pub(crate) fn start(test: &str, env: Vec<(String, String)>) -> Self {
        let this_binary = std::env::current_exe().expect("its path");
        let mut process = Command::new(this_binary)
            .args(["--exact", test, "--nocapture"])
            .envs(env)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let stdout = process.stdout.take().expect("piped");
        let noted = Arc::<Noted>::default();
        let noting = Arc::clone(&noted);
        Self {
            process,
            noted,
            reading: Some(std::thread::spawn(move || noting.note(stdout))),
        }
    }

    /// Waits until this many ids are acknowledged.
    pub(crate) async fn has_acknowledged(&self, ids: usize) {
        eventually("enough is acknowledged", || async {
            let acknowledged = self.acknowledged().len();
            assert!(!self.has_ended(), "it ended after {acknowledged}");
            acknowledged >= ids
        })
        .await;
    }

    /// The ids that were acknowledged until now.
    pub(crate) fn acknowledged(&self) -> Vec<String> {
        self.noted.acknowledged.lock().clone()
    }

    /// The ids that were refused until now.
    pub(crate) fn refused(&self) -> Vec<String> {
        self.noted.refused.lock().clone()
    }

    fn has_ended(&self) -> bool {
        self.reading.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// `kill -9`. Returns the ids that were acknowledged.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it was started");
        let reading = self.reading.take().expect("not read to its end yet");
        reading.join().expect("no panic");
        self.acknowledged()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _reaped_already = self.process.wait();
    }
}

impl Noted {
    /// Notes the ids that a process prints, until it ends.
    fn note(&self, stdout: ChildStdout) {
        for line in BufReader::new(stdout).lines() {
            let line = line.expect("text");
            for (start, ids) in [(ACKNOWLEDGED, &self.acknowledged), (REFUSED, &self.refused)] {
                // The test runner's own words may precede the first.
                if let Some((_, rest)) = line.split_once(start) {
                    ids.lock().push(rest.trim_matches(['"', '}']).to_owned());
                }
            }
        }
    }
}
