//! `clerkcast completions`: what makes a shell complete the command line.

use clap::{Args, Command, ValueEnum};
use clap_complete::{Shell, generate};

use super::failure::Failure;
use super::output::print_own;

const NAME: &str = "clerkcast";

const EXAMPLES: &str = "\
Examples:
  clerkcast completions bash > ~/.local/share/bash-completion/completions/clerkcast
  clerkcast completions zsh > ~/.zfunc/_clerkcast
      with fpath+=~/.zfunc before compinit in ~/.zshrc
  clerkcast completions fish > ~/.config/fish/completions/clerkcast.fish";

#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: KnownShell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KnownShell {
    Bash,
    Zsh,
    Fish,
}

/// Prints the completions of `command`, without its hidden subcommands.
pub(super) fn run(args: &CompletionsArgs, command: &Command) -> Result<(), Failure> {
    let shell = match args.shell {
        KnownShell::Bash => Shell::Bash,
        KnownShell::Zsh => Shell::Zsh,
        KnownShell::Fish => Shell::Fish,
    };
    let subcommands = command.get_subcommands();
    let mut shown = Command::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .subcommands(subcommands.filter(|sub| !sub.is_hide_set()).cloned());
    let mut script = Vec::new();
    generate(shell, &mut shown, NAME, &mut script);
    print_own(&script)
}
