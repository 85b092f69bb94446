//! A path that leads to a pipe, a device or a directory, where a file belongs.

use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use super::{Configured, line, write};
use crate::harness::{SECRET, binary};
use crate::refused::refused_start;
use crate::tls::Authority;

/// Each of what is no file, by its name in messages.
fn kinds(directory: &Path) -> [(&'static str, String); 3] {
    let pipe = directory.join("pipe");
    if !pipe.exists() {
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).expect("made");
    }
    [
        ("a pipe", pipe.display().to_string()),
        ("a device", "/dev/zero".to_owned()),
        ("a directory", directory.display().to_string()),
    ]
}

/// Replaces a file by a link to `target`.
fn replace(file: &Path, target: &str) {
    let beside = file.with_extension("beside");
    std::os::unix::fs::symlink(target, &beside).expect("linked");
    std::fs::rename(beside, file).expect("renamed");
}

#[tokio::test]
async fn a_reload_of_what_is_no_file_is_refused_and_the_next_one_works() {
    let directory = TempDir::new().expect("a temporary directory");
    let at = directory.path();
    let (certificate, key) = Authority::new().issue_server();
    let pem = write(at, "server.pem", &format!("{certificate}{key}"));
    let secret = write(at, "secret", SECRET);
    let config = format!(
        "http_tls_cert = \"{pem}\"\nhttp_tls_key = \"{pem}\"\n\
         [[sources]]\nname = \"a\"\nsigning_secrets_file = [\"{secret}\"]\n"
    );
    let configured = Configured::start(&config);
    let files = [
        (configured.file(), config),
        (pem.into(), format!("{certificate}{key}")),
        (secret.into(), SECRET.to_owned()),
    ];
    for (kind, target) in kinds(at) {
        for (file, content) in &files {
            replace(file, &target);
            let lines = configured.hang_up().await;
            let refused = line(&lines, "configuration not taken; the former stays in force");
            let error = refused["error"].as_str().expect("text");
            assert!(
                error.contains(&format!("it is {kind}, not a regular file")),
                "{}: {error}",
                file.display()
            );
            std::fs::remove_file(file).expect("removed");
            std::fs::write(file, content).expect("written");
            line(&configured.hang_up().await, "configuration reloaded");
        }
    }
    configured.gateway.stopped();
}

#[test]
fn a_start_refuses_what_is_no_file() {
    let directory = TempDir::new().expect("a temporary directory");
    let at = directory.path();
    let (certificate, key) = Authority::new().issue_server();
    let right = write(at, "server.pem", &format!("{certificate}{key}"));
    let large = write(at, "large.pem", &"\n".repeat((4 << 20) + 1));
    let too_large = ("larger than", large);
    for (kind, path) in kinds(at).into_iter().chain([too_large]) {
        for [certificate, key] in [[&path, &right], [&right, &path]] {
            let (code, said) = refused_start(|command| {
                command.args(["--http-tls-cert", certificate, "--http-tls-key", key]);
            });
            assert_eq!(code, Some(2), "{kind}: {said}");
            let expected = format!("{path}: it is {kind}");
            assert!(said.contains(&expected), "{expected}: {said}");
        }
        if kind == "a pipe" {
            continue;
        }
        let (code, said) = refused_start(|command| {
            command.args(["--config", &path]);
        });
        assert_eq!(code, Some(2), "{kind}: {said}");
        assert!(said.contains(&format!("it is {kind}")), "{said}");
    }
}

/// As in `config check <(envsubst < template.toml)`.
#[test]
fn config_check_reads_a_pipe_within_bounds() {
    let check = |config: Option<&str>| -> Output {
        let mut check = binary();
        check.args(["config", "check", "/dev/stdin"]);
        check.env("CLERK_WEBHOOK_SIGNING_SECRET", SECRET);
        check.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut check = check.spawn().expect("it runs");
        let mut stdin = check.stdin.take().expect("piped");
        let open = match config {
            Some(config) => {
                // A check that has seen enough closes its end.
                let _refused_already = stdin.write_all(config.as_bytes());
                drop(stdin);
                None
            }
            None => Some(stdin),
        };
        let output = check.wait_with_output().expect("it ends");
        drop(open);
        output
    };
    let directory = TempDir::new().expect("a temporary directory");
    let [(_, pipe), ..] = kinds(directory.path());
    let mut unwritten = binary();
    unwritten.args(["config", "check", &pipe]);
    unwritten.stdout(Stdio::piped());
    let unwritten = unwritten.spawn().expect("it runs");
    let right = check(Some("retain_for = \"7d\"\n"));
    assert_eq!(right.status.code(), Some(0), "{right:?}");
    let large = "# large\n".repeat(1 << 20);
    for (config, expected) in [
        (Some("retain_for = 7\n"), "/dev/stdin:1: retain_for"),
        (Some(""), "nothing was written to this pipe"),
        (Some(&large), "it is larger than 4 MiB"),
        (None, "was not written and closed within 10 s"),
    ] {
        let wrong = check(config);
        let told = String::from_utf8_lossy(&wrong.stdout);
        assert_eq!(wrong.status.code(), Some(2), "{told}");
        assert!(told.contains(expected), "{expected}: {told}");
    }
    let unwritten = unwritten.wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&unwritten.stdout);
    assert!(told.contains("was not written and closed"), "{told}");
}
