//! Habits of writing that a reader in a hurry stumbles over, where users read: comments,
//! messages, the proto files, the pages, the help.

use std::path::{Path, PathBuf};

use crate::voice::{COMMANDS, help_of};

const HABITS: [&str; 7] = [
    "anew",
    "at the least",
    "at the most",
    "whoever",
    "is told",
    "are told",
    "is none",
];

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() && name != "generated" {
            files(&path, found);
        } else if ["rs", "proto", "md"]
            .iter()
            .any(|it| path.extension().is_some_and(|e| e == *it))
        {
            found.push(path);
        }
    }
}

/// The habits in a text, each with its line.
fn habits(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let words = line.to_lowercase();
        let words: Vec<&str> = words
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .filter(|word| !word.is_empty())
            .collect();
        let words = format!(" {} ", words.join(" "));
        for habit in HABITS {
            if words.contains(&format!(" {habit} ")) {
                found.push(format!("{}: {habit}: {}", number + 1, line.trim()));
            }
        }
    }
    found
}

#[test]
fn habits_are_found_as_words() {
    let text = "It is none.\nShe gets nothing ANEW, manewo;\nis_none, whoever_comes, this nonesuch";
    let found = habits(text);
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn what_users_read_has_none_of_the_habits_to_drop() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = vec![root.join("README.md")];
    for directory in ["src", "proto", "docs", "clients/rust/src"] {
        files(&root.join(directory), &mut paths);
    }
    let mut all = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("text");
        let shown = path
            .strip_prefix(root)
            .expect("below")
            .display()
            .to_string();
        all.extend(
            habits(&text)
                .into_iter()
                .map(|habit| format!("{shown}:{habit}")),
        );
    }
    for command in COMMANDS {
        let found = habits(&help_of(command)).into_iter();
        all.extend(found.map(|habit| format!("{command:?} --help:{habit}")));
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}
