//! `clerkcast config check`: whether `serve` would start with this configuration.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::failure::Failure;
use super::figures::counted;
use super::options::{
    Checked, Limit, Period, Printed, ServeArgs, Settings, Size, check_with_files, printed,
};
use super::output::{print_line, report as report_line};
use crate::app::Config;
use crate::app::file::{Environment, Place, Problem};
use crate::event::numbers::saturating;

const EXAMPLES: &str = "\
Examples:
  clerkcast config check /etc/clerkcast/config.toml
      every error, one a line: FILE:LINE: KEY: message
  clerkcast config check --no-env --json clerkcast.toml
      the same for a program, without this shell's environment
  clerkcast config check --print
      every option with its value and its origin

Exit codes: 0 serve would start with it, 2 it would not.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Report everything that is wrong with a configuration
    ///
    /// Reads the files that it names; listens nowhere, opens no log and contacts no server.
    /// Takes the flags and the environment of `serve`.
    #[command(args_override_self = true, after_help = EXAMPLES)]
    Check(Box<CheckArgs>),
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    // First, because reading it needs --no-env, which its own field takes out of the matches.
    #[command(flatten)]
    serve: ServeArgs,

    /// Configuration file (TOML) [default: that of --config]
    file: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long, display_order = 0)]
    json: bool,

    /// Print every option with its value and origin, secrets by the start of their SHA-256
    #[arg(long, display_order = 0)]
    print: bool,

    /// Ignore environment variables
    #[arg(long, display_order = 0)]
    no_env: bool,
}

pub(super) fn run(args: ConfigArgs) -> Result<(), Failure> {
    let ConfigCommand::Check(args) = args.command;
    run_check(*args)
}

pub(super) fn run_check(mut args: CheckArgs) -> Result<(), Failure> {
    let (json, print) = (args.json, args.print);
    let environment = match args.no_env {
        true => Environment::LeftOut,
        false => Environment::OfProcess,
    };
    args.serve.config = args.file.or(args.serve.config);
    let outcome = args.serve.load(environment).and_then(|loaded| {
        let mut checked = check_with_files(&loaded.settings)?;
        let warning = loaded.warning().map(str::to_owned);
        checked.warnings.extend(warning);
        Ok((loaded.settings, checked))
    });
    let report = Report::of(outcome, print);
    if json {
        print_line(report.as_json())?;
    } else {
        report.print()?;
    }
    match report.problems.len() {
        0 => Ok(()),
        1 => Err(Failure::Usage("1 error".to_owned())),
        count => Err(Failure::Usage(format!("{count} errors"))),
    }
}

struct Report {
    problems: Vec<Problem>,
    warnings: Vec<String>,
    config: Option<Config>,
    options: Vec<Printed>,
}

impl Report {
    fn of(outcome: Result<(Settings, Checked), Vec<Problem>>, print: bool) -> Self {
        match outcome {
            Ok((
                settings,
                Checked {
                    config, warnings, ..
                },
            )) => Self {
                problems: Vec::new(),
                warnings,
                options: match print {
                    true => printed(&settings, &config),
                    false => Vec::new(),
                },
                config: Some(config),
            },
            Err(problems) => Self {
                problems,
                warnings: Vec::new(),
                config: None,
                options: Vec::new(),
            },
        }
    }

    fn print(&self) -> Result<(), Failure> {
        for problem in &self.problems {
            print_line(problem.as_line())?;
        }
        for warning in &self.warnings {
            report_line(format_args!("warning: {warning}"));
        }
        for Printed { key, value, origin } in &self.options {
            print_line(format!("{key} = {value} ({origin})"))?;
        }
        if let Some(config) = &self.config {
            print_line(format!("ok: {}", summary(config)))?;
        }
        Ok(())
    }

    fn as_json(&self) -> Value {
        let errors = self.problems.iter().map(|problem| {
            let (file, line) = match &problem.place {
                Place::File { name, line } => (Some(name), Some(line)),
                _ => (None, None),
            };
            // The key does not name the variable or the flag that the value is from.
            let message = match &problem.place {
                Place::Flag(name) | Place::Variable(name) => {
                    format!("{name}: {}", problem.message)
                }
                _ => problem.message.clone(),
            };
            json!({"file": file, "line": line, "key": problem.key, "message": message})
        });
        let mut report = json!({
            "ok": self.problems.is_empty(),
            "errors": errors.collect::<Vec<_>>(),
            "warnings": self.warnings,
            "summary": self.config.as_ref().map_or_else(|| json!({}), summary_of),
        });
        if !self.options.is_empty() {
            let options = self.options.iter().map(
                |option| json!({"key": option.key, "value": option.value, "origin": option.origin}),
            );
            report["options"] = options.collect();
        }
        report
    }
}

fn summary(config: &Config) -> String {
    let (retain_for, retain_bytes) = config.log.retention();
    format!(
        "{}, {}, log {}, retain {} / {}, webhooks on {}, subscribers on {}",
        counted(saturating(config.webhook.sources.len()), "source"),
        counted(saturating(config.access.principals.len()), "principal"),
        config.log,
        Limit(retain_for.map(Period)),
        Limit(retain_bytes.map(Size)),
        config.http.listen,
        config.grpc.listen,
    )
}

fn summary_of(config: &Config) -> Value {
    let (retain_for, retain_bytes) = config.log.retention();
    json!({
        "sources": config.webhook.sources.len(),
        "principals": config.access.principals.len(),
        "anonymous": config.access.anonymous.is_some(),
        "log": config.log.to_string(),
        "retain_for": retain_for.map(|period| Period(period).to_string()),
        "retain_bytes": retain_bytes,
        "http_listen": config.http.listen.to_string(),
        "grpc_listen": config.grpc.listen.to_string(),
        "admin_listen": config.admin.to_string(),
    })
}
