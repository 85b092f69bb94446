//! Which sources there are.

use super::{Configured, secret_of, source};
use crate::harness::{OTHER_SECRET, SECRET, body};
use crate::refused::refused_start;

#[tokio::test]
async fn sources_are_those_of_the_file_alone() {
    // The harness sets CLERK_WEBHOOK_SIGNING_SECRET.
    let configured = Configured::start_with(
        &secret_of("production", OTHER_SECRET),
        vec![(
            "CLERK_WEBHOOK_SECRET_FILE".to_owned(),
            "/does/not/exist".to_owned(),
        )],
    );
    let gateway = &configured.gateway;
    let event = || body("user.created", "user_1").into();
    let unnamed = gateway.post_signed("", SECRET, "msg_1", event()).await;
    assert_eq!(unnamed.status, 404);
    let named = gateway.post_signed("/production", OTHER_SECRET, "msg_1", event());
    assert_eq!(named.await.status, 200);
    let log = gateway.log_text();
    let warned: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("not used"))
        .collect();
    assert_eq!(warned.len(), 1, "{log}");
    for variable in ["CLERK_WEBHOOK_SIGNING_SECRET", "CLERK_WEBHOOK_SECRET_FILE"] {
        assert!(warned[0].contains(variable), "{}", warned[0]);
    }

    // Named by a source, it counts for that one.
    let variable = "signing_secrets_env = [\"CLERK_WEBHOOK_SIGNING_SECRET\"]";
    let configured = Configured::start(&source("production", variable));
    let named = configured
        .gateway
        .post_signed("/production", SECRET, "msg_1", event());
    assert_eq!(named.await.status, 200);
    assert!(!configured.gateway.log_text().contains("not used"));
    let unnamed = configured
        .gateway
        .post_signed("", SECRET, "msg_1", event())
        .await;
    assert_eq!(unnamed.status, 404);
}

#[test]
fn a_flag_with_a_secret_beside_sources_of_the_file_is_refused() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), secret_of("production", OTHER_SECRET)).expect("written");
    let (code, said) = refused_start(|command| {
        command.arg("--config").arg(file.path());
        command.args(["--signing-secret", SECRET]);
    });
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("--signing-secret") && said.contains("[[sources]]"),
        "{said}"
    );
}
