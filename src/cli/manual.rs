//! `clerkcast man`: a manual page for each command, for packages.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_mangen::Man;

use super::failure::Failure;

const EXAMPLES_HEADING: &str = "Examples:";

#[derive(Clone, Debug, Args)]
pub(super) struct ManArgs {
    /// Directory to write into; created if it does not exist
    dir: PathBuf,
}

/// Writes the pages of `command` and of those below it.
pub(super) fn run(args: &ManArgs, command: Command) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::Failed(format!("{}: {error}", args.dir.display()));
    std::fs::create_dir_all(&args.dir).map_err(failed)?;
    let mut command = command.disable_help_subcommand(true);
    command.build();
    write_pages(&command, &args.dir).map_err(failed)
}

fn write_pages(command: &Command, dir: &Path) -> io::Result<()> {
    let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set());
    for subcommand in shown {
        write_pages(subcommand, dir)?;
    }
    let man = Man::new(command.clone())
        .source(concat!("clerkcast ", env!("CARGO_PKG_VERSION")))
        .manual("Clerkcast");
    let page = page(&man, command)?;
    std::fs::write(dir.join(man.get_filename()), page)
}

fn page(man: &Man, command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|sub| !sub.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(examples) = command.get_after_help() {
        write!(page, "{}", verbatim(&examples.to_string()))?;
    }
    Ok(page)
}

/// The section of the examples, whose lines stay as they are.
fn verbatim(examples: &str) -> String {
    let lines = examples
        .trim_start_matches(EXAMPLES_HEADING)
        .trim_start_matches('\n');
    let mut section = ".SH EXAMPLES\n.nf\n".to_owned();
    for line in lines.lines() {
        let escaped = line
            .replace('\\', "\\e")
            .replace('-', "\\-")
            .replace('\'', "\\(aq");
        if escaped.starts_with('.') {
            section.push_str("\\&");
        }
        section.push_str(&escaped);
        section.push('\n');
    }
    section.push_str(".fi\n");
    section
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_as_they_are_typed() {
        assert_eq!(
            verbatim("Examples:\n  a --b 'c' \\\n.d"),
            ".SH EXAMPLES\n.nf\n  a \\-\\-b \\(aqc\\(aq \\e\n\\&.d\n.fi\n"
        );
    }
}
