//! More than can be taken: what is taken is durable, the rest waits or is told to come
//! back, and nothing lingers. `cargo bench -- overload` says how much is taken.

use std::collections::HashSet;

use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::harness::{Answer, Gateway, Options, eventually, from_earliest};
use crate::preload::{compile, preloaded};

const SENDERS: usize = 100;
/// For a fifth of the senders.
const BUDGET: &str = "64KiB";

fn body() -> String {
    let padding = "x".repeat(3_000);
    format!(r#"{{"type":"user.created","data":{{"id":"user_1"}},"x":"{padding}"}}"#)
}

/// One delivery from each sender, all at once.
async fn post_all(gateway: &Gateway, round: usize) -> Vec<(String, Answer)> {
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let poster = gateway.poster.clone();
        senders.spawn(async move {
            let id = format!("msg_{round}_{sender}");
            let answer = poster.post(&id, body().into()).await;
            (id, answer.expect("an answer"))
        });
    }
    senders.join_all().await
}

/// What is over the budget waits its turn, and is refused only where the disk takes
/// nothing for seconds; once it does again, so does the gateway.
#[tokio::test(flavor = "multi_thread")]
async fn durable_under_overload_deliveries_wait_their_turn_or_come_back_later() {
    let directory = TempDir::new().expect("a temporary directory");
    let library = compile("fault", directory.path());
    let control = directory.path().join("fault");
    std::fs::write(&control, "").expect("written");
    let gateway = Gateway::start_with(Options {
        env: preloaded(&library, "CLERKCAST_FAULT", &control),
        ..Options::args(&["--body-limit", "64KiB", "--in-flight-limit", BUDGET])
    });
    let mut accepted = HashSet::new();
    for (id, answer) in post_all(&gateway, 0).await {
        assert_eq!(answer.status, 200, "{}", answer.text);
        accepted.insert(id);
    }

    std::fs::write(&control, "stall").expect("written");
    let stalled = async {
        let rejected = "clerkcast_webhook_rejected_total{source=\"default\",reason=\"overloaded\"}";
        eventually("those without room are refused", || async {
            gateway.metric(rejected).await > 0.0
        })
        .await;
        // Those that had room wait for the disk.
        assert!(gateway.metric("clerkcast_webhook_in_flight_bytes").await > 0.0);
        std::fs::write(&control, "").expect("written");
    };
    let (answers, ()) = tokio::join!(post_all(&gateway, 1), stalled);
    let before = accepted.len();
    for (id, answer) in answers {
        if answer.status == 200 {
            accepted.insert(id);
        } else {
            assert_eq!(answer.status, 503, "{}", answer.text);
            assert_eq!(answer.json()["error"], "overloaded");
            assert!(answer.headers.contains_key("retry-after"));
        }
    }
    assert!(accepted.len() > before);
    gateway.accept("msg_next", body()).await;
    accepted.insert("msg_next".to_owned());

    let in_flight = gateway.metric("clerkcast_webhook_in_flight_bytes").await;
    assert_eq!(in_flight, 0.0);
    let history = gateway.history(from_earliest()).await;
    let history: Vec<String> = history.into_iter().map(|event| event.id).collect();
    let unique: HashSet<String> = history.iter().cloned().collect();
    assert_eq!(unique.len(), history.len());
    assert_eq!(unique, accepted, "a 200 is durable, and a 503 left nothing");
}
