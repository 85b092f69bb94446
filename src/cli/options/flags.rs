//! The gateway's options as flags and environment variables.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, Error, FromArgMatches, value_parser};

use super::all::OPTIONS;
use super::declaration::{Declaration, OptionPlace};
use super::load::Loaded;
use super::settings::{Given, Origin};
use crate::app::file::{Environment, Kind, Problem};
use crate::cli::failure::Failure;
use crate::cli::output::note;

/// The flag that ignores the environment, in a command that has the flag.
const NO_ENVIRONMENT: &str = "no_env";
const CONFIG: &str = "config";
const CONFIG_VARIABLE: &str = "CLERKCAST_CONFIG";

/// A flag wins over its environment variable, that over the configuration file, that
/// over the default.
#[derive(Clone, Debug, Default)]
pub struct ServeArgs {
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// Values of flags and variables.
    pub given: Given,
}

/// The options about the log, which `copy` has too.
#[derive(Clone, Debug, Default)]
pub struct LogArgs {
    /// Values of flags and variables.
    pub given: Given,
}

impl ServeArgs {
    /// Reads the configuration file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn load(self, environment: Environment) -> Result<Loaded, Vec<Problem>> {
        Loaded::read(self.given, self.config, environment)
    }
}

/// Prints all errors but the last, and returns the last as the failure.
#[must_use]
pub fn refusal(mut problems: Vec<Problem>) -> Failure {
    let last = problems.pop().map(|problem| problem.to_string());
    for problem in problems {
        if tracing::dispatcher::has_been_set() {
            tracing::error!("{problem}");
        } else {
            note(problem);
        }
    }
    Failure::Usage(last.unwrap_or_default())
}

impl Args for ServeArgs {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new(CONFIG)
            .long(CONFIG)
            .env(CONFIG_VARIABLE)
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("Configuration file (TOML): the same keys as these flags, with underscores, and [[sources]]");
        with_options(command.arg(file), |_| true)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ServeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Ok(Self {
            config: matches
                .get_one::<PathBuf>(CONFIG)
                .filter(|path| !is_left_out(matches, CONFIG) && !path.as_os_str().is_empty())
                .cloned(),
            given: given(matches, |_| true),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn is_of_copy(option: &Declaration) -> bool {
    option.place == OptionPlace::EverywhereAndCopy
}

impl Args for LogArgs {
    fn augment_args(command: Command) -> Command {
        with_options(command, is_of_copy)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for LogArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Ok(Self {
            given: given(matches, is_of_copy),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn with_options(command: Command, is_wanted: fn(&Declaration) -> bool) -> Command {
    let options = OPTIONS.iter().filter(|option| is_wanted(option));
    command.args(options.map(as_flag))
}

fn as_flag(option: &'static Declaration) -> Arg {
    let (first, rest) = match option.help.find('\n') {
        Some(end) => option.help.split_at(end),
        None => (option.help, ""),
    };
    let help = match option.default {
        "" => option.help.to_owned(),
        default => format!("{first} [default: {default}]{rest}"),
    };
    // Any text is accepted here, because the check reports its error together with all others.
    let flag = Arg::new(option.key)
        .long(option.flag)
        .help_heading(option.group)
        .value_name(option.value_name)
        .value_parser(value_parser!(OsString))
        .hide_env_values(true)
        .help(help);
    let flag = match option.place {
        OptionPlace::FlagOnly => flag,
        _ => flag.env(option.variable),
    };
    match option.kind {
        Kind::Switch => flag.num_args(0..=1).default_missing_value("true"),
        Kind::Text | Kind::Number | Kind::Fraction => flag,
    }
}

fn given(matches: &ArgMatches, is_wanted: fn(&Declaration) -> bool) -> Given {
    let mut given = Given::default();
    for option in OPTIONS.iter().filter(|option| is_wanted(option)) {
        let Some(value) = matches.get_one::<OsString>(option.key) else {
            continue;
        };
        let origin = match matches.value_source(option.key) {
            Some(ValueSource::EnvVariable) => Origin::Variable(option.variable),
            _ => Origin::Flag,
        };
        // An empty value, as from `${X:-}`, counts as not set.
        let is_unset = origin != Origin::Flag && value.is_empty();
        if !is_unset && !is_left_out(matches, option.key) {
            given.set(option.key, value, origin);
        }
    }
    given
}

/// Whether a value is from the environment, which is to be left out.
fn is_left_out(matches: &ArgMatches, key: &str) -> bool {
    let leaves_out = matches
        .try_get_one::<bool>(NO_ENVIRONMENT)
        .ok()
        .flatten()
        .copied()
        .unwrap_or(false);
    leaves_out && matches.value_source(key) == Some(ValueSource::EnvVariable)
}
