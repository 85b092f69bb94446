//! The options about what the process logs.

use super::check::Check;
use super::declaration::{self, AtReload, Declaration, option, options};
use super::value::Value;
use crate::telemetry::{Level, LogFormat};

options! {
    /// What the process logs, and how.
    LoggingOptions {
        360 log_format: LogFormat = option(
            "FORMAT",
            "Format of log lines: `text`, or `json` for machines",
        ).with_default("text");
        370 log_level: Level = option(
            "LEVEL",
            "What is logged: error, warn, info, debug, or per module as in `info,clerkcast::webhook=debug`",
        ).with_default("info").at_reload(AtReload::TakenUp);
    }
}

impl LoggingOptions {
    pub(super) fn config(self) -> (LogFormat, Level) {
        (
            self.log_format.unwrap_or_default(),
            self.log_level.unwrap_or_default(),
        )
    }
}
