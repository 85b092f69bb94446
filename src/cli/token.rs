//! `clerkcast token new`: a bearer token, and what the configuration holds of it.

use clap::{Args, Subcommand};

use super::Failure;
use crate::access::Token;

#[derive(Clone, Debug, Args)]
pub(super) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum TokenCommand {
    /// Make a token for a subscriber: it is printed once, and the configuration holds its hash
    New {
        /// The subscriber's name, such as the name of the service
        name: String,
    },
}

pub(super) fn run(args: &TokenArgs) -> Result<(), Failure> {
    let TokenCommand::New { name } = &args.command;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || !name.chars().all(is_plain) {
        return Err(Failure::Usage(
            "a name has letters, digits, `-`, `_` or `.`".to_owned(),
        ));
    }
    let token = Token::generate().map_err(|error| Failure::Failed(error.to_string()))?;
    println!(
        "# The token, shown this once; give it to {name}, which sends it as `authorization: Bearer …`:\n\
         {}\n\n\
         # For the gateway's configuration file; SIGHUP makes a running gateway read it:\n\
         [[principals]]\n\
         name = \"{name}\"\n\
         token_hash = \"{}\"",
        token.secret(),
        token.hash()
    );
    Ok(())
}
