//! The invariants of `lib.rs`: who may know whom, read from the imports.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut sources: Vec<PathBuf> = paths
        .flat_map(|path| {
            if path.is_dir() {
                sources(&path)
            } else {
                vec![path]
            }
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    sources.sort();
    sources
}

/// The code of a module, without comments and unit tests.
fn code(module: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let belongs = |path: &Path| {
        let relative = path.strip_prefix(&root).expect("below src");
        relative.starts_with(module) || relative == Path::new(&format!("{module}.rs"))
    };
    let files = sources(&root).into_iter().filter(|path| belongs(path));
    let files: Vec<(PathBuf, String)> = files
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a source file");
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            let lines = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            let text = lines.collect::<Vec<_>>().join("\n");
            (path, text)
        })
        .collect();
    assert!(!files.is_empty(), "there is no module {module}");
    files
}

#[track_caller]
fn never_names(module: &str, forbidden: &[&str]) {
    for (path, text) in code(module) {
        for word in forbidden {
            assert!(!text.contains(word), "{} names {word}", path.display());
        }
    }
}

#[test]
fn the_producer_and_the_consumers_do_not_know_each_other() {
    never_names("webhook", &["crate::doors", "crate::fanout", "tonic"]);
    never_names("doors", &["crate::webhook", "axum"]);
    never_names(
        "fanout",
        &["crate::webhook", "crate::doors", "tonic", "axum"],
    );
}

#[test]
fn the_log_knows_bytes_and_positions_alone() {
    let domain = [
        "crate::clerk",
        "crate::fanout",
        "crate::webhook",
        "crate::doors",
        "crate::proto",
    ];
    never_names("log", &domain);
    never_names("log", &["axum", "tonic", "serde_json"]);
}

#[test]
fn sockets_and_policies_know_no_protocol() {
    let edges = ["crate::webhook", "crate::doors", "axum", "tonic"];
    never_names("access", &["hyper"]);
    for module in ["net", "access"] {
        never_names(module, &edges);
        never_names(module, &["crate::fanout", "crate::log"]);
    }
}

#[test]
fn the_vocabulary_knows_nothing() {
    never_names("event", &["crate::"]);
}

#[test]
fn the_domain_does_not_know_the_edges() {
    never_names(
        "clerk",
        &[
            "crate::webhook",
            "crate::doors",
            "crate::fanout",
            "crate::app",
            "tokio",
        ],
    );
}

#[test]
fn the_ring_the_filter_and_the_index_are_pure() {
    for pure in ["fanout/ring", "filter", "fanout/index"] {
        never_names(pure, &["tokio", "Instant", "SystemTime", "UnixMillis::now"]);
    }
}

#[test]
fn only_the_composition_root_uses_anyhow() {
    for module in [
        "event", "log", "clerk", "access", "fanout", "filter", "api", "net", "webhook", "doors",
        "ops", "cli",
    ] {
        never_names(module, &["anyhow"]);
    }
}

#[test]
fn no_file_is_longer_than_500_lines() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for directory in ["src", "tests"] {
        for path in sources(&root.join(directory)) {
            let lines = fs::read_to_string(&path)
                .expect("a source file")
                .lines()
                .count();
            assert!(lines <= 500, "{} has {lines} lines", path.display());
        }
    }
}
