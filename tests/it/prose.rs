//! Habits of writing that a reader in a hurry stumbles over: where users read (messages, the
//! proto files, the pages, the help), and within the sources.

use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Expr, ExprLit, Lit, Meta, PatIdent};

use crate::architecture::rust_files;
use crate::voice::{COMMANDS, help_of};

/// Habits that a reader stumbles over anywhere.
const HABITS: [&str; 7] = [
    "anew",
    "at the least",
    "at the most",
    "whoever",
    "is told",
    "are told",
    "is none",
];
/// Within the sources, these too: people as subjects of what programs do, "so" as a measure,
/// programs that talk, and `is no X` for `is not an X`.
const HABITS_INSIDE: [&str; 18] = [
    "so many",
    "so much",
    "so long",
    "so large",
    "so small",
    "so far",
    "somebody",
    "nobody",
    "everybody",
    "anybody",
    "whom",
    "those who",
    "goes on with",
    "go on with",
    "tells",
    "told",
    "is no",
    "are no",
];
/// Phrases with the words of a habit that are plain all the same.
const EXCEPTIONS: [&str; 8] = [
    "there is none",
    "there are none",
    "there is no",
    "there are no",
    "is no longer",
    "are no longer",
    "is no larger",
    // In the help of `clerkcast dev`.
    "unless told otherwise",
];
/// Names of locals that do not show what they hold.
const PRONOUNS: [&str; 6] = ["it", "told", "said", "wrong", "answered", "one"];

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

/// The words of a text, with a mark where a sentence or a part of one ends.
fn words(text: &str) -> String {
    let mut words = String::from(" ");
    for part in text.to_lowercase().split(['.', ':', ';', ',', '(', ')']) {
        for word in part.split(|c: char| !c.is_alphanumeric() && c != '_') {
            if !word.is_empty() {
                words.push_str(word);
                words.push(' ');
            }
        }
        words.push_str("| ");
    }
    words
}

/// The habits in a text, each with its line.
fn habits(text: &str, of: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut words = words(line);
        for exception in EXCEPTIONS {
            words = words.replace(&format!(" {exception} "), " | ");
        }
        for habit in of {
            if words.contains(&format!(" {habit} ")) {
                found.push(format!("{}: {habit}: {}", number + 1, line.trim()));
            }
        }
    }
    found
}

fn inside() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = rust_files(&root.join("src"));
    let of_client = rust_files(&root.join("clients/rust/src"));
    let is_generated = |path: &PathBuf| path.iter().any(|part| part == "generated");
    paths.extend(of_client.into_iter().filter(|path| !is_generated(path)));
    paths
}

fn shown(path: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = path.strip_prefix(root).expect("below the root");
    path.display().to_string()
}

#[test]
fn habits_are_found_as_words() {
    let text = "It is none.\nShe gets nothing ANEW, manewo;\nis_none, whoever_comes, this nonesuch";
    let found = habits(text, &HABITS);
    assert_eq!(found.len(), 2, "{found:?}");
    let text = "as it is. None is\nthere is none\nit is no longer no one\nso, many";
    let all = [&HABITS[..], &HABITS_INSIDE].concat();
    assert_eq!(habits(text, &all), [""; 0]);
    let text = "it is no news\nat most so many\nunless told otherwise, he told";
    assert_eq!(habits(text, &all).len(), 3);
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
        let found = habits(&text, &HABITS).into_iter();
        all.extend(found.map(|habit| format!("{}:{habit}", shown(&path))));
    }
    for command in COMMANDS {
        let found = habits(&help_of(command), &HABITS).into_iter();
        all.extend(found.map(|habit| format!("{command:?} --help:{habit}")));
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn the_sources_have_none_of_the_habits_to_drop() {
    let mut all = Vec::new();
    for path in inside() {
        let text = std::fs::read_to_string(&path).expect("text");
        let found = habits(&text, &HABITS_INSIDE).into_iter();
        all.extend(found.map(|habit| format!("{}:{habit}", shown(&path))));
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

/// Docs of one word, and locals named by a pronoun.
#[derive(Default)]
struct Riddles(Vec<String>);

impl Riddles {
    fn of(source: &str) -> Vec<String> {
        let file = syn::parse_file(source).expect("it compiles, so it parses");
        let mut riddles = Self::default();
        riddles.visit_file(&file);
        riddles.0
    }

    fn check_docs(&mut self, attributes: &[Attribute]) {
        let docs = attributes.iter().filter_map(doc_text);
        let text = docs.collect::<Vec<_>>().join(" ");
        let mut words = text.split_whitespace();
        // A value stands for itself: `/// "default".`
        let is_word = |word: &str| word.trim_end_matches('.').chars().all(char::is_alphabetic);
        if let (Some(only), None) = (words.next(), words.next())
            && is_word(only)
        {
            self.0.push(format!("a doc of one word: {only}"));
        }
    }
}

fn doc_text(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(meta) = &attribute.meta else {
        return None;
    };
    match &meta.value {
        Expr::Lit(ExprLit {
            lit: Lit::Str(text),
            ..
        }) if meta.path.is_ident("doc") => Some(text.value()),
        _ => None,
    }
}

impl<'ast> Visit<'ast> for Riddles {
    fn visit_pat_ident(&mut self, pattern: &'ast PatIdent) {
        let name = pattern.ident.to_string();
        if PRONOUNS.contains(&name.as_str()) {
            self.0.push(format!("a local named {name}"));
        }
        visit::visit_pat_ident(self, pattern);
    }

    fn visit_item(&mut self, item: &'ast syn::Item) {
        use syn::Item;
        let attributes = match item {
            Item::Const(item) => &item.attrs,
            Item::Enum(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Static(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            Item::Trait(item) => &item.attrs,
            Item::Type(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        self.check_docs(attributes);
        visit::visit_item(self, item);
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        self.check_docs(&field.attrs);
        visit::visit_field(self, field);
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        self.check_docs(&variant.attrs);
        visit::visit_variant(self, variant);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.check_docs(&function.attrs);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        self.check_docs(&function.attrs);
        visit::visit_trait_item_fn(self, function);
    }
}

#[test]
fn docs_of_one_word_and_locals_named_by_a_pronoun_are_found() {
    let source = r#"
        /// Which.
        struct A {
            /// Why.
            field: u8,
            /// Why not.
            other: u8,
        }
        enum B {
            /// End
            C,
            /// `default`.
            D,
        }
        impl A {
            /// Waits.
            fn f(told: u8) {
                let (said, fine) = pair;
                items.map(|one| one.name);
            }
        }
    "#;
    let found = Riddles::of(source);
    assert_eq!(found.len(), 7, "{found:#?}");
    assert_eq!(
        Riddles::of("/// Waits for it.\nfn f(one_of: u8) {}"),
        [""; 0]
    );
}

#[test]
fn the_sources_hold_no_docs_of_one_word_and_no_locals_named_by_a_pronoun() {
    let mut all = Vec::new();
    for path in inside() {
        let text = std::fs::read_to_string(&path).expect("text");
        let found = Riddles::of(&text).into_iter();
        all.extend(found.map(|riddle| format!("{}: {riddle}", shown(&path))));
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}
