//! What a source file names: the paths of every form of import, resolved to modules.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, File, Item, ItemMod, ItemUse, Macro, Meta, Path, UseTree};

/// The paths that a file names, as they are written: `crate::log::Entry` is three segments.
/// What is only there for unit tests is left out.
pub(super) fn paths(source: &str) -> BTreeSet<Vec<String>> {
    let names = Names::read(source, UnitTests::Skipped).paths.into_iter();
    names.map(|(depth, path)| out_of(depth, path)).collect()
}

/// What the paths of a file begin with where the file itself does not say what that is: the
/// crates that it names.
pub(crate) fn crates(source: &str, unit_tests: UnitTests) -> BTreeSet<String> {
    let Names { paths, bound, .. } = Names::read(source, unit_tests);
    let first = paths
        .into_iter()
        .filter_map(|(_, path)| path.into_iter().next());
    first.filter(|name| !bound.contains(name)).collect()
}

/// Whether the unit tests of a file are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnitTests {
    Included,
    Skipped,
}

/// A path out of the modules that the file itself holds.
fn out_of(depth: usize, mut path: Vec<String>) -> Vec<String> {
    for _ in 0..depth {
        match path.first().map(String::as_str) {
            Some("super") => {
                path.remove(0);
            }
            _ => break,
        }
    }
    if depth > 0 && path.first().is_some_and(|first| first != "crate") {
        path.insert(0, "self".to_owned());
    }
    path
}

struct Names {
    /// Each with how many modules within the file enclose it.
    paths: BTreeSet<(usize, Vec<String>)>,
    /// Names that the file declares as modules, or imports from within a crate.
    bound: BTreeSet<String>,
    depth: usize,
    unit_tests: UnitTests,
}

impl Names {
    fn read(source: &str, unit_tests: UnitTests) -> Self {
        let file: File = syn::parse_file(source).expect("it compiles, so it parses");
        let mut names = Self {
            paths: BTreeSet::new(),
            bound: BTreeSet::new(),
            depth: 0,
            unit_tests,
        };
        names.visit_file(&file);
        names
    }

    fn note(&mut self, path: Vec<String>) {
        self.paths.insert((self.depth, path));
    }

    fn note_tree(&mut self, tree: &UseTree, before: &[String]) {
        match tree {
            UseTree::Path(path) => {
                let before = [before, &[path.ident.to_string()]].concat();
                self.note_tree(&path.tree, &before);
            }
            UseTree::Name(name) => {
                let name = name.ident.to_string();
                match (name.as_str(), before) {
                    // A crate by its own name.
                    (_, []) | ("self", [_]) => {}
                    ("self", [.., module]) => {
                        self.bound.insert(module.clone());
                    }
                    _ => {
                        self.bound.insert(name.clone());
                    }
                }
                self.note([before, &[name]].concat());
            }
            UseTree::Rename(name) => {
                self.bound.insert(name.rename.to_string());
                self.note([before, &[name.ident.to_string()]].concat());
            }
            UseTree::Glob(_) => self.note(before.to_vec()),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.note_tree(tree, before);
                }
            }
        }
    }

    /// Paths among tokens that are not parsed: those of macros and attributes.
    fn note_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.note_all(&mut path);
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.note_all(&mut path);
                    self.note_tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    self.note_all(&mut path);
                    colons = 0;
                }
            }
        }
        self.note_all(&mut path);
    }

    fn note_all(&mut self, path: &mut Vec<String>) {
        if path.len() > 1 {
            self.note(std::mem::take(path));
        }
        path.clear();
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item(&mut self, item: &'ast Item) {
        if self.unit_tests == UnitTests::Included || !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if self.unit_tests == UnitTests::Included || !is_for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        self.bound.insert(module.ident.to_string());
        self.depth += 1;
        visit::visit_item_mod(self, module);
        self.depth -= 1;
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.note_tree(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast Path) {
        let segments = path.segments.iter().map(|it| it.ident.to_string());
        let segments: Vec<String> = segments.collect();
        if segments.len() > 1 {
            self.note(segments);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast Macro) {
        self.note_tokens(called.tokens.clone());
        visit::visit_macro(self, called);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta {
            self.note_tokens(list.tokens.clone());
        }
        visit::visit_attribute(self, attribute);
    }

    /// `pub(in crate::doors)` says who may see, and imports nothing.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => list.tokens.to_string() == "test",
        _ => false,
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
