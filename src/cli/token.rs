//! `clerkcast token`: a bearer token, and what the configuration holds of it.

use std::fmt::Display;
use std::io::{self, IsTerminal as _};

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::input::bounded;
use super::output::{print_line, print_lines, report};
use crate::access::{Token, TokenHash};

/// More than any token has, so that a large file given by mistake is not read whole.
const TOKEN_BYTES_MAX: u64 = 4096;

#[derive(Clone, Debug, Args)]
pub(super) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum TokenCommand {
    /// Make a token for a subscriber: it is printed once, and the configuration holds its hash
    ///
    /// If standard output is not a terminal, it gets the token alone. The configuration's lines
    /// go to standard error.
    New {
        /// The subscriber's name, such as the name of the service
        name: String,
    },
    /// Print the hash of the token on standard input
    Hash,
}

pub(super) fn run(args: &TokenArgs) -> Result<(), Failure> {
    match &args.command {
        TokenCommand::New { name } => new(name),
        TokenCommand::Hash => hash(),
    }
}

fn new(name: &str) -> Result<(), Failure> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || !name.chars().all(is_plain) {
        return Err(Failure::Usage(
            "NAME: write letters, digits, `-`, `_` or `.` only".to_owned(),
        ));
    }
    let token = Token::generate().map_err(|error| Failure::Failed(error.to_string()))?;
    let (secret, hash) = (token.secret(), token.hash());
    let of_configuration = [
        "# For the gateway's configuration file; SIGHUP makes a running gateway read it:"
            .to_owned(),
        "[[principals]]".to_owned(),
        format!("name = \"{name}\""),
        format!("token_hash = \"{hash}\""),
    ];
    if !io::stdout().is_terminal() {
        print_line(secret)?;
        of_configuration.iter().for_each(report);
        return Ok(());
    }
    let shown = format!(
        "# The token, shown this once; give it to {name}, which sends it as `authorization: Bearer …`:"
    );
    let of_token = [shown, secret.to_owned(), String::new()];
    print_lines(of_token.into_iter().chain(of_configuration))
}

fn hash() -> Result<(), Failure> {
    let unreadable = |error: &dyn Display| Failure::Usage(format!("standard input: {error}"));
    let bytes = bounded(io::stdin().lock(), TOKEN_BYTES_MAX).map_err(|error| unreadable(&error))?;
    let text = std::str::from_utf8(&bytes).map_err(|error| unreadable(&error))?;
    let token = text.trim();
    if token.is_empty() || token.contains(char::is_whitespace) {
        return Err(Failure::Usage(
            "standard input: expected one token, as `clerkcast token new NAME` prints it"
                .to_owned(),
        ));
    }
    print_line(TokenHash::of(token).to_string())
}
