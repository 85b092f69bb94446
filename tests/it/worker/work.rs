//! `clerkcast work` and `clerkcast tail --subscription`.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use clerkcast::proto::SubscriptionState;
use tempfile::TempDir;

use super::fake::Fake;
use crate::harness::{PATIENCE, binary, eventually};
use crate::log_file::LogFile;

/// A command that works on a subscription, in a directory of its own; killed when dropped.
pub(crate) struct Process {
    process: Child,
    pub(crate) directory: TempDir,
    log: LogFile,
}

impl Process {
    pub(crate) fn start(server: &str, args: &[&str]) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let stdout = File::create(directory.path().join("stdout")).expect("a file");
        Self::printing_to(stdout, directory, server, args)
    }

    pub(crate) fn printing_to(
        stdout: File,
        directory: TempDir,
        server: &str,
        args: &[&str],
    ) -> Self {
        let log = LogFile::new();
        let process = binary()
            .args(args)
            .env("CLERKCAST_GRPC_URL", server)
            .current_dir(&directory)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(log.writer())
            .spawn()
            .expect("it runs");
        Self {
            process,
            directory,
            log,
        }
    }

    /// `clerkcast work crm FLAGS -- sh -c SCRIPT`.
    pub(crate) fn work(server: &str, flags: &[&str], script: &str) -> Self {
        let command = ["--", "sh", "-c", script];
        Self::start(server, &[&["work", "crm"], flags, &command].concat())
    }

    pub(crate) fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.path().join(name)).unwrap_or_default()
    }

    pub(crate) fn write(&self, name: &str) {
        std::fs::write(self.directory.path().join(name), "").expect("written");
    }

    pub(crate) fn stderr(&self) -> String {
        self.log.text()
    }

    /// Waits until standard error has this text.
    pub(crate) async fn reports(&self, text: &str) {
        eventually(text, async || self.stderr().contains(text)).await;
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.process.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status();
        assert!(status.expect("kill runs").success());
    }

    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().expect("it was started") {
                return status;
            }
            assert!(Instant::now() < deadline, "no end: {}", self.stderr());
            tokio::time::sleep(crate::harness::POLL_INTERVAL).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _status = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- standard error of the command ---\n{}", self.stderr());
        }
    }
}

/// Whether a process has ended, be it that its parent has not noticed.
fn has_ended(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
    let state = stat.unwrap_or_default();
    let state = state.rsplit(") ").next().unwrap_or_default();
    state.is_empty() || state.starts_with('Z')
}

#[tokio::test]
async fn work_runs_a_command_for_each_event_and_acknowledges_what_exits_with_0() {
    let fake = Fake::start().await;
    let script = "cat >> in; echo $CLERKCAST_EVENT_ID $CLERKCAST_EVENT_TYPE $CLERKCAST_ATTEMPT >> env; echo out";
    let mut work = Process::work(&fake.address, &["--max", "2", "--name", "test"], script);
    fake.opened(1).await;
    fake.deliver("msg_1");
    fake.acknowledged(&["msg_1"]).await;
    fake.deliver("msg_2");
    assert_eq!(work.ended().await.code(), Some(0), "{}", work.stderr());
    fake.acknowledged(&["msg_1", "msg_2"]).await;
    let events: Vec<serde_json::Value> = work
        .file("in")
        .lines()
        .map(|line| serde_json::from_str(line).expect("one object a line"))
        .collect();
    assert_eq!(events[1]["id"], "msg_2");
    assert_eq!(
        work.file("env"),
        "msg_1 user.created 1\nmsg_2 user.created 1\n"
    );
    assert_eq!(work.file("stdout"), "out\nout\n");
    assert!(work.stderr().ends_with("clerkcast: 2 events handled"));
    let request = &fake.requests()[0];
    assert_eq!((request.max_outstanding, request.max_events), (1, 2));
    assert_eq!(request.worker_name, "test");
}

#[tokio::test]
async fn work_fails_an_event_with_the_end_of_standard_error() {
    let fake = Fake::start().await;
    let script = "head -c 3000 /dev/zero | tr '\\0' x >&2; echo ' no such user' >&2; exit 3";
    let mut work = Process::work(&fake.address, &["--max", "1"], script);
    fake.opened(1).await;
    fake.deliver("msg_1");
    let failures = fake.failed(&["msg_1"]).await;
    assert_eq!(failures[0].reason.len(), 1024 - "\n".len());
    assert!(failures[0].reason.ends_with("x no such user"));
    assert_eq!((failures[0].dead, failures[0].retry_delay), (false, None));
    assert_eq!(work.ended().await.code(), Some(0));
    let report = "clerkcast: msg_1 user.created, delivery 1, failed: exit code 3";
    assert!(work.stderr().contains(" no such user"));
    assert!(work.stderr().contains(report), "{}", work.stderr());
    assert!(work.stderr().ends_with("0 events handled, 1 failed"));
}

#[tokio::test]
async fn work_kills_a_command_that_hangs_with_all_its_processes() {
    let fake = Fake::with_short_leases().await;
    let script = "sleep 600 & echo $! > pid; echo at step 2 >&2; wait";
    let work = Process::work(&fake.address, &["--timeout", "2s"], script);
    fake.opened(1).await;
    fake.deliver("msg_1");
    let failures = fake.failed(&["msg_1"]).await;
    assert_eq!(failures[0].reason, "killed after 2s: at step 2");
    let pid = work.file("pid");
    assert!(!pid.is_empty());
    eventually("the process is killed", async || has_ended(pid.trim())).await;
    // The lease was extended while the command ran.
    assert!(fake.count(|call| call.extend_ack_ids.len()) > 0);
    // The next event is handled all the same.
    fake.deliver("msg_2");
    fake.failed(&["msg_1", "msg_2"]).await;
}

#[tokio::test]
async fn work_gives_back_what_is_not_begun_and_waits_for_commands_when_it_is_stopped() {
    let fake = Fake::start().await;
    let script = "touch begun; while [ ! -e go ]; do sleep 0.05; done";
    let mut work = Process::work(&fake.address, &[], script);
    fake.opened(1).await;
    fake.deliver("msg_1");
    fake.deliver("msg_2");
    fake.heartbeat(SubscriptionState::Paused);
    work.reports("crm is paused; `clerkcast subscription resume crm`")
        .await;
    let begun = work.directory.path().join("begun");
    eventually("the command runs", async || begun.exists()).await;
    work.signal("-TERM");
    fake.released(&["msg_2"]).await;
    assert!(fake.calls().iter().all(|call| call.ack_ids.is_empty()));
    work.write("go");
    assert_eq!(work.ended().await.code(), Some(0), "{}", work.stderr());
    fake.acknowledged(&["msg_1"]).await;
}

#[tokio::test]
async fn work_kills_commands_at_the_second_signal() {
    let fake = Fake::start().await;
    let script = "echo $$ > pid; sleep 600";
    let mut work = Process::work(&fake.address, &[], script);
    fake.opened(1).await;
    fake.deliver("msg_1");
    fake.deliver("msg_2");
    fake.heartbeat(SubscriptionState::Paused);
    work.reports("is paused").await;
    eventually("the command runs", async || !work.file("pid").is_empty()).await;
    work.signal("-INT");
    fake.released(&["msg_2"]).await;
    work.signal("-INT");
    assert_eq!(work.ended().await.code(), Some(130), "{}", work.stderr());
    let failures = fake.failed(&["msg_1"]).await;
    assert_eq!(failures[0].reason, "killed, because the worker was stopped");
    assert!(has_ended(work.file("pid").trim()));
}

#[tokio::test]
async fn work_runs_as_many_commands_at_once_as_it_may() {
    let fake = Fake::start().await;
    let script = "touch $CLERKCAST_EVENT_ID; while [ ! -e go ]; do sleep 0.05; done";
    let flags = ["--concurrency", "2", "--max", "3"];
    let mut work = Process::work(&fake.address, &flags, script);
    fake.opened(1).await;
    for id in ["msg_1", "msg_2", "msg_3"] {
        fake.deliver(id);
    }
    let has_begun = |id: &str| work.directory.path().join(id).exists();
    eventually("two run", async || has_begun("msg_1") && has_begun("msg_2")).await;
    assert!(!has_begun("msg_3"));
    work.write("go");
    fake.acknowledged(&["msg_1", "msg_2", "msg_3"]).await;
    assert_eq!(work.ended().await.code(), Some(0));
}

#[tokio::test]
async fn work_gives_events_back_if_there_is_no_such_command() {
    let fake = Fake::start().await;
    let args = ["work", "crm", "--", "./on-event.sh"];
    let mut work = Process::start(&fake.address, &args);
    fake.opened(1).await;
    fake.deliver("msg_1");
    fake.released(&["msg_1"]).await;
    assert_eq!(work.ended().await.code(), Some(2));
    let report = "clerkcast: COMMAND: ./on-event.sh: No such file or directory";
    assert!(work.stderr().contains(report), "{}", work.stderr());
}

#[tokio::test]
async fn tail_prints_the_events_of_a_subscription_and_acknowledges_them() {
    let fake = Fake::start().await;
    let args = [
        "tail",
        "--subscription",
        "crm",
        "--json",
        "--until-caught-up",
    ];
    let mut tail = Process::start(&fake.address, &args);
    fake.opened(1).await;
    fake.deliver("msg_1");
    fake.deliver("msg_2");
    fake.acknowledged(&["msg_1", "msg_2"]).await;
    fake.finish();
    assert_eq!(tail.ended().await.code(), Some(0), "{}", tail.stderr());
    let printed = tail.file("stdout");
    let frame: serde_json::Value =
        serde_json::from_str(printed.lines().nth(1).expect("two lines")).expect("JSON");
    assert_eq!(frame["delivery"]["event"]["id"], "msg_2");
    assert_eq!(frame["delivery"]["ack_id"], "ack-msg_2");
    assert!(fake.requests()[0].stop_when_handled);

    let mut tail = Process::start(&fake.address, &args[..3]);
    fake.opened(2).await;
    fake.deliver("msg_3");
    eventually("printed", async || tail.file("stdout").contains("msg_3")).await;
    tail.signal("-INT");
    assert_eq!(tail.ended().await.code(), Some(130));
    fake.acknowledged(&["msg_1", "msg_2", "msg_3"]).await;
    assert!(tail.stderr().ends_with("1 event (1 user.created)"));

    for flag in ["--type", "--user", "--source", "--from", "--after"] {
        let args = ["tail", "--subscription", "crm", flag, "user.*"];
        let mut refused = Process::start(&fake.address, &args);
        assert_eq!(refused.ended().await.code(), Some(2), "{flag}");
        assert!(refused.stderr().contains("--subscription"), "{flag}");
    }
}
