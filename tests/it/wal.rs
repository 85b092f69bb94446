//! Readers outside the gateway, such as a `sqlite3` that was left open.

use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use crate::harness::{Gateway, Options, eventually};
use crate::preload::{compile, preloaded};

const MIB: f64 = 1_048_576.0;
const HELD: &str = "an outside reader has held the WAL";
const GONE: &str = "the outside reader is gone";
const IN_VAIN: &str = "waited in vain";

/// Begins to read, and goes on until it is dropped.
fn reader(gateway: &Gateway) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let reader = Connection::open_with_flags(gateway.database(), flags).expect("opens");
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM record;")
        .expect("reads");
    reader
}

async fn post_large(gateway: &Gateway, id: &str) {
    let padding = "x".repeat(500_000);
    let large = format!(r#"{{"type":"user.created","data":{{"id":"user_1"}},"x":"{padding}"}}"#);
    gateway.accept(id, large).await;
}

async fn post_until_the_wal_has(gateway: &Gateway, bytes: f64) {
    let mut number = 0;
    while gateway.metric("clerkcast_log_wal_bytes").await < bytes {
        number += 1;
        assert!(number < 1_000, "the WAL does not grow");
        post_large(gateway, &format!("msg_{bytes}_{number}")).await;
    }
}

fn lines(gateway: &Gateway, text: &str) -> Vec<serde_json::Value> {
    let log = gateway.log_text();
    let lines = log.lines().filter(|it| it.contains(text));
    lines
        .map(|it| serde_json::from_str(it).expect("JSON"))
        .collect()
}

/// Once the WAL is large, the writer waits for the reader, once and shortly.
#[tokio::test]
async fn a_reader_outside_is_told_and_slows_no_webhook() {
    let directory = TempDir::new().expect("a temporary directory");
    let library = compile("clock", directory.path());
    let ahead = directory.path().join("ahead");
    let advance = |seconds: u32| std::fs::write(&ahead, seconds.to_string()).expect("written");
    advance(0);
    let gateway = Gateway::start_with(Options {
        args: ["--log-level", "debug"].map(str::to_owned).into(),
        env: preloaded(&library, "CLERKCAST_CLOCK_MONOTONIC", &ahead),
    });
    post_large(&gateway, "msg_1").await;
    let reader = reader(&gateway);
    post_until_the_wal_has(&gateway, 150.0 * MIB).await;
    assert_eq!(lines(&gateway, IN_VAIN).len(), 1, "of all the webhooks");
    assert_eq!(lines(&gateway, HELD).len(), 0);

    // Each post has the writer look at the clock, whose waits know nothing of the advance. A
    // connection that seems idle for a minute may close under one.
    let posted = std::cell::Cell::new(0);
    let post = || {
        posted.set(posted.get() + 1);
        let id = format!("msg_small_{}", posted.get());
        let gateway = &gateway;
        async move {
            let posted = gateway.poster.post(&id, r#"{"type":"a"}"#.into()).await;
            assert!(posted.is_err() || posted.is_ok_and(|it| it.status == 200));
        }
    };
    for (seconds, warnings) in [(61, 1), (661 + 10, 2)] {
        advance(seconds);
        eventually("it is told", || async {
            post().await;
            lines(&gateway, HELD).len() >= warnings
        })
        .await;
    }
    let told = lines(&gateway, HELD);
    assert_eq!(told.len(), 2, "{told:?}");
    for line in told {
        assert_eq!(line["level"], "WARN");
        assert!(line["bytes"].as_f64().expect("a number") > 150.0 * MIB);
        let held_for = line["for"].as_str().expect("a duration");
        let seconds: f64 = held_for.trim_end_matches('s').parse().expect("seconds");
        assert!(seconds >= 60.0, "{line}");
    }

    assert_eq!(lines(&gateway, GONE).len(), 0);
    drop(reader);
    eventually("its end is told", || async {
        post().await;
        !lines(&gateway, GONE).is_empty()
    })
    .await;
    assert_eq!(lines(&gateway, GONE)[0]["level"], "INFO");
}

#[tokio::test]
async fn the_wal_is_given_back() {
    let gateway = Gateway::start();
    post_large(&gateway, "msg_1").await;
    let reader = reader(&gateway);
    post_until_the_wal_has(&gateway, 80.0 * MIB).await;
    let wal = gateway.data_dir().join("clerkcast.db-wal");
    let wal_bytes = || std::fs::metadata(&wal).expect("there").len();
    assert!(wal_bytes() > 80 << 20);
    drop(reader);
    // With no webhook that would do it.
    eventually("the disk has it again", || async {
        wal_bytes() <= 64 << 20
    })
    .await;
    eventually("the metric follows", || async {
        gateway.metric("clerkcast_log_wal_bytes").await <= 64.0 * MIB
    })
    .await;
    let [file, used] = ["clerkcast_log_file_bytes", "clerkcast_log_used_bytes"];
    eventually("all of it is in the file", || async {
        gateway.metric(file).await > 70.0 * MIB
    })
    .await;
    let (file, used) = (gateway.metric(file).await, gateway.metric(used).await);
    assert!(used > 70.0 * MIB && used <= file, "{used} of {file}");
}
