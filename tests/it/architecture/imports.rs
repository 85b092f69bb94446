//! What a source file names: the paths of every form of import, resolved to modules.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, File, Item, ItemExternCrate, ItemMod, ItemUse, Macro, Meta, Path, UseTree};

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
    let is_super = |segment: &&String| *segment == "super";
    let left = path.iter().take(depth).take_while(is_super).count();
    path.drain(..left);
    if left > 0 && path.first().is_some_and(|first| first != "super") {
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
        let mut path = TokenPath::default();
        let mut tokens = tokens.into_iter();
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Ident(ident) if ident == "use" => {
                    self.note_token_path(&mut path);
                    let is_end = |token: &TokenTree| token.to_string() == ";";
                    let import = tokens.by_ref().take_while(|token| !is_end(token));
                    self.note_import(import.collect());
                }
                TokenTree::Ident(ident) => {
                    if path.colons != 2 || path.is_keyword() {
                        let is_import = path.is_extern_crate();
                        self.note_token_path(&mut path);
                        path.is_import = is_import;
                    }
                    path.segments.push(ident.to_string());
                    path.colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => path.colons += 1,
                TokenTree::Group(group) => {
                    self.note_token_path(&mut path);
                    self.note_tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => self.note_token_path(&mut path),
            }
        }
        self.note_token_path(&mut path);
    }

    /// The paths of `use …;`, or the tokens of what only a macro can complete: `$crate::a`.
    fn note_import(&mut self, tokens: TokenStream) {
        match syn::parse_str::<ItemUse>(&format!("use {tokens};")) {
            Ok(import) => self.visit_item_use(&import),
            Err(_) => self.note_tokens(tokens),
        }
    }

    fn note_token_path(&mut self, path: &mut TokenPath) {
        let path = std::mem::take(path);
        let is_alone = path.segments.len() == 1 && !path.is_keyword();
        if path.segments.len() > 1 || is_alone && (path.colons == 2 || path.is_import) {
            self.note(path.segments);
        }
    }

    /// Paths in the literals of an attribute, as in `#[serde(with = "crate::seconds")]`.
    fn note_literals(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Literal(literal) => {
                    let text = literal.to_string();
                    if let Ok(path) = syn::parse_str::<Path>(text.trim_matches('"')) {
                        self.visit_path(&path);
                    }
                }
                TokenTree::Group(group) => self.note_literals(group.stream()),
                TokenTree::Ident(_) | TokenTree::Punct(_) => {}
            }
        }
    }
}

/// Keywords that may stand before a path of another crate: `dyn ::serde::Serialize`.
const KEYWORDS: [&str; 12] = [
    "as", "break", "dyn", "else", "for", "if", "impl", "in", "match", "mut", "return", "while",
];

/// A path among tokens, up to the token that ends it.
#[derive(Default)]
struct TokenPath {
    segments: Vec<String>,
    /// How many colons follow the last segment.
    colons: usize,
    /// Whether `extern crate` precedes the path, so that one segment is a path.
    is_import: bool,
}

impl TokenPath {
    /// Whether the tokens are a keyword, after which another path begins.
    fn is_keyword(&self) -> bool {
        match &self.segments[..] {
            [only] => self.is_extern_crate() || KEYWORDS.contains(&only.as_str()),
            _ => false,
        }
    }

    /// `crate::a` begins a path, `extern crate a` has a path after it.
    fn is_extern_crate(&self) -> bool {
        self.colons == 0 && matches!(&self.segments[..], [only] if only == "crate")
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

    fn visit_item_extern_crate(&mut self, item: &'ast ItemExternCrate) {
        self.note(vec![item.ident.to_string()]);
    }

    fn visit_path(&mut self, path: &'ast Path) {
        let segments = path.segments.iter();
        let segments: Vec<String> = segments.map(|segment| segment.ident.to_string()).collect();
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
            self.note_literals(list.tokens.clone());
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
