//! Logs: structured, on standard error. Standard output is for results.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. `directives` are as in `info` or `clerkcast=debug,warn`.
///
/// # Errors
/// When `directives` cannot be parsed.
pub fn init(format: LogFormat, directives: &str) -> Result<(), String> {
    // The filter takes a word that is no level for a module's name, and logs nothing.
    let is_level = |word: &str| word.parse::<tracing::level_filters::LevelFilter>().is_ok();
    let unknown = directives
        .split(',')
        .map(str::trim)
        .find(|one| !one.contains(['=', '[']) && !is_level(one));
    if let Some(unknown) = unknown {
        return Err(format!(
            "log level {unknown:?}: write error, warn, info, debug or trace, or a module's as in info,clerkcast::webhook=debug"
        ));
    }
    // The NATS client reports as news what `log::jetstream` reports too.
    let filter = EnvFilter::try_new(format!("async_nats=error,{directives}"))
        .map_err(|error| format!("log level {directives:?}: {error}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| error.to_string())
}
