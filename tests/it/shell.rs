//! What packages install beside the binary: completions and manual pages.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::commands::{run, stderr, stdout};
use crate::voice::COMMANDS;

#[test]
fn bash_completes_commands_and_flags() {
    let directory = TempDir::new().expect("a temporary directory");
    let script = directory.path().join("clerkcast");
    std::fs::write(&script, run(&["completions", "bash"]).stdout).expect("written");
    let bash = |commands: &str| {
        let output = Command::new("bash")
            .args(["--noprofile", "--norc", "-c", commands, "bash"])
            .arg(&script)
            .output()
            .expect("bash runs");
        assert_eq!(stderr(&output), "", "{commands}");
        stdout(&output)
    };
    let registered = bash("source \"$1\"; complete -p clerkcast");
    assert!(
        registered.contains(" -F _clerkcast clerkcast"),
        "{registered}"
    );
    let completed = |words: &str| {
        let answer = bash(&format!(
            "source \"$1\"; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _clerkcast clerkcast \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        ));
        let words = answer.lines().filter(|word| !word.is_empty());
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        completed("clerkcast subsc"),
        ["subscribers", "subscription"]
    );
    assert_eq!(completed("clerkcast serve --grpc-l"), ["--grpc-listen"]);
    assert_eq!(completed("clerkcast completions z"), ["zsh"]);
    assert!(completed("clerkcast ma").is_empty(), "hidden");
}

#[test]
fn each_shell_has_completions_of_all_commands() {
    for (shell, start) in [
        ("bash", "_clerkcast() {"),
        ("zsh", "#compdef clerkcast"),
        ("fish", "# Print an optspec"),
    ] {
        let script = run(&["completions", shell]);
        assert!(script.status.success(), "{}", stderr(&script));
        let script = stdout(&script);
        assert!(script.starts_with(start), "{shell}: {}", &script[..80]);
        for command in COMMANDS.iter().filter(|it| **it != ["man"]) {
            for word in *command {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
    assert_eq!(run(&["completions", "tcsh"]).status.code(), Some(2));
}

/// The page as a reader of 80 columns sees it.
fn shown(page: &Path) -> String {
    // Installs `man`.
    crate::interop::tools();
    let output = Command::new("man")
        .args(["--warnings", "-l"])
        .arg(page)
        .env("LC_ALL", "C.UTF-8")
        .env("MANWIDTH", "80")
        .output()
        .expect("man runs; it belongs to man-db, and needs groff");
    assert!(output.status.success(), "{}", page.display());
    assert_eq!(stderr(&output), "", "{}", page.display());
    stdout(&output)
}

#[test]
fn each_command_has_a_manual_page() {
    let directory = TempDir::new().expect("a temporary directory");
    let pages = directory.path().join("man1");
    let written = run(&["man", &pages.display().to_string()]);
    assert!(written.status.success(), "{}", stderr(&written));
    let mut names: Vec<String> = std::fs::read_dir(&pages)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    let mut expected: Vec<String> = COMMANDS
        .iter()
        .filter(|command| **command != ["man"])
        .map(|command| format!("{}.1", [&["clerkcast"][..], command].concat().join("-")))
        .collect();
    expected.sort();
    assert_eq!(names, expected);
    for name in &names {
        let text = shown(&pages.join(name));
        for heading in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS"] {
            assert!(text.lines().any(|line| line == heading), "{name}: {text}");
        }
    }
    let serve = shown(&pages.join("clerkcast-serve.1"));
    for heading in ["WEBHOOKS", "TLS AND PORTS", "OBSERVABILITY"] {
        assert!(serve.lines().any(|line| line == heading), "{serve}");
    }
    // Lines to paste stay as they are.
    let backup = shown(&pages.join("clerkcast-backup.1"));
    let example = "clerkcast backup /var/lib/clerkcast /backup/clerkcast.db";
    assert!(
        backup.lines().any(|line| line.trim() == example),
        "{backup}"
    );
}
