//! Starts gateways that should refuse to.

use std::process::{Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;

use crate::harness::{PATIENCE, SECRET, binary};

/// Runs `serve` on free ports and a new data directory, with what `configure` adds or puts
/// in place of that, until it ends by itself: its exit code and what it said.
pub(crate) fn refused_start(configure: impl FnOnce(&mut Command)) -> (Option<i32>, String) {
    let data_dir = TempDir::new().expect("a temporary directory");
    let mut command = binary();
    command
        .args(["serve", "--http-listen", "127.0.0.1:0"])
        .args(["--grpc-listen", "127.0.0.1:0"])
        .args(["--admin-listen", "127.0.0.1:0", "--data-dir"])
        .arg(data_dir.path().join("data"))
        .env("CLERK_WEBHOOK_SIGNING_SECRET", SECRET)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    configure(&mut command);
    let mut process = command.spawn().expect("the binary starts");
    let deadline = Instant::now() + PATIENCE;
    while process.try_wait().expect("it was started").is_none() {
        if Instant::now() > deadline {
            process.kill().expect("it runs");
            let said = process.wait_with_output().expect("it was started").stderr;
            panic!("it did not refuse:\n{}", String::from_utf8_lossy(&said));
        }
        std::thread::yield_now();
    }
    let output = process.wait_with_output().expect("it was started");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}
