//! What stands in the blocks of the README and of the pages under `docs`, other than the
//! commands that `readme` runs: each is run or compiled as it stands there.

mod clerk_cli;
mod operating;
mod production;
mod proxies;
mod reference;
mod subscribing;

use std::path::Path;

use crate::readme::{blocks, languages};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).expect("a page")
}

/// The only block of the pages in this language.
fn only_block(language: &str) -> String {
    let mut blocks = blocks(language);
    assert_eq!(blocks.len(), 1, "{language}: {blocks:#?}");
    blocks.remove(0)
}

/// The `yaml` block of the pages that has this in it.
fn yaml(part: &str) -> String {
    let blocks = blocks("yaml");
    let block = blocks.into_iter().find(|block| block.contains(part));
    block.unwrap_or_else(|| panic!("no block with {part}"))
}

/// A block in another language needs a test of its own.
#[test]
fn a_test_runs_the_blocks_of_every_language() {
    let tested = [
        ("bash", "subscriptions::manual"),
        ("conf", "nats::readme, nats::cells::permissions"),
        ("go", "snippets::subscribing"),
        ("ini", "no test: additions to the unit"),
        ("json", "snippets::subscribing"),
        ("nginx", "snippets::proxies"),
        ("python", "snippets::subscribing"),
        ("rust", "snippets::subscribing, subscriptions::manual"),
        ("sh", "readme, subscriptions::manual"),
        ("text", "nothing to run"),
        ("toml", "configuration::check"),
        ("ts", "snippets::subscribing"),
        ("yaml", "snippets::operating, snippets::subscribing"),
    ];
    for language in languages() {
        let has_test = tested.iter().any(|(tested, _)| *tested == language);
        assert!(has_test, "no test runs the blocks in {language:?}");
    }
}
