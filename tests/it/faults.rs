//! A disk that fails, by way of a library that is preloaded into the real binary.

use std::path::PathBuf;
use std::time::Instant;

use clerkcast::proto::SubscribeRequest;
use tempfile::TempDir;

use crate::harness::{Gateway, Options, body, eventually, from_earliest};
use crate::preload::{compile, preloaded};
use crate::refused::refused_start;
use crate::segments::{EVENTS_OF_TWO_SEGMENTS, cursors_by_filter, fill_with_rare, sealed};

/// A gateway whose disk fails on demand.
pub(crate) struct Faulty {
    pub(crate) gateway: Gateway,
    control: PathBuf,
    _directory: TempDir,
}

impl Faulty {
    pub(crate) fn start() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let library = compile("fault", directory.path());
        let control = directory.path().join("fault");
        std::fs::write(&control, "").expect("written");
        let gateway = Gateway::start_with(Options {
            args: ["--drain-timeout", "5s", "--log-level", "debug"]
                .map(str::to_owned)
                .into(),
            env: preloaded(&library, "CLERKCAST_FAULT", &control),
        });
        Self {
            gateway,
            control,
            _directory: directory,
        }
    }

    pub(crate) fn fail(&self, fault: &str) {
        std::fs::write(&self.control, fault).expect("written");
    }
}

#[tokio::test]
async fn durable_a_full_disk_is_a_503_until_there_is_room_and_reads_go_on() {
    let faulty = Faulty::start();
    let gateway = &faulty.gateway;
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let mut stream = gateway.subscribe(SubscribeRequest::default()).await;
    stream.caught_up().await;

    faulty.fail("full");
    let refused = gateway.post("msg_2", body("user.created", "user_1")).await;
    assert_eq!(refused.status, 503);
    assert!(refused.headers.contains_key("retry-after"));
    assert!(
        refused.text.contains("the disk is full"),
        "{}",
        refused.text
    );
    let readiness = gateway.admin_get("/readyz").await;
    assert_eq!(readiness.status, 503);
    assert!(readiness.text.contains("the disk is full"));
    assert_eq!(gateway.admin_get("/healthz").await.status, 200);
    assert_eq!(gateway.metric("clerkcast_log_writable").await, 0.0);
    assert_eq!(gateway.history(from_earliest()).await.len(), 1);

    faulty.fail("");
    eventually("it is ready again by itself", || async {
        gateway.admin_get("/readyz").await.status == 200
    })
    .await;
    gateway
        .accept("msg_2", body("user.created", "user_1"))
        .await;
    assert_eq!(stream.next_event().await.1.id, "msg_2");
    let log = gateway.history(from_earliest()).await;
    assert_eq!(
        log.len(),
        2,
        "what was refused entered once, when it was repeated"
    );
}

/// Each commit asks for a checkpoint then. One line has to do.
#[tokio::test]
async fn a_checkpoint_that_fails_is_logged_once_a_minute() {
    let faulty = Faulty::start();
    faulty.fail("database full");
    let padding = "x".repeat(400_000);
    let mut number = 0;
    let count = |text: &str| faulty.gateway.log_text().matches(text).count();
    while count("still cannot checkpoint the log") < 3 {
        number += 1;
        assert!(number < 500, "no checkpoint fails");
        let large =
            format!(r#"{{"type":"user.created","data":{{"id":"user_1"}},"x":"{padding}"}}"#);
        faulty.gateway.accept(&format!("msg_{number}"), large).await;
    }
    assert_eq!(count("cannot checkpoint the log; trying again"), 1);
}

/// It takes a page, and refuses an event.
#[tokio::test]
async fn durable_a_nearly_full_disk_is_not_taken_for_one_with_room() {
    let faulty = Faulty::start();
    let gateway = &faulty.gateway;
    faulty.fail("nearly full");
    let padding = "x".repeat(200_000);
    let large = format!(r#"{{"type":"user.created","data":{{"id":"user_1"}},"x":"{padding}"}}"#);
    let refused = gateway.post("msg_1", large.clone()).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    eventually("it has tried several times", || async {
        gateway
            .log_text()
            .matches("still cannot be written")
            .count()
            >= 3
    })
    .await;
    assert_eq!(gateway.admin_get("/readyz").await.status, 503);
    assert!(!gateway.log_text().contains("takes writes again"));
    faulty.fail("");
    eventually("it is ready again by itself", || async {
        gateway.admin_get("/readyz").await.status == 200
    })
    .await;
    gateway.accept("msg_1", large).await;
}

#[tokio::test]
async fn durable_a_failed_fsync_acknowledges_nothing_and_ends_the_process() {
    let mut faulty = Faulty::start();
    faulty
        .gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    faulty.fail("fsync");
    let refused = faulty
        .gateway
        .post("msg_2", body("user.created", "user_1"))
        .await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert_eq!(faulty.gateway.wait().code(), Some(1));
    let log = faulty.gateway.log_text();
    assert!(log.contains("fsync failed"), "{log}");
    assert!(
        !log.contains("takes writes again"),
        "it is never retried: {log}"
    );

    faulty.fail("");
    let gateway = faulty.gateway.restarted();
    let ids: Vec<String> = gateway
        .history(from_earliest())
        .await
        .into_iter()
        .map(|event| event.id)
        .collect();
    assert_eq!(ids[0], "msg_1");
    // Svix repeats what was refused; it is there once, whether or not it reached the disk.
    gateway.post("msg_2", body("user.created", "user_1")).await;
    assert_eq!(gateway.history(from_earliest()).await.len(), 2);
}

/// The index is written beside the events, and after them.
#[tokio::test]
async fn an_index_that_finds_the_disk_full_is_complete_once_there_is_room() {
    let mut faulty = Faulty::start();
    faulty
        .gateway
        .accept("msg_first", body("user.created", "user_1"))
        .await;
    faulty.gateway = faulty.gateway.stopped();
    fill_with_rare(&faulty.gateway, EVENTS_OF_TWO_SEGMENTS);
    // The first segment waits until the disk is full.
    faulty.fail("stall");
    faulty.gateway = faulty.gateway.restarted();
    faulty.fail("full");
    let gateway = &faulty.gateway;
    eventually("the index is tried again", || async {
        gateway
            .log_text()
            .matches("the log's index is tried again")
            .count()
            >= 2
    })
    .await;
    assert!(gateway.metric("clerkcast_log_segments").await < 2.0);
    let answers = cursors_by_filter(gateway).await;
    let refused = gateway
        .post("msg_new", body("user.created", "user_1"))
        .await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(
        refused.text.contains("the disk is full"),
        "{}",
        refused.text
    );

    faulty.fail("");
    eventually("it is ready again by itself", || async {
        gateway.admin_get("/readyz").await.status == 200
    })
    .await;
    gateway
        .accept("msg_new", body("user.created", "user_1"))
        .await;
    sealed(gateway).await;
    assert_eq!(gateway.metric("clerkcast_log_segments").await, 2.0);
    assert_eq!(cursors_by_filter(gateway).await, answers);
}

/// Also where the commit is of the index alone.
#[tokio::test]
async fn durable_a_failed_fsync_of_the_index_ends_the_process() {
    let mut faulty = Faulty::start();
    faulty
        .gateway
        .accept("msg_first", body("user.created", "user_1"))
        .await;
    faulty.gateway = faulty.gateway.stopped();
    fill_with_rare(&faulty.gateway, EVENTS_OF_TWO_SEGMENTS);
    faulty.fail("fsync");
    faulty.gateway = faulty.gateway.restarted();
    assert_eq!(faulty.gateway.wait().code(), Some(1));
    let log = faulty.gateway.log_text();
    assert!(log.contains("fsync failed"), "{log}");
}

#[tokio::test]
async fn an_unwritable_data_directory_is_reported_and_left_unchanged() {
    let gateway = Gateway::start();
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let directory = TempDir::new().expect("a temporary directory");
    let control = directory.path().join("fault");
    std::fs::write(&control, "read-only").expect("written");
    let copy = directory.path().join("data");
    std::fs::create_dir(&copy).expect("made");
    let stopped = gateway.stopped();
    std::fs::copy(stopped.database(), copy.join("clerkcast.db")).expect("copied");
    let before = std::fs::read(copy.join("clerkcast.db")).expect("there");
    let library = compile("fault", directory.path());
    let (code, said) = refused_start(|command| {
        command
            .arg("--data-dir")
            .arg(&copy)
            .envs(preloaded(&library, "CLERKCAST_FAULT", &control));
    });
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
    assert!(said.contains(&copy.display().to_string()), "{said}");
    let after = std::fs::read(copy.join("clerkcast.db")).expect("there");
    assert_eq!(after, before);
}

/// Such as a `sqlite3` in which somebody began to write. The first batch waits for it; once
/// the log is known to be locked, no webhook does.
#[tokio::test]
async fn nobody_waits_behind_a_lock_that_is_known() {
    let gateway = Gateway::start();
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let database = rusqlite::Connection::open(gateway.database()).expect("opens");
    database.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let started = Instant::now();
    let refused = gateway.post("msg_2", body("user.created", "user_1")).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    let first_waited = started.elapsed();
    let started = Instant::now();
    for _ in 0..10 {
        let refused = gateway.post("msg_2", body("user.created", "user_1")).await;
        assert_eq!(refused.status, 503, "{}", refused.text);
        assert!(refused.headers.contains_key("retry-after"));
    }
    let ten_waited = started.elapsed();
    assert!(
        ten_waited < first_waited,
        "{ten_waited:?}, where the first waited {first_waited:?}"
    );
    assert_eq!(gateway.admin_get("/readyz").await.status, 503);

    database.execute_batch("COMMIT").expect("unlocked");
    eventually("it is ready again by itself", || async {
        gateway.admin_get("/readyz").await.status == 200
    })
    .await;
    gateway
        .accept("msg_2", body("user.created", "user_1"))
        .await;
}
