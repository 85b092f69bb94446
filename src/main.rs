//! The `clerkcast` command.

use std::process::ExitCode;

use clap::Parser as _;
use clerkcast::cli::{self, Cli, without_marked_secrets};

/// Records are put together on one thread and freed on another: with glibc's allocator that
/// takes a tenth of the processor, and leaves memory behind. Without huge pages, by which
/// each subscriber would occupy a third more.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How clap begins what is wrong with a command line.
const CLAP_ERROR: &str = "error: ";

#[tokio::main]
async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help is written to where it belongs.
        Err(help) if !help.to_string().starts_with(CLAP_ERROR) => {
            return match cli::print_help(&help) {
                Ok(exit_code) => ExitCode::from(exit_code),
                Err(failure) => {
                    cli::report(&failure);
                    ExitCode::from(failure.exit_code())
                }
            };
        }
        Err(error) => {
            let text = error.to_string().replacen(CLAP_ERROR, "clerkcast: ", 1);
            eprint!("{}", without_marked_secrets(&text));
            return ExitCode::from(2);
        }
    };
    let is_service = cli.is_service();
    match cli::run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let text = without_marked_secrets(&failure.to_string());
            if is_service && tracing::dispatcher::has_been_set() && failure.is_unreported() {
                tracing::error!("{text}");
            } else if failure.is_unreported() {
                cli::report(text);
            }
            ExitCode::from(failure.exit_code())
        }
    }
}
