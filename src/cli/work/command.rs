//! One run of the command that handles an event.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use clerkcast_client::Delivery;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdin, Command};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::cli::json;
use crate::cli::options::Period;

/// The end of standard error that is the reason of a failure; the gateway keeps as much.
const REASON_BYTES_MAX: usize = 1024;
const READ_BYTES: usize = 8 * 1024;
/// How long standard error is read after the command's end: a process that it has left behind may
/// keep it open.
const STDERR_PATIENCE: Duration = Duration::from_secs(1);

/// The command, and how long it may take.
#[derive(Debug)]
pub(super) struct CommandLine {
    pub(super) program: PathBuf,
    args: Vec<OsString>,
    timeout: Period,
}

/// How a run ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// None if it exited with 0.
    pub(super) failure: Option<String>,
    /// The end of standard error.
    stderr: Tail,
}

/// Whether no event can be handled, because there is no such command.
pub(super) fn is_permanent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
    )
}

impl CommandLine {
    pub(super) fn new(command: &[OsString], timeout: Period) -> Self {
        let mut words = command.iter();
        Self {
            program: words.next().map(PathBuf::from).unwrap_or_default(),
            args: words.cloned().collect(),
            timeout,
        }
    }

    /// Runs until the command exits, its time is over, or it is to be killed.
    pub(super) async fn run(
        &self,
        delivery: &Delivery,
        mut killed: watch::Receiver<bool>,
    ) -> io::Result<Ended> {
        let line = json::line(&delivery.event, "Event").map_err(io::Error::other)?;
        let line = line.into_string();
        let mut child = self.spawn(delivery)?;
        let group = Group::of(&child);
        let mut stderr = Tail::default();
        let failure = {
            let (input, output) = (child.stdin.take(), child.stderr.take());
            let piped = async {
                tokio::join!(feed(input, line), stderr.read(output));
            };
            tokio::pin!(piped);
            let mut is_piped = false;
            let time_over = sleep(self.timeout.0);
            tokio::pin!(time_over);
            let killed_because = loop {
                tokio::select! {
                    status = child.wait() => {
                        status?;
                        break None;
                    }
                    () = &mut time_over => break Some(format!("killed after {}", self.timeout)),
                    Ok(_) = killed.wait_for(|killed| *killed) => {
                        break Some("killed, because the worker was stopped".to_owned());
                    }
                    () = &mut piped, if !is_piped => is_piped = true,
                }
            };
            match killed_because {
                Some(_) => group.kill(),
                None => group.leave(),
            }
            let status = child.wait().await?;
            if !is_piped {
                let _left_behind = timeout(STDERR_PATIENCE, piped).await;
            }
            killed_because.or_else(|| described(status))
        };
        Ok(Ended { failure, stderr })
    }

    fn spawn(&self, delivery: &Delivery) -> io::Result<Child> {
        // No variable can hold NUL, which JSON can.
        let variable = |text: &str| text.replace('\0', "");
        Command::new(&self.program)
            .args(&self.args)
            .env("CLERKCAST_EVENT_ID", variable(&delivery.event.id))
            .env("CLERKCAST_EVENT_TYPE", variable(&delivery.event.r#type))
            .env("CLERKCAST_ATTEMPT", delivery.attempt.to_string())
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }
}

impl Ended {
    pub(super) fn failed(failure: String) -> Self {
        Self {
            failure: Some(failure),
            stderr: Tail::default(),
        }
    }

    /// What the dead letter shows: the end of standard error, or what happened if that is empty
    /// or cannot tell.
    pub(super) fn reason(&self, failure: &str) -> String {
        let stderr = self.stderr.text();
        match stderr.as_str() {
            "" => failure.to_owned(),
            _ if failure.starts_with("killed") => last(&format!("{failure}: {stderr}")),
            _ => stderr,
        }
    }
}

/// What a status other than 0 means.
fn described(status: ExitStatus) -> Option<String> {
    match (status.code(), status.signal()) {
        (Some(0), _) => None,
        (Some(code), _) => Some(format!("exit code {code}")),
        (None, Some(signal)) => Some(format!("ended by signal {signal}")),
        (None, None) => Some(status.to_string()),
    }
}

/// Writes the event. A command need not read it.
async fn feed(input: Option<ChildStdin>, mut line: String) {
    if let Some(mut input) = input {
        line.push('\n');
        let _does_not_read = input.write_all(line.as_bytes()).await;
    }
}

/// The last bytes of standard error, all of which is passed on.
#[derive(Debug, Default)]
struct Tail(Vec<u8>);

impl Tail {
    async fn read(&mut self, stderr: Option<ChildStderr>) {
        let Some(mut stderr) = stderr else { return };
        let mut chunk = vec![0; READ_BYTES];
        while let Ok(length @ 1..) = stderr.read(&mut chunk).await {
            let read = chunk.get(..length).unwrap_or_default();
            let _closed = io::stderr().write_all(read);
            self.add(read);
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        let surplus = self.0.len().saturating_sub(REASON_BYTES_MAX);
        self.0.drain(..surplus);
    }

    fn text(&self) -> String {
        last(String::from_utf8_lossy(&self.0).trim())
    }
}

/// The end of a text, cut at a character.
fn last(text: &str) -> String {
    let surplus = text.len().saturating_sub(REASON_BYTES_MAX);
    let start = text.ceil_char_boundary(surplus);
    text.get(start..).unwrap_or_default().to_owned()
}

/// The processes of one command; dropping it kills them.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }

    /// Leaves what a command has started in the background alone.
    fn leave(mut self) {
        self.0 = None;
    }

    fn kill(self) {
        drop(self);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            let _ended_already = kill_process_group(leader, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_the_end_of_standard_error_cut_at_a_character() {
        let mut tail = Tail::default();
        tail.add(b"first\n");
        tail.add("é".repeat(512).as_bytes());
        assert_eq!(tail.text(), "é".repeat(512));
        tail.add(b"!\n");
        // Two bytes of the first `é` went, and then the half that was left.
        assert_eq!(tail.text(), format!("{}!", "é".repeat(511)));

        let mut binary = Tail::default();
        binary.add(&[0xff; 1024]);
        assert!(binary.text().len() <= REASON_BYTES_MAX);
    }

    #[test]
    fn a_reason_names_what_happened_where_standard_error_does_not() {
        let with = |stderr: &[u8]| {
            let mut ended = Ended::failed(String::new());
            ended.stderr.add(stderr);
            ended
        };
        assert_eq!(with(b" \n").reason("exit code 3"), "exit code 3");
        assert_eq!(
            with(b"no such user\n").reason("exit code 3"),
            "no such user"
        );
        let killed = with(&[b'x'; 1024]).reason("killed after 10m");
        assert_eq!(killed, "x".repeat(1024));
        let killed = with(b"at step 2").reason("killed after 10m");
        assert_eq!(killed, "killed after 10m: at step 2");
    }
}
