//! `docs/subscriptions.md`: its commands, run in their order as they stand there, and its Rust.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use clerkcast::proto::ReceiveRequest;
use tempfile::TempDir;

use super::{Caller, worker_of};
use crate::commands::{stderr, stdout};
use crate::harness::{Gateway, binary, body};
use crate::interop::tools;
use crate::readme::{commands_of, words};

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/subscriptions.md");
    std::fs::read_to_string(path).expect("the page")
}

/// The blocks of the page in this language.
fn blocks(language: &str) -> Vec<String> {
    let (page, fence) = (page(), format!("```{language}\n"));
    let blocks = page.split(&fence).skip(1);
    let blocks = blocks.filter_map(|rest| rest.split("```").next());
    blocks.map(str::to_owned).collect()
}

/// The page's reader: a gateway with some events, the script of the page, and the last `ack_id`.
struct Reader {
    gateway: Gateway,
    directory: TempDir,
    ack_id: String,
    /// How many events were posted.
    posted: usize,
}

impl Reader {
    async fn new() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let script = directory.path().join("on-event.sh");
        std::fs::write(&script, &blocks("bash")[0]).expect("written");
        let made = Command::new("chmod").arg("+x").arg(&script).status();
        assert!(made.expect("chmod runs").success());
        let gateway = Gateway::start();
        let first = body("user.created", "user_1");
        gateway.accept("msg_example", first).await;
        Self {
            gateway,
            directory,
            ack_id: String::new(),
            posted: 0,
        }
    }

    /// Posts an event that nothing has handled.
    async fn post(&mut self) {
        self.posted += 1;
        let id = format!("msg_{}", self.posted);
        let event = body("user.updated", &format!("user_{}", self.posted));
        self.gateway.accept(&id, event).await;
    }

    /// Has an event become a dead letter.
    async fn park(&mut self) {
        self.post().await;
        let mut caller = Caller::of(&self.gateway).await;
        let one = ReceiveRequest {
            max_outstanding: 1,
            ..worker_of("crm")
        };
        let mut worker = caller.receive(one).await.expect("a stream");
        let delivery = worker.delivery().await;
        caller.reject("crm", &delivery, "no such user").await;
    }

    fn clerkcast(&self, args: &[String]) -> Output {
        let mut command = binary();
        command
            .args(args)
            .env(
                "CLERKCAST_GRPC_URL",
                format!("http://{}", self.gateway.grpc),
            )
            .current_dir(&self.directory)
            .stdin(Stdio::null());
        command.output().expect("it runs")
    }

    /// Runs a `grpcurl …` line with `buf curl`, as for the README, up to its end.
    fn grpcurl(&self, words: &[String]) -> Output {
        let mut command = Command::new(tools().join("venv/bin/buf"));
        command.args(["curl", "--protocol", "grpc", "--http2-prior-knowledge"]);
        let mut words = words.iter().skip(1).filter(|word| *word != "-plaintext");
        while let Some(word) = words.next() {
            match word.as_str() {
                "-d" => {
                    let request = words.next().expect("a request");
                    command.args(["-d", &request.replace('…', &self.ack_id)]);
                }
                "localhost:50051" => {}
                method => {
                    command.arg(format!("http://{}/{method}", self.gateway.grpc));
                }
            }
        }
        // Away from the repository, whose proto files it would otherwise read.
        let output = command.current_dir(&self.directory).output();
        output.expect("buf runs")
    }

    async fn run(&mut self, line: &str) {
        let mut args = words(line);
        let output = match args[1].as_str() {
            "work" => {
                self.post().await;
                let end = args
                    .iter()
                    .position(|word| word == "--")
                    .expect("a command");
                args.insert(end, "--until-handled".to_owned());
                self.clerkcast(&args[1..])
            }
            "tail" => {
                self.post().await;
                args.push("--until-caught-up".to_owned());
                self.clerkcast(&args[1..])
            }
            "subscription" => {
                if args[2] == "dead" || args[2] == "drop" {
                    self.park().await;
                }
                self.clerkcast(&args[1..])
            }
            _ => {
                if line.contains("/Receive") {
                    self.post().await;
                }
                self.grpcurl(&args)
            }
        };
        assert!(output.status.success(), "{line}: {}", stderr(&output));
        let printed = stdout(&output);
        assert!(!printed.is_empty(), "{line}");
        if let Some((_, rest)) = printed.split_once("\"ackId\"") {
            self.ack_id = rest.split('"').nth(1).expect("an id").to_owned();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_manual_works() {
    let mut reader = Reader::new().await;
    let commands = commands_of(&page());
    assert!(commands.len() > 20, "{commands:#?}");
    for line in commands {
        reader.run(&line).await;
    }
    assert!(!reader.ack_id.is_empty());
}

/// The documentation of the library has it, too, where it is compiled.
#[test]
fn the_worker_of_the_manual_is_that_of_the_library() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/rust/src/worker.rs");
    let library = std::fs::read_to_string(path).expect("the library");
    let documented = library.split("```no_run\n").nth(1).expect("an example");
    let documented = documented.split("/// ```").next().expect("its end");
    let shown: Vec<&str> = documented
        .lines()
        .map(|line| {
            line.trim_start_matches("///")
                .strip_prefix(' ')
                .unwrap_or("")
        })
        .filter(|line| !line.starts_with("# "))
        .collect();
    assert_eq!(blocks("rust")[0].trim_end(), shown.join("\n").trim_end());
}
