//! Secrets that stand in files, beside the variables that would hold them.

use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::{Configured, line, source, write};
use crate::harness::{Gateway, OTHER_SECRET, Options, SECRET, binary, body};
use crate::refused::refused_start;

const VARIABLES: [&str; 3] = [
    "CLERKCAST_SIGNING_SECRET",
    "CLERK_WEBHOOK_SIGNING_SECRET",
    "CLERK_WEBHOOK_SECRET",
];

async fn status(gateway: &Gateway, path: &str, secret: &str, id: &str) -> u16 {
    let event = body("user.created", "user_1").into();
    gateway.post_signed(path, secret, id, event).await.status
}

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    owned.collect()
}

#[tokio::test]
async fn secrets_from_files() {
    let directory = TempDir::new().expect("a temporary directory");
    let at = directory.path();
    let other = write(at, "other", &format!("{OTHER_SECRET}\n"));
    for variable in VARIABLES {
        // Empty is how `${X:-}` says that X is not set.
        let gateway = Gateway::start_with(Options {
            args: Vec::new(),
            env: env(&[
                ("CLERK_WEBHOOK_SIGNING_SECRET", ""),
                (&format!("{variable}_FILE"), &other),
            ]),
        });
        assert_eq!(
            status(&gateway, "", OTHER_SECRET, "msg_1").await,
            200,
            "{variable}"
        );
        assert_eq!(
            status(&gateway, "", SECRET, "msg_1").await,
            400,
            "{variable}"
        );
        // Whoever signs looks in the same places.
        let sent = binary()
            .args(["send", "user.created", "--url", &gateway.webhook_url()])
            .env(format!("{variable}_FILE"), &other)
            .output()
            .expect("it runs");
        assert!(sent.status.success(), "{variable}: {sent:?}");
    }
    let configured = Configured::start_with(
        &format!(
            "{}{}",
            source("a", &format!("signing_secrets_file = [\"{other}\"]")),
            source("b", "signing_secrets_env = [\"B_SECRET\"]")
        ),
        env(&[("B_SECRET_FILE", &other)]),
    );
    assert_eq!(
        status(&configured.gateway, "/a", OTHER_SECRET, "msg_1").await,
        200
    );
    assert_eq!(
        status(&configured.gateway, "/b", OTHER_SECRET, "msg_1").await,
        200
    );
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o644)).expect("set");
    let lines = configured.hang_up().await;
    assert!(lines.iter().any(|line| {
        line["level"] == "WARN"
            && line["message"]
                .as_str()
                .is_some_and(|text| text.contains("every user of this machine"))
    }));
}

#[test]
fn a_secret_in_the_wrong_place_is_not_repeated() {
    let directory = TempDir::new().expect("a temporary directory");
    // A source takes a secret without its prefix, too.
    let key = SECRET.strip_prefix("whsec_").expect("a prefix");
    let config = format!(
        "log_level = \"{key}\"\nhttp_listen = \"nats://user:p4ssw0rd@h:4222\"\n\
         [[sources]]\nname = \"{key}\"\nsigning_secrets_file = [\"{key}\"]\n\
         [[sources]]\nname = \"b\"\nsigning_secrets = [\"whsec_ {key}\"]\n"
    );
    let file = write(directory.path(), "wrong.toml", &config);
    let token = "cct_C2FVsBQIhrscChlQIMV";
    for args in [
        &["config", "check", &file][..],
        &["config", "check", "--json", &file],
        &["serve", "--config", &file, "--admin-listen", "127.0.0.1:0"],
        &["serve", SECRET],
        &["send", SECRET],
        &["tail", "--from", token],
        &[
            "send",
            "--url",
            "http://user:p4ssw0rd@127.0.0.1:1/",
            "--secret",
            SECRET,
        ],
        &["tail", "--server", "http://user:p4ssw0rd@ /"],
    ] {
        let output = binary().args(args).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        for text in [output.stdout, output.stderr] {
            let text = String::from_utf8_lossy(&text);
            for secret in [&key[..12], &token[..12], "p4ssw0rd"] {
                assert!(!text.contains(secret), "{args:?}: {text}");
            }
        }
    }
}

#[test]
fn a_file_without_a_secret_is_reported_by_its_variable() {
    let directory = TempDir::new().expect("a temporary directory");
    let at = directory.path();
    let right = write(at, "right", OTHER_SECRET);
    let empty = write(at, "empty", "\n");
    let large = write(at, "large", &OTHER_SECRET.repeat(200));
    let two = write(at, "two", &format!("{OTHER_SECRET}\n\n"));
    let blank = write(at, "blank", " \n");
    let second = write(at, "second", &format!("{OTHER_SECRET}\nsk_live_x\n"));
    let none = at.join("none").display().to_string();
    for variable in VARIABLES {
        let twin = format!("{variable}_FILE");
        for (path, expected) in [
            (&empty, "is empty"),
            (&large, "larger than 4 KiB"),
            (&two, "newline"),
            (&blank, "is empty"),
            (&second, "a Clerk secret key"),
            (&none, "cannot read"),
            (&at.display().to_string(), "not a regular file"),
        ] {
            let (code, said) = refused_start(|command| {
                command
                    .env_remove("CLERK_WEBHOOK_SIGNING_SECRET")
                    .env(&twin, path);
            });
            assert_eq!(code, Some(2), "{twin}={path}: {said}");
            assert!(
                said.contains(&twin) && said.contains(expected),
                "{twin}={path}: {said}"
            );
            assert!(!said.contains(&OTHER_SECRET[6..20]), "{said}");
        }
        let (code, said) = refused_start(|command| {
            command.env_remove("CLERK_WEBHOOK_SIGNING_SECRET");
            command.env(variable, OTHER_SECRET).env(&twin, &right);
        });
        assert_eq!(code, Some(2), "{variable}: {said}");
        assert!(said.contains(variable) && said.contains(&twin), "{said}");
    }
}

/// As in a rotation: the old secret, and the new one on a line of its own.
#[tokio::test]
async fn secrets_on_lines_of_their_own_are_each_tried() {
    let directory = TempDir::new().expect("a temporary directory");
    let both = format!("{SECRET}\n{OTHER_SECRET}");
    let file = write(directory.path(), "both", &format!("{both}\n"));
    let configured = Configured::start_with(
        &[
            source("a", &format!("signing_secrets_file = [\"{file}\"]")),
            source("b", "signing_secrets_env = [\"B_SECRET\"]"),
            source("c", "signing_secrets_env = [\"C_SECRET\"]"),
        ]
        .concat(),
        env(&[("B_SECRET", &both), ("C_SECRET_FILE", &file)]),
    );
    for secret in [SECRET, OTHER_SECRET] {
        for path in ["/a", "/b", "/c"] {
            let status = status(&configured.gateway, path, secret, "msg_1").await;
            assert_eq!(status, 200, "{path}");
        }
    }
    // Without sources in the file, too.
    for (name, value) in [
        ("CLERKCAST_SIGNING_SECRET", &both),
        ("CLERKCAST_SIGNING_SECRET_FILE", &file),
    ] {
        let gateway = Gateway::start_with(Options {
            args: Vec::new(),
            env: env(&[("CLERK_WEBHOOK_SIGNING_SECRET", ""), (name, value)]),
        });
        for secret in [SECRET, OTHER_SECRET] {
            let status = status(&gateway, "", secret, "msg_1").await;
            assert_eq!(status, 200, "{name}");
        }
    }
}

#[tokio::test]
async fn a_secret_file_that_changed_is_in_force_after_hangup() {
    let directory = TempDir::new().expect("a temporary directory");
    let secret = write(directory.path(), "secret", SECRET);
    let kept = write(directory.path(), "kept", SECRET);
    let configured = Configured::start_with(
        &format!(
            "{}{}",
            source("a", &format!("signing_secrets_file = [\"{secret}\"]")),
            source("b", "signing_secrets_env = [\"B_SECRET\"]"),
        ),
        env(&[("B_SECRET", SECRET)]),
    );
    let by_twin = Gateway::start_with(Options {
        args: Vec::new(),
        env: env(&[
            ("CLERK_WEBHOOK_SIGNING_SECRET", ""),
            ("CLERK_WEBHOOK_SIGNING_SECRET_FILE", &kept),
        ]),
    });
    write(directory.path(), "secret", OTHER_SECRET);
    let lines = configured.hang_up().await;
    let reloaded = line(&lines, "configuration reloaded");
    assert_eq!(reloaded["sources_changed"], "a");
    assert_eq!(
        reloaded["secrets_of_environment"], "b",
        "a process keeps its environment"
    );
    assert_eq!(
        status(&configured.gateway, "/a", SECRET, "msg_1").await,
        400
    );
    assert_eq!(
        status(&configured.gateway, "/a", OTHER_SECRET, "msg_1").await,
        200
    );
    // A file that is gone changes nothing.
    std::fs::remove_file(&secret).expect("removed");
    line(&configured.hang_up().await, "configuration not taken");
    assert_eq!(
        status(&configured.gateway, "/a", OTHER_SECRET, "msg_2").await,
        200
    );

    // Without a configuration file, too.
    write(directory.path(), "kept", OTHER_SECRET);
    by_twin.signal("-HUP");
    crate::harness::eventually("a reload", || async {
        by_twin.log_text().contains("configuration reloaded")
    })
    .await;
    assert_eq!(status(&by_twin, "", SECRET, "msg_1").await, 400);
    assert_eq!(status(&by_twin, "", OTHER_SECRET, "msg_1").await, 200);
}

/// Runs `config check --print`. Returns its exit code and everything that it prints.
fn checked(args: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = binary()
        .args(["config", "check", "--print"])
        .args(args)
        .env("CLERK_WEBHOOK_SIGNING_SECRET", SECRET)
        .envs(variables.iter().copied())
        .output()
        .expect("it runs");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (output.status.code(), text)
}

const SERVERS_TWIN: &str = "CLERKCAST_NATS_URL_FILE";

#[test]
fn servers_of_nats_from_a_file() {
    let directory = TempDir::new().expect("a temporary directory");
    let write = |name: &str, text: &str| write(directory.path(), name, text);
    let two = "nats://me:p4ssw0rd@one:4222,nats://me:p4ssw0rd@two\n";
    let twin = (SERVERS_TWIN, &*write("two", two));
    let invalid = (SERVERS_TWIN, &*write("invalid", "http://me:p4ssw0rd@one\n"));
    let unset = (SERVERS_TWIN, "");
    let own = ("CLERKCAST_NATS_URL", "nats://four");
    let file = write("c.toml", "log = \"nats\"\nnats_url = \"nats://three\"\n");
    let servers = "nats_url = nats://one:4222,nats://two:4222 (env CLERKCAST_NATS_URL_FILE)\n";
    let refused = "CLERKCAST_NATS_URL_FILE: nats_url: write nats://HOST:PORT";
    for (flags, variables, code, expected) in [
        (&[][..], &[twin][..], 0, servers),
        (&[], &[twin], 0, "every user of this machine can read it"),
        (&["--nats-url", "five"], &[twin], 0, "//five:4222 (flag)"),
        (&["--no-env"], &[twin], 0, "//three:4222 (file 2)"),
        (
            &[],
            &[own, unset],
            0,
            "//four:4222 (env CLERKCAST_NATS_URL)",
        ),
        (&[], &[own, twin], 2, "CLERKCAST_NATS_URL_FILE is set too"),
        (&[], &[invalid], 2, refused),
    ] {
        let (found, text) = checked(&[&[file.as_str()], flags].concat(), variables);
        assert_eq!(found, Some(code), "{flags:?} {variables:?}: {text}");
        assert!(text.contains(expected), "{flags:?} {variables:?}: {text}");
        assert!(!text.contains("p4ssw0rd"), "{text}");
    }
}

#[test]
fn a_file_of_servers_that_cannot_be_read_is_reported_with_all_other_errors() {
    let args = ["--log", "nats", "--retain-for", "soon"];
    let (code, text) = checked(&args, &[(SERVERS_TWIN, "/does/not/exist")]);
    assert_eq!(code, Some(2), "{text}");
    let lines: Vec<_> = text
        .lines()
        .filter(|line| !line.contains("errors"))
        .collect();
    assert_eq!(lines.len(), 2, "{text}");
    let expected = "CLERKCAST_NATS_URL_FILE: nats_url: cannot read /does/not/exist";
    assert!(lines.iter().any(|line| line.contains(expected)), "{text}");
    assert!(
        lines.iter().any(|line| line.contains("retain_for")),
        "{text}"
    );
}

#[tokio::test]
async fn tail_takes_its_token_from_a_file() {
    let gateway = Gateway::start();
    let directory = TempDir::new().expect("a temporary directory");
    let token = write(directory.path(), "token", "cct_token\n");
    let tail = |more: &[(&str, &str)]| {
        let server = format!("http://{}", gateway.grpc);
        let mut command = binary();
        command.args(["tail", "--server", &server, "--until-caught-up"]);
        command.envs(more.iter().copied());
        let output = command.output().expect("it runs");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    // No principal has it, and a wrong token is refused even where anonymous callers are let in.
    let (code, said) = tail(&[("CLERKCAST_TOKEN_FILE", &token)]);
    assert_eq!(code, Some(1), "{said}");
    let (code, said) = tail(&[("CLERKCAST_TOKEN_FILE", "/does/not/exist")]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("CLERKCAST_TOKEN_FILE"), "{said}");
    let both = [
        ("CLERKCAST_TOKEN_FILE", token.as_str()),
        ("CLERKCAST_TOKEN", "cct_x"),
    ];
    let (code, said) = tail(&both);
    assert_eq!(code, Some(2), "{said}");
    assert!(!said.contains("cct_token"), "{said}");
}
