//! `kill -9` under load, over and over: every 2xx is there exactly once, and a
//! subscriber that resumes sees no gap and no repeat.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clerkcast::proto::subscribe_response::Kind;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::harness::{Gateway, Poster, Stream, after, body, eventually, from_earliest};
use crate::soak::{Figure, figure};

const CONNECTIONS: usize = 8;

/// A service that stores each cursor once it has handled the frame.
#[derive(Default)]
struct Service {
    handled: Vec<String>,
    cursor: Option<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn durable_and_reliable_through_kill_9_under_load() {
    let mut gateway = Gateway::start();
    let ids = Arc::new(AtomicU64::new(0));
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let mut service = Service::default();
    for round in 0..figure(Figure::CrashRounds) {
        // Varies where the kill falls, from the first commits to hundreds later.
        let enough = acknowledged.lock().len() + 1 + (round * 97) % 400;
        let request = service.cursor.as_deref().map_or_else(from_earliest, after);
        let stream = gateway.subscribe(request).await;
        let handling = tokio::spawn(handle(service, stream));
        let mut posting = JoinSet::new();
        for _ in 0..CONNECTIONS {
            posting.spawn(post(
                gateway.poster.clone(),
                Arc::clone(&ids),
                Arc::clone(&acknowledged),
            ));
        }
        eventually("enough is acknowledged", || async {
            acknowledged.lock().len() >= enough
        })
        .await;
        gateway.kill();
        posting.join_all().await;
        service = handling.await.expect("no panic");
        gateway = gateway.restarted();
    }

    let log = gateway.history(from_earliest()).await;
    let log: Vec<String> = log.into_iter().map(|event| event.id).collect();
    let unique: HashSet<&String> = log.iter().collect();
    assert_eq!(unique.len(), log.len(), "an id entered the log twice");
    let acknowledged = acknowledged.lock().clone();
    let lost: Vec<&String> = acknowledged
        .iter()
        .filter(|id| !unique.contains(id))
        .collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");

    let request = service.cursor.as_deref().map_or_else(from_earliest, after);
    let rest = gateway.history(request).await;
    service
        .handled
        .extend(rest.into_iter().map(|event| event.id));
    assert_eq!(
        service.handled, log,
        "resuming sees the log, once, in order"
    );
    println!(
        "{} rounds, {} acknowledged, {} in the log",
        figure(Figure::CrashRounds),
        acknowledged.len(),
        log.len()
    );
}

/// Stopping is no loss either: what was in flight is answered, and the rest refused.
#[tokio::test(flavor = "multi_thread")]
async fn durable_and_reliable_through_sigterm_under_load() {
    let mut gateway = Gateway::start();
    let ids = Arc::new(AtomicU64::new(0));
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let mut service = Service::default();
    for round in 0..5 {
        let enough = acknowledged.lock().len() + 50 + round * 100;
        let request = service.cursor.as_deref().map_or_else(from_earliest, after);
        let stream = gateway.subscribe(request).await;
        let handling = tokio::spawn(handle(service, stream));
        let mut posting = JoinSet::new();
        for _ in 0..CONNECTIONS {
            posting.spawn(post(
                gateway.poster.clone(),
                Arc::clone(&ids),
                Arc::clone(&acknowledged),
            ));
        }
        eventually("enough is acknowledged", || async {
            acknowledged.lock().len() >= enough
        })
        .await;
        gateway.signal("-TERM");
        posting.join_all().await;
        service = handling.await.expect("no panic");
        assert_eq!(gateway.wait().code(), Some(0), "{}", gateway.log_text());
        gateway = gateway.restarted();
    }
    let log = gateway.history(from_earliest()).await;
    let log: Vec<String> = log.into_iter().map(|event| event.id).collect();
    let unique: HashSet<&String> = log.iter().collect();
    assert_eq!(unique.len(), log.len(), "an id entered the log twice");
    for id in acknowledged.lock().iter() {
        assert!(unique.contains(id), "acknowledged and lost: {id}");
    }
    let request = service.cursor.as_deref().map_or_else(from_earliest, after);
    let rest = gateway.history(request).await;
    let rest = rest.into_iter().map(|event| event.id);
    service.handled.extend(rest);
    assert_eq!(
        service.handled, log,
        "resuming sees the log, once, in order"
    );
}

/// Posts until the gateway is gone; every tenth id is posted twice.
async fn post(poster: Poster, ids: Arc<AtomicU64>, acknowledged: Arc<Mutex<Vec<String>>>) {
    loop {
        let number = ids.fetch_add(1, Ordering::Relaxed);
        let repeats = number % 10 == 9;
        let id = format!("msg_{}", if repeats { number - 1 } else { number });
        match poster
            .post(&id, body("user.updated", "user_1").into())
            .await
        {
            Ok(answer) if answer.status == 200 => {
                acknowledged.lock().push(id);
            }
            Ok(answer) => assert_eq!(answer.status, 503, "{}", answer.text),
            Err(_) => return,
        }
    }
}

/// Handles frames until the connection breaks.
async fn handle(mut service: Service, mut stream: Stream) -> Service {
    while let Ok(Some(frame)) = stream.try_next().await {
        if let Some(Kind::Event(event)) = frame.kind {
            service.handled.push(event.id);
        }
        service.cursor = Some(frame.cursor);
    }
    service
}
