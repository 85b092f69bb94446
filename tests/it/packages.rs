//! What the packages of the workspace have in common, and what each is made of.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn generated_messages_are_those_of_the_proto_files() {
    // build.rs wrote them when it compiled the proto files.
    let generated = Path::new(env!("OUT_DIR"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let checked_in = root.join("clients/rust/src/generated");
    for name in ["clerkcast.v1.rs", "clerkcast.clerk.v1.rs"] {
        let (new, old) = (generated.join(name), checked_in.join(name));
        let is_same =
            fs::read(&new).expect("build.rs writes it") == fs::read(&old).unwrap_or_default();
        assert!(
            is_same,
            "{} is not what build.rs makes of the proto files; copy it:\n  cp {} {}",
            old.display(),
            new.display(),
            old.display()
        );
    }
    let files = fs::read_dir(&checked_in).expect("a directory").count();
    assert_eq!(files, 2, "{} has other files", checked_in.display());
}

#[test]
fn a_program_that_only_subscribes_compiles_fewer_than_100_crates() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "-p", "clerkcast-client"])
        .args(["--edges", "normal", "--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let stderr = String::from_utf8_lossy(&tree.stderr);
    assert!(tree.status.success(), "{stderr}");
    let tree = String::from_utf8_lossy(&tree.stdout);
    let crates: BTreeSet<&str> = tree
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .collect();
    assert!(crates.len() < 100, "{crates:#?}");
    for name in ["async-nats", "axum", "clap", "rusqlite", "svix"] {
        let is_named = |line: &&&str| line.split(' ').next() == Some(name);
        assert_eq!(crates.iter().find(is_named), None);
    }
}
