//! The `clerkcast` command.

use std::process::ExitCode;

use clap::Parser as _;
use clerkcast::cli::{self, Cli};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli::run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if tracing::dispatcher::has_been_set() {
                tracing::error!("{failure}");
            } else {
                eprintln!("clerkcast: {failure}");
            }
            ExitCode::from(failure.exit_code())
        }
    }
}
