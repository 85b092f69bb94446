//! Reads the configuration file, which an editor or a tool may be writing at the same moment. A
//! file that is cut short can be valid, and can allow more than the whole file.

use std::path::Path;
use std::time::Duration;

use super::problem::{Place, Problem};
use crate::files;

/// The largest configuration file; a principal takes some hundred bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Pause between two reads of a file; a program that writes it in pieces is faster.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum number of reads that differ from the one before.
const LOOKS_MAX: usize = 3;
const CUT_SHORT: &str = "the configuration file looks cut short; write it beside and rename it";

/// Reads the file at `path` once, as at a start. It may be a pipe, because what checks or starts
/// a gateway can make the configuration: `config check <(envsubst < template.toml)`.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: &Path) -> Result<String, Problem> {
    text(path, files::read_once(path, FILE_BYTES_MAX))
}

/// Reads the file at `path`, which must be a regular one: a reload must not wait for a pipe, and
/// the pipe of a start is empty by now.
fn read_regular(path: &Path) -> Result<String, Problem> {
    let content = files::read(path, FILE_BYTES_MAX);
    text(path, content.map(|content| content.bytes))
}

fn text(path: &Path, read: Result<Vec<u8>, files::Error>) -> Result<String, Problem> {
    let unreadable = |reason: &str| {
        let shown = path.display();
        let message = format!("cannot read the configuration file {shown}: {reason}");
        Problem::new(Place::Nowhere, "config", message)
    };
    let bytes = read.map_err(|error| unreadable(&error.to_string()))?;
    String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8"))
}

/// A warning about a file that was read at a start.
#[must_use]
pub fn warning_at_start(text: &str) -> Option<&'static str> {
    let is_cut = !text.is_empty() && !text.ends_with('\n');
    is_cut.then_some("the configuration file has no newline at its end; was it cut short?")
}

/// Reads the file at `path` in place of `in_force`. Blocks for some hundred milliseconds.
///
/// # Errors
/// When it cannot be read, changes while it is read, or looks cut short.
pub fn read_again(path: &Path, in_force: &str) -> Result<String, Problem> {
    let pause = || std::thread::sleep(LOOK_INTERVAL);
    let text = read_twice(|| read_regular(path), pause)?;
    check_whole(&text, in_force)?;
    Ok(text)
}

/// Returns the text once two reads in a row agree.
fn read_twice(
    mut look: impl FnMut() -> Result<String, Problem>,
    mut pause: impl FnMut(),
) -> Result<String, Problem> {
    let mut former = look()?;
    for _ in 0..LOOKS_MAX {
        pause();
        let latter = look()?;
        if latter == former {
            return Ok(latter);
        }
        former = latter;
    }
    Err(Problem::new(
        Place::Nowhere,
        "config",
        "the configuration file changes while it is read; write it beside and rename it",
    ))
}

/// Fails if `text` may be `in_force`, cut short.
///
/// # Errors
/// With what to do.
pub fn check_whole(text: &str, in_force: &str) -> Result<(), Problem> {
    let is_prefix = text.len() < in_force.len() && in_force.starts_with(text);
    let has_lost_its_end = in_force.ends_with('\n') && !text.ends_with('\n');
    if is_prefix || has_lost_its_end {
        return Err(Problem::new(Place::Nowhere, "config", CUT_SHORT));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "[[principals]]\nname = \"a\"\n# ä\ntypes = [\"user.*\"]\n";

    #[test]
    fn every_truncation_of_the_file_in_force_is_refused() {
        for at in (0..WHOLE.len()).filter(|at| WHOLE.is_char_boundary(*at)) {
            check_whole(&WHOLE[..at], WHOLE).expect_err(&WHOLE[..at]);
        }
        check_whole(WHOLE, WHOLE).expect("the same");
        check_whole("# other\n", WHOLE).expect("another file");
        check_whole(&format!("{WHOLE}# more\n"), WHOLE).expect("a longer file");
        check_whole("# other", WHOLE).expect_err("it has lost its newline");
        check_whole("# other", "# without").expect("there never was a newline");
        check_whole("", "").expect("as empty as before");
    }

    #[test]
    fn a_file_is_accepted_once_two_reads_agree() {
        let looks = |texts: &'static [&'static str]| {
            let mut texts = texts.iter();
            let look = || Ok((*texts.next().expect("no further look")).to_owned());
            read_twice(look, || {}).ok()
        };
        assert_eq!(looks(&["a", "a"]), Some("a".to_owned()));
        assert_eq!(looks(&["a", "ab", "ab"]), Some("ab".to_owned()));
        assert_eq!(looks(&["a", "ab", "abc", "abc"]), Some("abc".to_owned()));
        assert_eq!(looks(&["a", "ab", "abc", "abcd"]), None);
    }
}
