//! The changelog: it names what has changed since the last release of what scripts, dashboards
//! and clients depend on: metrics, flags, and the protos.
//!
//! A release copies what `tests/fixtures/released` has: `tests/fixtures/metrics.txt`,
//! `tests/golden/help-80.txt` and `tests/golden/descriptors.txt`.

use std::collections::BTreeSet;
use std::path::Path;

fn text_of(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(root.join(path)).expect("a file")
}

/// The names of the lines that one text has and the other has not.
fn changed(now: &str, released: &str, name: fn(&str) -> Option<String>) -> BTreeSet<String> {
    let lines = |text: &str| -> BTreeSet<String> { text.lines().map(str::to_owned).collect() };
    let (now, released) = (lines(now), lines(released));
    let differing = now.symmetric_difference(&released);
    differing.filter_map(|line| name(line)).collect()
}

/// Fails where one of the names does not stand under Unreleased.
#[track_caller]
fn are_named(names: &BTreeSet<String>) {
    let changelog = text_of("CHANGELOG.md");
    let unreleased = changelog.split("\n## ").nth(1).expect("a section");
    assert!(unreleased.starts_with("[Unreleased]"), "{unreleased}");
    let words: BTreeSet<&str> = unreleased
        .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_' && letter != '-')
        .collect();
    let is_missing = |name: &&String| {
        let of_metric = format!("clerkcast_{name}");
        !words.contains(name.as_str()) && !words.contains(of_metric.as_str())
    };
    let missing: Vec<_> = names.iter().filter(is_missing).collect();
    assert!(
        missing.is_empty(),
        "CHANGELOG.md names these nowhere under Unreleased, though they have changed since the last release: {missing:?}"
    );
}

fn metric(line: &str) -> Option<String> {
    let name = line.split(' ').next()?;
    Some(name.strip_prefix("clerkcast_").unwrap_or(name).to_owned())
}

#[test]
fn what_changed_of_the_metrics_is_in_the_changelog() {
    let released = text_of("tests/fixtures/released/metrics.txt");
    are_named(&changed(
        &text_of("tests/fixtures/metrics.txt"),
        &released,
        metric,
    ));
}

/// The last part of what a line of the descriptors declares: a field, a value or a method.
fn declared(line: &str) -> Option<String> {
    let name = line.strip_prefix("rpc ").unwrap_or(line);
    let name = name.split([' ', '(', '=', ':']).next()?;
    name.rsplit('.').next().map(str::to_owned)
}

#[test]
fn what_changed_of_the_protos_is_in_the_changelog() {
    let released = text_of("tests/fixtures/released/descriptors.txt");
    are_named(&changed(
        &text_of("tests/golden/descriptors.txt"),
        &released,
        declared,
    ));
}

/// The flags of each command, a line each: `COMMAND: --FLAG`.
fn flags(help: &str) -> String {
    let mut command = "";
    let mut flags = BTreeSet::new();
    for line in help.lines() {
        if let Some(header) = line.strip_prefix("== clerkcast ") {
            command = header.trim_end_matches(" --help");
        } else if line.trim_start().starts_with('-') {
            let words = line.split([' ', ',', '=']);
            let found = words.filter(|word| word.starts_with("--"));
            flags.extend(found.take(1).map(|flag| format!("{command}: {flag}\n")));
        }
    }
    flags.into_iter().collect()
}

fn flag(line: &str) -> Option<String> {
    line.split(' ').next_back().map(str::to_owned)
}

#[test]
fn what_changed_of_the_flags_is_in_the_changelog() {
    let released = flags(&text_of("tests/fixtures/released/help-80.txt"));
    let now = flags(&text_of("tests/golden/help-80.txt"));
    assert!(now.lines().count() > 100, "{now}");
    are_named(&changed(&now, &released, flag));
}

#[test]
fn a_change_is_known_by_its_name() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let found = changed(
        "a gauge\nclerkcast_b gauge x\n",
        "a gauge\nclerkcast_b gauge\n",
        metric,
    );
    assert_eq!(found, names(&["b"]));
    let now = "p.M.old = 1: string\np.M.new = 2: string\nrpc p.S.Call(p.A) returns (p.B)\n";
    let found = changed(now, "p.M.old = 1: string\n", declared);
    assert_eq!(found, names(&["new", "Call"]));
    let help = "== clerkcast serve --help\n  -v, --verbose  More\n      --old <N>  As --verbose\n";
    assert_eq!(flags(help), "serve: --old\nserve: --verbose\n");
    let found = changed(&flags(help), "serve: --verbose\n", flag);
    assert_eq!(found, names(&["--old"]));
}
