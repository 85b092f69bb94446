//! The log's files under a running gateway: moved, removed, replaced, or open to others.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tempfile::TempDir;

use crate::harness::{Gateway, Options, Poster, body, eventually, from_earliest};

const MOVED: &str = "the data directory was moved, removed or replaced while the gateway ran";
const FILES: [&str; 4] = [
    "clerkcast.db",
    "clerkcast.db-wal",
    "clerkcast.db-shm",
    "clerkcast.lock",
];

/// What an operator does to the data directory or to one of its files.
#[derive(Clone, Copy, Debug)]
enum Accident {
    Remove,
    Move,
    Replace,
}

impl Accident {
    /// `other` is what takes the place of a file or directory that is replaced.
    fn happen(self, path: &Path, other: &Path) {
        match self {
            Self::Remove if path.is_dir() => fs::remove_dir_all(path).expect("removed"),
            Self::Remove => fs::remove_file(path).expect("removed"),
            Self::Move | Self::Replace => {
                fs::rename(path, path.with_extension("moved")).expect("moved");
            }
        }
        if let Self::Replace = self {
            fs::rename(other, path).expect("replaced");
        }
    }
}

/// The directory of another log, whose gateway was killed: it has each of the files.
async fn other_log(parent: &Path) {
    let directory = Arc::new(TempDir::new_in(parent).expect("a directory"));
    let mut gateway = Gateway::start_in(Arc::clone(&directory), Options::default());
    gateway.accept("msg_other", body("a", "b")).await;
    gateway.kill();
    drop(gateway);
    let directory = Arc::into_inner(directory).expect("the gateway is gone");
    fs::rename(directory.keep(), parent.join("other")).expect("moved");
}

/// A gateway on `data`, with one event in its log.
async fn start_with_an_event(parent: &Arc<TempDir>) -> Gateway {
    let data = parent.path().join("data").display().to_string();
    let gateway = Gateway::start_in(Arc::clone(parent), Options::args(&["--data-dir", &data]));
    gateway.accept("msg_1", body("a", "b")).await;
    gateway
}

fn errors(gateway: &Gateway) -> Vec<String> {
    let log = gateway.log_text();
    let errors = log.lines().filter(|it| it.contains(r#""level":"ERROR""#));
    errors.map(str::to_owned).collect()
}

#[track_caller]
fn has_failed(gateway: &mut Gateway, case: &str) {
    assert_eq!(gateway.wait().code(), Some(1), "{case}");
    let errors = errors(gateway);
    assert_eq!(errors.len(), 1, "{case}: {errors:?}");
    assert!(errors[0].contains(MOVED), "{case}: {errors:?}");
}

#[tokio::test]
async fn durable_nothing_is_acknowledged_into_a_directory_that_is_gone() {
    for accident in [Accident::Remove, Accident::Move, Accident::Replace] {
        for file in [""].into_iter().chain(FILES) {
            let case = format!("{accident:?} {file}");
            let parent = Arc::new(TempDir::new().expect("a temporary directory"));
            other_log(parent.path()).await;
            let mut gateway = start_with_an_event(&parent).await;
            let [path, other] = ["data", "other"].map(|it| parent.path().join(it).join(file));
            accident.happen(&path, &other);
            let answer = gateway.poster.post("msg_2", body("a", "b").into()).await;
            if let Ok(answer) = answer {
                assert_eq!(answer.status, 503, "{case}: {}", answer.text);
            }
            has_failed(&mut gateway, &case);
            // What was acknowledged before is where the files are, and in no other log's.
            let data = match (accident, file) {
                (Accident::Move, "") => "data.moved",
                (_, "" | "clerkcast.db") | (Accident::Replace, "clerkcast.db-wal") => continue,
                _ => "data",
            };
            let data = parent.path().join(data).display().to_string();
            let options = Options::args(&["--data-dir", &data]);
            let gateway = Gateway::start_in(Arc::clone(&parent), options);
            let again = gateway.post("msg_1", body("a", "b")).await;
            assert_eq!(again.json()["duplicate"], true, "{case}");
        }
    }
}

/// Without a webhook that would show it.
#[tokio::test]
async fn a_directory_that_is_gone_is_noticed_by_an_idle_gateway() {
    for file in [""].into_iter().chain(FILES) {
        let parent = Arc::new(TempDir::new().expect("a temporary directory"));
        let mut gateway = start_with_an_event(&parent).await;
        let path = parent.path().join("data").join(file);
        Accident::Move.happen(&path, Path::new(""));
        has_failed(&mut gateway, file);
    }
}

/// Posts until the gateway is gone. Returns the ids that it acknowledged as new.
async fn post_until_gone(poster: Poster, acknowledged: Arc<Mutex<Vec<String>>>) {
    for number in 0.. {
        let id = format!("msg_{number}");
        match poster.post(&id, body("a", "b").into()).await {
            Ok(answer) if answer.status == 200 => {
                acknowledged.lock().push(id);
            }
            Ok(answer) => assert_eq!(answer.status, 503, "{}", answer.text),
            Err(_) => return,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_never_share_a_log() {
    let directory = Arc::new(TempDir::new().expect("a temporary directory"));
    let mut first = Gateway::start_in(Arc::clone(&directory), Options::default());
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let posting = tokio::spawn(post_until_gone(
        first.poster.clone(),
        Arc::clone(&acknowledged),
    ));
    eventually("some are acknowledged", || async {
        acknowledged.lock().len() > 10
    })
    .await;
    fs::remove_file(directory.path().join("clerkcast.lock")).expect("removed");
    let starting = Arc::clone(&directory);
    let second =
        tokio::task::spawn_blocking(move || Gateway::start_in(starting, Options::default()));
    let second = second.await.expect("no panic");
    has_failed(&mut first, "the first");
    posting.await.expect("no panic");

    let acknowledged = acknowledged.lock().clone();
    for id in &acknowledged {
        let again = second.post(id, body("a", "b")).await;
        assert_eq!(again.json()["duplicate"], true, "{id}");
    }
    second.accept("msg_new", body("a", "b")).await;
    let log = second.history(from_earliest()).await;
    let unique: HashSet<&String> = log.iter().map(|event| &event.id).collect();
    assert_eq!(unique.len(), log.len());
}

/// Another program that writes records is not a failure to be tried again.
#[tokio::test]
async fn a_log_that_another_process_writes_ends_the_gateway() {
    let mut gateway = Gateway::start();
    gateway.accept("msg_1", body("a", "b")).await;
    let database = rusqlite::Connection::open(gateway.database()).expect("opens");
    let copy = "INSERT INTO record (position, receive_time_ms, decoding, id, source, type, event) \
                SELECT position + 1, receive_time_ms, decoding, 'msg_theirs', source, type, event \
                FROM record";
    database.execute(copy, []).expect("written");
    let refused = gateway.post("msg_2", body("a", "b")).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert_eq!(gateway.wait().code(), Some(1));
    let errors = errors(&gateway);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("another process writes"), "{errors:?}");
}

#[tokio::test]
async fn files_are_for_their_owner_alone_after_a_start() {
    let parent = Arc::new(TempDir::new().expect("a temporary directory"));
    let mut gateway = start_with_an_event(&parent).await;
    gateway.kill();
    drop(gateway);
    let data = parent.path().join("data");
    let set = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("changed");
    };
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    for file in FILES {
        assert_eq!(mode(&data.join(file)), 0o600, "{file} of a new log");
        set(&data.join(file), 0o644);
    }
    let start = || {
        let args = ["--data-dir", &data.display().to_string()];
        Gateway::start_in(Arc::clone(&parent), Options::args(&args))
    };
    let warnings = |gateway: &Gateway| -> Vec<String> {
        let log = gateway.log_text();
        let warnings = log.lines().filter(|it| it.contains(r#""level":"WARN""#));
        let warnings = warnings.filter(|it| it.contains("clerkcast.") || it.contains("/data"));
        warnings.map(str::to_owned).collect()
    };
    let gateway = start();
    for file in FILES {
        assert_eq!(mode(&data.join(file)), 0o600, "{file}");
    }
    let told = warnings(&gateway);
    assert_eq!(told.len(), 1, "{told:?}");
    for file in FILES {
        assert!(told[0].contains(file), "{file}: {told:?}");
    }
    assert!(!told[0].contains("0755"), "{told:?}");
    drop(gateway);

    set(&data, 0o755);
    let gateway = start();
    let told = warnings(&gateway);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains(&data.display().to_string()), "{told:?}");
    assert_eq!(mode(&data), 0o755, "an operator's directory stays as it is");
    drop(gateway);

    set(&data, 0o700);
    assert_eq!(warnings(&start()), [""; 0]);
}
