//! The permissions that the manual names are enough.

use clerkcast::log::jetstream::Security;
use tempfile::TempDir;

use super::super::place::on;
use super::super::security::write;
use super::*;
use crate::harness::{Gateway, body, from_earliest};
use crate::readme::manual;
use crate::tls::Authority;

/// The block of the manual.
fn authorization() -> String {
    let manual = manual();
    let mut blocks = manual.split("```conf\n");
    let block = blocks.find(|block| block.starts_with("authorization {"));
    let block = block.expect("a block").split("```").next();
    block.expect("its end").to_owned()
}

#[tokio::test]
async fn the_permissions_of_the_manual_are_enough() {
    let directory = TempDir::new().expect("a temporary directory");
    let authority = Authority::new();
    let file = |name: &str, text: &str| write(directory.path(), name, text);
    let ca = file("ca.pem", &authority.pem());
    let (certificate, key) = authority.issue_server();
    let [certificate, key] = [file("server.pem", &certificate), file("server.key", &key)];
    let server = Server::start_with(format!(
        "tls {{ cert_file: {certificate:?}, key_file: {key:?}, ca_file: {ca:?}, verify_and_map: true }}\n{}",
        authorization()
    ));
    let (certificate, key) = authority.issue(Vec::new(), "gateway");
    let [certificate, key] = [file("client.pem", &certificate), file("client.key", &key)];
    let options = || {
        let mut options = on(&[&server]);
        let files = ["--nats-tls-ca", &ca, "--nats-tls-cert", &certificate];
        options.args.extend(files.map(str::to_owned));
        options
            .args
            .extend(["--nats-tls-key".to_owned(), key.clone()]);
        options
    };
    let gateway = Gateway::start_with(options());
    for number in 0..3 {
        let event = body("user.created", "user_1");
        gateway.accept(&format!("msg_{number}"), event).await;
    }
    // A gateway that has not seen the events reads pages, and searches for an id.
    let other = Gateway::start_with(options());
    assert_eq!(other.history(from_earliest()).await.len(), 3);
    let mut client = other.client().await;
    let found = client.get_event(clerkcast::proto::GetEventRequest {
        id: "msg_1".to_owned(),
        ..Default::default()
    });
    found.await.expect("found");

    let log = open(Config {
        security: Security {
            credentials: None,
            ca: Some(ca.clone().into()),
            certificate: Some((certificate.clone().into(), key.clone().into())),
        },
        retain_for: Some(Duration::from_secs(30 * 24 * 3600)),
        retain_bytes: Some(10 << 30),
        markers_kept_for: Duration::ZERO,
        ..config(&[&server])
    })
    .await;
    let mut changes = log.watch();
    let first = store(&log, change("state/crm", None, Some("1"))).await;
    assert_eq!(
        announced(&mut changes).await,
        ("state/crm".to_owned(), first)
    );
    assert!(read(&log, "state/crm").await.is_some());
    assert_eq!(log.list("state/", "", 10).await.expect("listed").len(), 1);
    store(&log, change("state/crm", first, None)).await;
    let client = async_nats::ConnectOptions::new()
        .add_root_certificates(ca.clone().into())
        .add_client_certificate(certificate.clone().into(), key.clone().into())
        .require_tls(true)
        .connect(server.url());
    let context = async_nats::jetstream::new(client.await.expect("connects"));
    eventually("the marker is removed", || async {
        let stream = context.get_stream(BUCKET).await.expect("it is there");
        stream.cached_info().state.messages == 0
    })
    .await;
    log.close().await;
    for gateway in [&gateway, &other] {
        let lines = gateway.log_text();
        assert!(!lines.contains("Permissions Violation"), "{lines}");
    }
}
