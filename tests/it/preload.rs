//! Libraries that stand between the real binary and the system.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles `tests/tools/NAME.c` into a library in `directory`.
pub(crate) fn compile(name: &str, directory: &Path) -> PathBuf {
    let library = directory.join(name).with_extension("so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(source.join(name).with_extension("c"))
        .args(["-ldl", "-lpthread"])
        .output();
    let compiled = compiled.expect("there is a C compiler, as the build needs one too");
    let said = String::from_utf8_lossy(&compiled.stderr);
    assert!(compiled.status.success(), "{said}");
    library
}

/// The environment that puts `library` in between, told what to do by `variable`, which
/// names a file.
pub(crate) fn preloaded(library: &Path, variable: &str, file: &Path) -> Vec<(String, String)> {
    let entry = |name: &str, path: &Path| (name.to_owned(), path.display().to_string());
    vec![entry("LD_PRELOAD", library), entry(variable, file)]
}
