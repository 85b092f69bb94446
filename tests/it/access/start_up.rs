//! What is refused before anybody could be let in.

use tempfile::TempDir;

use super::new_token;
use crate::harness::{Gateway, Options};
use crate::refused;

fn refused_start(args: &[&str], config: &str) -> (Option<i32>, String) {
    let directory = TempDir::new().expect("a temporary directory");
    let file = directory.path().join("clerkcast.toml");
    std::fs::write(&file, config).expect("written");
    refused::refused_start(|command| {
        command.arg("--config").arg(&file).args(args);
    })
}

#[test]
fn events_are_not_offered_to_a_network_before_access_is_configured() {
    let (code, said) = refused_start(&["--grpc-listen", "0.0.0.0:0"], "");
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("--grpc-allow-anonymous") && said.contains("[[principals]]"),
        "{said}"
    );
    let token = new_token("billing");
    for (args, config) in [
        (
            &["--grpc-listen", "0.0.0.0:0", "--grpc-allow-anonymous"][..],
            "",
        ),
        (&["--grpc-listen", "0.0.0.0:0"], token.stanza.as_str()),
    ] {
        let directory = TempDir::new().expect("a temporary directory");
        let file = directory.path().join("clerkcast.toml");
        std::fs::write(&file, config).expect("written");
        let path = file.display().to_string();
        let gateway = Gateway::start_with(Options::args(&[args, &["--config", &path]].concat()));
        let warned = gateway
            .log_text()
            .contains("callers without credentials may subscribe");
        assert_eq!(warned, config.is_empty());
    }
}

#[test]
fn an_invalid_policy_is_reported_at_start_with_a_remedy_and_without_secrets() {
    let token = new_token("billing");
    let with = |more: &str| format!("{}\n{more}\n", token.stanza);
    for (config, told) in [
        (
            with("types = [\"user.craeted\"]"),
            "did you mean user.created?",
        ),
        (
            with("exclude_types = [\"email.creatd\"]"),
            "did you mean email.created?",
        ),
        (
            with("sources = [\"staging\"]"),
            "sources[0]: unknown source staging",
        ),
        (
            with("redact = [\"data.private_metdata\"]"),
            "did you mean data.private_metadata?",
        ),
        (with("grant = [\"contact\"]"), "messages, invitation_urls"),
        (with("max_streams = 0"), "max_streams"),
        (with("tokens = []"), "unknown field"),
        (with(&token.stanza), "configured twice"),
        (
            with(&token.stanza.replace("billing", "other")),
            "have the same token_hash",
        ),
        (
            "[[principals]]\nname = \"a\"".to_owned(),
            "clerkcast token new a",
        ),
        (
            "[[principals]]\nname = \"a b\"".to_owned(),
            "letters, digits",
        ),
        (
            format!(
                "[[principals]]\nname = \"a\"\ntoken_hash = \"{}\"",
                token.secret
            ),
            "this is a token, not its hash",
        ),
        (
            "[anonymous]\nname = \"a\"".to_owned(),
            "belong in [[principals]]",
        ),
        ("grpc_open = \"metrics\"".to_owned(), "--grpc-open"),
    ] {
        let (code, said) = refused_start(&["--grpc-listen", "127.0.0.1:0"], &config);
        assert_eq!(code, Some(2), "{config}: {said}");
        assert!(said.contains(told), "{config}: {said}");
        assert!(!said.contains(&token.secret), "{said}");
    }
}
