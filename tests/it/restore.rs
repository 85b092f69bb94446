//! A backup that is put back: what was written since is lost, and its cursors are refused
//! for ever, while all others go on.

use std::fs;
use std::path::Path;

use clerkcast::event::Cursor;
use clerkcast::proto::subscribe_response::Kind;
use clerkcast::proto::{ExpiredCursorPolicy, ListEventsRequest, SubscribeRequest};
use tempfile::TempDir;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{Gateway, Options, after, body, eventually, from_earliest};
use crate::subscribe::reason;

const LOST: &str = "the log was restored from a backup that is older than this cursor";

async fn accept(gateway: &Gateway, ids: Vec<String>) {
    for id in ids {
        gateway.accept(&id, body("user.created", "user_1")).await;
    }
}

fn ids(name: &str, count: usize) -> Vec<String> {
    let ids = (0..count).map(|number| format!("msg_{name}_{number}"));
    ids.collect()
}

/// As many at once, for those that take long one by one.
async fn accept_together(gateway: &Gateway, ids: Vec<String>) {
    let posts = ids.into_iter().map(|id| {
        let poster = gateway.poster.clone();
        async move {
            poster
                .post(&id, body("user.created", "user_1").into())
                .await
        }
    });
    for answer in futures_util::future::join_all(posts).await {
        assert_eq!(answer.expect("answered").status, 200);
    }
}

/// How `Subscribe` and `ListEvents` refuse a cursor, which they do in one way.
async fn refused(gateway: &Gateway, cursor: &str) -> Status {
    let mut client = gateway.client().await;
    let request = ListEventsRequest {
        page_token: cursor.to_owned(),
        ..ListEventsRequest::default()
    };
    let listed = client.list_events(request).await.expect_err("refused");
    let subscribed = client.subscribe(after(cursor)).await;
    let subscribed = match subscribed {
        Err(status) => status,
        Ok(stream) => stream.into_inner().message().await.expect_err("refused"),
    };
    assert_eq!(subscribed.code(), listed.code());
    assert_eq!(reason(&subscribed), reason(&listed));
    assert_eq!(subscribed.code(), Code::FailedPrecondition);
    subscribed
}

fn common_cursor(status: &Status) -> Option<String> {
    let details = status.get_error_details();
    let info = details.error_info().expect("an ErrorInfo");
    info.metadata.get("common_cursor").cloned()
}

async fn rest(gateway: &Gateway, request: SubscribeRequest) -> Vec<String> {
    let events = gateway.history(request).await.into_iter();
    events.map(|event| event.id).collect()
}

/// How the files of a running gateway are saved, and put back.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// A compact copy of the database alone.
    File,
    /// Everything in the directory, as it lies there.
    Directory,
}

impl Way {
    fn save(self, gateway: &Gateway) -> TempDir {
        let saved = TempDir::new().expect("a temporary directory");
        match self {
            Self::File => {
                let database = rusqlite::Connection::open(gateway.database()).expect("opens");
                let to = saved.path().join("clerkcast.db").display().to_string();
                database.execute("VACUUM INTO ?1", [to]).expect("copied");
            }
            Self::Directory => copy_files(gateway.data_dir(), saved.path()),
        }
        saved
    }

    fn put_back(self, saved: &TempDir, gateway: &Gateway) {
        for entry in fs::read_dir(gateway.data_dir()).expect("a directory") {
            fs::remove_file(entry.expect("an entry").path()).expect("removed");
        }
        copy_files(saved.path(), gateway.data_dir());
    }
}

fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reliable_a_cursor_of_a_lost_history_is_refused_for_ever() {
    for way in [Way::File, Way::Directory] {
        let gateway = Gateway::start();
        accept(&gateway, ids("kept", 10)).await;
        let saved = way.save(&gateway);
        let mut stream = gateway.subscribe(from_earliest()).await;
        accept(&gateway, ids("lost", 5)).await;
        let mut cursors = Vec::new();
        while cursors.len() < 15 {
            cursors.push(stream.next_event().await.0);
        }
        drop(stream);
        let mut gateway = gateway;
        gateway.kill();
        way.put_back(&saved, &gateway);

        let mut gateway = gateway.restarted();
        assert_eq!(rest(&gateway, from_earliest()).await.len(), 10);
        let [lost, kept] = [&cursors[14], &cursors[9]];
        let ahead = refused(&gateway, lost).await;
        assert_eq!(reason(&ahead), "CURSOR_AHEAD_OF_LOG");

        let mut written = Vec::new();
        for (round, count) in [1, 3, 1, 7, 988].into_iter().enumerate() {
            let new = ids(&format!("new_{round}"), count);
            accept_together(&gateway, new.clone()).await;
            written.extend(new);
            for (index, cursor) in cursors.iter().enumerate() {
                if index < 10 {
                    let found = rest(&gateway, after(cursor)).await.len();
                    assert_eq!(found, 9 - index + written.len(), "{way:?}, {index}");
                    continue;
                }
                let status = refused(&gateway, cursor).await;
                if index >= 10 + written.len() {
                    assert_eq!(reason(&status), "CURSOR_AHEAD_OF_LOG");
                    continue;
                }
                assert_eq!(reason(&status), "CURSOR_OF_ANOTHER_LOG");
                assert_eq!(status.message(), LOST);
                assert_eq!(common_cursor(&status).as_ref(), Some(kept), "{way:?}");
            }
            let mut found = rest(&gateway, after(kept)).await;
            found.sort_unstable();
            let mut expected = written.clone();
            expected.sort_unstable();
            assert_eq!(found, expected, "{way:?}");
            // Each round is of another run.
            gateway.kill();
            gateway = gateway.restarted();
        }
        let status = refused(&gateway, lost).await;
        assert_eq!(reason(&status), "CURSOR_OF_ANOTHER_LOG");
    }
}

/// Nothing of the run that gave the cursor is in the backup, so nothing says how much of
/// it both histories have.
#[tokio::test]
async fn reliable_a_cursor_of_a_run_that_the_backup_never_saw_is_refused() {
    let gateway = Gateway::start();
    accept(&gateway, ids("kept", 3)).await;
    let gateway = gateway.stopped();
    let saved = Way::Directory.save(&gateway);
    let gateway = gateway.restarted();
    accept(&gateway, ids("lost", 2)).await;
    let mut stream = gateway.subscribe(from_earliest()).await;
    let lost = stream.caught_up().await;
    let mut gateway = gateway;
    gateway.kill();
    Way::Directory.put_back(&saved, &gateway);
    let gateway = gateway.restarted();
    accept(&gateway, ids("new", 4)).await;
    let status = refused(&gateway, &lost).await;
    assert_eq!(reason(&status), "CURSOR_OF_ANOTHER_LOG");
    assert_eq!(status.message(), LOST);
    assert_eq!(common_cursor(&status), None);
    // The end of the new history is at a position of its own.
    let newest = gateway.subscribe(SubscribeRequest::default()).await;
    let newest: Cursor = { newest }.caught_up().await.parse().expect("a cursor");
    let lost: Cursor = lost.parse().expect("a cursor");
    assert_eq!(newest.epoch, lost.epoch);
    assert_ne!(newest.run, lost.run);
}

/// Ages all events by two hours while the gateway is stopped, and starts it again.
pub(crate) async fn aged(gateway: Gateway) -> Gateway {
    let stopped = gateway.stopped();
    let database = rusqlite::Connection::open(stopped.database()).expect("opens");
    let age = "UPDATE record SET receive_time_ms = receive_time_ms - 7200000";
    database.execute(age, []).expect("aged");
    drop(database);
    let gateway = stopped.restarted();
    eventually("retention has removed them", || async {
        gateway.metric("clerkcast_log_events").await == 0.0
    })
    .await;
    gateway
}

/// Retention removes runs too, once nothing is left that they wrote.
#[tokio::test]
async fn resumable_an_expired_cursor_is_returned_as_it_was_given() {
    let gateway = Gateway::start_with(Options::args(&["--retain-for", "1h"]));
    accept(&gateway, ids("first", 1)).await;
    let (cursor, _) = gateway.subscribe(from_earliest()).await.next_event().await;
    let gateway = aged(gateway).await;
    accept(&gateway, ids("second", 1)).await;
    let gateway = aged(gateway).await;
    accept(&gateway, ids("third", 1)).await;
    let database = rusqlite::Connection::open(gateway.database()).expect("opens");
    let rows = "SELECT count(*) FROM run WHERE first_position = 1";
    let rows: i64 = database
        .query_row(rows, [], |row| row.get(0))
        .expect("read");
    assert_eq!(rows, 0, "the first run is forgotten");

    let request = SubscribeRequest {
        on_expired: ExpiredCursorPolicy::Earliest.into(),
        ..after(&cursor)
    };
    let mut stream = gateway.subscribe(request).await;
    let started = stream.next().await.expect("a frame");
    assert_eq!(started.cursor, cursor);
    let gap = stream.next().await.expect("a frame");
    let Some(Kind::Gap(range)) = gap.kind else {
        panic!("a gap comes first: {gap:?}");
    };
    assert_eq!(range.from, cursor);
    let (_, event) = stream.next_event().await;
    assert_eq!(event.id, "msg_third_0");
    let refused = gateway.client().await.subscribe(after(&cursor)).await;
    let status = refused.expect_err("it has expired");
    assert_eq!(reason(&status), "CURSOR_EXPIRED");
}
