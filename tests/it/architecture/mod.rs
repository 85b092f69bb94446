//! Who may know whom: the table of `lib.rs`, held to every form of import.

mod graph;
mod imports;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

pub(crate) use graph::rust_files;
use graph::{Module, Named, Source, circles, file_of, resolve, sources};
pub(crate) use imports::{UnitTests, crates};

/// Every room may know these two.
const FREE: [&str; 2] = ["event", "telemetry"];

/// The most that a room may know, and the crates that it may not name.
const ALLOWED: &[(&str, &[&str], &[&str])] = &[
    ("event", &[], &["axum", "tonic", "hyper"]),
    ("telemetry", &[], &["axum", "tonic", "hyper"]),
    ("proto", &[], &[]),
    ("net", &[], &["axum", "tonic"]),
    ("log", &[], &["axum", "tonic", "serde_json"]),
    ("filter", &[], &["axum", "tonic", "tokio"]),
    ("clerk", &["proto"], &["axum", "tonic", "tokio"]),
    ("access", &["clerk", "filter"], &["axum", "tonic", "hyper"]),
    ("intake", &["clerk", "log"], &["axum", "tonic"]),
    ("webhook", &["intake", "net"], &["tonic"]),
    ("copy", &["intake", "log", "proto"], &["axum", "tonic"]),
    (
        "fanout",
        &["access", "clerk", "filter", "log", "proto"],
        &["axum", "tonic"],
    ),
    (
        "api",
        &["access", "clerk", "fanout", "filter", "log", "proto"],
        &["axum", "tonic", "hyper"],
    ),
    ("doors", &["access", "api", "net", "proto"], &["axum"]),
    ("ops", &["fanout", "log", "net"], &["tonic"]),
    (
        "app",
        &[
            "access", "api", "clerk", "copy", "doors", "fanout", "filter", "intake", "log", "net",
            "ops", "proto", "webhook",
        ],
        &[],
    ),
    (
        "cli",
        &[
            "access", "api", "app", "clerk", "copy", "doors", "fanout", "filter", "intake", "log",
            "net", "ops", "proto", "webhook",
        ],
        &[],
    ),
    ("main", &["cli"], &[]),
];

/// The arrows that exist. One that is new or gone changes this list, on purpose.
const ARROWS: &[(&str, &[&str])] = &[
    ("clerk", &["proto"]),
    ("access", &["clerk", "filter"]),
    ("intake", &["clerk", "log"]),
    ("webhook", &["intake", "net"]),
    ("copy", &["intake", "log", "proto"]),
    ("fanout", &["access", "clerk", "filter", "log", "proto"]),
    (
        "api",
        &["access", "clerk", "fanout", "filter", "log", "proto"],
    ),
    ("doors", &["access", "api", "net", "proto"]),
    ("ops", &["fanout", "log", "net"]),
    (
        "app",
        &[
            "access", "api", "clerk", "doors", "fanout", "filter", "intake", "log", "net", "ops",
            "webhook",
        ],
    ),
    (
        "cli",
        &[
            "access", "app", "clerk", "copy", "doors", "fanout", "filter", "log", "net", "proto",
            "webhook",
        ],
    ),
    ("main", &["cli"]),
];

/// Files that know neither time nor waiting.
const PURE: &[&[&str]] = &[&["fanout", "ring"], &["fanout", "index"], &["filter"]];

fn arrows_between_rooms(sources: &[Source]) -> BTreeSet<(String, String)> {
    let mut arrows = BTreeSet::new();
    for source in sources {
        for named in &source.names {
            let Named::Own(path) = named else { continue };
            let Some(room) = path.first() else { continue };
            let is_room = ALLOWED.iter().any(|(name, ..)| name == room);
            if is_room && room != source.room() {
                arrows.insert((source.room().to_owned(), room.clone()));
            }
        }
    }
    arrows
}

fn modules(sources: &[Source]) -> BTreeSet<Module> {
    sources.iter().map(|source| source.module.clone()).collect()
}

#[test]
fn an_arrow_is_seen_in_every_form_of_import() {
    let source = r#"
        use crate::a::{self, b::C, d as e};
        use super::f::*;
        use beside::Thing;
        #[derive(crate::g::Derive)]
        struct S<T: crate::h::Bound> { field: crate::i::Type<T> }
        impl crate::j::Trait for S<()> {
            fn function(&self) -> Result<crate::k::Out, ()> {
                crate::l::call(super::super::m::VALUE);
                tracing::info!(target: crate::n::TARGET, "{}", crate::o::text());
                match self { crate::p::Pattern { .. } => {} }
            }
        }
        mod inner { use super::super::q::Outer; use crate::r::Root; }
        #[cfg(test)]
        mod tests { use crate::never::Seen; }
        #[cfg(test)]
        use crate::never::Seen;
    "#;
    let module = ["room", "file"].map(str::to_owned).to_vec();
    let modules = BTreeSet::from([[&module[..], &["beside".to_owned()]].concat()]);
    let paths = imports::paths(source);
    let found: BTreeSet<String> = paths
        .iter()
        .filter_map(|path| match resolve(&module, path, &modules) {
            Named::Own(path) => Some(path.join("::")),
            Named::Foreign(_) => None,
        })
        .collect();
    for expected in [
        "a",
        "a::b::C",
        "a::d",
        "room::f",
        "g::Derive",
        "h::Bound",
        "i::Type",
        "j::Trait",
        "k::Out",
        "l::call",
        "m::VALUE",
        "n::TARGET",
        "o::text",
        "p::Pattern",
        "room::q::Outer",
        "r::Root",
        "room::file::beside::Thing",
    ] {
        assert!(
            found
                .iter()
                .any(|it| it.trim_end_matches("::self") == expected),
            "{expected} of {found:#?}"
        );
    }
    assert!(!found.iter().any(|it| it.contains("never")), "{found:#?}");
}

#[test]
fn rooms_name_exactly_the_rooms_of_the_table() {
    let sources = sources();
    let found = arrows_between_rooms(&sources);
    let is_free = |room: &str| FREE.contains(&room);
    let found: BTreeSet<(&str, &str)> = found
        .iter()
        .map(|(from, to)| (from.as_str(), to.as_str()))
        .filter(|(_, to)| !is_free(to))
        .collect();
    let listed = |table: &mut dyn Iterator<Item = (&'static str, &'static [&'static str])>| {
        let pairs = table.flat_map(|(from, known)| known.iter().map(move |to| (from, *to)));
        pairs.collect::<BTreeSet<_>>()
    };
    let allowed = listed(&mut ALLOWED.iter().map(|(room, known, _)| (*room, *known)));
    let expected = listed(&mut ARROWS.iter().copied());
    let not_allowed: Vec<_> = found.difference(&allowed).collect();
    assert!(not_allowed.is_empty(), "not in the table: {not_allowed:?}");
    let new: Vec<_> = found.difference(&expected).collect();
    let gone: Vec<_> = expected.difference(&found).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "new: {new:?}; gone: {gone:?}"
    );
}

#[test]
fn rooms_name_no_crate_that_they_may_not() {
    for source in sources() {
        let Some((_, _, forbidden)) = ALLOWED.iter().find(|(room, ..)| *room == source.room())
        else {
            continue;
        };
        for named in &source.names {
            let Named::Foreign(path) = named else {
                continue;
            };
            let first = path.first().map_or("", String::as_str);
            let module = source.module.join("::");
            assert!(!forbidden.contains(&first), "{module} names {path:?}");
            let is_root = source.room() == "app";
            assert!(is_root || first != "anyhow", "{module} names {path:?}");
        }
    }
}

#[test]
fn only_frames_know_the_wire_in_fanout() {
    for source in sources().iter().filter(|it| it.room() == "fanout") {
        let is_frame = source.module == ["fanout", "frame"];
        let is_proto = |named: &Named| matches!(named, Named::Own(path) if path.first().is_some_and(|it| it == "proto"));
        let names_it = source.names.iter().find(|it| is_proto(it));
        assert!(
            is_frame || names_it.is_none(),
            "{:?}: {names_it:?}",
            source.module
        );
    }
}

#[test]
fn pure_files_know_neither_time_nor_waiting() {
    for source in sources() {
        let is_pure = PURE.iter().any(|pure| {
            source
                .module
                .iter()
                .zip(*pure)
                .filter(|(one, other)| one == other)
                .count()
                == pure.len()
        });
        if !is_pure {
            continue;
        }
        for named in &source.names {
            let (Named::Own(path) | Named::Foreign(path)) = named;
            for word in ["tokio", "Instant", "SystemTime", "now"] {
                let names_it = path.iter().any(|segment| segment == word);
                assert!(!names_it, "{:?} names {path:?}", source.module);
            }
        }
    }
}

#[test]
fn no_circle_between_rooms_or_between_files_of_a_room() {
    let sources = sources();
    let between_rooms = circles(&arrows_between_rooms(&sources));
    assert!(between_rooms.is_empty(), "{between_rooms:?}");
    let modules = modules(&sources);
    let mut arrows = BTreeSet::new();
    for source in &sources {
        for named in &source.names {
            let Named::Own(path) = named else { continue };
            let to = file_of(path, &modules);
            let is_of_the_room = to.first() == source.module.first();
            // A module holds those below it: what it shares with them makes no circle.
            let holds = source.module.starts_with(&to) || to.starts_with(&source.module);
            if is_of_the_room && !holds {
                arrows.insert((source.module.join("::"), to.join("::")));
            }
        }
    }
    let circles = circles(&arrows);
    let mut text = String::new();
    for circle in &circles {
        for (from, to) in arrows
            .iter()
            .filter(|(from, to)| circle.contains(from) && circle.contains(to))
        {
            writeln!(text, "{from} → {to}").expect("a string");
        }
        text.push('\n');
    }
    assert!(circles.is_empty(), "{} circles:\n{text}", circles.len());
}

#[test]
fn lib_rs_shows_the_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lib = std::fs::read_to_string(root.join("src/lib.rs")).expect("it is there");
    let rows: Vec<&str> = lib
        .lines()
        .filter(|line| line.starts_with("//! | `"))
        .collect();
    let expected = ALLOWED.iter().map(|(room, known, _)| {
        let known = match known {
            [] => "–".to_owned(),
            known => known
                .iter()
                .map(|it| format!("`{it}`"))
                .collect::<Vec<_>>()
                .join(", "),
        };
        format!("//! | `{room}` | {known} |")
    });
    let expected: Vec<String> = expected.collect();
    assert_eq!(rows, expected, "\n{}", expected.join("\n"));
}

#[test]
fn no_file_is_longer_than_500_lines() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for directory in ["src", "tests", "clients/rust/src"] {
        let directory = root.join(directory);
        if !directory.exists() {
            continue;
        }
        for path in rust_files(&directory) {
            if path
                .components()
                .any(|part| part.as_os_str() == "generated")
            {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("a source file");
            let lines = text.lines().count();
            assert!(lines <= 500, "{} has {lines} lines", path.display());
        }
    }
}
