//! The stream's settings and its room, while gateways run.

use async_nats::jetstream::stream::{
    Config as Settings, DiscardPolicy, Republish, SubjectTransform,
};

use super::place::on;
use super::server::Server;
use crate::harness::{Gateway, body, eventually, from_earliest};

/// Makes a setting another one than configured.
type Edit = fn(&mut Settings);

/// Every setting that is compared, as the gateway names it, except what no server lets an
/// operator edit and bring back.
const EDITS: [(&str, Edit); 14] = [
    ("subjects", |it| it.subjects.push("elsewhere.>".to_owned())),
    ("max age", |it| it.max_age /= 2),
    ("max bytes", |it| it.max_bytes /= 2),
    ("duplicate window", |it| it.duplicate_window /= 2),
    ("discard", |it| it.discard = DiscardPolicy::New),
    ("max messages", |it| it.max_messages = 1_000_000),
    ("max messages per subject", |it| {
        it.max_messages_per_subject = 1_000_000;
    }),
    ("max message size", |it| it.max_message_size = 1_000_000),
    ("direct get", |it| it.allow_direct = false),
    ("acknowledgements", |it| it.no_ack = true),
    ("rollup headers", |it| it.allow_rollup = true),
    ("max consumers", |it| it.max_consumers = 1),
    ("republish", |it| {
        it.republish = Some(Republish {
            source: "clerk.>".to_owned(),
            destination: "copy.>".to_owned(),
            headers_only: false,
        });
    }),
    ("subject transform", |it| {
        it.subject_transform = Some(SubjectTransform {
            source: "clerk.>".to_owned(),
            destination: "clerk.more.>".to_owned(),
        });
    }),
];

async fn readiness(gateway: &Gateway) -> (u16, String) {
    let answer = gateway.admin_get("/readyz").await;
    (answer.status, answer.text)
}

/// How many lines say that an outage begins, and that one ends.
fn outages(gateway: &Gateway) -> [usize; 2] {
    let text = gateway.log_text();
    let count = |said: &str| text.lines().filter(|line| line.contains(said)).count();
    ["the log refuses writes", "the log takes writes again"].map(count)
}

#[tokio::test]
async fn nats_a_setting_edited_under_the_gateway_stops_it_until_it_is_right() {
    let server = Server::start();
    let gateway = Gateway::start_with(on(&[&server]));
    let event = || body("user.created", "user_1");
    gateway.accept("msg_before", event()).await;
    let right = server.stream().await.config;
    for (number, (setting, edit)) in EDITS.into_iter().enumerate() {
        server.edit_stream(edit).await;
        let named = format!("{setting}: is ");
        // Without traffic.
        eventually(&named, || async {
            let (status, text) = readiness(&gateway).await;
            status == 503 && text.contains(&named) && text.contains("nats stream edit CLERKCAST")
        })
        .await;
        let refused = gateway.post(&format!("msg_{number}"), event()).await;
        assert_eq!(refused.status, 503, "{setting}: {}", refused.text);
        assert!(refused.text.contains(&named), "{}", refused.text);

        server
            .edit_stream(|settings| *settings = right.clone())
            .await;
        eventually("it is ready again", || async {
            readiness(&gateway).await.0 == 200
        })
        .await;
        gateway.accept(&format!("msg_{number}"), event()).await;
    }
    eventually("each outage has one line at each end", || async {
        outages(&gateway) == [EDITS.len(); 2]
    })
    .await;
    assert_eq!(
        gateway.history(from_earliest()).await.len(),
        1 + EDITS.len()
    );
}

#[tokio::test]
async fn nats_not_ready_while_nothing_can_be_stored() {
    // Nobody posts, and nothing but the settings can show it.
    let server = Server::start();
    let gateway = Gateway::start_with(on(&[&server]));
    server.edit_stream(|settings| settings.sealed = true).await;
    eventually("it is not ready", || async {
        let (status, text) = readiness(&gateway).await;
        status == 503 && text.contains("sealed: is on")
    })
    .await;

    // Nothing shows it but the refusals: this event finds no room, and smaller ones might.
    let (server, gateway) = on_small_account();
    let event = event_of(100_000);
    fill(&gateway, &event).await;
    // Tried by one webhook, and by one again: whatever they find out, it is not ready before.
    for attempt in 0..200 {
        let (status, text) = readiness(&gateway).await;
        assert_eq!(status, 503, "after {attempt} more: {text}");
        let refused = gateway.post("msg_last", event.clone()).await;
        assert_eq!(refused.status, 503, "{}", refused.text);
    }
    let context = server.jetstream().await;
    let stream = context.get_stream("CLERKCAST").await.expect("there");
    stream.purge().await.expect("purged");
    eventually("a webhook is stored", || async {
        gateway.post("msg_last", event.clone()).await.status == 200
    })
    .await;
    assert_eq!(readiness(&gateway).await.0, 200);
    eventually("one line says so", || async { outages(&gateway) == [1, 1] }).await;
}

#[tokio::test]
async fn nats_ready_again_without_a_webhook_once_the_account_has_room() {
    let (server, gateway) = on_small_account();
    // A record has the id several times. What is left must be too little for small ones.
    let event = event_of(5_000);
    fill(&gateway, &event).await;
    eventually("the account is named", || async {
        let (status, text) = readiness(&gateway).await;
        status == 503 && text.contains("the account of NATS has no more room")
    })
    .await;
    let context = server.jetstream().await;
    let stream = context.get_stream("CLERKCAST").await.expect("there");
    stream.purge().await.expect("purged");
    eventually("it is ready again", || async {
        readiness(&gateway).await.0 == 200
    })
    .await;
    gateway.accept("msg_last", event).await;
}

/// A gateway whose account has room for 1 MB, and whose stream has no limit.
fn on_small_account() -> (Server, Gateway) {
    let account = "accounts { A { jetstream { max_file: 1MB }, users: [{ user: a, password: b }] } }\nno_auth_user: a\n";
    let server = Server::start_with(account.to_owned());
    let mut options = on(&[&server]);
    options
        .args
        .extend(["--retain-bytes", "off"].map(str::to_owned));
    let gateway = Gateway::start_with(options);
    (server, gateway)
}

fn event_of(bytes: usize) -> String {
    body("user.created", &format!("user_{}", "x".repeat(bytes)))
}

/// Posts until the stream refuses the event.
async fn fill(gateway: &Gateway, event: &str) {
    for number in 0..100 {
        let answer = gateway
            .post(&format!("msg_{number}"), event.to_owned())
            .await;
        if answer.status == 503 {
            return;
        }
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    panic!("it is full by now");
}
