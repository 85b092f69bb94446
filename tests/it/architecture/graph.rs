//! Which file names which, and circles among them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::imports;

/// A module by its path: `["fanout", "ring"]`. The root is empty.
pub(super) type Module = Vec<String>;

/// One file of `src`.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) module: Module,
    /// Each path that it names, resolved: from the crate's root if the crate has it, else
    /// beginning with a crate's name.
    pub(super) names: BTreeSet<Named>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Named {
    /// A path within this crate.
    Own(Vec<String>),
    /// A path of another crate.
    Foreign(Vec<String>),
}

impl Source {
    pub(super) fn room(&self) -> &str {
        self.module.first().map_or("lib", String::as_str)
    }
}

pub(crate) fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a directory");
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// All of `src`, but for files that hold nothing but unit tests.
pub(super) fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = rust_files(&root).into_iter();
    let files = files.map(|file| (module_of(&root, &file), file));
    let files: Vec<(Module, PathBuf)> = files
        .filter(|(module, _)| module.iter().all(|part| part != "tests"))
        .collect();
    let modules: BTreeSet<Module> = files.iter().map(|(module, _)| module.clone()).collect();
    let sources = files.into_iter().map(|(module, file)| {
        let text = fs::read_to_string(file).expect("a source file");
        source_of(module, &text, &modules)
    });
    sources.collect()
}

/// The file of `module`, whose text is `text`.
pub(super) fn source_of(module: Module, text: &str, modules: &BTreeSet<Module>) -> Source {
    let paths = imports::paths(text).into_iter();
    Source {
        names: paths.map(|path| resolve(&module, &path, modules)).collect(),
        module,
    }
}

fn module_of(root: &Path, file: &Path) -> Module {
    let relative = file
        .strip_prefix(root)
        .expect("below src")
        .with_extension("");
    let mut module: Module = relative
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if module
        .last()
        .is_some_and(|last| last == "mod" || last == "lib")
    {
        module.pop();
    }
    module
}

/// A path as a file of `module` means it.
pub(super) fn resolve(module: &Module, path: &[String], modules: &BTreeSet<Module>) -> Named {
    let mut from = module.clone();
    let mut rest = path;
    let mut is_relative = false;
    while let [first, others @ ..] = rest {
        match first.as_str() {
            "crate" | "clerkcast" => from.clear(),
            "self" | "Self" => {}
            "super" => {
                from.pop();
            }
            _ => break,
        }
        is_relative = true;
        rest = others;
    }
    if !is_relative {
        let child = [module.as_slice(), rest.get(..1).unwrap_or_default()].concat();
        if !modules.contains(&child) {
            return Named::Foreign(rest.to_vec());
        }
    }
    from.extend(rest.iter().cloned());
    Named::Own(from)
}

/// The file that a path leads to: the longest part of it that is one.
pub(super) fn file_of(path: &[String], modules: &BTreeSet<Module>) -> Module {
    let mut path = path.to_vec();
    while !modules.contains(&path) && !path.is_empty() {
        path.pop();
    }
    path
}

/// The circles: sets of nodes each of which leads to all others.
pub(super) fn circles<N: Ord + Clone>(arrows: &BTreeSet<(N, N)>) -> Vec<BTreeSet<N>> {
    let mut next: BTreeMap<&N, Vec<&N>> = BTreeMap::new();
    for (from, to) in arrows {
        next.entry(from).or_default().push(to);
    }
    let reached = |start: &N| {
        let mut seen = BTreeSet::new();
        let mut todo = vec![start];
        while let Some(node) = todo.pop() {
            for to in next.get(node).into_iter().flatten() {
                if seen.insert((*to).clone()) {
                    todo.push(to);
                }
            }
        }
        seen
    };
    let reach: BTreeMap<&N, BTreeSet<N>> = next.keys().map(|node| (*node, reached(node))).collect();
    let mut circles: Vec<BTreeSet<N>> = Vec::new();
    for (node, reachable) in &reach {
        if !reachable.contains(*node) || circles.iter().any(|circle| circle.contains(*node)) {
            continue;
        }
        let returns = |other: &&N| reach.get(*other).is_some_and(|it| it.contains(*node));
        circles.push(reachable.iter().filter(returns).cloned().collect());
    }
    circles
}
