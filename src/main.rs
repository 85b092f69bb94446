//! The `clerkcast` command.

use std::process::ExitCode;

use clap::Parser as _;
use clerkcast::cli::{self, Cli};

/// Records are put together on one thread and freed on another: with glibc's allocator that
/// takes a tenth of the processor, and leaves memory behind. Without huge pages, by which
/// each subscriber would occupy a third more.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli::run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if tracing::dispatcher::has_been_set() && failure.is_news() {
                tracing::error!("{failure}");
            } else if failure.is_news() {
                eprintln!("clerkcast: {failure}");
            }
            ExitCode::from(failure.exit_code())
        }
    }
}
