//! The README's subscribers in TypeScript, Python, Go and Rust, and the event that it shows.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;
use tempfile::TempDir;

use super::{only_block, page, root, yaml};
use crate::harness::{Gateway, PATIENCE, SECRET, binary, body};
use crate::interop::{printed, tools};

/// A subscriber in a process of its own, and the lines that it prints.
struct Subscriber {
    process: Child,
    lines: Receiver<String>,
}

impl Subscriber {
    fn start(command: &mut Command) -> Self {
        let process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut process = process.expect("it runs");
        let stdout = BufReader::new(process.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _receiver_gone = sender.send(line);
            }
        });
        Self { process, lines }
    }

    #[track_caller]
    fn next(&self) -> String {
        let line = self.lines.recv_timeout(PATIENCE);
        line.expect("it prints a line")
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

/// An empty directory with the proto files, where a reader of the README tries a snippet.
fn beside_the_protos() -> TempDir {
    let directory = TempDir::new().expect("a temporary directory");
    symlink(root().join("proto"), directory.path().join("proto")).expect("linked");
    directory
}

fn write(directory: &Path, name: &str, text: &str) {
    std::fs::write(directory.join(name), text).expect("written");
}

/// Starts the subscriber, ends it after two events, and starts it again: it has to resume where
/// it was.
async fn subscribes_and_resumes(
    directory: &Path,
    prepare: impl Fn(&str),
    command: impl Fn() -> Command,
) {
    let gateway = Gateway::start();
    prepare(&gateway.grpc);
    let start = || Subscriber::start(command().current_dir(directory));
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let first = start();
    assert_eq!(first.next(), "user.created user_1");
    gateway
        .accept("msg_2", body("user.updated", "user_2"))
        .await;
    // It stored the first event's cursor before it asked for this one.
    assert_eq!(first.next(), "user.updated user_2");
    drop(first);
    gateway
        .accept("msg_3", body("session.created", "user_3"))
        .await;
    gateway
        .accept("msg_4", body("user.deleted", "user_4"))
        .await;
    let second = start();
    let mut line = second.next();
    if line == "user.updated user_2" {
        // Its cursor was not stored before the end.
        line = second.next();
    }
    assert_eq!(line, "user.deleted user_4");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_typescript_of_the_readme_subscribes_and_resumes() {
    let node = tools().join("snippets/node");
    let directory = beside_the_protos();
    let here = directory.path();
    symlink(node.join("node_modules"), here.join("node_modules")).expect("linked");
    write(here, "package.json", r#"{"type": "module"}"#);
    write(
        here,
        "tsconfig.json",
        r#"{"compilerOptions": {"module": "nodenext", "target": "es2022", "strict": true, "types": ["node"], "outDir": "out", "skipLibCheck": true}}"#,
    );
    let prepare = |grpc: &str| {
        let snippet = only_block("ts");
        write(
            here,
            "subscribe.ts",
            &snippet.replace("localhost:50051", grpc),
        );
        let compiler = here.join("node_modules/.bin/tsc");
        printed(Command::new(compiler).current_dir(here));
    };
    let command = || {
        let mut node = Command::new("node");
        node.arg("out/subscribe.js");
        node
    };
    subscribes_and_resumes(here, prepare, command).await;
}

/// The command of the README that generates the messages.
fn generator() -> String {
    let readme = page("README.md");
    let start = readme.find("`python -m grpc_tools").expect("the command") + 1;
    let rest = &readme[start..];
    rest[..rest.find('`').expect("its end")].to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_of_the_readme_subscribes_and_resumes() {
    let python = tools().join("snippets/venv/bin/python");
    let directory = beside_the_protos();
    let here = directory.path();
    let generator = generator().replace("python ", &format!("{} ", python.display()));
    printed(
        Command::new("sh")
            .args(["-c", &generator])
            .current_dir(here),
    );
    let prepare = |grpc: &str| {
        let snippet = only_block("python");
        write(
            here,
            "subscribe.py",
            &snippet.replace("localhost:50051", grpc),
        );
    };
    let command = || {
        let mut command = Command::new(&python);
        command.args(["-u", "subscribe.py"]);
        command
    };
    subscribes_and_resumes(here, prepare, command).await;
}

/// What an editor adds around the snippet.
const GO_AROUND: [&str; 2] = [
    r#"package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	pb "example.com/crm/gen/clerkcast/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

func main() {
"#,
    "}\n",
];

/// Go with the sources of Debian's packages and those below `path`.
fn go(path: &Path) -> Command {
    let root = tools().join("go");
    let mut go = Command::new(root.join("usr/lib/go-1.24/bin/go"));
    let sources = root.join("usr/share/gocode");
    go.env(
        "GOPATH",
        format!("{}:{}", path.display(), sources.display()),
    );
    go.env("GOROOT", root.join("usr/lib/go-1.24"));
    go.env("GOCACHE", root.join("cache"));
    // No module is asked for, and no C compiler.
    go.envs([
        ("GO111MODULE", "off"),
        ("GOTOOLCHAIN", "local"),
        ("CGO_ENABLED", "0"),
    ]);
    go
}

#[tokio::test(flavor = "multi_thread")]
async fn the_go_of_the_readme_subscribes_and_resumes() {
    let path = TempDir::new().expect("a temporary directory");
    let module = path.path().join("src/example.com/crm");
    std::fs::create_dir_all(&module).expect("made");
    symlink(root().join("proto"), module.join("proto")).expect("linked");
    write(&module, "buf.gen.yaml", &yaml("go_package_prefix"));
    let compilers = tools().join("go/usr/bin");
    let search = std::env::var("PATH").expect("a search path");
    let mut buf = Command::new(tools().join("venv/bin/buf"));
    buf.args(["generate", "proto"]).current_dir(&module);
    printed(buf.env("PATH", format!("{}:{search}", compilers.display())));
    let prepare = |grpc: &str| {
        let snippet = only_block("go").replace("localhost:50051", grpc);
        let [before, after] = GO_AROUND;
        write(
            &module,
            "subscribe.go",
            &format!("{before}{snippet}{after}"),
        );
        // Code that gofmt would change is not how Go is written.
        let indented: String = snippet.lines().map(|line| format!("\t{line}\n")).collect();
        let gofmt = tools().join("go/usr/lib/go-1.24/bin/gofmt");
        let formatted = printed(Command::new(gofmt).arg(module.join("subscribe.go")));
        assert_eq!(formatted, format!("{before}{indented}{after}"));
        printed(go(path.path()).args(["vet", "."]).current_dir(&module));
        printed(
            go(path.path())
                .args(["build", "-o", "subscribe"])
                .current_dir(&module),
        );
    };
    let command = || Command::new(module.join("subscribe"));
    subscribes_and_resumes(&module, prepare, command).await;
}

/// Lines of code without those that a page leaves out.
fn code(text: &str) -> Vec<&str> {
    let lines = text.lines().map(str::trim_end);
    lines.filter(|line| !line.is_empty()).collect()
}

/// The documentation of the library has it, too, where it is compiled.
#[test]
fn the_rust_of_the_readme_is_that_of_the_library() {
    let readme = page("README.md");
    let shown = readme.split("```rust\n").nth(1).expect("a block");
    let shown = shown.split("```").next().expect("its end");
    let library = page("clients/rust/src/lib.rs");
    let documented = library.split("```no_run\n").nth(1).expect("an example");
    let documented = documented.split("//! ```").next().expect("its end");
    let documented = documented.replace("//! ", "").replace("//!", "");
    let documented = code(&documented);
    let documented: Vec<&str> = documented
        .into_iter()
        .filter(|line| !line.starts_with("# "))
        .collect();
    assert_eq!(code(shown), documented);
}

/// What differs from one sending to the next.
fn is_made_new(key: &str) -> bool {
    ["cursor", "id", "occurTime", "receiveTime"].contains(&key)
}

/// Checks that all of `shown` is in `actual`, at any depth.
fn ensure_within(path: &str, shown: &Value, actual: &Value) {
    match (shown, actual) {
        (Value::Object(shown), Value::Object(actual)) => {
            for (key, shown) in shown {
                let path = format!("{path}.{key}");
                let actual = actual.get(key).unwrap_or_else(|| panic!("no {path}"));
                if is_made_new(key) {
                    assert!(shown.is_string() && actual.is_string(), "{path}");
                } else {
                    ensure_within(&path, shown, actual);
                }
            }
        }
        (Value::Array(shown), Value::Array(actual)) => {
            for (index, (shown, actual)) in shown.iter().zip(actual).enumerate() {
                ensure_within(&format!("{path}[{index}]"), shown, actual);
            }
        }
        _ => assert_eq!(shown, actual, "{path}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_event_of_the_readme_is_what_a_client_prints() {
    let gateway = Gateway::start();
    printed(
        binary()
            .args(["send", "user.created", "--secret", SECRET, "--url"])
            .arg(gateway.webhook_url()),
    );
    // Away from the repository, whose proto files it would otherwise read.
    let elsewhere = TempDir::new().expect("a temporary directory");
    let request = r#"{"start_position":"START_POSITION_EARLIEST","stop_when_caught_up":true}"#;
    let url = format!(
        "http://{}/clerkcast.v1.EventService/Subscribe",
        gateway.grpc
    );
    let mut buf = Command::new(tools().join("venv/bin/buf"));
    buf.args(["curl", "--protocol", "grpc", "--http2-prior-knowledge"]);
    buf.args(["-d", request, &url]).current_dir(&elsewhere);
    let frames = printed(&mut buf);
    let frames = serde_json::Deserializer::from_str(&frames).into_iter::<Value>();
    let mut frames = frames.map(|frame| frame.expect("JSON"));
    let frame = frames.find(|frame| frame["event"].is_object());
    let shown: Value = serde_json::from_str(&only_block("json")).expect("JSON");
    ensure_within("frame", &shown, &frame.expect("an event"));
}
