//! The commit that a build is of.
//!
//! A debug build does not ask git: with each commit, cargo would compile all of it again.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Digits of a commit that are shown.
const DIGITS: usize = 8;

/// The commit, and the files that change with it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Absent where it is not known.
    pub(crate) commit: Option<String>,
    /// Files that change when the commit does.
    pub(crate) files: Vec<PathBuf>,
}

/// Returns the commit that `given` names, else the one checked out in the repository whose top
/// directory is `package`. A directory inside another repository, such as a home directory under git, is of
/// no known commit.
pub(crate) fn find(given: Option<&str>, package: &Path, is_release: bool) -> Found {
    let given = given.map(str::trim).filter(|given| !given.is_empty());
    if let Some(given) = given {
        return Found {
            commit: Some(shorten(given)),
            files: Vec::new(),
        };
    }
    if !is_release {
        return Found::default();
    }
    let top = git(package, &["rev-parse", "--show-toplevel"]).map(PathBuf::from);
    let is_ours = top.is_some_and(|top| top.canonicalize().ok() == package.canonicalize().ok());
    if !is_ours {
        return Found::default();
    }
    let commit = git(package, &["rev-parse", "--verify", "HEAD"]);
    Found {
        commit: commit.as_deref().map(shorten),
        files: files(package),
    }
}

/// Cuts a hash to [`DIGITS`], and leaves out characters that a version should not hold.
fn shorten(commit: &str) -> String {
    let is_hash = commit.len() >= DIGITS && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || "._-+".contains(*c);
    let shown = if is_hash { DIGITS } else { 40 };
    commit.chars().filter(is_plain).take(shown).collect()
}

/// git appends to its log of HEAD whenever HEAD becomes another commit. Without that log, the
/// commit is what HEAD and the references say.
fn files(package: &Path) -> Vec<PathBuf> {
    let existing = |name: &&str| {
        let path = git(package, &["rev-parse", "--git-path", name])?;
        Some(package.join(path)).filter(|path| path.exists())
    };
    let log: Vec<PathBuf> = ["logs/HEAD"].iter().filter_map(existing).collect();
    if !log.is_empty() {
        return log;
    }
    let names = ["HEAD", "packed-refs", "refs"];
    names.iter().filter_map(existing).collect()
}

fn git(directory: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(directory)
        .args(arguments)
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
