//! `clerkcast backup`: a copy of the log, beside a running gateway or without one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clerkcast::log::sqlite::{Backup, BackupError};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::harness::{Gateway, Options, SECRET, after, binary, body, eventually, from_earliest};
use crate::interop::succeeded;
use crate::preload::{compile, preloaded};

/// Fault injection looks at files of this name.
const FILE: &str = "copy-of-clerkcast.db";

fn backup(data_dir: &Path, file: &Path) -> Command {
    let mut command = binary();
    command.arg("backup").args([data_dir, file]);
    command
}

fn run(data_dir: &Path, file: &Path) -> Output {
    backup(data_dir, file).output().expect("it runs")
}

/// What is in the directory of a backup.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let names = entries.map(|it| it.expect("an entry").file_name());
    let mut names: Vec<String> = names
        .map(|it| it.into_string().expect("UTF-8"))
        .filter(|it| it.starts_with("copy"))
        .collect();
    names.sort();
    names
}

/// A gateway on what was backed up.
fn restored(file: &Path) -> Gateway {
    let directory = Arc::new(TempDir::new().expect("a temporary directory"));
    fs::copy(file, directory.path().join("clerkcast.db")).expect("copied");
    Gateway::start_in(directory, Options::default())
}

async fn ids(gateway: &Gateway) -> Vec<String> {
    let events = gateway.history(from_earliest()).await;
    events.into_iter().map(|event| event.id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_ends_under_load_and_is_a_prefix_of_the_log() {
    let gateway = Gateway::start();
    gateway.accept("msg_1", body("user.created", "u")).await;
    let ends = Arc::new(AtomicBool::new(false));
    let mut posting = JoinSet::new();
    for connection in 0..8 {
        let (poster, ends) = (gateway.poster.clone(), Arc::clone(&ends));
        posting.spawn(async move {
            let padding = "x".repeat(20_000);
            let mut number = 0;
            while !ends.load(Ordering::Relaxed) {
                let id = format!("msg_{connection}_{number}");
                let answer = poster.post(&id, body("a", &padding).into()).await;
                assert_eq!(answer.expect("an answer").status, 200);
                number += 1;
            }
        });
    }
    eventually("there is something to copy", || async {
        gateway.metric("clerkcast_log_events").await > 500.0
    })
    .await;
    let directory = TempDir::new().expect("a temporary directory");
    let file = directory.path().join(FILE);
    let mut command = backup(gateway.data_dir(), &file);
    let copying = tokio::task::spawn_blocking(move || command.arg("--json").output());
    let output = copying.await.expect("no panic").expect("it runs");
    ends.store(true, Ordering::Relaxed);
    posting.join_all().await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert_eq!(names(directory.path()), [FILE]);

    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let whole = ids(&gateway).await;
    let copy = restored(&file);
    let copied = ids(&copy).await;
    assert!(copied.len() >= 500, "{}", copied.len());
    assert_eq!(copied, whole[..copied.len()]);
    assert_eq!(told["events"], copied.len());
    assert_eq!(told["bytes"], fs::metadata(&file).expect("there").len());
    assert_eq!(told["file"], file.display().to_string());
    assert!(told["seconds"].is_number());
    let cursor = told["newest_cursor"].as_str().expect("a cursor");
    let rest = gateway.history(after(cursor)).await;
    let rest: Vec<String> = rest.into_iter().map(|event| event.id).collect();
    assert_eq!(rest, whole[copied.len()..]);
    let info = gateway.client().await.get_log_info(proto_request()).await;
    assert_eq!(told["epoch"], info.expect("answered").into_inner().epoch);
}

fn proto_request() -> clerkcast::proto::GetLogInfoRequest {
    clerkcast::proto::GetLogInfoRequest::default()
}

#[tokio::test]
async fn backup_works_without_a_gateway_and_says_what_it_copied() {
    let gateway = Gateway::start();
    for number in 0..3 {
        let id = format!("msg_{number}");
        gateway.accept(&id, body("user.created", "u")).await;
    }
    let directory = TempDir::new().expect("a temporary directory");
    let killed = {
        let mut gateway = gateway;
        gateway.kill();
        gateway
    };
    let file = directory.path().join("copy-1.db");
    let output = run(killed.data_dir(), &file);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.starts_with("3 events, "), "{said}");
    for part in [" kB, ", " s, cursor ", ", epoch "] {
        assert!(said.contains(part), "{said}");
    }
    let gateway = killed.restarted().stopped();
    let file = directory.path().join("copy-2.db");
    assert!(run(gateway.data_dir(), &file).status.success());
    assert_eq!(ids(&restored(&file)).await, ["msg_0", "msg_1", "msg_2"]);
    // The source is as it was, and taken up again.
    assert_eq!(ids(&gateway.restarted()).await.len(), 3);
}

/// A backup that waits for the disk, midway.
struct Midway {
    process: Child,
    directory: TempDir,
    _gateway: Gateway,
}

impl Midway {
    async fn start() -> Self {
        let gateway = Gateway::start();
        gateway.accept("msg_1", body("user.created", "u")).await;
        let directory = TempDir::new().expect("a temporary directory");
        let library = compile("fault", directory.path());
        let control = directory.path().join("fault");
        fs::write(&control, "stall").expect("written");
        let mut command = backup(gateway.data_dir(), &directory.path().join(FILE));
        command
            .envs(preloaded(&library, "CLERKCAST_FAULT", &control))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = command.spawn().expect("it starts");
        let midway = Self {
            process,
            directory,
            _gateway: gateway,
        };
        eventually("it is midway", || async {
            midway.unfinished().is_some_and(|path| {
                let copied = fs::metadata(path);
                copied.is_ok_and(|it| it.len() > 0)
            })
        })
        .await;
        midway
    }

    fn unfinished(&self) -> Option<PathBuf> {
        let names = names(self.directory.path());
        let start = format!("{FILE}.tmp-");
        let name = names.into_iter().find(|it| it.starts_with(&start))?;
        Some(self.directory.path().join(name))
    }

    fn signal(&mut self, signal: &str) -> Option<i32> {
        let id = self.process.id().to_string();
        let status = Command::new("kill").args([signal, &id]).status();
        assert!(status.expect("kill runs").success());
        self.process.wait().expect("it was started").code()
    }
}

#[tokio::test]
async fn backup_killed_midway_leaves_no_file() {
    for signal in ["-TERM", "-INT"] {
        let mut midway = Midway::start().await;
        assert_eq!(midway.signal(signal), Some(1), "{signal}");
        assert_eq!(names(midway.directory.path()), [""; 0], "{signal}");
    }
    let mut midway = Midway::start().await;
    assert_eq!(midway.signal("-KILL"), None);
    let left = names(midway.directory.path());
    assert!(!left.contains(&FILE.to_owned()), "{left:?}");
    let start = format!("{FILE}.tmp-");
    assert!(left.iter().all(|it| it.starts_with(&start)), "{left:?}");
}

#[tokio::test]
async fn a_backup_is_for_its_owner_alone() {
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    let midway = Midway::start().await;
    let unfinished = midway.unfinished().expect("it is there");
    assert_eq!(mode(&unfinished), 0o600, "while it is made");
    fs::write(midway.directory.path().join("fault"), "").expect("written");
    let file = midway.directory.path().join(FILE);
    eventually("it is made", || async { file.exists() }).await;
    assert_eq!(mode(&file), 0o600);

    let gateway = Gateway::start();
    let file = midway.directory.path().join("copy.db");
    let program = backup(gateway.data_dir(), &file);
    let status = Command::new("sh")
        .args(["-c", "umask 000; exec \"$0\" \"$@\""])
        .arg(program.get_program())
        .args(program.get_args())
        .stdout(Stdio::null())
        .status();
    assert!(status.expect("it runs").success());
    assert_eq!(mode(&file), 0o600, "whatever the umask allows");
}

#[tokio::test]
async fn a_backup_that_cannot_be_made_is_refused_and_leaves_nothing() {
    let gateway = Gateway::start();
    gateway.accept("msg_1", body("user.created", "u")).await;
    let directory = TempDir::new().expect("a temporary directory");
    let here = directory.path();
    let data = gateway.data_dir();
    let newer = here.join("newer");
    fs::create_dir(&newer).expect("made");
    let statements =
        "PRAGMA application_id = 1131178851; PRAGMA user_version = 99; CREATE TABLE x (y)";
    let database = rusqlite::Connection::open(newer.join("clerkcast.db")).expect("opens");
    database.execute_batch(statements).expect("written");
    drop(database);
    let empty = here.join("empty");
    fs::create_dir(&empty).expect("made");
    fs::write(here.join("there.db"), "theirs").expect("written");
    for (from, file, code, expected) in [
        (data, "there.db", 1, "file exists"),
        (&empty, "copy.db", 1, "there is no log in this directory"),
        (
            &here.join("nowhere"),
            "copy.db",
            1,
            "there is no log in this directory",
        ),
        (&newer, "copy.db", 1, "newer clerkcast"),
        (data, "nowhere/copy.db", 1, "nowhere"),
        (
            Path::new("nats"),
            "copy.db",
            2,
            "clerkcast copy nats copy.db",
        ),
        (
            Path::new("nats://127.0.0.1:4222"),
            "copy.db",
            2,
            "nats stream backup",
        ),
    ] {
        let output = backup(from, Path::new(file)).current_dir(here).output();
        let output = output.expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(expected), "{said}");
        assert_eq!(names(here), [""; 0], "{said}");
    }
    assert_eq!(fs::read(here.join("there.db")).expect("there"), b"theirs");

    let library = compile("fault", here);
    let control = here.join("fault");
    fs::write(&control, "full").expect("written");
    let output = backup(data, &here.join(FILE))
        .envs(preloaded(&library, "CLERKCAST_FAULT", &control))
        .output();
    let output = output.expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the disk is full"), "{said}");
    assert_eq!(names(here), [""; 0], "{said}");
}

#[tokio::test]
async fn a_backup_replaces_no_file_that_appears_while_it_is_made() {
    let gateway = Gateway::start();
    gateway.accept("msg_1", body("user.created", "u")).await;
    let directory = TempDir::new().expect("a temporary directory");
    let file = directory.path().join(FILE);
    let backup = Backup::begin(gateway.data_dir(), &file).expect("begun");
    fs::write(&file, "theirs").expect("written");
    let error = backup.run().expect_err("the name is taken");
    assert!(matches!(&error, BackupError::FileExists(_)), "{error}");
    assert_eq!(fs::read(&file).expect("there"), b"theirs");
    assert_eq!(names(directory.path()), [FILE]);
}

#[tokio::test]
async fn a_backup_whose_file_is_replaced_is_not_made() {
    let gateway = Gateway::start();
    gateway.accept("msg_1", body("user.created", "u")).await;
    let directory = TempDir::new().expect("a temporary directory");
    let elsewhere = TempDir::new().expect("a temporary directory");
    let theirs = elsewhere.path().join("theirs.db");
    fs::write(&theirs, "").expect("written");
    let file = directory.path().join(FILE);
    let backup = Backup::begin(gateway.data_dir(), &file).expect("begun");
    let unfinished = directory.path().join(&names(directory.path())[0]);
    fs::remove_file(&unfinished).expect("it was there");
    std::os::unix::fs::symlink(&theirs, &unfinished).expect("linked");
    let error = backup.run().expect_err("it is another file");
    assert!(matches!(&error, BackupError::Replaced(_)), "{error}");
    assert_eq!(names(directory.path()), [""; 0]);
    assert_eq!(fs::read(&theirs).expect("there"), b"");
}

/// SQLite takes `file:` for the beginning of a URI, and would use another file.
#[tokio::test]
async fn a_name_like_a_uri_is_a_name() {
    let gateway = Gateway::start();
    gateway.accept("msg_1", body("user.created", "u")).await;
    let directory = TempDir::new().expect("a temporary directory");
    let here = directory.path();
    let gateway = gateway.stopped();
    fs::create_dir(here.join("file:data")).expect("made");
    let database = here.join("file:data/clerkcast.db");
    fs::copy(gateway.data_dir().join("clerkcast.db"), &database).expect("copied");
    let output = backup(Path::new("file:data"), Path::new("file:copy.db"))
        .current_dir(here)
        .output();
    succeeded(&output.expect("it runs"));
    let all = || -> Vec<String> {
        let entries = fs::read_dir(here).expect("there").flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        names.sort();
        let names = names
            .into_iter()
            .map(|name| name.into_string().expect("text"));
        names.collect()
    };
    assert_eq!(all(), ["file:copy.db", "file:data"]);
    assert_eq!(ids(&restored(&here.join("file:copy.db"))).await, ["msg_1"]);

    let mut serving = binary()
        .args(["serve", "--data-dir", "file:served"])
        .args([
            "--http-listen",
            "127.0.0.1:0",
            "--grpc-listen",
            "127.0.0.1:0",
        ])
        .args(["--admin-listen", "127.0.0.1:0"])
        .env("CLERK_WEBHOOK_SIGNING_SECRET", SECRET)
        .current_dir(here)
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let wal = here.join("file:served/clerkcast.db-wal");
    eventually("its log is open", || async { wal.exists() }).await;
    serving.kill().expect("it runs");
    serving.wait().expect("it was started");
    assert_eq!(all(), ["file:copy.db", "file:data", "file:served"]);
}

#[tokio::test]
async fn a_backup_of_a_gateway_on_nats_names_the_command_to_use() {
    let gateway = Gateway::start();
    gateway.accept("msg_1", body("user.created", "u")).await;
    let directory = TempDir::new().expect("a temporary directory");
    let here = directory.path();
    let on_nats = |from: &Path| {
        let mut command = backup(from, &here.join(FILE));
        command
            .env("CLERKCAST_LOG", "nats")
            .output()
            .expect("it runs")
    };
    let output = on_nats(here);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("clerkcast copy nats "), "{said}");
    assert!(said.contains("nats stream backup"), "{said}");
    // A log that is there is backed up, whatever the gateway uses now.
    assert!(on_nats(gateway.data_dir()).status.success());
}
