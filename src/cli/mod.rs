//! The commands of `clerkcast`.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 success, 1
//! failure, 2 the command line or the configuration is wrong, 130 interrupted.

// Texts of others reach a terminal through `output` only, which escapes them.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod advice;
mod backup;
mod completions;
mod config;
mod connect;
mod copy;
mod delivery;
mod dev;
mod failure;
mod figures;
mod input;
mod inspect;
mod json;
mod manual;
mod narrowing;
mod notices;
pub mod options;
mod output;
mod post;
mod printer;
mod reload;
mod secrets;
mod selection;
mod send;
mod serve;
mod subscription;
mod table;
mod tail;
mod terminal;
mod token;
mod verify;
mod work;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::telemetry;

pub use crate::app::file::without_marked_secrets;
pub use failure::Failure;

const EXAMPLES: &str = "\
Examples:
  clerkcast dev --samples
      try it: a gateway on this machine that receives a sample event every two seconds
  CLERK_WEBHOOK_SIGNING_SECRET=whsec_… clerkcast serve
      run it: webhooks on port 8080, gRPC on port 50051
  clerkcast tail --type 'user.*' --from earliest
      see what is in it
  grpcurl -plaintext -d '{\"filter\":{\"types\":[\"user.*\"]}}' localhost:50051 \\
      clerkcast.v1.EventService/Subscribe

Exit codes: 0 success, 1 failure, 2 the command line or configuration is wrong, 130 interrupted.";

/// A gRPC event-distribution gateway for Clerk: verified webhooks in, one durable
/// ordered log, typed protobuf streams out.
#[derive(Debug, Parser)]
#[command(name = "clerkcast", version = telemetry::VERSION_AND_COMMIT, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway.
    ///
    /// A flag wins over its environment variable, that over the configuration file, that over
    /// the default.
    #[command(args_override_self = true)]
    Serve(Box<options::ServeArgs>),
    /// Run a gateway to try things with, printing each event as it arrives.
    ///
    /// The same gateway as `serve`, with its flags. Unless told otherwise it listens for
    /// webhooks on 127.0.0.1:8080, makes up a signing secret, keeps its log in a temporary
    /// directory, and logs warnings only.
    #[command(
        args_override_self = true,
        mut_arg("http_listen", dev::with_own_default),
        mut_arg("grpc_listen", dev::with_own_default),
        mut_arg("admin_listen", dev::with_own_default),
        mut_arg("data_dir", dev::with_own_default),
        mut_arg("log_level", dev::with_own_default)
    )]
    Dev(Box<dev::DevArgs>),
    /// Sign events and post them to a gateway, as Clerk would.
    ///
    /// Sends one of every type where no TYPE and no --file is given.
    Send(send::SendArgs),
    /// Subscribe, and print events as they come.
    ///
    /// Runs until interrupted. When the gateway is away, it tries again and goes on where it was.
    Tail(Box<tail::TailArgs>),
    /// Print one event, found by its id.
    Get(inspect::GetArgs),
    /// Describe the log: its size, its ends, how long events are kept.
    Info(inspect::InfoArgs),
    /// List the event types of the catalog and of the log, and how many events are there of each.
    Types(inspect::ListArgs),
    /// List the subscribers that are connected to the gateway.
    Subscribers(inspect::ListArgs),
    /// Manage subscriptions, which the gateway keeps for a group of workers.
    Subscription(subscription::SubscriptionArgs),
    /// Run a command for each event of a subscription.
    ///
    /// Runs until interrupted. When the gateway is away, it tries again.
    Work(Box<work::WorkArgs>),
    /// Explain offline why a delivery's signature is valid or not.
    ///
    /// Reports how frameworks, proxies or editors changed the body. Exits with 0 if the signature
    /// matches, else with 1.
    #[command(arg_required_else_help = true, after_help = verify::EXAMPLES)]
    Verify(verify::VerifyArgs),
    /// Copy a log into another one, into a file, or from a file.
    ///
    /// From the embedded log to a stream of NATS or back, or to a file (NDJSON or protobuf) and
    /// from one. Ids, bodies, times and the order are kept; what is there already stays.
    #[command(mut_arg("log", |option| option.hide(true)))]
    Copy(Box<copy::CopyArgs>),
    /// Back up the embedded log into a new file, while the gateway runs or not.
    ///
    /// The file is a compact log, readable by its owner alone. To restore it, put it as clerkcast.db
    /// into an empty directory and start the gateway on that.
    Backup(backup::BackupArgs),
    /// Check a configuration before a gateway runs with it.
    Config(config::ConfigArgs),
    /// The same as `config check`.
    #[command(hide = true, args_override_self = true)]
    Check(Box<config::CheckArgs>),
    /// Make the token that a subscriber shows, and what the gateway's configuration holds of it.
    Token(token::TokenArgs),
    /// Print what makes a shell complete the command line.
    Completions(completions::CompletionsArgs),
    /// Write a manual page for each command.
    #[command(hide = true)]
    Man(manual::ManArgs),
}

impl Cli {
    /// Whether the command's failures belong in its log.
    #[must_use]
    pub fn is_service(&self) -> bool {
        matches!(self.command, Command::Serve(_))
    }
}

/// Prints what clap has instead of a command line, such as help; the exit code.
///
/// # Errors
/// When it cannot be written.
pub fn print_help(help: &clap::Error) -> Result<u8, Failure> {
    output::printed(|| help.print())?;
    Ok(u8::try_from(help.exit_code()).unwrap_or(u8::MAX))
}

/// Prints why a command failed to standard error.
pub fn report(failure: impl std::fmt::Display) {
    output::note(failure);
}

/// Runs the command that `cli` names.
///
/// # Errors
/// With what to print, and the exit code.
pub async fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Serve(args) => serve::run(*args).await,
        Command::Dev(args) => dev::run(*args).await,
        Command::Send(args) => send::run(args).await,
        Command::Tail(args) => tail::run(*args).await,
        Command::Get(args) => inspect::get(args).await,
        Command::Info(args) => inspect::info(args).await,
        Command::Types(args) => inspect::types(args).await,
        Command::Subscribers(args) => inspect::subscribers(args).await,
        Command::Subscription(args) => subscription::run(args).await,
        Command::Work(args) => work::run(*args).await,
        Command::Verify(args) => verify::run(&args),
        Command::Copy(args) => copy::run(*args).await,
        Command::Backup(args) => backup::run(args).await,
        Command::Config(args) => config::run(args),
        Command::Check(args) => config::run_check(*args),
        Command::Token(args) => token::run(&args),
        Command::Completions(args) => completions::run(&args, &Cli::command()),
        Command::Man(args) => manual::run(&args, Cli::command()),
    }
}
