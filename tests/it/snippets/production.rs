//! The README's example of a gateway in production, with certificates made for the test.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::access::new_token;
use crate::harness::{Gateway, Options, SECRET, binary};
use crate::interop::{printed, succeeded};
use crate::readme::{blocks, commands, toml_block, words};
use crate::tls::Authority;

/// The README's line that begins with these words.
fn command(start: &str) -> Vec<String> {
    let commands = commands();
    let command = commands.iter().find(|line| line.starts_with(start));
    words(command.unwrap_or_else(|| panic!("no {start}")))
}

/// Certificates and a secret, by the names that the pages give them.
fn make_files(directory: &Path) {
    let authority = Authority::new();
    let (certificate, key) = authority.issue_server();
    for (name, text) in [
        ("grpc.pem", certificate.as_str()),
        ("grpc.key", &key),
        ("http.pem", &certificate),
        ("http.key", &key),
        ("ca.pem", &authority.pem()),
        ("clients.pem", &authority.pem()),
        ("signing-secret", SECRET),
    ] {
        std::fs::write(directory.join(name), text).expect("written");
    }
}

#[test]
fn every_configuration_of_the_pages_passes_the_check() {
    let directory = TempDir::new().expect("a temporary directory");
    make_files(directory.path());
    let here = directory.path().display().to_string();
    let blocks = blocks("toml");
    assert!(blocks.len() >= 4, "{blocks:#?}");
    for block in blocks {
        let file = directory.path().join("config.toml");
        let mut config = block.replace("/etc/clerkcast", &here);
        if config.contains("grpc_tls_client_ca") {
            // Certificates count only where a principal is known by one.
            config.push_str("[[principals]]\nname = \"any\"\nclient_certificate = \"*\"\n");
        }
        std::fs::write(&file, config).expect("written");
        let mut check = binary();
        check.args(["config", "check"]).arg(&file);
        // Some have their sources, and some leave the secret to the environment.
        check.env("CLERK_WEBHOOK_SIGNING_SECRET", SECRET);
        let checked = printed(check.env("CLERK_PROD_SECRETS", SECRET));
        assert!(checked.contains("ok: "), "{block}\n{checked}");
    }
}

/// The manual's command that makes a certificate, for this directory and this machine.
fn make_certificate(directory: &Path, leave_out: Option<&str>) {
    let words = command("openssl req ");
    let here = directory.display().to_string();
    let mut args: Vec<String> = words[1..]
        .iter()
        .map(|word| word.replace("/etc/clerkcast", &here))
        .map(|word| word.replace("clerkcast.internal", "localhost"))
        .collect();
    if let Some(extension) = leave_out {
        let at = args.iter().position(|word| word.starts_with(extension));
        let at = at.expect("it is in the command");
        args.drain(at - 1..=at);
    }
    printed(Command::new("openssl").args(args));
}

#[test]
fn the_certificate_of_the_manual_is_accepted_and_that_of_an_authority_explained() {
    let directory = TempDir::new().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let [certificate, key] = [path("grpc.pem"), path("grpc.key")];
    let options = Options::args(&[
        "--grpc-tls-cert",
        &certificate,
        "--grpc-tls-key",
        &key,
        "--http-tls-cert",
        &certificate,
        "--http-tls-key",
        &key,
    ]);
    let call = |gateway: &Gateway| {
        let port = |address: &str| address.rsplit_once(':').expect("a port").1.to_owned();
        let server = format!("https://localhost:{}", port(&gateway.grpc));
        let url = format!("https://localhost:{}/webhooks/clerk", port(&gateway.http));
        let info = ["info", "--server", &server, "--ca-cert", &certificate];
        let send = ["send", "user.created", "--secret", SECRET, "--url", &url];
        let send = [&send[..], &["--ca-cert", &certificate]].concat();
        [&info[..], &send].map(|args| binary().args(args).output().expect("it runs"))
    };
    make_certificate(directory.path(), None);
    for output in call(&Gateway::start_with(options.clone())) {
        succeeded(&output);
    }
    make_certificate(directory.path(), Some("basicConstraints"));
    let gateway = Gateway::start_with(options);
    assert!(gateway.log_text().contains("CA:TRUE"));
    for output in call(&gateway) {
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains("basicConstraints CA:FALSE"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_production_example_of_the_readme_serves() {
    let directory = TempDir::new().expect("a temporary directory");
    let here = directory.path().display().to_string();
    make_files(directory.path());
    let token = new_token("crm");
    let hash = token.stanza.lines().find(|line| line.starts_with("token_"));
    let config = toml_block("data_dir = \"/var/lib/clerkcast\"");
    let config = config.replace("/etc/clerkcast", &here);
    let lines = config.lines().map(|line| match line {
        line if line.starts_with("token_hash") => hash.expect("a hash"),
        line => line,
    });
    let config = lines.collect::<Vec<_>>().join("\n");
    let file = format!("{here}/config.toml");
    std::fs::write(&file, format!("{config}\n")).expect("written");

    let moved = |words: Vec<String>| -> Vec<String> {
        let words = words.into_iter().skip(1);
        words
            .map(|word| word.replace("/etc/clerkcast", &here))
            .collect()
    };
    // The unit for systemd has the same variable, and the chart.
    let with_secret = "CLERK_WEBHOOK_SIGNING_SECRET_FILE=/etc/clerkcast/signing-secret clerkcast";
    let serve = command(&format!("{with_secret} serve"));
    let [_, _, command_of, flag, config_of] = &serve[..] else {
        panic!("{serve:?}");
    };
    let mut check = command(&format!("{with_secret} config check"));
    let variable = check.remove(0).replace("/etc/clerkcast", &here);
    let (name, secret) = variable.split_once('=').expect("a variable");
    let checked = printed(binary().args(moved(check)).env(name, secret));
    assert!(
        checked.starts_with("ok: 1 source, 1 principal, "),
        "{checked}"
    );
    // The harness chooses the ports and the data directory, and has the secret in a variable.
    assert_eq!(command_of, "serve");
    let gateway = Gateway::start_with(Options {
        args: vec![flag.clone(), config_of.replace("/etc/clerkcast", &here)],
        env: Vec::new(),
    });
    let ca = format!("{here}/ca.pem");
    let url = format!("https://{}/webhooks/clerk", gateway.http);
    let mut send = binary();
    send.args(["send", "user.created", "session.created"]);
    send.args(["--secret", SECRET, "--url", &url, "--ca-cert", &ca]);
    printed(&mut send);
    let tail = command("clerkcast tail --server https://");
    let server = format!("https://{}", gateway.grpc);
    let tail = tail.into_iter().skip(1).map(|word| match word {
        word if word.starts_with("https://") => server.clone(),
        word => word,
    });
    let mut tail_it = binary();
    tail_it.args(tail).arg("--until-caught-up");
    tail_it.env("CLERKCAST_CA_CERT", &ca);
    let refused = tail_it.output().expect("it runs");
    assert!(!refused.status.success(), "without a token");
    let events = printed(tail_it.env("CLERKCAST_TOKEN", &token.secret));
    assert!(events.contains("user.created"), "{events}");
    assert!(!events.contains("session.created"), "{events}");
}
