//! Reads files that a flag names, or standard input.

use std::io::Read as _;
use std::path::Path;

use super::failure::Failure;

/// Reads the file that a flag names; `-` is standard input.
pub(super) fn read_input(flag: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    read.map_err(|error| Failure::Usage(format!("{flag}: {}: {error}", path.display())))
}
