//! What each room may name: the table of `lib.rs`, held to every form of import.

mod graph;
mod imports;
mod table;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

pub(crate) use graph::rust_files;
use graph::{Module, Named, Source, circles, file_of, resolve, source_of, sources};
pub(crate) use imports::{UnitTests, crates};
use table::{ALLOWED, ARROWS, FREE, PURE, RESERVED};

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

fn forbidden_crates(room: &str) -> &'static [&'static str] {
    let row = ALLOWED.iter().find(|(name, ..)| *name == room);
    row.map_or(&[], |(_, _, forbidden)| forbidden)
}

/// What a file names of crates that its room may not name.
fn forbidden_names(source: &Source) -> Vec<String> {
    let room = source.room();
    let is_forbidden = |name: &str| {
        let reserved = RESERVED.iter().find(|(reserved, _)| *reserved == name);
        forbidden_crates(room).contains(&name)
            || reserved.is_some_and(|(_, rooms)| !rooms.contains(&room))
    };
    let names = source.names.iter().filter_map(|named| match named {
        Named::Foreign(path) if is_forbidden(path.first()?) => Some(path.join("::")),
        Named::Foreign(_) | Named::Own(_) => None,
    });
    let module = source.module.join("::");
    names.map(|path| format!("{module} names {path}")).collect()
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
                generate!(use crate::{s::A, t}; fn f() -> super::u::B {});
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
        "s::A",
        "t",
        "room::u::B",
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
    let found: Vec<String> = sources().iter().flat_map(forbidden_names).collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// Each form in which a file can name a crate, here `seed`.
const FORMS: &[&str] = &[
    "use seed::Thing;",
    "use seed;",
    "use seed as other;",
    "use seed::*;",
    "use ::seed::Thing;",
    "use {seed::a::{b, C as D}, std::fmt};",
    "pub use seed::Thing;",
    "extern crate seed;",
    "extern crate seed as other;",
    "struct S { field: Vec<seed::Type> }",
    "type Alias = Box<dyn seed::Trait>;",
    "fn f(thing: &seed::Thing) {}",
    "fn f() -> impl seed::Trait {}",
    "fn f<T>() where T: seed::Bound {}",
    "impl seed::Trait for S {}",
    "trait T: seed::Trait {}",
    "const VALUE: u8 = seed::VALUE;",
    "static VALUE: u8 = ::seed::VALUE;",
    "fn f() { seed::call(); }",
    "fn f() { use seed::call; }",
    "fn f() { <seed::Thing as Default>::default(); }",
    "fn f() { Vec::<seed::Thing>::new(); }",
    "fn f() { let seed::Thing { .. } = thing; }",
    "fn f() { match thing { seed::Thing::A => {} } }",
    "fn f() { let closure = |thing: seed::Thing| {}; }",
    "#[seed::main] fn f() {}",
    "#[derive(Debug, seed::Derive)] struct S;",
    "#[serde(with = \"seed::text\")] struct S;",
    "#[cfg_attr(feature = \"a\", derive(seed::Derive))] struct S;",
    "seed::macro_of_it!();",
    "fn f() { seed::macro_of_it!(a); }",
    "fn f() { println!(\"{}\", seed::call()); }",
    "fn f() { println!(\"{}\", thing as ::seed::Thing); }",
    "macro_rules! m { () => { use seed::{A, B}; }; }",
    "macro_rules! m { () => { use {seed, std}; }; }",
    "macro_rules! m { () => { use seed; }; }",
    "macro_rules! m { () => { use ::seed::*; }; }",
    "macro_rules! m { () => { extern crate seed; }; }",
    "macro_rules! m { ($a:ident: $b:ty) => { fn f(a: ::seed::A) {} }; }",
    "mod inner { use seed::Thing; }",
    "mod inner { mod inner { fn f() { seed::call(); } } }",
];

#[test]
fn a_forbidden_crate_is_seen_in_every_form_of_import() {
    let modules = BTreeSet::new();
    let names = |room: &str, text: &str| {
        let module = vec![room.to_owned(), "file".to_owned()];
        forbidden_names(&source_of(module, text, &modules))
    };
    for (room, ..) in ALLOWED {
        let reserved = RESERVED.iter().filter(|(_, rooms)| !rooms.contains(room));
        let forbidden = forbidden_crates(room).iter().copied();
        let forbidden: Vec<&str> = forbidden.chain(reserved.map(|(name, _)| *name)).collect();
        for name in &forbidden {
            for form in FORMS {
                let text = form.replace("seed", name);
                assert!(!names(room, &text).is_empty(), "{room}: {text}");
                let for_tests = format!("#[cfg(test)] mod tests {{ {text} }}");
                assert!(names(room, &for_tests).is_empty(), "{room}: {for_tests}");
            }
        }
        for form in FORMS {
            let found = names(room, &form.replace("seed", "bytes"));
            assert!(found.is_empty(), "{room}: {form}: {found:?}");
        }
    }
    for (name, rooms) in RESERVED {
        for room in *rooms {
            let found = names(room, &format!("use {name}::Thing;"));
            assert!(found.is_empty(), "{room}: {found:?}");
        }
        assert_eq!(names("lib", &format!("use {name}::Thing;")).len(), 1);
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
        let module = source.module.join("::") + "::";
        let is_pure = PURE
            .iter()
            .any(|pure| module.starts_with(&format!("{pure}::")));
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
    let cell = |names: &[&str]| match names {
        [] => "–".to_owned(),
        names => format!("`{}`", names.join("`, `")),
    };
    let expected = ALLOWED.iter().map(|(room, known, forbidden)| {
        format!("//! | `{room}` | {} | {} |", cell(known), cell(forbidden))
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
