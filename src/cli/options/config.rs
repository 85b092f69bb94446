//! Turns the operator's settings into a [`Config`], or into a list of all errors.
//!
//! A check reads the files that the configuration names, binds nothing and contacts no
//! server.

use std::path::Path;

use super::check::Check;
use super::doors::DoorOptions;
use super::fanout::FanoutOptions;
use super::log::{LogOptions, named_stream};
use super::logging::LoggingOptions;
use super::nats;
use super::ports::PortOptions;
use super::settings::Settings;
use super::subscriptions::SubscriptionOptions;
use super::traces::TraceOptions;
use super::webhook::WebhookOptions;
use crate::app::file::{Document, Problem, check_principals};
use crate::app::{Config, LogConfig};
use crate::log::jetstream;
use crate::log::sqlite::{Obstacle, find_obstacle};
use crate::telemetry::{Level, LogFormat};
use crate::webhook::{DEFAULT_SOURCE, Source};

/// A configuration without errors.
#[derive(Debug)]
pub struct Checked {
    /// The configuration.
    pub config: Config,
    /// Names of sources with secrets in the environment, which a running process keeps.
    pub in_environment: Vec<String>,
    /// Warnings for the operator.
    pub warnings: Vec<String>,
}

/// The logging options, which are needed before all others.
///
/// # Errors
/// With the errors in these two options.
pub fn logging(settings: &Settings) -> Result<(LogFormat, Level), Vec<Problem>> {
    let mut check = Check::new(settings);
    let logging = LoggingOptions::read(&mut check).config();
    match check.report.problems.is_empty() {
        true => Ok(logging),
        false => Err(check.report.problems),
    }
}

/// Checks all options.
///
/// # Errors
/// With all errors.
pub fn check(settings: &Settings) -> Result<Checked, Vec<Problem>> {
    let mut check = check_after_reading(settings);
    if !settings.document.is_toml() {
        return Err(check.report.problems);
    }
    let (config, in_environment) = config(&mut check);
    let mut report = check.report;
    if !report.problems.is_empty() {
        report.problems.sort_by_key(Problem::line);
        return Err(report.problems);
    }
    Ok(Checked {
        config,
        in_environment,
        warnings: report.warnings,
    })
}

/// Checks all options, the files that a gateway reads when it connects to NATS, and whether this
/// user could open an embedded log.
///
/// # Errors
/// With all errors.
pub fn check_with_files(settings: &Settings) -> Result<Checked, Vec<Problem>> {
    let mut checked = check(settings)?;
    let mut files = Check::new(settings);
    match &checked.config.log {
        LogConfig::Nats(stream) => nats::check_files(&mut files, &stream.security),
        LogConfig::Embedded(log) => checked.warnings.extend(doubt_about(&log.data_dir)),
    }
    match files.report.problems.is_empty() {
        true => Ok(checked),
        false => Err(files.report.problems),
    }
}

/// The stream of the log on NATS, even if the options choose another log.
///
/// # Errors
/// With all errors.
pub fn check_stream(settings: &Settings) -> Result<jetstream::Config, Vec<Problem>> {
    let mut check = check_after_reading(settings);
    let stream = named_stream(&mut check);
    match check.report.problems.is_empty() {
        true => Ok(stream),
        false => Err(check.report.problems),
    }
}

/// A check that has the errors in the file, and those of the files that variables name.
fn check_after_reading(settings: &Settings) -> Check<'_> {
    let mut check = Check::new(settings);
    check.report = settings.files.clone();
    let problems = settings.document.problems();
    check.report.problems.extend_from_slice(problems);
    check
}

fn config(check: &mut Check<'_>) -> (Config, Vec<String>) {
    let (_, log_level) = LoggingOptions::read(check).config();
    let (webhook, in_environment) = WebhookOptions::read(check).config(check);
    let doors = DoorOptions::read(check).config();
    let sources = names_of(&webhook.sources);
    let access = check_principals(
        &check.settings.document,
        &with_default(&sources, &check.settings.document),
        doors.allows_anonymous,
        &mut check.report,
    );
    let mut config = Config {
        fanout: FanoutOptions::read(check).config(check, sources),
        subscriptions: SubscriptionOptions::read(check).config(check),
        log: LogOptions::read(check).config(check),
        webhook,
        doors,
        access,
        log_level,
        otlp: TraceOptions::read(check).config(check),
        ..Config::default()
    };
    PortOptions::read(check).config(check, &mut config);
    (config, in_environment)
}

/// A warning about a data directory that the user of the gateway may be able to use, though this
/// one is not.
fn doubt_about(data_dir: &Path) -> Option<String> {
    match find_obstacle(data_dir)? {
        Obstacle::ForThisUser(obstacle) => Some(format!(
            "--data-dir: {obstacle}; the user of the gateway must be able to"
        )),
        // An error already.
        Obstacle::ForAll(_) => None,
    }
}

fn names_of(sources: &[Source]) -> Vec<String> {
    let mut names: Vec<String> = sources.iter().map(|source| source.name.clone()).collect();
    names.sort();
    names.dedup();
    names
}

/// The sources that principals may name. Without `[[sources]]` there is the default one, even if
/// its secret is missing, or is in an environment that is left out.
fn with_default(sources: &[String], document: &Document) -> Vec<String> {
    let default = (!document.has_sources()).then(|| DEFAULT_SOURCE.to_owned());
    sources.iter().cloned().chain(default).collect()
}
