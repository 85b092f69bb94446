//! Which version it is: the same wherever it is shown, and of the right commit.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::harness::{Gateway, binary};

#[path = "../../build/commit.rs"]
mod commit;

#[tokio::test]
async fn the_version_is_the_same_everywhere() {
    let output = binary().arg("--version").output().expect("it runs");
    let printed = String::from_utf8(output.stdout).expect("text");
    let gateway = Gateway::start();
    let log = gateway.log_text();
    let start = log.lines().find(|line| line.contains("clerkcast starts"));
    let start: serde_json::Value = serde_json::from_str(start.expect("a line")).expect("JSON");
    let [version, commit] = ["version", "commit"].map(|field| start[field].as_str().expect("text"));
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    assert_eq!(printed, format!("clerkcast {version} ({commit})\n"));
    let series = format!("clerkcast_build_info{{version=\"{version}\",commit=\"{commit}\"}}");
    assert_eq!(gateway.metric(&series).await, 1.0);
}

fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .arg("-C")
        .arg(directory)
        .args(["-c", "user.name=A", "-c", "user.email=a@example.com"])
        .args(arguments)
        .output()
        .expect("git runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout)
        .expect("text")
        .trim()
        .to_owned()
}

#[test]
fn a_build_knows_its_commit() {
    let directory = TempDir::new().expect("a temporary directory");
    let package = directory.path();
    let unknown = commit::Found::default();
    assert_eq!(commit::find(None, package, true), unknown, "no repository");
    git(package, &["init", "--quiet"]);
    let make = || {
        git(package, &["commit", "--quiet", "--allow-empty", "-m", "x"]);
        git(package, &["rev-parse", "HEAD"])
    };
    let head = make();
    let found = commit::find(None, package, true);
    assert_eq!(found.commit.as_deref(), head.get(..8));
    let contents = || {
        let mut files = found.files.iter();
        files.try_fold(String::new(), |all, file| {
            Some(all + &std::fs::read_to_string(file).ok()?)
        })
    };
    // What cargo watches changes with the commit, and with nothing else.
    let before = contents();
    assert!(before.is_some(), "{:?}", found.files);
    std::fs::write(package.join("file"), "x").expect("written");
    git(package, &["add", "file"]);
    assert_eq!(contents(), before);
    let next = make();
    assert_ne!(contents(), before);
    let found = commit::find(None, package, true);
    assert_eq!(found.commit.as_deref(), next.get(..8));

    assert_eq!(commit::find(None, package, false), unknown, "a debug build");
    let inside = package.join("vendored");
    std::fs::create_dir(&inside).expect("made");
    assert_eq!(commit::find(None, &inside, true), unknown);
    for (given, shown) in [
        ("a1b2c3d4", "a1b2c3d4"),
        (" A1b2c3d4e5f60718293a4b5c6d7e8f9012345678\n", "A1b2c3d4"),
        ("v1.2-rc.1", "v1.2-rc.1"),
        ("a\nb\"c", "abc"),
    ] {
        let found = commit::find(Some(given), package, false);
        assert_eq!(found.commit.as_deref(), Some(shown));
        assert!(found.files.is_empty());
    }
    assert_eq!(commit::find(Some(" "), package, false), unknown);
}
