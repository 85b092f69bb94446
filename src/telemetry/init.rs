//! Logs: structured, on standard error. Standard output is for results.

use std::fmt;
use std::io::IsTerminal as _;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;

use super::panics;
use tracing_subscriber::filter::LevelFilter;

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Changes the log level while the gateway runs.
pub struct LevelControl(Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>);

impl fmt::Debug for LevelControl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LevelControl")
            .finish_non_exhaustive()
    }
}

impl LevelControl {
    /// Changes the level from now on.
    ///
    /// # Errors
    /// When logging has ended.
    pub fn set(&self, level: &Level) -> Result<(), String> {
        (self.0)(level.filter()?)
    }
}

/// The log level, for all modules or for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    directives: String,
}

impl Level {
    fn filter(&self) -> Result<EnvFilter, String> {
        let directives = &self.directives;
        // The NATS client reports connections at `info`, and `log::jetstream` reports them too.
        EnvFilter::try_new(format!("async_nats=error,{directives}"))
            .map_err(|error| format!("log level {directives:?}: {error}"))
    }
}

/// `info`.
impl Default for Level {
    fn default() -> Self {
        Self {
            directives: "info".to_owned(),
        }
    }
}

impl FromStr for Level {
    type Err = String;

    /// Reads directives such as `info` or `clerkcast=debug,warn`.
    fn from_str(directives: &str) -> Result<Self, String> {
        // `EnvFilter` takes an unknown level for a module's name, and would log nothing.
        let is_level = |word: &str| word.parse::<LevelFilter>().is_ok();
        let unknown = directives
            .split(',')
            .map(str::trim)
            .find(|directive| !directive.contains(['=', '[']) && !is_level(directive));
        if let Some(unknown) = unknown {
            return Err(format!(
                "log level {unknown:?}: expected error, warn, info, debug or trace, or a per-module directive such as info,clerkcast::webhook=debug"
            ));
        }
        let level = Self {
            directives: directives.to_owned(),
        };
        level.filter().map(|_| level)
    }
}

/// Starts logging. From then on, panics are log lines as well.
///
/// # Errors
/// When logging has been started before.
pub fn init(format: LogFormat, level: &Level) -> Result<LevelControl, String> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(level.filter()?)
        .with_writer(std::io::stderr);
    // The two formats are two types.
    macro_rules! start {
        ($builder:expr) => {{
            let builder = $builder.with_filter_reloading();
            let filter = builder.reload_handle();
            builder.try_init().map_err(|error| error.to_string())?;
            Ok(LevelControl(Box::new(move |level| {
                filter.reload(level).map_err(|error| error.to_string())
            })))
        }};
    }
    panics::report();
    match format {
        LogFormat::Text => start!(builder.with_ansi(std::io::stderr().is_terminal())),
        LogFormat::Json => start!(builder.json().flatten_event(true)),
    }
}
