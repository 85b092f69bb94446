//! What all commands have in common: their help, and how they fail.

use crate::commands::{run, stderr, stdout};
use crate::harness::{SECRET, binary};

pub(crate) const COMMANDS: [&[&str]; 31] = [
    &["serve"],
    &["dev"],
    &["send"],
    &["tail"],
    &["get"],
    &["info"],
    &["types"],
    &["subscribers"],
    &["subscription"],
    &["subscription", "create"],
    &["subscription", "update"],
    &["subscription", "list"],
    &["subscription", "pause"],
    &["subscription", "resume"],
    &["subscription", "delete"],
    &["subscription", "seek"],
    &["subscription", "dead"],
    &["subscription", "replay"],
    &["subscription", "drop"],
    &["work"],
    &["verify"],
    &["copy"],
    &["backup"],
    &["config"],
    &["config", "check"],
    &["token"],
    &["token", "new"],
    &["token", "hash"],
    &["completions"],
    &["man"],
    &[],
];

pub(crate) fn help_of(command: &[&str]) -> String {
    help_at(100, command)
}

/// The help in a terminal of this width.
pub(crate) fn help_at(columns: usize, command: &[&str]) -> String {
    let help = binary()
        .args(command)
        .arg("--help")
        .env("COLUMNS", columns.to_string())
        .output()
        .expect("it runs");
    assert!(help.status.success(), "{command:?}");
    stdout(&help)
}

/// The lines below a heading.
fn below<'a>(help: &'a str, heading: &str) -> Vec<&'a str> {
    let lines = help.lines().skip_while(|line| *line != heading).skip(1);
    lines
        .take_while(|line| line.is_empty() || line.starts_with(' '))
        .collect()
}

#[test]
fn help_has_the_options_in_groups() {
    let groups = [
        ("Options:", "--config"),
        ("Webhooks:", "--signing-secret"),
        ("Subscribers:", "--max-subscribers"),
        ("Log:", "--data-dir"),
        ("NATS:", "--nats-url"),
        ("TLS and ports:", "--grpc-tls-cert"),
        ("Observability:", "--log-level"),
    ];
    for command in [&["serve"][..], &["dev"], &["config", "check"]] {
        let help = help_of(command);
        let headings = help
            .lines()
            .filter(|line| groups.iter().any(|(heading, _)| heading == line));
        let headings: Vec<&str> = headings.collect();
        assert_eq!(headings, groups.map(|(heading, _)| heading), "{help}");
        for (heading, flag) in groups {
            let options = below(&help, heading);
            let starts = |line: &&str| line.trim_start().starts_with(&format!("{flag} "));
            assert!(options.iter().any(starts), "{heading} {flag}: {help}");
        }
    }
    let log = help_of(&["serve"]);
    assert!(log.contains("- embedded: in a file under --data-dir\n"));
    assert!(log.contains("- nats: in a stream of NATS JetStream that gateways share\n"));
    for command in [
        &["verify"][..],
        &["backup"],
        &["config"],
        &["config", "check"],
    ] {
        assert!(help_of(command).contains("\nExamples:\n"), "{command:?}");
    }
}

#[test]
fn help_is_true() {
    for (columns, command) in COMMANDS.iter().flat_map(|it| [(80, it), (100, it)]) {
        let help = help_at(columns, command);
        assert!(!help.contains("[`"), "{command:?}: {help}");
        for line in help.lines() {
            let is_example = line.contains("clerkcast::webhook=debug");
            assert!(is_example || !line.contains("::"), "{line}");
            // Examples are to be pasted, with what cannot be broken.
            let width = line.chars().count();
            let has_blanks = line.trim().contains(' ');
            assert!(width <= columns || !has_blanks, "{columns}: {line}");
        }
    }
    let (serve, dev, copy) = (help_of(&["serve"]), help_of(&["dev"]), help_of(&["copy"]));
    for of_serve in ["0.0.0.0:8080", "./clerkcast-data", "[default: info]"] {
        assert!(serve.contains(of_serve), "{of_serve}");
        assert!(!dev.contains(of_serve), "{of_serve}");
        assert!(!copy.contains(of_serve), "{of_serve}");
    }
    let dev: Vec<&str> = dev.split_whitespace().collect();
    let dev = dev.join(" ");
    for of_dev in [
        "[default: 127.0.0.1:8080, or a free port if it is busy]",
        "[default: a temporary directory, removed at the end]",
        "[default: warn]",
    ] {
        assert!(dev.contains(of_dev), "{of_dev}: {dev}");
    }
    // `copy` has the log in its arguments.
    assert!(!copy.contains("--log "), "{copy}");
}

/// One line that begins with what is wrong, by a name that the command's help has.
#[test]
fn commands_fail_in_one_voice() {
    let secret = ["--secret", SECRET];
    let parts = [
        "--id",
        "msg_1",
        "--timestamp",
        "1",
        "--payload",
        "/dev/null",
    ];
    for (command, args, named) in [
        ("send", &["--secret", "whsec_ep_1"][..], "--secret: "),
        ("send", &[], "--secret: "),
        (
            "send",
            &[&secret[..], &["--url", "nowhere"]].concat(),
            "--url: ",
        ),
        (
            "send",
            &[&secret[..], &["--rate", "0"]].concat(),
            "--rate: ",
        ),
        (
            "send",
            &[&secret[..], &["--file", "/nowhere"]].concat(),
            "--file: ",
        ),
        (
            "send",
            &[&secret[..], &["--ca-cert", "/nowhere"]].concat(),
            "--ca-cert: ",
        ),
        (
            "send",
            &[&secret[..], &["--retry", "--retry-scale", "2"]].concat(),
            "--retry-scale: ",
        ),
        ("send", &["nonsense.created"], "TYPE: "),
        ("tail", &["--server", "ftp://a"], "--server: "),
        ("tail", &["--from", "yesterday"], "--from: "),
        ("tail", &["--token", "a\nb"], "--token: "),
        ("tail", &["--ca-cert", "/nowhere"], "--ca-cert: "),
        (
            "subscription",
            &["seek", "crm", "--to", "2026-11"],
            "--to: ",
        ),
        (
            "subscription",
            &["create", "crm", "--from", "yesterday"],
            "--from: ",
        ),
        (
            "subscription",
            &["list", "--server", "ftp://a"],
            "--server: ",
        ),
        (
            "work",
            &["crm", "--token", "a\nb", "--", "true"],
            "--token: ",
        ),
        (
            "verify",
            &[&["--signature", "x", "--secret", "sk_test_1"][..], &parts].concat(),
            "--secret: ",
        ),
        (
            "verify",
            &[&["--signature", "\u{1}"][..], &secret, &parts].concat(),
            "--signature: ",
        ),
        (
            "verify",
            &[&secret[..], &["--delivery", "/nowhere"]].concat(),
            "--delivery: ",
        ),
        ("token", &["new", "two words"], "NAME: "),
        (
            "serve",
            &["--signing-secret", SECRET, "--retain-for", "soon"],
            "--retain-for: ",
        ),
        ("serve", &["--signing-secret", "ep_1"], "--signing-secret: "),
        ("dev", &["--retain-for", "soon"], "--retain-for: "),
    ] {
        let failed = run(&[&[command][..], args].concat());
        let said = stderr(&failed);
        assert_eq!(failed.status.code(), Some(2), "{command} {args:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        // `serve` logs, and its lines begin with the time.
        let message = match command {
            "serve" => said.split_once(named).map(|(_, message)| message),
            _ => said.strip_prefix(&format!("clerkcast: {named}")),
        };
        let message = message.unwrap_or_else(|| panic!("{command} {args:?}: {said}"));
        assert!(!message.trim_end().ends_with('.'), "{said}");
        let subcommand: &[&str] = match command {
            "token" | "subscription" => &[command, args[0]],
            _ => &[command],
        };
        let help = help_of(subcommand);
        let words = said.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        for flag in words.filter(|word| word.starts_with("--")) {
            assert!(help.contains(flag), "{command} has no {flag}: {said}");
        }
    }
    // What the command line's own reader finds is told alike.
    for command in COMMANDS {
        let failed = run(&[command, &["--nonsense"]].concat());
        assert_eq!(failed.status.code(), Some(2));
        assert!(
            stderr(&failed).starts_with("clerkcast: unexpected argument '--nonsense'"),
            "{}",
            stderr(&failed)
        );
    }
}
