//! More than can be taken: what is taken is durable, the rest is told to come back, and
//! nothing lingers. `cargo bench -- overload` says how much is taken.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;

use crate::harness::{Gateway, Options, from_earliest};

const SENDERS: usize = 100;
const ACCEPTED_MIN: usize = 500;

#[tokio::test(flavor = "multi_thread")]
async fn durable_under_overload_what_is_accepted_is_there_and_the_rest_comes_back_later() {
    let gateway = Gateway::start_with(Options::args(&[
        "--body-limit",
        "64KiB",
        "--in-flight-limit",
        "200KiB",
    ]));
    let padding = "x".repeat(40_000);
    let body = format!(r#"{{"type":"user.created","data":{{"id":"user_1"}},"x":"{padding}"}}"#);
    let accepted = Arc::new(Mutex::new(HashSet::new()));
    let refused = Arc::new(AtomicUsize::new(0));
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let (poster, body) = (gateway.poster.clone(), body.clone());
        let (accepted, refused) = (Arc::clone(&accepted), Arc::clone(&refused));
        senders.spawn(async move {
            for number in 0.. {
                let taken = accepted.lock().expect("unpoisoned").len();
                if taken >= ACCEPTED_MIN && refused.load(Ordering::Relaxed) > 0 {
                    return;
                }
                let id = format!("msg_{sender}_{number}");
                let answer = poster.post(&id, body.clone().into()).await;
                let answer = answer.expect("an answer");
                if answer.status == 200 {
                    accepted.lock().expect("unpoisoned").insert(id);
                } else {
                    assert_eq!(answer.status, 503, "{}", answer.text);
                    assert_eq!(answer.json()["error"], "overloaded");
                    assert!(answer.headers.contains_key("retry-after"));
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    senders.join_all().await;
    // At once: the next one, on a connection of its own, is taken.
    gateway.accept("msg_next", body).await;
    let in_flight = gateway.metric("clerkcast_webhook_in_flight_bytes").await;
    assert_eq!(in_flight, 0.0);
    let history = gateway.history(from_earliest()).await;
    let history: Vec<String> = history.into_iter().map(|event| event.id).collect();
    let unique: HashSet<String> = history.iter().cloned().collect();
    assert_eq!(unique.len(), history.len());
    let mut expected = accepted.lock().expect("unpoisoned").clone();
    expected.insert("msg_next".to_owned());
    assert_eq!(unique, expected, "a 200 is durable, and a 503 left nothing");
}
