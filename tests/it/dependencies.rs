//! What is built with the gateway: licenses, crates in several versions, crates that nothing
//! names. By `cargo metadata`, for the machine that the test runs on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::architecture::{UnitTests, crates, rust_files};

/// Licenses that a crate may be used under.
const LICENSES: [&str; 8] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "ISC",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "Zlib",
    "Unicode-3.0",
];

/// Crates in several versions, and which crate holds on to the older one.
const SEVERAL: [(&str, &str); 13] = [
    ("base64", "0.23: pem, of rcgen, in tests alone"),
    ("bit-vec", "0.9: yasna, of rcgen, in tests alone"),
    ("cpufeatures", "0.2: sha2 and curve25519-dalek, of nkeys"),
    ("foldhash", "0.1: hashbrown 0.15"),
    (
        "getrandom",
        "0.2: ring, and rand_core 0.6; 0.3: rand_core 0.9",
    ),
    (
        "hashbrown",
        "0.15: petgraph, of prost-build, in builds alone",
    ),
    ("prettyplease", "0.2: tonic-build, in builds alone"),
    ("rand", "0.8: nkeys; 0.9: opentelemetry_sdk"),
    ("rand_chacha", "0.3: rand 0.8; 0.9: rand 0.9"),
    ("rand_core", "0.6: nkeys; 0.9: rand 0.9"),
    ("syn", "2: derives, among them prost's, in builds alone"),
    ("synstructure", "0.13: asn1-rs, in builds alone"),
    ("untrusted", "0.7: aws-lc-rs"),
];

struct Metadata(Value);

impl Metadata {
    fn read() -> Self {
        let root = env!("CARGO_MANIFEST_DIR");
        let version = Command::new("rustc").arg("-vV").output();
        let version = String::from_utf8(version.expect("rustc runs").stdout).expect("UTF-8");
        let host = version.lines().find_map(|line| line.strip_prefix("host: "));
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--locked", "--format-version", "1"])
            .args(["--filter-platform", host.expect("a host")])
            .current_dir(root)
            .output()
            .expect("cargo runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Self(serde_json::from_slice(&output.stdout).expect("JSON"))
    }

    /// The packages that are built here.
    fn packages(&self) -> Vec<&Value> {
        let list = |value: &'static str, of: &'static str| {
            let list = self.0.pointer(value).and_then(Value::as_array);
            list.unwrap_or_else(|| panic!("no {of}"))
        };
        let built: BTreeSet<&str> = list("/resolve/nodes", "nodes")
            .iter()
            .map(|node| text(node, "id"))
            .collect();
        let packages = list("/packages", "packages").iter();
        packages
            .filter(|package| built.contains(text(package, "id")))
            .collect()
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Whether an SPDX expression allows one of the licenses; `/` is an old way to write OR.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let mut words: Vec<&str> = spaced.split_whitespace().rev().collect();
    any(&mut words)
}

fn any(words: &mut Vec<&str>) -> bool {
    let mut allowed = all(words);
    while words.last() == Some(&"OR") {
        words.pop();
        allowed |= all(words);
    }
    allowed
}

fn all(words: &mut Vec<&str>) -> bool {
    let mut allowed = one(words);
    while words.last() == Some(&"AND") {
        words.pop();
        allowed &= one(words);
    }
    allowed
}

fn one(words: &mut Vec<&str>) -> bool {
    match words.pop() {
        Some("(") => {
            let allowed = any(words);
            assert_eq!(words.pop(), Some(")"), "an expression is not closed");
            allowed
        }
        Some(name) => {
            let has_exception = words.last() == Some(&"WITH");
            if has_exception {
                words.truncate(words.len() - 2);
            }
            LICENSES.contains(&name)
        }
        None => false,
    }
}

#[test]
fn license_expressions_are_read_as_they_are_meant() {
    for (expression, allowed) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("(MIT OR GPL-3.0) AND Unicode-3.0", true),
        ("MIT AND (GPL-3.0 OR AGPL-3.0)", false),
        ("Apache-2.0 WITH LLVM-exception OR GPL-3.0", true),
        ("", false),
    ] {
        assert_eq!(is_allowed(expression), allowed, "{expression}");
    }
}

#[test]
fn every_dependency_has_a_license_that_is_accepted() {
    for package in Metadata::read().packages() {
        let (name, license) = (text(package, "name"), text(package, "license"));
        assert!(is_allowed(license), "{name}: {license:?}");
    }
}

#[test]
fn crates_in_several_versions_are_those_of_the_list() {
    let metadata = Metadata::read();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in metadata.packages() {
        let of_name = versions.entry(text(package, "name")).or_default();
        of_name.insert(text(package, "version"));
    }
    versions.retain(|_, versions| versions.len() > 1);
    let found: BTreeSet<&str> = versions.keys().copied().collect();
    let listed: BTreeSet<&str> = SEVERAL.iter().map(|(name, _)| *name).collect();
    assert_eq!(found, listed, "{versions:?}");
}

#[test]
fn there_is_one_way_to_speak_tls() {
    for package in Metadata::read().packages() {
        let name = text(package, "name");
        assert!(
            !["openssl", "openssl-sys", "native-tls"].contains(&name),
            "{name}"
        );
    }
}

/// The crates that code of a package names, by the kind of dependency that it may use.
struct NamedCrates(BTreeMap<&'static str, BTreeSet<String>>);

impl NamedCrates {
    fn of(root: &Path) -> Self {
        let mut named: BTreeMap<&'static str, BTreeSet<String>> = BTreeMap::new();
        let mut note = |kind, file: &Path, unit_tests| {
            let text = std::fs::read_to_string(file).expect("a source file");
            named
                .entry(kind)
                .or_default()
                .extend(crates(&text, unit_tests));
        };
        for directory in ["src", "tests", "benches"] {
            let directory = root.join(directory);
            if !directory.exists() {
                continue;
            }
            for file in rust_files(&directory) {
                let is_for_tests = !directory.ends_with("src") || file.ends_with("tests.rs");
                if !is_for_tests {
                    note("normal", &file, UnitTests::Skipped);
                }
                note("dev", &file, UnitTests::Included);
            }
        }
        let build = root.join("build.rs");
        if build.exists() {
            note("build", &build, UnitTests::Included);
        }
        Self(named)
    }

    fn has(&self, kind: &str, name: &str) -> bool {
        self.0.get(kind).is_some_and(|names| names.contains(name))
    }
}

/// A dependency that no code names is built for nothing.
#[test]
fn every_direct_dependency_is_named_in_the_sources() {
    let metadata = Metadata::read();
    let packages = metadata.packages().into_iter();
    for package in packages.filter(|package| package["source"].is_null()) {
        let manifest = Path::new(text(package, "manifest_path"));
        let named = NamedCrates::of(manifest.parent().expect("a directory"));
        let dependencies = package["dependencies"].as_array().expect("a list");
        for dependency in dependencies {
            let renamed = dependency["rename"].as_str();
            let own = renamed.unwrap_or_else(|| text(dependency, "name"));
            let name = own.replace('-', "_");
            let kind = dependency["kind"].as_str().unwrap_or("normal");
            let of = text(package, "name");
            assert!(named.has(kind, &name), "{of}: {name}, a {kind} dependency");
        }
    }
}

#[test]
fn a_crate_is_named_by_paths_in_code_alone() {
    let source = r#"
        //! `commented::out` and commented.
        use imported::Type;
        use renamed as other;
        use outer::{inner, deep::{self, also}};
        mod declared;
        /// documented::Type
        #[attribute::marks]
        #[derive(derived::Derive)]
        fn function(unused: local::Type) -> Result<(), &'static str> {
            declared::call();
            inner::call();
            deep::call(also::CALL);
            other::call();
            expanded!("literal::Type", within::a_macro());
            Err("text::Type")
        }
        #[cfg(test)]
        mod tests { use tested::*; }
    "#;
    let expected = |tested: &[&'static str]| {
        let always = [
            "attribute",
            "derived",
            "imported",
            "local",
            "outer",
            "renamed",
            "within",
        ];
        let names = always.iter().chain(tested).copied();
        names.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    assert_eq!(crates(source, UnitTests::Skipped), expected(&[]));
    assert_eq!(crates(source, UnitTests::Included), expected(&["tested"]));
}
