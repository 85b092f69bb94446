//! The bucket's settings, and what becomes of a log whose bucket is gone or another one.

use clerkcast::log::jetstream::{Config, Missing};
use clerkcast::log::{Keep as _, ReadError, Writability};

use super::*;

async fn settings(server: &Server) -> async_nats::jetstream::stream::Config {
    let stream = server.jetstream().await.get_stream(BUCKET).await;
    stream.expect("it is there").cached_info().config.clone()
}

#[tokio::test]
async fn the_bucket_is_made_as_documented() {
    let server = Server::start();
    open(config(&[&server])).await.close().await;
    let settings = settings(&server).await;
    assert_eq!(settings.subjects, ["$KV.CLERKCAST_CELLS.>"]);
    assert_eq!(settings.max_messages_per_subject, 1);
    assert_eq!(settings.num_replicas, 1);
    assert!(settings.max_age.is_zero() && !settings.allow_direct);
    assert!(settings.max_bytes <= 0 && settings.max_messages <= 0);
}

#[tokio::test]
async fn a_bucket_with_other_settings_is_explained_and_not_changed() {
    let server = Server::start();
    open(config(&[&server])).await.close().await;
    let right = settings(&server).await;
    let mut other = right.clone();
    other.max_age = Duration::from_secs(3600);
    other.allow_direct = true;
    let context = server.jetstream().await;
    context.update_stream(other.clone()).await.expect("allowed");
    let error = try_open(config(&[&server])).await.expect_err("a mismatch");
    let message = error.to_string();
    for line in [
        "the stream KV_CLERKCAST_CELLS exists with other settings, which Clerkcast never changes",
        "max age: is 1h, configured off (nats stream edit KV_CLERKCAST_CELLS --max-age=0)",
        "direct get: is on, configured off (nats stream edit KV_CLERKCAST_CELLS --no-allow-direct)",
    ] {
        assert!(message.contains(line), "{message}");
    }
    assert_eq!(settings(&server).await.max_age, other.max_age);
    context.update_stream(right).await.expect("allowed");
    open(config(&[&server])).await.close().await;
}

async fn failed(log: &JetStreamLog, reason: &str) {
    let mut writability = log.writability();
    let is_failed = |writability: &Writability| matches!(writability, Writability::Failed(_));
    let failure = tokio::time::timeout(PATIENCE, writability.wait_for(is_failed)).await;
    let failure = failure.expect("in time").expect("it is open").clone();
    assert!(
        matches!(&failure, Writability::Failed(found) if found.contains(reason)),
        "{failure:?}"
    );
}

/// Its revisions begin again, and a writer that remembers one would replace another value.
#[tokio::test]
async fn a_recreated_bucket_fails_the_log() {
    let server = Server::start();
    let log = open(config(&[&server])).await;
    store(&log, change("a", None, Some("1"))).await;
    let right = settings(&server).await;
    let context = server.jetstream().await;
    context.delete_stream(BUCKET).await.expect("deleted");
    context.create_stream(right).await.expect("made");
    failed(&log, "KV_CLERKCAST_CELLS was deleted and made again").await;
    let refused = log.swap(vec![change("a", None, Some("2"))]).await;
    assert!(
        matches!(refused, Err(AppendError::Refusing(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_deleted_bucket_fails_the_log() {
    let server = Server::start();
    let log = open(config(&[&server])).await;
    let context = server.jetstream().await;
    context.delete_stream(BUCKET).await.expect("deleted");
    failed(&log, "KV_CLERKCAST_CELLS is gone").await;
}

/// What only reads the log creates nothing.
#[tokio::test]
async fn a_log_that_must_not_be_created_has_no_cells() {
    let server = Server::start();
    open(config(&[&server])).await.close().await;
    let context = server.jetstream().await;
    context.delete_stream(BUCKET).await.expect("deleted");
    let log = open(Config {
        missing: Missing::Refuse,
        ..config(&[&server])
    })
    .await;
    let refused = Cells::read(&*log, "a").await;
    assert!(
        matches!(refused, Err(ReadError::Unreadable(_))),
        "{refused:?}"
    );
    assert!(context.get_stream(BUCKET).await.is_err());
}
